//! The ATAPI CD-ROM drive: the PACKET protocol (ATA/ATAPI-6, 9.8 and 9.9) and the state of the drive.
//! The packet commands are in [`scsi`](super::scsi).

use super::ata::set_features;
use super::bus_master::BusMaster;
use super::drive::{Drive, Job, LATENCY_BLOCK, LATENCY_COMMAND, Next};
use super::identify::identify;
use super::regs::{Error, REASON_CD, REASON_IO, Status};
use super::scsi::{self, Sense};
use crate::devices::block::{BlockError, BlockStatus};
use crate::mem::Memory;
use serde::{Deserialize, Serialize};

/// Bytes of user data in a sector.
pub const CD_SECTOR: usize = 2048;
/// Bytes of a whole sector: synchronisation, header, user data, error correction.
pub const RAW_SECTOR: usize = 2352;
/// Sectors that a DMA transfer reads at once.
const DMA_CHUNK: u32 = 32;

/// How far the guest has been told of a new disc: guests that only poll with TEST UNIT READY must see
/// an empty drive and then a changed one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiscChange {
    /// Nothing to tell.
    #[default]
    None,
    /// Next: "no medium".
    Removed,
    /// Next: "medium may have changed".
    Inserted,
}

/// State of a CD-ROM drive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cd {
    /// Sectors of 2048 bytes on the disc; 0 when there is none.
    pub sectors: u32,
    /// A disc is in the drive (perhaps with the tray open).
    pub loaded: bool,
    /// The tray is out.
    pub tray_open: bool,
    /// The guest forbids removal.
    pub locked: bool,
    /// Why the last command failed.
    pub sense: Sense,
    /// News of the disc, for commands.
    pub change: DiscChange,
    /// The disc is new, for GET EVENT STATUS NOTIFICATION.
    pub event_new_media: bool,
    /// The disc was taken out, for GET EVENT STATUS NOTIFICATION.
    pub event_removed: bool,
}

impl Cd {
    /// Forgets what a reset clears; the disc stays.
    pub fn reset(&mut self) {
        *self = Self { sectors: self.sectors, loaded: self.loaded, ..Self::default() };
    }

    /// Whether a disc can be read.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.loaded && !self.tray_open
    }
}

/// Starts ATA command `code` on a CD-ROM drive.
pub fn command(d: &mut Drive, code: u8) -> Next {
    match code {
        0x08 => {
            d.soft_reset(); // DEVICE RESET
            Next::Quiet
        }
        0xa0 => {
            // Features bit 0: data by DMA.
            d.job = Job::Packet { dma: d.regs.feature.now & 1 != 0 };
            d.buffer.resize(12, 0);
            d.regs.count.now = REASON_CD;
            d.present(12);
            Next::Quiet
        }
        0xa1 => {
            d.buffer = identify(d);
            d.job = Job::Reply;
            d.present(512);
            Next::Interrupt
        }
        // IDENTIFY DEVICE and READ SECTORS tell a driver that this is a packet device.
        0x20 | 0xec => {
            d.set_signature();
            d.abort()
        }
        0xef => set_features(d),
        // STANDBY IMMEDIATE, IDLE IMMEDIATE, STANDBY, IDLE, SLEEP
        0x94..=0x97 | 0x99 | 0xe0..=0xe3 | 0xe6 => d.complete(),
        0x98 | 0xe5 => {
            d.regs.count.now = 0xff;
            d.complete()
        }
        _ => d.abort(), // NOP among them
    }
}

/// A command packet has arrived.
pub fn packet(d: &mut Drive, packet: [u8; 12], dma: bool) -> Next {
    match scsi::execute(d, &packet) {
        Ok(scsi::Answer::Done) => good(d),
        // A PIO command with data and no room for any (9.8, byte count limit).
        Ok(_) if !dma && d.regs.cylinder() == 0 => d.abort(),
        Ok(scsi::Answer::Data(data)) => {
            d.buffer = data;
            start(d, dma, 0, 0, false)
        }
        Ok(scsi::Answer::Sectors { lba, count, raw }) => start(d, dma, lba, count, raw),
        Err(sense) => check(d, sense),
    }
}

fn start(d: &mut Drive, dma: bool, lba: u32, left: u32, raw: bool) -> Next {
    d.job = Job::CdRead { dma, lba, left, raw };
    if dma {
        d.await_dma()
    } else if left > 0 {
        d.busy(LATENCY_COMMAND)
    } else {
        next_chunk(d)
    }
}

