//! Register bits of the DP8390 (National Semiconductor DP8390D/NS32490D, July 1995, section 10) and of the
//! RTL8029AS's page 3 (Realtek RTL8029AS, LS009.0).

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Command register (CR, offset 0 of every page).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Command: u8 {
        /// STP: no packet is received or transmitted any more.
        const STOP = 0x01;
        /// STA: leaves the reset state.
        const START = 0x02;
        /// TXP: transmit; reads as 1 until the packet is out.
        const TRANSMIT = 0x04;
        /// RD0-RD2: remote DMA command.
        const REMOTE = 0x38;
        /// PS0-PS1: register page.
        const PAGE = 0xc0;
    }

    /// Interrupt status and mask (ISR, IMR).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Interrupts: u8 {
        /// PRX: a packet was received without errors.
        const RECEIVED = 0x01;
        /// PTX: a packet was transmitted.
        const TRANSMITTED = 0x02;
        /// RXE: a packet had an error or was missed.
        const RECEIVE_ERROR = 0x04;
        /// TXE: transmission given up (collisions, FIFO); never here.
        const TRANSMIT_ERROR = 0x08;
        /// OVW: the receive ring is exhausted.
        const OVERWRITE = 0x10;
        /// CNT: the top bit of a tally counter is set.
        const COUNTERS = 0x20;
        /// RDC: a remote DMA is complete.
        const REMOTE_DONE = 0x40;
        /// RST: in reset state, or the ring overflowed. A status only: it neither interrupts nor is written.
        const RESET = 0x80;
    }

    /// Data configuration (DCR).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct DataConfig: u8 {
        /// WTS: remote DMA moves words.
        const WORD = 0x01;
        /// BOS: the first byte of a packet is in the high half of a word.
        const HIGH_FIRST = 0x02;
        /// LAS: 32-bit DMA addresses; the cards have 16 address lines.
        const LONG_ADDRESS = 0x04;
        /// LS: 0 = loopback.
        const NORMAL = 0x08;
        /// ARM: the send-packet command is carried out.
        const AUTO_REMOTE = 0x10;
        /// FT0-FT1: FIFO threshold.
        const THRESHOLD = 0x60;
    }

    /// Transmit configuration (TCR).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct TransmitConfig: u8 {
        /// CRC: the software has appended the frame check sequence.
        const NO_CRC = 0x01;
        /// LB0-LB1: loopback mode, 0 for none.
        const LOOPBACK = 0x06;
        /// ATD: a certain multicast packet switches the transmitter off and on.
        const AUTO_DISABLE = 0x08;
        /// OFST: other back-off after collisions.
        const OFFSET = 0x10;
    }

    /// Transmit status (TSR).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct TransmitStatus: u8 {
        /// PTX: transmitted.
        const TRANSMITTED = 0x01;
        /// CRS: no carrier while transmitting.
        const CARRIER_LOST = 0x10;
        /// CDH: the transceiver sent no heartbeat.
        const HEARTBEAT = 0x40;
    }

    /// Receive configuration (RCR).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct ReceiveConfig: u8 {
        /// SEP: keep packets with errors.
        const ERRORS = 0x01;
        /// AR: keep packets of less than 64 bytes.
        const RUNTS = 0x02;
        /// AB: broadcast.
        const BROADCAST = 0x04;
        /// AM: multicast that passes the hash filter.
        const MULTICAST = 0x08;
        /// PRO: every physical address.
        const PROMISCUOUS = 0x10;
        /// MON: count packets, keep none.
        const MONITOR = 0x20;
    }

    /// Receive status (RSR, and the first byte of a packet in the ring).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct ReceiveStatus: u8 {
        /// PRX: received without errors.
        const RECEIVED = 0x01;
        /// CRC: wrong frame check sequence.
        const CRC_ERROR = 0x02;
        /// FAE: no whole number of bytes (set together with CRC).
        const ALIGNMENT = 0x04;
        /// MPA: for this node, but there was no room or the monitor mode is on.
        const MISSED = 0x10;
        /// PHY: the destination is a group.
        const GROUP = 0x20;
        /// DIS: the receiver is in monitor mode.
        const DISABLED = 0x40;
    }

    /// RTL8029AS: 9346CR, page 3 offset 1.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct EepromCommand: u8 {
        /// EEDO: what the EEPROM sends.
        const OUTPUT = 0x01;
        /// EEDI, EESK and EECS: the pins to the EEPROM.
        const PINS = 0x0e;
        /// EEM0-EEM1: 0 normal, 1 load the configuration again, 2 drive the pins, 3 CONFIG2 and CONFIG3 writable.
        const MODE = 0xc0;
    }
}

/// Remote DMA commands: the value of RD2-RD0.
pub mod remote {
    /// Not allowed: nothing changes.
    pub const NONE: u8 = 0;
    /// Card to host.
    pub const READ: u8 = 1;
    /// Host to card.
    pub const WRITE: u8 = 2;
    /// Send packet: the next packet of the ring to the host.
    pub const SEND: u8 = 3;
}

impl Command {
    /// The state after a reset: stopped, remote DMA aborted, page 0.
    pub const RESET: Self = Self::from_bits_retain(0x21);

    /// Register page 0 to 3.
    pub fn page(self) -> u8 {
        self.bits() >> 6
    }

    /// RD2-RD0.
    pub fn remote(self) -> u8 {
        (self & Self::REMOTE).bits() >> 3
    }
}

impl TransmitConfig {
    /// Loopback mode 1 (the controller), 2 (the encoder), 3 (the transceiver), or 0.
    pub fn loopback(self) -> u8 {
        (self & Self::LOOPBACK).bits() >> 1
    }
}
