//! The 256-byte configuration space of a PCI function (PCI Local Bus 2.1, chapter 6).

use serde::{Deserialize, Serialize};

/// What a base address register maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bar {
    /// I/O ports; the size is a power of two, at least 4.
    Io {
        /// Number of ports.
        size: u32,
    },
    /// Memory; the size is a power of two, at least 16.
    Memory {
        /// Bytes.
        size: u32,
        /// Bit 3 of the register.
        prefetchable: bool,
    },
}

/// A range that a function decodes at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedBar {
    /// First port or physical address.
    pub base: u32,
    /// Ports or bytes.
    pub size: u32,
    /// Whether it is an I/O range.
    pub io: bool,
}

/// Header type 0 configuration space: values, writable bits and base address registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciConfig {
    #[serde(deserialize_with = "crate::bus::exactly::<_, 256>")]
    bytes: Vec<u8>,
    #[serde(deserialize_with = "crate::bus::exactly::<_, 256>")]
    writable: Vec<u8>,
    bars: [Option<Bar>; 6],
    /// Device number on bus 0.
    pub slot: u8,
    /// Function number.
    pub function: u8,
}

impl PciConfig {
    /// A function with identity and class (`class` is base, sub, interface: 0x030000 for VGA). `pin` is 0 for none, 1 for INTA.
    #[must_use]
    pub fn new(slot: u8, function: u8, vendor: u16, device: u16, class: u32, revision: u8, pin: u8) -> Self {
        let mut c = Self { bytes: vec![0; 256], writable: vec![0; 256], bars: [None; 6], slot, function };
        c.set_u16(0x00, vendor);
        c.set_u16(0x02, device);
        c.bytes[0x08] = revision;
        c.bytes[0x09..0x0c].copy_from_slice(&class.to_le_bytes()[..3]);
        c.bytes[0x3d] = pin;
        c.allow(0x04, &[0x07, 0x05]); // command: I/O, memory, bus master, parity, SERR
        c.allow(0x0c, &[0xff, 0xff]); // cache line size, latency timer
        c.allow(0x3c, &[0xff]); // interrupt line
        c
    }

    /// Declares base address register `n`.
    pub fn set_bar(&mut self, n: usize, bar: Bar) {
        let (mask, flags) = match bar {
            Bar::Io { size } => (!(size - 1) & !3, 1),
            Bar::Memory { size, prefetchable } => (!(size - 1) & !15, u32::from(prefetchable) << 3),
        };
        let at = 0x10 + 4 * n;
        self.bars[n] = Some(bar);
        self.bytes[at..at + 4].copy_from_slice(&flags.to_le_bytes());
        self.allow(at, &mask.to_le_bytes());
    }

    /// Sets read-only bytes (initial values of device-specific registers).
    pub fn set(&mut self, at: usize, value: &[u8]) {
        self.bytes[at..at + value.len()].copy_from_slice(value);
    }

    fn set_u16(&mut self, at: usize, value: u16) {
        self.set(at, &value.to_le_bytes());
    }

    /// Marks bits writable by the guest, beside those that already are.
    pub fn allow(&mut self, at: usize, mask: &[u8]) {
        for (w, m) in self.writable[at..].iter_mut().zip(mask) {
            *w |= m;
        }
    }

    /// The register byte at `at`.
    #[must_use]
    pub fn byte(&self, at: u8) -> u8 {
        self.bytes[usize::from(at)]
    }

    /// Reads a configuration dword (`at` is aligned down).
    #[must_use]
    pub fn read_u32(&self, at: u8) -> u32 {
        let at = usize::from(at & 0xfc);
        u32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }

    /// Guest write of one byte. Returns whether the mapped ranges may have changed.
    pub fn write_u8(&mut self, at: u8, value: u8) -> bool {
        let i = usize::from(at);
        let mask = self.writable[i];
        let new = (self.bytes[i] & !mask) | (value & mask);
        let changed = new != self.bytes[i];
        self.bytes[i] = new;
        changed && (at == 4 || (0x10..0x28).contains(&at))
    }

    /// Where base address register `n` is mapped, if its space is enabled and it was assigned.
    #[must_use]
    pub fn mapped(&self, n: usize) -> Option<MappedBar> {
        let raw = self.read_u32(0x10 + 4 * n as u8);
        let command = self.bytes[4];
        match self.bars.get(n).copied().flatten()? {
            Bar::Io { size } if command & 1 != 0 => Some(MappedBar { base: raw & !3, size, io: true }),
            Bar::Memory { size, .. } if command & 2 != 0 => Some(MappedBar { base: raw & !15, size, io: false }),
            _ => None,
        }
        .filter(|m| m.base != 0 && m.base.checked_add(m.size - 1).is_some())
    }

    /// Whether the function may master the bus.
    #[must_use]
    pub fn bus_master(&self) -> bool {
        self.bytes[4] & 4 != 0
    }

    /// Hardware reset: decoding off, base addresses and interrupt line cleared.
    pub fn reset(&mut self) {
        self.bytes[4] = 0;
        self.bytes[5] = 0;
        self.bytes[0x3c] = 0;
        for n in 0..6 {
            if self.bars[n].is_some() {
                let at = 0x10 + 4 * n;
                for i in at..at + 4 {
                    self.bytes[i] &= !self.writable[i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_reports_its_size_and_maps_when_enabled() {
        let mut c = PciConfig::new(2, 0, 0x1234, 0x1111, 0x03_0000, 2, 0);
        c.set_bar(0, Bar::Memory { size: 16 << 20, prefetchable: true });
        for i in 0..4 {
            c.write_u8(0x10 + i, 0xff);
        }
        assert_eq!(c.read_u32(0x10), 0xff00_0008);
        for (i, b) in 0xfd00_0000_u32.to_le_bytes().iter().enumerate() {
            c.write_u8(0x10 + i as u8, *b);
        }
        assert_eq!(c.mapped(0), None);
        assert!(c.write_u8(4, 2));
        assert_eq!(c.mapped(0), Some(MappedBar { base: 0xfd00_0000, size: 16 << 20, io: false }));
        assert!(!c.write_u8(0, 0x55));
        assert_eq!(c.read_u32(0), 0x1111_1234);
    }
}
