//! The bus master of one channel of the PIIX3 IDE function: registers at BAR 4 and the walk over the
//! physical region descriptors. Spec: Intel 290550 (PIIX3), 2.7; SFF-8038i.

use crate::mem::Memory;
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Bus master status register (BMISX).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct BmStatus: u8 {
        /// The engine is started and the table not used up.
        const ACTIVE = 0x01;
        /// A transfer failed on the PCI bus; write 1 to clear.
        const ERROR = 0x02;
        /// The drive raised its interrupt; write 1 to clear.
        const INTERRUPT = 0x04;
        /// Software's note: device 0 is set up for DMA.
        const DMA0 = 0x20;
        /// Software's note: device 1 is set up for DMA.
        const DMA1 = 0x40;
    }
}

/// Command register: start.
const CMD_START: u8 = 0x01;
/// Command register bits that hold a value: start and direction.
const CMD_MASK: u8 = 0x09;
/// A descriptor table lies inside 64 KiB, so it has at most this many bytes.
const TABLE_MAX: u32 = 0x1_0000;

/// Where the walk over the descriptor table stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Bytes of the table read so far.
    table: u32,
    /// Rest of the present region.
    address: u32,
    /// Bytes left in the present region.
    left: u32,
    /// The present region is the last one.
    last: bool,
}

/// What a write to the command register did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The engine started.
    Started,
    /// The engine stopped.
    Stopped,
}

/// Registers and walk of one channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusMaster {
    command: u8,
    status: BmStatus,
    table: u32,
    /// Position in the table; a caller may put it back to repeat a transfer.
    pub cursor: Cursor,
}

impl BusMaster {
    /// Reads register `offset` (0 to 7).
    #[must_use]
    pub fn read(&self, offset: u16) -> u8 {
        match offset {
            0 => self.command,
            2 => self.status.bits(),
            4..=7 => self.table.to_le_bytes()[usize::from(offset & 3)],
            _ => 0xff,
        }
    }

    /// Writes register `offset` (0 to 7).
    pub fn write(&mut self, offset: u16, value: u8) -> Change {
        match offset {
            0 => return self.write_command(value),
            2 => {
                let cleared = BmStatus::from_bits_truncate(value) & (BmStatus::ERROR | BmStatus::INTERRUPT);
                let kept = self.status - (BmStatus::DMA0 | BmStatus::DMA1) - cleared;
                let set = BmStatus::from_bits_truncate(value) & (BmStatus::DMA0 | BmStatus::DMA1);
                self.status = kept | set;
            }
            4..=7 => {
                let mut b = self.table.to_le_bytes();
                b[usize::from(offset & 3)] = value;
                self.table = u32::from_le_bytes(b) & !3;
            }
            _ => {}
        }
        Change::None
    }

    fn write_command(&mut self, value: u8) -> Change {
        let before = self.command;
        self.command = value & CMD_MASK;
        match (before & CMD_START != 0, value & CMD_START != 0) {
            (false, true) => {
                self.cursor = Cursor::default();
                self.status |= BmStatus::ACTIVE;
                Change::Started
            }
            (true, false) => {
                self.status -= BmStatus::ACTIVE;
                Change::Stopped
            }
            _ => Change::None,
        }
    }

    /// Whether it moves data when the drive asks for it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status.contains(BmStatus::ACTIVE)
    }

    /// Notes that the drive raised its interrupt line.
    pub fn note_interrupt(&mut self) {
        self.status |= BmStatus::INTERRUPT;
    }

    /// The drive has no more data: the engine stays active only if the table describes more memory.
    pub fn transfer_done(&mut self) {
        if self.cursor.last && self.cursor.left == 0 {
            self.status -= BmStatus::ACTIVE;
        }
    }

    /// The table was too short for the drive's data.
    pub fn table_exhausted(&mut self) {
        self.status -= BmStatus::ACTIVE;
    }

    /// The function may not master the bus: as a master abort.
    pub fn abort(&mut self) {
        self.status -= BmStatus::ACTIVE;
        self.status |= BmStatus::ERROR;
    }

    /// The next run of memory of at most `max` bytes, reading descriptors as needed; `None` at the table's end.
    fn next_run(&mut self, mem: &Memory, max: usize) -> Option<(u64, usize)> {
        let c = &mut self.cursor;
        if c.left == 0 {
            if c.last || c.table >= TABLE_MAX {
                return None;
            }
            let mut entry = [0; 8];
            mem.dma_read(u64::from(self.table) + u64::from(c.table), &mut entry);
            c.table += 8;
            c.address = u32::from_le_bytes([entry[0] & !1, entry[1], entry[2], entry[3]]);
            let count = u32::from(u16::from_le_bytes([entry[4] & !1, entry[5]]));
            c.left = if count == 0 { 0x1_0000 } else { count };
            c.last = entry[7] & 0x80 != 0;
        }
        let n = (c.left as usize).min(max);
        let at = u64::from(c.address);
        c.address = c.address.wrapping_add(n as u32);
        c.left -= n as u32;
        Some((at, n))
    }

    /// Moves `data` to memory; returns how much had room.
    pub fn scatter(&mut self, mem: &mut Memory, data: &[u8]) -> usize {
        let mut done = 0;
        while done < data.len() {
            let Some((at, n)) = self.next_run(mem, data.len() - done) else {
                break;
            };
            mem.dma_write(at, &data[done..done + n]);
            done += n;
        }
        done
    }

    /// Fills `data` from memory; returns how much there was.
    pub fn gather(&mut self, mem: &Memory, data: &mut [u8]) -> usize {
        let mut done = 0;
        while done < data.len() {
            let Some((at, n)) = self.next_run(mem, data.len() - done) else {
                break;
            };
            mem.dma_read(at, &mut data[done..done + n]);
            done += n;
        }
        done
    }
}
