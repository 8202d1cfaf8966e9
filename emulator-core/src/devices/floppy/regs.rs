//! Registers and status bytes of the 82077AA (Intel 290166, chapters 2 and 6).

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Digital output register (2.1.3).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Dor: u8 {
        /// Selected drive.
        const DRIVE = 0x03;
        /// Not reset.
        const NRESET = 0x04;
        /// Interrupt and DMA lines connected.
        const DMAGATE = 0x08;
        /// Motors.
        const MOTORS = 0xf0;
    }

    /// Main status register (2.1.6).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Msr: u8 {
        /// A command is in progress.
        const CMD_BUSY = 0x10;
        /// Execution phase without DMA.
        const NON_DMA = 0x20;
        /// The data register holds a byte for the host.
        const DIO = 0x40;
        /// The data register is ready.
        const RQM = 0x80;
    }

    /// Status register 0 (6.1).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct St0: u8 {
        /// Equipment check: no track 0 signal.
        const EC = 0x10;
        /// Seek end.
        const SE = 0x20;
        /// Interrupt code: abnormal termination.
        const ABNORMAL = 0x40;
        /// Interrupt code: invalid command.
        const INVALID = 0x80;
        /// Interrupt code: abnormal termination because of polling (a reset).
        const POLLING = 0xc0;
    }

    /// Status register 1 (6.2).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct St1: u8 {
        /// Missing address mark.
        const MA = 0x01;
        /// Not writable.
        const NW = 0x02;
        /// No data: the sector was not found.
        const ND = 0x04;
        /// Data error (CRC).
        const DE = 0x20;
        /// End of cylinder: the last sector came before terminal count.
        const EN = 0x80;
    }
}

/// Status register 3: write protected.
pub const ST3_WP: u8 = 0x40;
/// Status register 3: on track 0.
pub const ST3_T0: u8 = 0x10;
/// Status register 3: bits that are always set (ready, two sides).
pub const ST3_ONES: u8 = 0x28;
