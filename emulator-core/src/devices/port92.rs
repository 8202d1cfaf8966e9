//! System control port A, port 92h: the fast A20 gate and the fast reset.
//! Spec: Intel 290550 (82371SB) 2.5.5.3; IBM PS/2 technical reference, "System control port A".

use crate::bus::{Device, IoCtx, PortIo};
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Port 92h.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct ControlA: u8 {
        /// Its rising edge resets the processor.
        const FAST_RESET = 1 << 0;
        /// Address line 20 works.
        const A20 = 1 << 1;
        /// Bits without function here, which keep what is written.
        const OTHER = 0xfc;
    }
}

/// Port 92h. The state of A20 itself is the memory's, since the keyboard controller moves it too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port92 {
    value: ControlA,
}

impl Port92 {
    /// The port as after power-on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl PortIo for Port92 {
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8 {
        if port != 0x92 {
            return 0xff;
        }
        let mut value = self.value;
        value.set(ControlA::A20, cx.mem.a20());
        value.bits()
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        if port != 0x92 {
            return;
        }
        let value = ControlA::from_bits_truncate(value);
        if (value - self.value).contains(ControlA::FAST_RESET) {
            cx.signals.reset = true;
        }
        cx.signals.a20 = Some(value.contains(ControlA::A20));
        self.value = value;
    }
}

impl Device for Port92 {
    fn reset(&mut self, _cx: &mut IoCtx) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::{Bench, conformance};

    #[test]
    fn conforms() {
        conformance(Port92::new(), &[0x92]);
    }

    #[test]
    fn bit_1_gates_a20_and_shows_its_state() {
        let mut bench = Bench::new();
        let mut port = Port92::new();
        port.write_u8(0x92, 0x00, &mut bench.cx());
        assert_eq!(bench.signals.a20, Some(false));
        bench.mem.set_a20(false);
        assert_eq!(port.read_u8(0x92, &mut bench.cx()), 0x00);
        port.write_u8(0x92, 0x0a, &mut bench.cx());
        assert_eq!(bench.signals.a20, Some(true));
        bench.mem.set_a20(true);
        assert_eq!(port.read_u8(0x92, &mut bench.cx()), 0x0a);
        assert!(!bench.signals.reset);
    }

    #[test]
    fn the_rising_edge_of_bit_0_resets() {
        let mut bench = Bench::new();
        let mut port = Port92::new();
        port.write_u8(0x92, 0x03, &mut bench.cx());
        assert!(std::mem::take(&mut bench.signals.reset));
        port.write_u8(0x92, 0x03, &mut bench.cx());
        assert!(!bench.signals.reset);
    }
}
