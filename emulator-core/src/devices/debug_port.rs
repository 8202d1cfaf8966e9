//! Ports that only emulators have: the firmware's log (402h, as Bochs and QEMU's `isa-debugcon` have it) and
//! QEMU's `isa-debug-exit`, by which a test program ends the run with a status.

use crate::bus::{Device, IoCtx, PortIo};
use serde::{Deserialize, Serialize};

/// Port of the firmware's log.
pub const PORT_FIRMWARE_LOG: u16 = 0x402;
/// What reading the log port gives, by which firmware finds it.
const LOG_PRESENT: u8 = 0xe9;
/// Ports that isa-debug-exit decodes.
const EXIT_PORTS: u16 = 4;
/// Log bytes kept until the machine takes them.
const LOG_LIMIT: usize = 1 << 20;

/// The firmware's log port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareLog;

impl PortIo for FirmwareLog {
    fn read_u8(&mut self, port: u16, _cx: &mut IoCtx) -> u8 {
        if port == PORT_FIRMWARE_LOG { LOG_PRESENT } else { 0xff }
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        if port == PORT_FIRMWARE_LOG && cx.signals.firmware_log.len() < LOG_LIMIT {
            cx.signals.firmware_log.push(value);
        }
    }
}

impl Device for FirmwareLog {
    fn reset(&mut self, _cx: &mut IoCtx) {}
}

/// isa-debug-exit: a write of any size ends the run. The process status is `(value << 1) | 1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebugExit {
    base: u16,
}

impl DebugExit {
    /// The device at four ports from `base`.
    #[must_use]
    pub fn new(base: u16) -> Self {
        Self { base }
    }

    /// Whether the device answers at `port`.
    #[must_use]
    pub fn decodes(&self, port: u16) -> bool {
        port.wrapping_sub(self.base) < EXIT_PORTS
    }

    fn exit(&self, port: u16, value: u32, cx: &mut IoCtx) {
        if self.decodes(port) {
            cx.signals.debug_exit = Some(value);
        }
    }
}

impl PortIo for DebugExit {
    fn read_u8(&mut self, port: u16, _cx: &mut IoCtx) -> u8 {
        if self.decodes(port) { 0 } else { 0xff }
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        self.exit(port, u32::from(value), cx);
    }

    fn write_u16(&mut self, port: u16, value: u16, cx: &mut IoCtx) {
        self.exit(port, u32::from(value), cx);
    }

    fn write_u32(&mut self, port: u16, value: u32, cx: &mut IoCtx) {
        self.exit(port, value, cx);
    }
}

impl Device for DebugExit {
    fn reset(&mut self, _cx: &mut IoCtx) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::{Bench, conformance};

    #[test]
    fn conforms() {
        conformance(FirmwareLog, &[PORT_FIRMWARE_LOG]);
        conformance(DebugExit::new(0x501), &[0x501, 0x502, 0x503, 0x504]);
    }

    #[test]
    fn firmware_finds_the_log_and_writes_to_it() {
        let mut bench = Bench::new();
        let mut log = FirmwareLog;
        assert_eq!(log.read_u8(0x402, &mut bench.cx()), 0xe9);
        for byte in b"SeaBIOS" {
            log.write_u8(0x402, *byte, &mut bench.cx());
        }
        assert_eq!(bench.signals.firmware_log, b"SeaBIOS");
    }

    #[test]
    fn debug_exit_takes_the_whole_value() {
        for (size, expected) in [(1, 0x78), (2, 0x5678), (4, 0x1234_5678)] {
            let mut bench = Bench::new();
            let mut exit = DebugExit::new(0xf4);
            let cx = &mut bench.cx();
            match size {
                1 => exit.write_u8(0xf4, 0x78, cx),
                2 => exit.write_u16(0xf4, 0x5678, cx),
                _ => exit.write_u32(0xf4, 0x1234_5678, cx),
            }
            assert_eq!(bench.signals.debug_exit, Some(expected));
        }
        let mut bench = Bench::new();
        DebugExit::new(0xf4).write_u8(0xf8, 1, &mut bench.cx());
        assert_eq!(bench.signals.debug_exit, None);
    }
}
