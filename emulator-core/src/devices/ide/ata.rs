//! The commands of an ATA disk (ATA/ATAPI-6, T13 1410D, clause 8).

use super::bus_master::BusMaster;
use super::drive::{Drive, Geometry, Job, LATENCY_BLOCK, LATENCY_COMMAND, MULTIPLE_MAX, Next, SECTOR};
use super::identify::identify;
use super::regs::{Error, Status};
use crate::devices::block::{BlockError, BlockStatus};
use crate::mem::Memory;

/// Sectors that a DMA transfer moves between two looks at the backend.
const DMA_CHUNK: u32 = 256;

/// Starts command `code` on a disk.
pub fn command(d: &mut Drive, code: u8) -> Next {
    d.disk.wide = false;
    match code {
        0x00 => d.abort(),                         // NOP
        0x10..=0x1f | 0x70..=0x7f => d.complete(), // RECALIBRATE, SEEK
        0x20 | 0x21 => read_pio(d, false, 1),
        0x24 => read_pio(d, true, 1),
        0x25 => dma_command(d, true, false),
        0x27 => read_native_max(d, true),
        0x29 => multiple(d, true, false),
        0x30 | 0x31 | 0x3c => write_pio(d, false, 1),
        0x34 => write_pio(d, true, 1),
        0x35 => dma_command(d, true, true),
        0x39 => multiple(d, true, true),
        0x40 | 0x41 => verify(d, false),
        0x42 => verify(d, true),
        0x91 => initialize_parameters(d),
        0xc4 => multiple(d, false, false),
        0xc5 => multiple(d, false, true),
        0xc6 => set_multiple(d),
        0xc8 | 0xc9 => dma_command(d, false, false),
        0xca | 0xcb => dma_command(d, false, true),
        // STANDBY IMMEDIATE, IDLE IMMEDIATE, STANDBY, IDLE, SLEEP
        0x94..=0x97 | 0x99 | 0xe0..=0xe3 | 0xe6 => d.complete(),
        0x98 | 0xe5 => {
            d.regs.count.now = 0xff; // active or idle
            d.complete()
        }
        0xe7 | 0xea => flush(d),
        0xec => {
            d.buffer = identify(d);
            d.job = Job::Reply;
            d.present(SECTOR);
            Next::Interrupt
        }
        0xef => set_features(d),
        0xf8 => read_native_max(d, false),
        _ => d.abort(),
    }
}

/// The address and count of a media access, or `None` when they leave the disk. Notes the address width.
fn range(d: &mut Drive, wide: bool) -> Option<(u64, u32)> {
    d.disk.wide = wide;
    let r = &d.regs;
    let (lba, count) = if wide {
        if !r.is_lba() {
            return None;
        }
        (
            r.lba48(),
            match r.count.wide() {
                0 => 0x1_0000,
                n => u32::from(n),
            },
        )
    } else {
        let count = match r.count.now {
            0 => 256,
            n => u32::from(n),
        };
        (if r.is_lba() { r.lba28() } else { chs(d)? }, count)
    };
    (lba + u64::from(count) <= d.disk.sectors).then_some((lba, count))
}

/// The sector number of the CHS address in the registers.
fn chs(d: &Drive) -> Option<u64> {
    let g = d.disk.current;
    let sector = u64::from(d.regs.low.now).checked_sub(1)?;
    let head = u64::from(d.regs.device & 15);
    let track = u64::from(d.regs.cylinder()) * u64::from(g.heads) + head;
    Some(track * u64::from(g.sectors) + sector)
}

/// Leaves the address that the command reached in the registers, and how many sectors remain.
fn set_address(d: &mut Drive, lba: u64, left: u32) {
    if d.disk.wide {
        d.regs.set_lba48(lba);
        d.regs.count.before = (left >> 8) as u8;
    } else if d.regs.is_lba() {
        d.regs.set_lba28(lba);
    } else {
        let g = d.disk.current;
        let (spt, heads) = (u64::from(g.sectors.max(1)), u64::from(g.heads.max(1)));
        d.regs.low.now = (lba % spt) as u8 + 1;
        d.regs.device = (d.regs.device & 0xf0) | (lba / spt % heads) as u8;
        d.regs.set_cylinder((lba / spt / heads) as u16);
    }
    d.regs.count.now = left as u8;
}

