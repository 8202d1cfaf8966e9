//! NE2000 network cards: the RTL8029 on PCI (10EC:8029 at slot 3, INTA) and the ISA card. Both are a DP8390
//! with 16 KiB of buffer memory, an address PROM, a data port and a reset port.
//! Spec: National Semiconductor DP8390D (July 1995) and AN-937, Realtek RTL8029AS (LS009.0).
//!
//! | Offset | |
//! |---|---|
//! | 00h-0Fh | DP8390, four pages of registers |
//! | 10h-17h | data port of the remote DMA, 8, 16 or 32 bits |
//! | 18h-1Fh | reset port: a read resets |
//!
//! Frames come and go through [`Ne2000::offer`] and [`Ne2000::take`] only, so a run depends on nothing but when
//! the host calls them. Both directions have a queue of [`QUEUE`] frames. What the ring in the card's memory has
//! no room for stays in the queue; the transmitter waits while the host takes nothing.

mod crc;
mod dp8390;
mod receive;
mod regs;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_fuzz;
#[cfg(test)]
mod tests_loopback;

use super::pci::PciFunction;
use super::pci_config::{Bar, PciConfig};
use crate::bus::{Device, IoCtx, PortIo};
use crate::time::EventId;
use dp8390::Dp8390;
use regs::EepromCommand;
use serde::{Deserialize, Serialize};

/// Frames that wait in each direction.
pub const QUEUE: usize = 128;
/// Shortest frame that has all of its header: destination, source, type.
pub const MIN_FRAME: usize = 14;
/// Longest frame, with a VLAN tag and without frame check sequence.
pub const MAX_FRAME: usize = 1518;
/// Ports that a card occupies.
pub const PORTS: u16 = 0x20;
/// I/O bases of the ISA card: those whose 32 ports no other device of the board decodes.
pub const ISA_BASES: [u16; 11] = [0x200, 0x220, 0x240, 0x260, 0x280, 0x2a0, 0x2c0, 0x300, 0x320, 0x340, 0x380];
/// Interrupt lines of the ISA card: those that no other device of the board drives.
pub const ISA_IRQS: [u8; 5] = [3, 5, 7, 10, 11];
/// PCI device number of the RTL8029, where QEMU puts the first network card.
pub const PCI_SLOT: u8 = 3;

const DATA_PORT: u16 = 0x10;
const RESET_PORT: u16 = 0x18;
const BAR_IO: usize = 0;

/// What went one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames that got through.
    pub frames: u64,
    /// Their bytes, without frame check sequences.
    pub bytes: u64,
    /// Frames lost: no room, link down, receiver off, no Ethernet frame. Those that the card's address filter
    /// passes over are not counted.
    pub dropped: u64,
}

/// Traffic since power-on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Host to guest.
    pub to_guest: Traffic,
    /// Guest to host.
    pub from_guest: Traffic,
}

/// Registers of the RTL8029AS that the DP8390 hasn't got (page 3). The EEPROM behind 9346CR is not modelled:
/// its data pin reads as 0, and loading it gives the values of power-on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rtl8029 {
    pci: PciConfig,
    eeprom: EepromCommand,
    config2: u8,
    config3: u8,
}

/// CONFIG2: PL1-PL0, the medium (0: twisted pair or coaxial cable, whichever is there), and BSELB.
const CONFIG2_WRITABLE: u8 = 0xe0;
/// CONFIG3: FUDUP (full duplex), SLEEP, PWRDN.
const CONFIG3_WRITABLE: u8 = 0x46;
const FULL_DUPLEX: u8 = 0x40;
/// CONFIG0: BNC. With automatic choice of the medium it is set while the twisted pair has no link.
const CONFIG0_BNC: u8 = 0x04;

impl Rtl8029 {
    fn new() -> Self {
        let mut pci = PciConfig::new(PCI_SLOT, 0, 0x10ec, 0x8029, 0x02_0000, 0, 1);
        pci.set_bar(BAR_IO, Bar::Io { size: PORTS.into() });
        pci.set(0x06, &[0x00, 0x02]); // status: medium DEVSEL#
        pci.set(0x2c, &[0xec, 0x10, 0x29, 0x80]);
        Self { pci, eeprom: EepromCommand::empty(), config2: 0, config3: FULL_DUPLEX }
    }

    fn load(&mut self) {
        (self.eeprom, self.config2, self.config3) = (EepromCommand::empty(), 0, FULL_DUPLEX);
    }

