//! The execution phase of data commands: sectors between the image and the host, by DMA or byte by byte.

use super::format::SECTOR;
use super::regs::{St0, St1};
use super::{BlockStatus, DMA_CHANNEL, Floppy, LATENCY_DMA, LATENCY_SECTOR};
use crate::bus::IoCtx;
use crate::devices::block::BlockError;
use crate::time::VirtTime;
use serde::{Deserialize, Serialize};

/// Size code of the only sector size on our disks.
const SIZE_512: u8 = 2;

/// The header of a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    /// Cylinder.
    pub cylinder: u8,
    /// Head.
    pub head: u8,
    /// Sector, from 1.
    pub sector: u8,
    /// Size code.
    pub size: u8,
}

impl Id {
    /// The header of a 512-byte sector.
    pub fn new(cylinder: u8, head: u8, sector: u8) -> Self {
        Self { cylinder, head, sector, size: SIZE_512 }
    }
}

/// What happens to each sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// To the host.
    Read,
    /// From the host.
    Write,
    /// Read, but not moved.
    Verify,
    /// Filled; the host gives the headers.
    Format,
}

/// A data command in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// What it does.
    pub op: Op,
    /// Present sector.
    pub id: Id,
    /// Selected side of the disk (which normally equals the head in the header).
    pub side: u8,
    /// Last sector of the track.
    pub last: u8,
    /// Goes on from side 0 to side 1.
    pub multi_track: bool,
    /// Sectors left to verify or format.
    pub left: u16,
    /// Filler of FORMAT.
    pub fill: u8,
    /// The present sector is in the buffer (read) or its buffer is prepared (write).
    pub fetched: bool,
}

impl Transfer {
    /// Data goes to the host.
    pub fn to_host(self) -> bool {
        self.op == Op::Read
    }

    /// Moves on to the next sector; `false` when that was the last one.
    fn advance(&mut self) -> bool {
        if self.id.sector != self.last {
            self.id.sector = self.id.sector.wrapping_add(1);
            return true;
        }
        self.id.sector = 1;
        if self.multi_track {
            let to_side_1 = self.side == 0;
            self.side ^= 1;
            self.id.head ^= 1;
            if to_side_1 {
                return true;
            }
        }
        self.id.cylinder = self.id.cylinder.wrapping_add(1);
        false
    }
}

/// What a step of a transfer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Time.
    Event(VirtTime),
    /// The backend.
    Retry,
    /// The host, at the data register.
    Host,
    /// Nothing: the command ended.
    Done,
}

/// How moving the buffer went.
enum Moved {
    /// All of it.
    All,
    /// Up to terminal count.
    TerminalCount,
    /// Not all of it yet.
    Not(Wait),
}

impl Floppy {
    /// Ends a data command: the seven result bytes, and an interrupt.
    pub(super) fn finish(&mut self, id: Id, error: St1, cx: &mut IoCtx) {
        let mut st0 = self.head << 2 | self.selected() as u8;
        if !error.is_empty() {
            st0 |= St0::ABNORMAL.bits();
        }
        self.buffer.clear();
        self.pos = 0;
        self.pio = false;
        self.answer(&[st0, error.bits(), 0, id.cylinder, id.head, id.sector, id.size]);
        self.set_interrupt(true, cx);
    }

    fn fail(&mut self, t: Transfer, error: St1, cx: &mut IoCtx) -> Wait {
        self.finish(t.id, error, cx);
        Wait::Done
    }

    /// Where a sector is in the image.
    fn locate(&mut self, t: Transfer) -> Result<u64, St1> {
        let rate = self.rate;
        let drive = self.selected();
        let d = self.drives.get_mut(drive).ok_or(St1::MA)?;
        let f = d.readable(rate).ok_or(St1::MA)?;
        if t.op != Op::Read && t.op != Op::Verify && d.media.read_only() {
            return Err(St1::NW);
        }
        let offset = f.offset(t.id.cylinder, t.side, t.id.sector).filter(|_| t.id.size == SIZE_512).ok_or(St1::ND)?;
        let steps = t.id.cylinder.saturating_mul(d.steps());
        if d.cylinder != steps {
            d.seek(steps); // implied
        }
        Ok(offset)
    }

    /// Moves the next sector as far as it goes.
    pub(super) fn step(&mut self, mut t: Transfer, cx: &mut IoCtx) -> Wait {
        if t.op == Op::Format {
            return self.format_sector(t, cx);
        }
        let offset = match self.locate(t) {
            Ok(offset) => offset,
            Err(error) => return self.fail(t, error, cx),
        };
        if !t.fetched {
            self.buffer.clear();
            self.buffer.resize(SECTOR, 0);
            self.pos = 0;
            if t.op != Op::Write {
                match self.media_read(offset) {
                    Ok(BlockStatus::Ready) => {}
                    Ok(BlockStatus::Pending) => return Wait::Retry,
                    Err(error) => return self.fail(t, error, cx),
                }
            }
            t.fetched = true;
            self.phase = super::Phase::Transfer(t);
        }
        // A write that the backend put off has all its data; terminal count came with it.
        let count = match self.move_buffer(t, cx) {
            Moved::Not(wait) => return wait,
            Moved::All => false,
            Moved::TerminalCount => true,
        };
        if t.op == Op::Write {
            match self.media_write(offset) {
                Ok(BlockStatus::Ready) => {}
                Ok(BlockStatus::Pending) => {
                    if count {
                        t.left = 1; // remember the terminal count
                        self.phase = super::Phase::Transfer(t);
                        self.pos = SECTOR;
                    }
                    return Wait::Retry;
                }
                Err(error) => return self.fail(t, error, cx),
            }
        }
        self.next_sector(t, count, cx)
    }

