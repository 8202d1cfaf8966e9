//! One device on an ATA channel: registers, data buffer and what both kinds (disk, CD-ROM) share.

use super::atapi::Cd;
use super::bus_master::BusMaster;
use super::regs::{DEVICE_OBSOLETE, Error, Status, TaskFile};
use super::{ata, atapi};
use crate::devices::block::{Activity, Media};
use crate::mem::Memory;
use crate::time::VirtTime;
use serde::{Deserialize, Serialize};

/// Largest block of READ/WRITE MULTIPLE, in sectors.
pub const MULTIPLE_MAX: u8 = 16;
/// Bytes of a disk sector.
pub const SECTOR: usize = 512;

/// From a command that moves data to its first data, and from a DMA command to its end.
pub const LATENCY_COMMAND: VirtTime = 60_000;
/// From one PIO block to the next.
pub const LATENCY_BLOCK: VirtTime = 2_000;
/// Until a request that the backend could not answer yet is repeated.
pub const LATENCY_RETRY: VirtTime = 100_000;

/// What is at a position of the cable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing.
    #[default]
    None,
    /// An ATA disk.
    Disk,
    /// An ATAPI CD-ROM drive.
    Cdrom,
}

/// Cylinders, heads and sectors per track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u16,
    /// Heads, 1 to 16.
    pub heads: u8,
    /// Sectors per track, 1 to 255.
    pub sectors: u8,
}

impl Geometry {
    /// Sectors in all.
    #[must_use]
    pub fn total(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors)
    }
}

/// State of an ATA disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Capacity in whole sectors.
    pub sectors: u64,
    /// Geometry at power-on.
    pub native: Geometry,
    /// Geometry set by INITIALIZE DEVICE PARAMETERS.
    pub current: Geometry,
    /// Sectors per block of READ/WRITE MULTIPLE; 0 when off.
    pub multiple: u8,
    /// Write cache enabled (reported only; writes reach the backend at once).
    pub write_cache: bool,
    /// The running command uses 48-bit addresses.
    pub wide: bool,
}

/// What a command still has to do when its data moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// Nothing.
    #[default]
    None,
    /// The buffer goes to the host, and that is all.
    Reply,
    /// Disk sectors to the host by PIO.
    PioRead {
        /// Next sector.
        lba: u64,
        /// Sectors left.
        left: u32,
        /// Sectors per interrupt.
        block: u32,
    },
    /// Disk sectors from the host by PIO.
    PioWrite {
        /// Next sector.
        lba: u64,
        /// Sectors left.
        left: u32,
        /// Sectors per interrupt.
        block: u32,
    },
    /// Disk sectors by DMA.
    Dma {
        /// Next sector.
        lba: u64,
        /// Sectors left.
        left: u32,
        /// Memory to disk.
        write: bool,
    },
    /// The 12 bytes of a command packet from the host.
    Packet {
        /// Its data will move by DMA.
        dma: bool,
    },
    /// ATAPI data to the host: the buffer, then sectors from the disc.
    CdRead {
        /// Move by DMA.
        dma: bool,
        /// Next sector.
        lba: u32,
        /// Sectors left.
        left: u32,
        /// Sectors of 2352 bytes.
        raw: bool,
    },
}

impl Job {
    /// Whether it waits for the bus master.
    #[must_use]
    pub fn is_dma(self) -> bool {
        matches!(self, Self::Dma { .. } | Self::CdRead { dma: true, .. })
    }
}

/// What the channel must do after a drive acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Nothing.
    Quiet,
    /// Raise the interrupt.
    Interrupt,
    /// Call [`Drive::step`] after this time.
    After(VirtTime),
    /// Call [`Drive::step`] once the bus master runs.
    AwaitDma,
    /// The backend has no answer yet: call [`Drive::step`] again later.
    Retry,
}

/// Most sectors of one command.
const MAX_SECTORS: u32 = 0x1_0000;

/// A device, or the empty place of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    /// What is here.
    pub kind: Kind,
    /// 0 primary master to 3 secondary slave.
    pub index: u8,
    /// Parameter registers.
    pub regs: TaskFile,
    /// Status register.
    pub status: Status,
    /// Error register.
    pub error: Error,
    /// Sector count value of SET FEATURES "set transfer mode".
    pub transfer_mode: u8,
    /// The command in progress.
    pub job: Job,
    /// Data on its way.
    pub buffer: Vec<u8>,
    /// Position of the data port in `buffer`.
    pub pos: usize,
    /// End of the present block in `buffer`.
    pub end: usize,
    /// Bytes per block of the running packet command; 0 before its first block.
    pub byte_limit: u16,
    /// Disk state.
    pub disk: Disk,
    /// CD-ROM state.
    pub cd: Cd,
    /// Counters.
    pub activity: Activity,
    /// The image.
    #[serde(skip)]
    pub media: Media,
}

