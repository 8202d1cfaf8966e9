//! The command block registers of an ATA channel (ATA/ATAPI-6, T13 1410D, clause 7).

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Status register (7.15).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Status: u8 {
        /// The last command ended with an error; the error register tells which.
        const ERR = 0x01;
        /// A data block waits to be moved by the host.
        const DRQ = 0x08;
        /// Seek complete (retired; always set on a ready disk).
        const DSC = 0x10;
        /// Device fault.
        const DF = 0x20;
        /// Accepts commands.
        const DRDY = 0x40;
        /// The device owns the registers.
        const BSY = 0x80;
    }

    /// Error register (7.9).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Error: u8 {
        /// Command aborted. After a reset or diagnostic, 01h means "device passed".
        const ABRT = 0x04;
        /// Uncorrectable data.
        const UNC = 0x40;
        /// Diagnostic code "no error", and the lowest bit of other codes.
        const PASSED = 0x01;
        /// ATAPI keeps its sense key in bits 7:4.
        const _ = 0xff;
    }

    /// Device control register (7.8).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Control: u8 {
        /// Interrupts off.
        const NIEN = 0x02;
        /// Software reset while set.
        const SRST = 0x04;
        /// Reads return the previous contents of the registers (48-bit addressing).
        const HOB = 0x80;
    }
}

/// Device register: selects device 1.
pub const DEVICE_DEV: u8 = 0x10;
/// Device register: the address is an LBA and no cylinder, head and sector.
pub const DEVICE_LBA: u8 = 0x40;
/// Device register: bits that read as ones.
pub const DEVICE_OBSOLETE: u8 = 0xa0;

/// Interrupt reason (the sector count register of a PACKET command): the block is a command or a status.
pub const REASON_CD: u8 = 0x01;
/// Interrupt reason: the transfer is to the host.
pub const REASON_IO: u8 = 0x02;

/// A register that remembers the value before the last write (6.2: the two-byte FIFOs of 48-bit addressing).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twice {
    /// Most recently written.
    pub now: u8,
    /// Written before that.
    pub before: u8,
}

impl Twice {
    /// Writes.
    pub fn push(&mut self, value: u8) {
        self.before = self.now;
        self.now = value;
    }

    /// Reads, the older value if `hob`.
    #[must_use]
    pub fn get(self, hob: bool) -> u8 {
        if hob { self.before } else { self.now }
    }

    /// Both values as 16 bits.
    #[must_use]
    pub fn wide(self) -> u16 {
        u16::from_be_bytes([self.before, self.now])
    }
}

/// The registers that hold a command's parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFile {
    /// Features.
    pub feature: Twice,
    /// Sector count; interrupt reason on ATAPI.
    pub count: Twice,
    /// LBA 7:0, sector number.
    pub low: Twice,
    /// LBA 15:8, cylinder low; byte count low on ATAPI.
    pub mid: Twice,
    /// LBA 23:16, cylinder high; byte count high on ATAPI.
    pub high: Twice,
    /// Device: LBA 27:24 or head, device and address mode.
    pub device: u8,
}

impl TaskFile {
    /// Whether addresses are LBAs.
    #[must_use]
    pub fn is_lba(&self) -> bool {
        self.device & DEVICE_LBA != 0
    }

    /// The 28-bit address.
    #[must_use]
    pub fn lba28(&self) -> u64 {
        u64::from(u32::from_le_bytes([self.low.now, self.mid.now, self.high.now, self.device & 15]))
    }

    /// The 48-bit address.
    #[must_use]
    pub fn lba48(&self) -> u64 {
        u64::from_le_bytes([
            self.low.now,
            self.mid.now,
            self.high.now,
            self.low.before,
            self.mid.before,
            self.high.before,
            0,
            0,
        ])
    }

    /// Stores a 48-bit address.
    pub fn set_lba48(&mut self, lba: u64) {
        let b = lba.to_le_bytes();
        let pair = |now, before| Twice { now, before };
        self.low = pair(b[0], b[3]);
        self.mid = pair(b[1], b[4]);
        self.high = pair(b[2], b[5]);
    }

    /// Stores a 28-bit address.
    pub fn set_lba28(&mut self, lba: u64) {
        let b = lba.to_le_bytes();
        self.low.now = b[0];
        self.mid.now = b[1];
        self.high.now = b[2];
        self.device = (self.device & 0xf0) | (b[3] & 15);
    }

    /// Cylinder of a CHS address; byte count limit on ATAPI.
    #[must_use]
    pub fn cylinder(&self) -> u16 {
        u16::from_le_bytes([self.mid.now, self.high.now])
    }

    /// Stores the cylinder or byte count.
    pub fn set_cylinder(&mut self, value: u16) {
        [self.mid.now, self.high.now] = value.to_le_bytes();
    }
}