    /// A sector is done.
    fn next_sector(&mut self, mut t: Transfer, count: bool, cx: &mut IoCtx) -> Wait {
        t.left = t.left.saturating_sub(1);
        t.fetched = false;
        let more = t.advance();
        if count || t.left == 0 {
            self.finish(t.id, St1::empty(), cx);
            return Wait::Done;
        }
        if !more {
            // By DMA the host ends a transfer with terminal count; without it, it asked for too much.
            let dma = !self.specify.non_dma() && t.op != Op::Verify;
            let error = if dma { St1::EN } else { St1::empty() };
            self.finish(t.id, error, cx);
            return Wait::Done;
        }
        self.phase = super::Phase::Transfer(t);
        Wait::Event(LATENCY_SECTOR)
    }

    /// Takes the next header from the host and fills its sector.
    fn format_sector(&mut self, mut t: Transfer, cx: &mut IoCtx) -> Wait {
        if t.left == 0 {
            return self.fail(t, St1::ND, cx);
        }
        if !t.fetched {
            self.buffer.clear();
            self.buffer.resize(4, 0);
            self.pos = 0;
            t.fetched = true;
            self.phase = super::Phase::Transfer(t);
        }
        let count = match self.move_buffer(t, cx) {
            Moved::Not(wait) => return wait,
            Moved::All => false,
            Moved::TerminalCount => true,
        };
        if let [cylinder, head, sector, size] = self.buffer[..] {
            t.id = Id { cylinder, head, sector, size };
        }
        let offset = match self.locate(t) {
            Ok(offset) => offset,
            Err(error) => return self.fail(t, error, cx),
        };
        let header = std::mem::replace(&mut self.buffer, vec![t.fill; SECTOR]);
        let written = self.media_write(offset);
        self.buffer = header;
        match written {
            Ok(BlockStatus::Ready) => {}
            Ok(BlockStatus::Pending) => {
                if count {
                    t.left = 1;
                    self.phase = super::Phase::Transfer(t);
                }
                return Wait::Retry;
            }
            Err(error) => return self.fail(t, error, cx),
        }
        t.left -= 1;
        if t.left == 0 || count {
            self.finish(t.id, St1::empty(), cx);
            return Wait::Done;
        }
        t.fetched = false;
        self.phase = super::Phase::Transfer(t);
        Wait::Event(LATENCY_SECTOR)
    }

    /// Moves the rest of the buffer between the host and the controller.
    fn move_buffer(&mut self, t: Transfer, cx: &mut IoCtx) -> Moved {
        if t.op == Op::Verify || self.pos >= self.buffer.len() {
            return Moved::All;
        }
        if self.specify.non_dma() {
            self.pio = true;
            self.set_interrupt(true, cx);
            return Moved::Not(Wait::Host);
        }
        let part = &mut self.buffer[self.pos..];
        let (n, count) = if t.to_host() {
            cx.isa_dma_to_memory(DMA_CHANNEL, part)
        } else {
            cx.isa_dma_from_memory(DMA_CHANNEL, part)
        };
        self.pos += n;
        if count {
            Moved::TerminalCount
        } else if self.pos >= self.buffer.len() {
            Moved::All
        } else {
            Moved::Not(Wait::Event(LATENCY_DMA))
        }
    }

    fn media_read(&mut self, offset: u64) -> Result<BlockStatus, St1> {
        let drive = self.selected();
        let d = self.drives.get_mut(drive).ok_or(St1::MA)?;
        let status = d.media.read(offset, &mut self.buffer).map_err(error)?;
        if status == BlockStatus::Ready {
            d.activity.sectors_read += 1;
        }
        Ok(status)
    }

    fn media_write(&mut self, offset: u64) -> Result<BlockStatus, St1> {
        let drive = self.selected();
        let d = self.drives.get_mut(drive).ok_or(St1::MA)?;
        let status = d.media.write(offset, &self.buffer).map_err(error)?;
        if status == BlockStatus::Ready {
            d.activity.sectors_written += 1;
        }
        Ok(status)
    }
}

/// A backend's failure as the disk shows it.
fn error(e: BlockError) -> St1 {
    match e {
        BlockError::OutOfRange => St1::ND,
        BlockError::ReadOnly => St1::NW,
        BlockError::Host(_) => St1::DE,
    }
}