fn read_pio(d: &mut Drive, wide: bool, block: u32) -> Next {
    let Some((lba, left)) = range(d, wide) else {
        return d.abort();
    };
    d.job = Job::PioRead { lba, left, block };
    d.busy(LATENCY_COMMAND)
}

fn write_pio(d: &mut Drive, wide: bool, block: u32) -> Next {
    let Some((lba, left)) = range(d, wide) else {
        return d.abort();
    };
    if d.media.read_only() {
        return d.abort();
    }
    d.job = Job::PioWrite { lba, left, block };
    request_block(d, left.min(block));
    Next::Quiet // the first block is asked for without an interrupt
}

/// Asks the host for `sectors` sectors.
fn request_block(d: &mut Drive, sectors: u32) {
    d.buffer.clear();
    d.buffer.resize(sectors as usize * SECTOR, 0);
    d.pos = 0;
    d.present(d.buffer.len());
}

fn multiple(d: &mut Drive, wide: bool, write: bool) -> Next {
    match (d.disk.multiple, write) {
        (0, _) => d.abort(),
        (n, false) => read_pio(d, wide, n.into()),
        (n, true) => write_pio(d, wide, n.into()),
    }
}

fn dma_command(d: &mut Drive, wide: bool, write: bool) -> Next {
    let Some((lba, left)) = range(d, wide) else {
        return d.abort();
    };
    if write && d.media.read_only() {
        return d.abort();
    }
    d.job = Job::Dma { lba, left, write };
    d.await_dma()
}

fn verify(d: &mut Drive, wide: bool) -> Next {
    match range(d, wide) {
        Some((lba, count)) => {
            set_address(d, lba + u64::from(count), 0);
            d.complete()
        }
        None => d.abort(),
    }
}

fn read_native_max(d: &mut Drive, wide: bool) -> Next {
    if !d.regs.is_lba() || d.disk.sectors == 0 {
        return d.abort();
    }
    let last = d.disk.sectors - 1;
    if wide {
        d.regs.set_lba48(last);
    } else {
        d.regs.set_lba28(last.min(0x0fff_ffff));
    }
    d.complete()
}

fn initialize_parameters(d: &mut Drive) -> Next {
    let (heads, sectors) = ((d.regs.device & 15) + 1, d.regs.count.now);
    if sectors == 0 {
        return d.abort();
    }
    let cylinders = d.disk.native.total() / (u64::from(heads) * u64::from(sectors));
    d.disk.current = Geometry { cylinders: cylinders.min(0xffff) as u16, heads, sectors };
    d.complete()
}

fn set_multiple(d: &mut Drive) -> Next {
    let n = d.regs.count.now;
    if n > MULTIPLE_MAX || (n != 0 && !n.is_power_of_two()) {
        return d.abort();
    }
    d.disk.multiple = n;
    d.complete()
}

fn flush(d: &mut Drive) -> Next {
    match d.media.flush() {
        Ok(()) => d.complete(),
        Err(_) => d.abort(),
    }
}

/// SET FEATURES (8.46), for both kinds of device.
pub fn set_features(d: &mut Drive) -> Next {
    match d.regs.feature.now {
        0x02 => d.disk.write_cache = true,
        0x82 => d.disk.write_cache = false,
        0x03 => {
            // PIO default and flow control, multiword DMA 0-2, Ultra DMA 0-5, single word DMA 0-2.
            let mode = d.regs.count.now;
            match (mode >> 3, mode & 7) {
                (0, 0 | 1) | (1, 0..=4) | (2 | 4, 0..=2) | (8, 0..=5) => d.transfer_mode = mode,
                _ => return d.abort(),
            }
        }
        // Power management, acoustics, look-ahead, defaults kept over a reset: accepted, no effect.
        0x05 | 0x85 | 0x42 | 0xc2 | 0x55 | 0xaa | 0x66 | 0xcc | 0x67 | 0x96 | 0x9a => {}
        _ => return d.abort(),
    }
    d.complete()
}