    fn read(&self, offset: u16, link: bool) -> u8 {
        match offset {
            0x01 => self.eeprom.bits(),
            0x03 if self.config2 & 0xc0 == 0 && !link => CONFIG0_BNC,
            0x03 => 0,
            0x05 => self.config2,
            0x06 => self.config3,
            0x0e => 0x29,
            0x0f => 0x80,
            _ => 0,
        }
    }

    fn write(&mut self, offset: u16, value: u8) {
        let writable = self.eeprom.contains(EepromCommand::MODE);
        let merge = |old: u8, mask: u8| old & !mask | value & mask;
        match offset {
            0x01 => {
                self.eeprom = EepromCommand::from_bits_truncate(value) - EepromCommand::OUTPUT;
                // Loading is over before anybody can look.
                if (self.eeprom & EepromCommand::MODE).bits() == 0x40 {
                    self.load();
                }
            }
            0x05 if writable => self.config2 = merge(self.config2, CONFIG2_WRITABLE),
            0x06 if writable => self.config3 = merge(self.config3, CONFIG3_WRITABLE),
            _ => {}
        }
    }
}

/// How the card is plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Slot {
    Isa { base: u16, irq: u8 },
    Pci(Rtl8029),
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ne2000 {
    nic: Dp8390,
    slot: Slot,
}

impl Ne2000 {
    /// Whether it is the PCI card.
    #[must_use]
    pub fn is_pci(&self) -> bool {
        matches!(self.slot, Slot::Pci(_))
    }

    /// An RTL8029 with this address.
    #[must_use]
    pub fn pci(mac: [u8; 6]) -> Self {
        Self { nic: Dp8390::new(mac), slot: Slot::Pci(Rtl8029::new()) }
    }

    /// An ISA card with this address at I/O port `base` (one of [`ISA_BASES`]) on line `irq` (one of [`ISA_IRQS`]).
    #[must_use]
    pub fn isa(mac: [u8; 6], base: u16, irq: u8) -> Self {
        Self { nic: Dp8390::new(mac), slot: Slot::Isa { base, irq } }
    }

    /// First of the [`PORTS`] ports that it decodes at present.
    #[must_use]
    pub fn base(&self) -> Option<u16> {
        match &self.slot {
            Slot::Isa { base, .. } => Some(*base),
            Slot::Pci(card) => {
                let bar = card.pci.mapped(BAR_IO).filter(|b| b.io)?;
                u16::try_from(bar.base).ok()
            }
        }
    }

    /// The PCI function, if it is one.
    #[must_use]
    pub fn pci_function(&mut self) -> Option<&mut dyn PciFunction> {
        match &mut self.slot {
            Slot::Isa { .. } => None,
            Slot::Pci(card) => Some(card),
        }
    }

    /// Its address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.nic.mac()
    }

    /// A frame for the guest: destination to end of data, without frame check sequence; short ones are padded.
    /// `false`: it is lost because ring and queue are full, which the guest sees as an overflow.
    /// `true`: it is in the ring or the queue, or nobody wanted it (another address, receiver off, link down,
    /// not [`MIN_FRAME`] to [`MAX_FRAME`] bytes).
    pub fn offer(&mut self, frame: &[u8], cx: &mut IoCtx) -> bool {
        let taken = self.nic.offer(frame, cx);
        self.drive(cx);
        taken
    }

    /// How many frames [`offer`](Self::offer) takes before it loses one.
    #[must_use]
    pub fn room(&self) -> usize {
        self.nic.room()
    }

    /// The next frame that the guest sent, without frame check sequence.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.nic.outgoing.pop_front()
    }

    /// Whether the transmitter waits for [`take`](Self::take) and [`resume`](Self::resume).
    #[must_use]
    pub fn deferring(&self) -> bool {
        self.nic.deferring
    }

    /// Lets a transmission that waited for room go on.
    pub fn resume(&mut self, cx: &mut IoCtx) {
        if self.nic.deferring {
            self.nic.transmitted();
            self.drive(cx);
        }
    }

    /// Plugs the cable in or out.
    pub fn set_link(&mut self, up: bool, cx: &mut IoCtx) {
        self.nic.link = up;
        self.resume(cx);
    }

    /// Whether the cable is plugged in.
    #[must_use]
    pub fn link(&self) -> bool {
        self.nic.link
    }

    /// Traffic since power-on.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.nic.counters
    }

    /// Reads of the data port that move data and do nothing else, at once: up to `count` of `size` bytes go to `to`,
    /// in one part. Returns how many these were.
    pub fn read_many(&mut self, port: u16, size: u8, count: u32, to: impl FnOnce(&[u8])) -> u32 {
        if port & (PORTS - 1) != DATA_PORT {
            return 0;
        }
        self.nic.read_many(size, count, to)
    }

    /// The same for writes; `from` fills what is to be written.
    pub fn write_many(&mut self, port: u16, size: u8, count: u32, from: impl FnOnce(&mut [u8])) -> u32 {
        if port & (PORTS - 1) != DATA_PORT {
            return 0;
        }
        self.nic.write_many(size, count, from)
    }

    fn drive(&self, cx: &mut IoCtx) {
        let level = self.nic.interrupt();
        match &self.slot {
            Slot::Isa { irq, .. } => cx.irq.set_isa(*irq, level),
            Slot::Pci(card) => cx.irq.set_pci(card.pci.slot, 0, level),
        }
    }
}

