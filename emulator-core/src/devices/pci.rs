//! PCI configuration mechanism #1: the address latch at CF8h and the data window at CFCh-CFFh
//! (PCI Local Bus 2.1, 3.7.4.1; Intel 82441FX, 3.1). The functions belong to the board, which looks up the
//! one that [`ConfigAddress::target`] names and hands it to [`config_read`] or [`config_write`].

use super::pci_config::PciConfig;
use crate::bus::IoCtx;
use serde::{Deserialize, Serialize};

/// Configuration address register (32-bit accesses only).
pub const PORT_ADDRESS: u16 = 0xcf8;
/// First port of the data window.
pub const PORT_DATA: u16 = 0xcfc;

/// A PCI function of the board.
pub trait PciFunction {
    /// Its configuration space.
    fn config(&self) -> &PciConfig;
    /// Its configuration space.
    fn config_mut(&mut self) -> &mut PciConfig;
    /// The guest wrote the byte at `offset` (the new value is in place). Not needed for base addresses and
    /// the command register: those raise `cx.signals.remap` by themselves.
    fn config_written(&mut self, offset: u8, cx: &mut IoCtx) {
        let _ = (offset, cx);
    }
}

/// Which configuration byte an access to the data window starts at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigTarget {
    /// Bus number; only bus 0 exists.
    pub bus: u8,
    /// Device number, 0 to 31.
    pub slot: u8,
    /// Function number, 0 to 7.
    pub function: u8,
    /// First byte of the configuration space.
    pub offset: u8,
}

/// The latch at CF8h.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigAddress(u32);

impl ConfigAddress {
    const ENABLE: u32 = 1 << 31;
    /// Bits that exist: enable, bus, device, function, register.
    const MASK: u32 = 0x80ff_fffc;

    /// The latch, as a 32-bit read of CF8h gives it.
    #[must_use]
    pub fn read(&self) -> u32 {
        self.0
    }

    /// A 32-bit write to CF8h. Narrower accesses do not reach the latch (CF9h is the reset register).
    pub fn write(&mut self, value: u32) {
        self.0 = value & Self::MASK;
    }

    /// Power-on state.
    pub fn reset(&mut self) {
        self.0 = 0;
    }

    /// What an access to data port `port` (CFCh to CFFh) refers to; `None` while the latch is disabled.
    #[must_use]
    pub fn target(&self, port: u16) -> Option<ConfigTarget> {
        let a = self.0;
        (a & Self::ENABLE != 0).then_some(ConfigTarget {
            bus: (a >> 16) as u8,
            slot: (a >> 11) as u8 & 31,
            function: (a >> 8) as u8 & 7,
            offset: (a as u8 & 0xfc) | (port as u8 & 3),
        })
    }
}

/// Reads `size` (1, 2, 4) bytes from `offset` of a function; what doesn't exist reads as ones.
#[must_use]
pub fn config_read(function: Option<&dyn PciFunction>, offset: u8, size: u8) -> u32 {
    let ones = u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)));
    let Some(function) = function else {
        return ones;
    };
    let dword = function.config().read_u32(offset);
    // An access that would cross the dword sees only ones beyond it, as on the bus.
    let shift = 8 * u32::from(offset & 3);
    ((u64::from(dword) | 0xffff_ffff_0000_0000) >> shift) as u32 & ones
}

/// Writes `size` (1, 2, 4) bytes at `offset` of a function, byte by byte; bytes beyond the dword are lost.
pub fn config_write(function: Option<&mut dyn PciFunction>, offset: u8, size: u8, value: u32, cx: &mut IoCtx) {
    let Some(function) = function else {
        return;
    };
    let room = 4 - (offset & 3);
    for (i, byte) in value.to_le_bytes().into_iter().enumerate() {
        let i = i as u8;
        if i < size.min(room) {
            cx.signals.remap |= function.config_mut().write_u8(offset + i, byte);
            function.config_written(offset + i, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pci_config::Bar;
    use super::*;
    use crate::bus::testing::Bench;

    struct Card {
        config: PciConfig,
        written: Vec<u8>,
    }

    impl PciFunction for Card {
        fn config(&self) -> &PciConfig {
            &self.config
        }
        fn config_mut(&mut self) -> &mut PciConfig {
            &mut self.config
        }
        fn config_written(&mut self, offset: u8, _cx: &mut IoCtx) {
            self.written.push(offset);
        }
    }

    fn card() -> Card {
        let mut config = PciConfig::new(3, 0, 0x10ec, 0x8029, 0x02_0000, 0, 1);
        config.set_bar(0, Bar::Io { size: 32 });
        Card { config, written: Vec::new() }
    }

    #[test]
    fn the_latch_names_bus_slot_function_and_byte() {
        let mut latch = ConfigAddress::default();
        assert_eq!(latch.target(0xcfc), None);
        latch.write(0x8000_1942);
        assert_eq!(latch.read(), 0x8000_1940);
        assert_eq!(latch.target(0xcfe), Some(ConfigTarget { bus: 0, slot: 3, function: 1, offset: 0x42 }));
        latch.write(0x0000_1940);
        assert_eq!(latch.target(0xcfc), None);
    }

    #[test]
    fn absent_functions_read_as_ones_of_the_access_size() {
        assert_eq!(config_read(None, 0, 4), 0xffff_ffff);
        assert_eq!(config_read(None, 2, 2), 0xffff);
        assert_eq!(config_read(None, 3, 1), 0xff);
    }

    #[test]
    fn firmware_sizes_and_places_a_bar() {
        let (mut card, mut bench) = (card(), Bench::new());
        config_write(Some(&mut card), 0x10, 4, !3, &mut bench.cx());
        assert_eq!(config_read(Some(&card), 0x10, 4), 0xffff_ffe1);
        config_write(Some(&mut card), 0x10, 4, 0xc000, &mut bench.cx());
        assert!(std::mem::take(&mut bench.signals.remap));
        config_write(Some(&mut card), 0x3c, 1, 11, &mut bench.cx());
        assert!(!bench.signals.remap);
        config_write(Some(&mut card), 4, 2, 0x103, &mut bench.cx());
        assert!(bench.signals.remap);
        assert_eq!(card.config.mapped(0).map(|m| m.base), Some(0xc000));
        assert_eq!(config_read(Some(&card), 0, 2), 0x10ec);
        assert_eq!(config_read(Some(&card), 2, 2), 0x8029);
        assert_eq!(config_read(Some(&card), 0x3c, 1), 11);
    }

    #[test]
    fn each_written_byte_is_announced_and_the_dword_is_not_left() {
        let (mut card, mut bench) = (card(), Bench::new());
        config_write(Some(&mut card), 0x3e, 4, 0, &mut bench.cx());
        assert_eq!(card.written, [0x3e, 0x3f]);
        assert_eq!(config_read(Some(&card), 0x0b, 2), 0xff02);
    }
}