impl Drive {
    /// Whether the command of a drive from a snapshot is one that a drive can have.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        match self.job {
            Job::PioRead { left, block, .. } | Job::PioWrite { left, block, .. } => {
                left <= MAX_SECTORS && block <= MAX_SECTORS
            }
            Job::Dma { left, .. } => left <= MAX_SECTORS,
            _ => true,
        }
    }

    /// Whether anything answers here.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.kind != Kind::None
    }

    /// Hardware reset.
    pub fn hard_reset(&mut self) {
        self.transfer_mode = 0;
        self.disk.current = self.disk.native;
        self.disk.write_cache = true;
        self.regs = TaskFile::default();
        self.cd.reset();
        self.soft_reset();
    }

    /// Software reset (9.2): the running command ends, and the signature is presented.
    pub fn soft_reset(&mut self) {
        self.stop();
        self.disk.multiple = MULTIPLE_MAX;
        self.diagnose();
    }

    /// Result of a passed diagnostic: code 01h, signature; a packet device is not ready until its first command.
    pub fn diagnose(&mut self) {
        self.set_signature();
        self.error = Error::PASSED;
        self.status = match self.kind {
            Kind::Cdrom => Status::empty(),
            _ => Status::DRDY | Status::DSC,
        };
    }

    /// The signature of the kind of device (9.12).
    pub fn set_signature(&mut self) {
        self.regs.device &= !0x0f;
        self.regs.device |= DEVICE_OBSOLETE;
        self.regs.count.now = 1;
        self.regs.low.now = 1;
        self.regs.set_cylinder(match self.kind {
            Kind::None => 0xffff,
            Kind::Disk => 0,
            Kind::Cdrom => 0xeb14,
        });
    }

    /// Forgets the running command and its data.
    pub fn stop(&mut self) {
        self.job = Job::None;
        self.buffer.clear();
        self.pos = 0;
        self.end = 0;
        self.byte_limit = 0;
    }

    /// Ends a command without error.
    pub fn complete(&mut self) -> Next {
        self.stop();
        self.error = Error::empty();
        self.status = Status::DRDY | Status::DSC;
        Next::Interrupt
    }

    /// Ends a command with `error`.
    pub fn fail(&mut self, error: Error) -> Next {
        self.stop();
        self.error = error;
        self.status = Status::DRDY | Status::ERR;
        Next::Interrupt
    }

    /// Ends a command with "command aborted".
    pub fn abort(&mut self) -> Next {
        self.fail(Error::ABRT)
    }

    /// Presents `buffer[pos..end]` to the data port.
    pub fn present(&mut self, end: usize) {
        self.end = end.min(self.buffer.len());
        self.status = Status::DRDY | Status::DSC | Status::DRQ;
    }

    /// The drive works and the host must wait.
    pub fn busy(&mut self, delay: VirtTime) -> Next {
        self.status = Status::DRDY | Status::BSY;
        Next::After(delay)
    }

    /// The drive waits for (or takes part in) a DMA transfer.
    pub fn await_dma(&mut self) -> Next {
        self.status = Status::DRDY | Status::DSC | Status::DRQ;
        Next::AwaitDma
    }

    /// Starts command `code`.
    pub fn command(&mut self, code: u8) -> Next {
        self.error = Error::empty();
        self.stop();
        match self.kind {
            Kind::None => Next::Quiet,
            Kind::Disk => ata::command(self, code),
            Kind::Cdrom => atapi::command(self, code),
        }
    }

    /// The time that the drive asked for has passed, or the bus master started.
    pub fn step(&mut self, bm: &mut BusMaster, mem: &mut Memory) -> Next {
        match self.job {
            Job::None | Job::Reply | Job::Packet { .. } => Next::Quiet,
            Job::CdRead { dma: true, .. } => atapi::dma(self, bm, mem),
            Job::CdRead { .. } => atapi::next_chunk(self),
            _ => ata::step(self, bm, mem),
        }
    }

    /// The host moved the last byte of a block.
    fn block_moved(&mut self) -> Next {
        match self.job {
            Job::Reply => {
                let _ = self.complete();
                Next::Quiet
            }
            Job::Packet { dma } => {
                let mut packet = [0; 12];
                packet.iter_mut().zip(&self.buffer).for_each(|(to, from)| *to = *from);
                self.stop();
                atapi::packet(self, packet, dma)
            }
            Job::CdRead { .. } => atapi::chunk_moved(self),
            Job::PioRead { .. } | Job::PioWrite { .. } => ata::block_moved(self),
            Job::None | Job::Dma { .. } => Next::Quiet,
        }
    }

    /// The data port's direction is to the host.
    fn is_reading(&self) -> bool {
        matches!(self.job, Job::Reply | Job::PioRead { .. } | Job::CdRead { dma: false, .. })
    }

    /// Reads `N` bytes at the data port. Beyond the block there are zeros.
    pub fn data_read<const N: usize>(&mut self) -> ([u8; N], Next) {
        let mut out = [0; N];
        let (_, next) = self.data_read_slice(&mut out);
        (out, next)
    }

    /// Reads up to the end of the block at the data port; returns how many bytes there were.
    pub fn data_read_slice(&mut self, out: &mut [u8]) -> (usize, Next) {
        // A restored drive may point anywhere.
        let block = self.buffer.get(self.pos..self.end).unwrap_or_default();
        if block.is_empty() || !self.is_reading() {
            return (0, Next::Quiet);
        }
        let n = out.len().min(block.len());
        out[..n].copy_from_slice(&block[..n]);
        self.pos += n;
        let next = if self.pos == self.end { self.block_moved() } else { Next::Quiet };
        (n, next)
    }

    /// Writes to the data port up to the end of the block; returns how many bytes were taken.
    pub fn data_write(&mut self, data: &[u8]) -> (usize, Next) {
        let block = self.buffer.get_mut(self.pos..self.end).unwrap_or_default();
        if block.is_empty() || !matches!(self.job, Job::PioWrite { .. } | Job::Packet { .. }) {
            return (0, Next::Quiet);
        }
        let n = data.len().min(block.len());
        block[..n].copy_from_slice(&data[..n]);
        self.pos += n;
        let next = if self.pos == self.end { self.block_moved() } else { Next::Quiet };
        (n, next)
    }
}