impl PciFunction for Rtl8029 {
    fn config(&self) -> &PciConfig {
        &self.pci
    }
    fn config_mut(&mut self) -> &mut PciConfig {
        &mut self.pci
    }
}

impl PortIo for Ne2000 {
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8 {
        let offset = port & (PORTS - 1);
        let value = match offset {
            RESET_PORT.. => {
                self.nic.reset(cx);
                0
            }
            DATA_PORT.. => self.nic.data_read(1, cx) as u8,
            _ => {
                let link = self.nic.link;
                match (&self.slot, self.nic.command.page(), offset) {
                    (Slot::Pci(card), 3, 1..) => card.read(offset, link),
                    // 8029ID0 and 8029ID1, where the DP8390 has nothing to read.
                    (Slot::Pci(_), 0, 0x0a) => b'P',
                    (Slot::Pci(_), 0, 0x0b) => b'C',
                    _ => self.nic.read(offset),
                }
            }
        };
        self.drive(cx);
        value
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        let offset = port & (PORTS - 1);
        match offset {
            // The write only ends the pulse that the read began.
            RESET_PORT.. => {}
            DATA_PORT.. => self.nic.data_write(1, value.into(), cx),
            _ => match (&mut self.slot, self.nic.command.page(), offset) {
                (Slot::Pci(card), 3, 1..) => card.write(offset, value),
                _ => self.nic.write(offset, value, cx),
            },
        }
        self.drive(cx);
    }

    fn read_u16(&mut self, port: u16, cx: &mut IoCtx) -> u16 {
        if (DATA_PORT..RESET_PORT).contains(&(port & (PORTS - 1))) {
            let value = self.nic.data_read(2, cx) as u16;
            self.drive(cx);
            return value;
        }
        u16::from_le_bytes([self.read_u8(port, cx), self.read_u8(port.wrapping_add(1), cx)])
    }

    fn write_u16(&mut self, port: u16, value: u16, cx: &mut IoCtx) {
        if (DATA_PORT..RESET_PORT).contains(&(port & (PORTS - 1))) {
            self.nic.data_write(2, value.into(), cx);
            self.drive(cx);
            return;
        }
        let [low, high] = value.to_le_bytes();
        self.write_u8(port, low, cx);
        self.write_u8(port.wrapping_add(1), high, cx);
    }

    fn read_u32(&mut self, port: u16, cx: &mut IoCtx) -> u32 {
        if (DATA_PORT..RESET_PORT).contains(&(port & (PORTS - 1))) {
            let value = self.nic.data_read(4, cx);
            self.drive(cx);
            return value;
        }
        u32::from(self.read_u16(port, cx)) | u32::from(self.read_u16(port.wrapping_add(2), cx)) << 16
    }

    fn write_u32(&mut self, port: u16, value: u32, cx: &mut IoCtx) {
        if (DATA_PORT..RESET_PORT).contains(&(port & (PORTS - 1))) {
            self.nic.data_write(4, value, cx);
            self.drive(cx);
            return;
        }
        self.write_u16(port, value as u16, cx);
        self.write_u16(port.wrapping_add(2), (value >> 16) as u16, cx);
    }
}

impl Device for Ne2000 {
    fn reset(&mut self, cx: &mut IoCtx) {
        self.nic.reset(cx);
        if let Slot::Pci(card) = &mut self.slot {
            card.pci.reset();
            card.load();
        }
        self.drive(cx);
    }

    fn on_event(&mut self, event: EventId, cx: &mut IoCtx) {
        match event {
            EventId::Network => self.nic.transmitted(),
            EventId::NetworkReceive => self.nic.unacknowledged(cx),
            _ => {}
        }
        self.drive(cx);
    }
}
