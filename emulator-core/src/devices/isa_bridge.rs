//! Intel PIIX3 (82371SB) PCI-to-ISA bridge, PCI 8086:7000 at slot 1 function 0, and its reset control
//! register at port CF9h. Spec: Intel 290550. The edge/level register belongs to the PIC.

use super::pci::PciFunction;
use super::pci_config::PciConfig;
use crate::bus::{Device, IoCtx, IrqLines, PortIo};
use serde::{Deserialize, Serialize};

/// Reset control register.
pub const PORT_RESET: u16 = 0xcf9;
const REG_PIRQRC: u8 = 0x60;
/// Lines that a PIRQ can be routed to (290550, 2.2.3): not 0-2, 8 and 13.
const ROUTABLE: u16 = 0xdef8;
/// Values of the registers from 40h on at reset, (offset, value).
const DEFAULTS: [(usize, u8); 17] = [
    (0x4c, 0x4d), // IORT: ISA recovery times
    (0x4e, 0x03), // XBCS: keyboard controller and RTC decoded
    (0x4f, 0x00),
    (0x60, 0x80), // PIRQRC A-D: not routed
    (0x61, 0x80),
    (0x62, 0x80),
    (0x63, 0x80),
    (0x69, 0x02), // TOM
    (0x70, 0x80), // MBIRQ0
    (0x76, 0x0c), // MBDMA0, MBDMA1: disabled
    (0x77, 0x0c),
    (0x78, 0x02), // PCSC
    (0x79, 0x00),
    (0xa0, 0x08), // SMICNTL
    (0xa2, 0x00),
    (0xa8, 0x0f), // FTMR
    (0xaa, 0x00),
];

bitflags::bitflags! {
    /// Reset control register (290550, 2.5.5).
    struct ResetControl: u8 {
        /// SRST: 1 = hard reset, 0 = CPU only.
        const HARD = 2;
        /// RCPU: a rising edge resets.
        const RESET = 4;
    }

    /// PIRQx route control (290550, 2.2.3).
    struct RouteControl: u8 {
        /// IRQROUTE: the ISA line.
        const IRQ = 0x0f;
        /// IRQROUTEN: 1 = not routed.
        const DISABLE = 0x80;
    }
}

/// The ISA bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsaBridge {
    config: PciConfig,
    reset_control: u8,
}

impl Default for IsaBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl IsaBridge {
    /// A bridge in its power-on state.
    #[must_use]
    pub fn new() -> Self {
        let mut config = PciConfig::new(1, 0, 0x8086, 0x7000, 0x06_0100, 0, 0);
        config.set(0x06, &[0x00, 0x02]); // status: medium DEVSEL#
        config.set(0x0e, &[0x80]); // multifunction
        config.set(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        config.allow(0x40, &[0xff; 0xc0]);
        let mut bridge = Self { config, reset_control: 0 };
        bridge.power_on_values();
        bridge
    }

    fn power_on_values(&mut self) {
        self.config.reset();
        self.config.set(0x04, &[0x07, 0x00]); // I/O, memory and bus master are wired on
        for (at, value) in DEFAULTS {
            self.config.set(at, &[value]);
        }
        self.reset_control = 0;
    }

    /// ISA line that PIRQ `n` (0 = A) is routed to.
    #[must_use]
    pub fn route(&self, n: usize) -> Option<u8> {
        let control = self.config.byte(REG_PIRQRC + (n & 3) as u8);
        let irq = control & RouteControl::IRQ.bits();
        (control & RouteControl::DISABLE.bits() == 0 && ROUTABLE & 1 << irq != 0).then_some(irq)
    }

    /// Levels of the 16 interrupt lines as the interrupt controllers see them: the ISA lines and the
    /// PIRQs on the lines they are routed to.
    #[must_use]
    pub fn levels(&self, lines: &IrqLines) -> u16 {
        (0..4)
            .filter(|&n| lines.pirq(n))
            .filter_map(|n| self.route(n))
            .fold(lines.isa(), |levels, irq| levels | 1 << irq)
    }
}

impl PciFunction for IsaBridge {
    fn config(&self) -> &PciConfig {
        &self.config
    }
    fn config_mut(&mut self) -> &mut PciConfig {
        &mut self.config
    }
    fn config_written(&mut self, offset: u8, cx: &mut IoCtx) {
        if (REG_PIRQRC..REG_PIRQRC + 4).contains(&offset) {
            // An asserted PIRQ has moved to another line.
            cx.signals.remap = true;
        }
    }
}

impl PortIo for IsaBridge {
    fn read_u8(&mut self, port: u16, _cx: &mut IoCtx) -> u8 {
        match port {
            PORT_RESET => self.reset_control,
            _ => 0xff,
        }
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        if port != PORT_RESET {
            return;
        }
        let new = ResetControl::from_bits_truncate(value);
        if new.contains(ResetControl::RESET) {
            cx.signals.reset = true;
        }
        self.reset_control = (new & ResetControl::HARD).bits();
    }
}

impl Device for IsaBridge {
    fn reset(&mut self, _cx: &mut IoCtx) {
        self.power_on_values();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::{Bench, conformance};
    use crate::devices::pci::{config_read, config_write};

    #[test]
    fn identity_and_defaults_are_those_of_the_piix3() {
        let dev = IsaBridge::new();
        assert_eq!(config_read(Some(&dev), 0, 4), 0x7000_8086);
        assert_eq!(config_read(Some(&dev), 0x0a, 2), 0x0601);
        assert_eq!(config_read(Some(&dev), 0x0e, 1), 0x80);
        assert_eq!(config_read(Some(&dev), 0x60, 4), 0x8080_8080);
    }

    #[test]
    fn pirqs_appear_on_the_routed_lines() {
        let (mut dev, mut bench) = (IsaBridge::new(), Bench::new());
        bench.irq.set_pci(3, 0, true); // slot 3 INTA is PIRQ C
        bench.irq.set_isa(4, true);
        assert_eq!(dev.levels(&bench.irq), 1 << 4);
        for (pirq, irq) in [10, 10, 11, 11].into_iter().enumerate() {
            config_write(Some(&mut dev), 0x60 + pirq as u8, 1, irq, &mut bench.cx());
        }
        assert!(bench.signals.remap);
        assert_eq!(dev.levels(&bench.irq), 1 << 4 | 1 << 11);
        config_write(Some(&mut dev), 0x62, 1, 2, &mut bench.cx());
        assert_eq!(dev.route(2), None, "the cascade line cannot be routed to");
    }

    #[test]
    fn port_cf9_resets_the_machine() {
        let (mut dev, mut bench) = (IsaBridge::new(), Bench::new());
        dev.write_u8(PORT_RESET, 2, &mut bench.cx());
        assert!(!bench.signals.reset);
        assert_eq!(dev.read_u8(PORT_RESET, &mut bench.cx()), 2);
        dev.write_u8(PORT_RESET, 6, &mut bench.cx());
        assert!(bench.signals.reset);
    }

    #[test]
    fn conforms() {
        conformance(IsaBridge::new(), &[PORT_RESET, 0xcf8]);
    }
}