/// A command's time has come: moves the next piece between the backend and the buffer or memory.
pub fn step(d: &mut Drive, bm: &mut BusMaster, mem: &mut Memory) -> Next {
    match d.job {
        Job::PioRead { lba, left, block } => read_block(d, lba, left.min(block)),
        Job::PioWrite { lba, left, block } => write_block(d, lba, left, block),
        Job::Dma { lba, left, write } => dma(d, lba, left, write, bm, mem),
        _ => Next::Quiet,
    }
}

/// A host failure as the drive reports it.
fn media_error(d: &mut Drive, error: &BlockError) -> Next {
    d.fail(match error {
        BlockError::Host(_) => Error::UNC,
        BlockError::OutOfRange | BlockError::ReadOnly => Error::ABRT,
    })
}

fn read_sectors(d: &mut Drive, lba: u64, n: u32) -> Result<BlockStatus, BlockError> {
    d.buffer.resize(n as usize * SECTOR, 0);
    let status = d.media.read(lba * SECTOR as u64, &mut d.buffer)?;
    if status == BlockStatus::Ready {
        d.activity.sectors_read += u64::from(n);
    }
    Ok(status)
}

fn read_block(d: &mut Drive, lba: u64, n: u32) -> Next {
    match read_sectors(d, lba, n) {
        Ok(BlockStatus::Ready) => {
            d.pos = 0;
            d.present(d.buffer.len());
            Next::Interrupt
        }
        Ok(BlockStatus::Pending) => Next::Retry,
        Err(e) => media_error(d, &e),
    }
}

fn write_block(d: &mut Drive, lba: u64, left: u32, block: u32) -> Next {
    match d.media.write(lba * SECTOR as u64, &d.buffer) {
        Ok(BlockStatus::Ready) => {}
        Ok(BlockStatus::Pending) => return Next::Retry,
        Err(e) => return media_error(d, &e),
    }
    let n = left.min(block);
    let (lba, left) = (lba + u64::from(n), left - n);
    d.activity.sectors_written += u64::from(n);
    set_address(d, lba, left);
    if left == 0 {
        return d.complete();
    }
    d.job = Job::PioWrite { lba, left, block };
    request_block(d, left.min(block));
    Next::Interrupt
}

/// The host emptied or filled a PIO block.
pub fn block_moved(d: &mut Drive) -> Next {
    let Job::PioRead { lba, left, block } = d.job else {
        return d.busy(LATENCY_BLOCK);
    };
    let n = left.min(block);
    let (lba, left) = (lba + u64::from(n), left - n);
    set_address(d, lba, left);
    if left == 0 {
        let _ = d.complete(); // the last block ends without another interrupt
        return Next::Quiet;
    }
    d.job = Job::PioRead { lba, left, block };
    d.busy(LATENCY_BLOCK)
}

/// Moves a whole DMA transfer, or as much as the backend has.
fn dma(d: &mut Drive, mut lba: u64, mut left: u32, write: bool, bm: &mut BusMaster, mem: &mut Memory) -> Next {
    while left > 0 {
        let n = left.min(DMA_CHUNK);
        let bytes = n as usize * SECTOR;
        let mark = bm.cursor;
        let (moved, status) = if write {
            d.buffer.resize(bytes, 0);
            let moved = bm.gather(mem, &mut d.buffer);
            let whole = moved - moved % SECTOR;
            let status = d.media.write(lba * SECTOR as u64, &d.buffer[..whole]);
            (moved, status)
        } else {
            match read_sectors(d, lba, n) {
                Ok(BlockStatus::Ready) => (bm.scatter(mem, &d.buffer), Ok(BlockStatus::Ready)),
                other => (0, other),
            }
        };
        match status {
            Ok(BlockStatus::Ready) => {}
            Ok(BlockStatus::Pending) => {
                bm.cursor = mark;
                return Next::Retry;
            }
            Err(e) => {
                bm.transfer_done();
                set_address(d, lba, left);
                return media_error(d, &e);
            }
        }
        if write {
            d.activity.sectors_written += (moved / SECTOR) as u64;
        }
        if moved < bytes {
            // The engine stops, and no interrupt tells of it (PIIX3, table of the status bits).
            bm.table_exhausted();
            d.stop();
            d.status = Status::DRDY | Status::DSC;
            return Next::Quiet;
        }
        lba += u64::from(n);
        left -= n;
        d.job = Job::Dma { lba, left, write };
    }
    bm.transfer_done();
    set_address(d, lba, 0);
    d.complete()
}