/// Ends a packet command without error.
fn good(d: &mut Drive) -> Next {
    d.cd.sense = Sense::default();
    d.regs.count.now = REASON_IO | REASON_CD;
    d.complete()
}

/// Ends a packet command with "check condition".
fn check(d: &mut Drive, sense: Sense) -> Next {
    d.cd.sense = sense;
    d.regs.count.now = REASON_IO | REASON_CD;
    d.fail(Error::from_bits_retain(sense.key << 4))
}

/// Appends up to `n` sectors of the job to the buffer.
fn fetch(d: &mut Drive, lba: u32, n: u32, raw: bool) -> Result<BlockStatus, Sense> {
    let sense = |e: BlockError| match e {
        BlockError::OutOfRange => Sense::LBA_OUT_OF_RANGE,
        _ => Sense::READ_ERROR,
    };
    let old = d.buffer.len();
    let mut at = u64::from(lba) * CD_SECTOR as u64;
    let mut status = Ok(BlockStatus::Ready);
    if raw {
        for i in 0..n {
            let from = d.buffer.len() + 16;
            d.buffer.resize(d.buffer.len() + RAW_SECTOR, 0);
            d.buffer[from - 16..from].copy_from_slice(&scsi::raw_header(lba + i));
            status = d.media.read(at, &mut d.buffer[from..from + CD_SECTOR]);
            if status != Ok(BlockStatus::Ready) {
                break;
            }
            at += CD_SECTOR as u64;
        }
    } else {
        d.buffer.resize(old + n as usize * CD_SECTOR, 0);
        status = d.media.read(at, &mut d.buffer[old..]);
    }
    if status == Ok(BlockStatus::Ready) {
        d.activity.sectors_read += u64::from(n);
    } else {
        d.buffer.truncate(old);
    }
    status.map_err(sense)
}

/// Presents the next block of a PIO reply, of at most the byte count limit.
pub fn next_chunk(d: &mut Drive) -> Next {
    let Job::CdRead { lba, left, raw, .. } = d.job else {
        return Next::Quiet;
    };
    let size = if raw { RAW_SECTOR } else { CD_SECTOR };
    d.buffer.drain(..d.pos);
    d.pos = 0;
    d.end = 0;
    let total = (left as usize).saturating_mul(size).saturating_add(d.buffer.len());
    if total == 0 {
        return good(d);
    }
    let chunk = total.min(chunk_limit(d));
    let n = chunk.saturating_sub(d.buffer.len()).div_ceil(size) as u32;
    if n > 0 {
        match fetch(d, lba, n, raw) {
            Ok(BlockStatus::Ready) => {}
            Ok(BlockStatus::Pending) => return Next::Retry,
            Err(sense) => return check(d, sense),
        }
        d.job = Job::CdRead { dma: false, lba: lba + n, left: left - n, raw };
    }
    d.regs.count.now = REASON_IO;
    d.regs.set_cylinder(chunk as u16);
    d.present(chunk);
    Next::Interrupt
}

/// The byte count limit as it was when the command started, made even and usable.
fn chunk_limit(d: &mut Drive) -> usize {
    if d.byte_limit == 0 {
        d.byte_limit = match d.regs.cylinder() {
            0 | 1 | 0xffff => 0xfffe,
            n => n & !1,
        };
    }
    d.byte_limit.into()
}

/// The host took a block.
pub fn chunk_moved(d: &mut Drive) -> Next {
    match d.job {
        Job::CdRead { left, .. } if left > 0 => d.busy(LATENCY_BLOCK),
        _ => next_chunk(d),
    }
}

/// Moves a whole reply to memory, or as much as the backend has.
pub fn dma(d: &mut Drive, bm: &mut BusMaster, mem: &mut Memory) -> Next {
    let Job::CdRead { mut lba, mut left, raw, .. } = d.job else {
        return Next::Quiet;
    };
    loop {
        if d.buffer.is_empty() && left > 0 {
            let n = left.min(DMA_CHUNK);
            match fetch(d, lba, n, raw) {
                Ok(BlockStatus::Ready) => {}
                Ok(BlockStatus::Pending) => return Next::Retry,
                Err(sense) => {
                    bm.transfer_done();
                    return check(d, sense);
                }
            }
            lba += n;
            left -= n;
        }
        if d.buffer.is_empty() {
            bm.transfer_done();
            return good(d);
        }
        if bm.scatter(mem, &d.buffer) < d.buffer.len() {
            bm.table_exhausted();
            d.stop();
            d.status = Status::DRDY | Status::DSC;
            return Next::Quiet;
        }
        d.buffer.clear();
        d.job = Job::CdRead { dma: true, lba, left, raw };
    }
}
