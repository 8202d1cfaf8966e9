//! Intel PIIX4 (82371AB) power management function, PCI 8086:7113 at slot 1 function 3: ACPI PM1 and GPE
//! blocks, the PM timer, the APM command port and the SMBus host. Spec: Intel 290562, chapter 7; ACPI 1.0b, 4.7.
//!
//! There is no system management mode. DEVACTB says from the start that its handler is installed, as
//! QEMU does for CPUs without SMM, so that SeaBIOS skips it; the ACPI enable handshake (command port)
//! is then the hardware's job.

use super::pci::PciFunction;
use super::pci_config::PciConfig;
use crate::bus::{Device, IoCtx, PortIo};
use crate::time::{EventId, Hz};
use serde::{Deserialize, Serialize};

/// APM control (command) port.
pub const PORT_APM_CONTROL: u16 = 0xb2;
/// APM status port: a byte for firmware to leave a note in.
pub const PORT_APM_STATUS: u16 = 0xb3;
/// ACPI PCI hot-plug registers, of which SeaBIOS asks which slots can be removed.
pub const PORT_HOTPLUG: u16 = 0xae00;
/// Ports of the hot-plug block.
pub const HOTPLUG_LEN: u16 = 0x10;
/// General purpose event block 0: status (2 bytes) and enable (2 bytes).
pub const PORT_GPE: u16 = 0xafe0;
/// Ports of the GPE block.
pub const GPE_LEN: u16 = 4;
/// ISA line of the system control interrupt.
pub const IRQ_SCI: u8 = 9;

/// Ports of the PM block.
const PM_LEN: u16 = 64;
/// Ports of the SMBus block.
const SMBUS_LEN: u16 = 16;
const PM_TIMER: Hz = Hz(3_579_545);
/// The status bit is set each time this bit of the timer toggles.
const TIMER_CARRY_BIT: u32 = 23;
const CMD_ACPI_DISABLE: u8 = 0xf0;
const CMD_ACPI_ENABLE: u8 = 0xf1;
/// Sleep types as SeaBIOS's tables have them: S5 is 0, S3 is 1 (not offered), S4 is 2.
const SLEEP_TYPE_S3: u16 = 1;

const REG_PM_BASE: u8 = 0x40;
const REG_DEVACTB_APMC: usize = 0x5b;
const REG_PM_ENABLE: u8 = 0x80;
const REG_SMBUS_BASE: u8 = 0x90;
const REG_SMBUS_CONTROL: u8 = 0xd2;

bitflags::bitflags! {
    /// PM1 status and enable (ACPI 1.0b, 4.7.3.1).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct Pm1: u16 {
        /// TMR: the timer's top bit toggled.
        const TIMER = 1 << 0;
        /// GBL: global lock released.
        const GLOBAL = 1 << 5;
        /// PWRBTN: power button pressed.
        const POWER_BUTTON = 1 << 8;
        /// SLPBTN: sleep button pressed.
        const SLEEP_BUTTON = 1 << 9;
        /// RTC alarm.
        const RTC = 1 << 10;
        /// WAK: the system woke up.
        const WAKE = 1 << 15;
    }

    /// PM1 control (ACPI 1.0b, 4.7.3.2).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct Pm1Control: u16 {
        /// SCI_EN: ACPI mode.
        const SCI_ENABLE = 1 << 0;
        /// SLP_TYP.
        const SLEEP_TYPE = 7 << 10;
        /// SLP_EN: enter the sleep state; reads as 0.
        const SLEEP_ENABLE = 1 << 13;
    }

    /// SMBus host status (290562, 7.3.1); written ones clear.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct SmbusStatus: u8 {
        /// HOST_BUSY.
        const BUSY = 1;
        /// Interrupt: a command completed.
        const DONE = 2;
        /// DEV_ERR: nobody answered.
        const DEVICE_ERROR = 4;
        /// BUS_ERR.
        const BUS_ERROR = 8;
        /// FAILED: killed.
        const FAILED = 0x10;
    }
}

/// Enabled events that raise an SCI.
const SCI_SOURCES: Pm1 = Pm1::TIMER.union(Pm1::GLOBAL).union(Pm1::POWER_BUTTON).union(Pm1::RTC);
/// START in the SMBus host control register.
const SMBUS_START: u8 = 0x40;

/// A range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortWindow {
    /// First port.
    pub base: u16,
    /// Number of ports.
    pub len: u16,
}

/// An SMBus host with nothing on its bus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Smbus {
    status: SmbusStatus,
    /// Registers from offset 2: control, command, address, data 0, data 1.
    registers: [u8; 5],
}

impl Smbus {
    fn read(&self, offset: u16) -> u8 {
        match offset {
            0 => self.status.bits(),
            2..=6 => self.registers[usize::from(offset - 2)],
            _ => 0,
        }
    }

    fn write(&mut self, offset: u16, value: u8) {
        match offset {
            0 => self.status &= !SmbusStatus::from_bits_truncate(value),
            2 => {
                self.registers[0] = value & !SMBUS_START;
                if value & SMBUS_START != 0 {
                    self.status |= SmbusStatus::DEVICE_ERROR;
                }
            }
            3..=6 => self.registers[usize::from(offset - 2)] = value,
            _ => {}
        }
    }
}

/// The power management function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pm {
    config: PciConfig,
    /// Latched events; the timer's is computed.
    status: Pm1,
    enable: Pm1,
    control: Pm1Control,
    /// Half periods of the timer's top bit that the guest has acknowledged.
    carries_seen: u64,
    gpe_status: u16,
    gpe_enable: u16,
    apm_control: u8,
    apm_status: u8,
    smbus: Smbus,
}

impl Default for Pm {
    fn default() -> Self {
        Self::new()
    }
}

impl Pm {
    /// The function in its power-on state.
    #[must_use]
    pub fn new() -> Self {
        let mut config = PciConfig::new(1, 3, 0x8086, 0x7113, 0x06_8000, 3, 1);
        config.set(0x06, &[0x80, 0x02]); // status: fast back-to-back, medium DEVSEL#
        config.set(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        config.allow(0x40, &[0xff; 0xc0]);
        let mut pm = Self {
            config,
            status: Pm1::empty(),
            enable: Pm1::empty(),
            control: Pm1Control::empty(),
            carries_seen: 0,
            gpe_status: 0,
            gpe_enable: 0,
            apm_control: 0,
            apm_status: 0,
            smbus: Smbus::default(),
        };
        pm.power_on_values();
        pm
    }

    fn power_on_values(&mut self) {
        self.config.reset();
        let base = usize::from(REG_PM_BASE);
        self.config.set(base, &[1, 0, 0, 0]);
        self.config.set(0x58, &[0, 0, 0]);
        self.config.set(REG_DEVACTB_APMC, &[0x02]); // APMC_EN: see the module's head
        self.config.set(0x5f, &[0x90]); // devices present: parallel port,
        self.config.set(0x63, &[0x60]); // and both serial ports
        self.config.set(0x67, &[0x98]);
        self.config.set(usize::from(REG_PM_ENABLE), &[0]);
        self.config.set(usize::from(REG_SMBUS_BASE), &[1, 0, 0, 0]);
        self.config.set(usize::from(REG_SMBUS_CONTROL), &[0]);
    }

    /// The PM block, if it is enabled and placed.
    #[must_use]
    pub fn pm_window(&self) -> Option<PortWindow> {
        let base = self.config.read_u32(REG_PM_BASE) as u16 & !(PM_LEN - 1);
        (self.config.byte(REG_PM_ENABLE) & 1 != 0 && base != 0).then_some(PortWindow { base, len: PM_LEN })
    }

    /// The SMBus block, if it is enabled and placed.
    #[must_use]
    pub fn smbus_window(&self) -> Option<PortWindow> {
        let base = self.config.read_u32(REG_SMBUS_BASE) as u16 & !(SMBUS_LEN - 1);
        (self.config.byte(REG_SMBUS_CONTROL) & 1 != 0 && base != 0).then_some(PortWindow { base, len: SMBUS_LEN })
    }

    /// The user pressed the power button: in ACPI mode the guest is told.
    pub fn press_power_button(&mut self, cx: &mut IoCtx) {
        self.status |= Pm1::POWER_BUTTON;
        self.update_sci(cx);
    }

    /// Times the timer's top bit has toggled since power-on.
    fn carries(now: u64) -> u64 {
        PM_TIMER.ticks(now) >> TIMER_CARRY_BIT
    }

    fn status_now(&self, now: u64) -> Pm1 {
        let mut status = self.status;
        status.set(Pm1::TIMER, Self::carries(now) != self.carries_seen);
        status
    }

    fn update_sci(&mut self, cx: &mut IoCtx) {
        let pending = self.status_now(cx.now) & self.enable & SCI_SOURCES;
        let level = !pending.is_empty() || self.gpe_status & self.gpe_enable != 0;
        cx.irq.set_isa(IRQ_SCI, level);
        if self.enable.contains(Pm1::TIMER) && !pending.contains(Pm1::TIMER) {
            let next = (self.carries_seen + 1) << TIMER_CARRY_BIT;
            cx.events.schedule(EventId::PmTimer, PM_TIMER.time_of(next));
        } else {
            cx.events.cancel(EventId::PmTimer);
        }
    }

    fn clear_status(&mut self, bits: Pm1, now: u64) {
        self.status &= !bits;
        if bits.contains(Pm1::TIMER) {
            self.carries_seen = Self::carries(now);
        }
    }

    fn write_control(&mut self, value: u16, cx: &mut IoCtx) {
        let value = Pm1Control::from_bits_retain(value);
        self.control = value & !Pm1Control::SLEEP_ENABLE;
        let sleep_type = (value & Pm1Control::SLEEP_TYPE).bits() >> 10;
        if value.contains(Pm1Control::SLEEP_ENABLE) && sleep_type != SLEEP_TYPE_S3 {
            cx.signals.power_off = true;
        }
    }

    fn pm_read(&self, offset: u16, now: u64) -> u8 {
        let word = |value: u16| value.to_le_bytes()[usize::from(offset & 1)];
        match offset {
            0..=1 => word(self.status_now(now).bits()),
            2..=3 => word(self.enable.bits()),
            4..=5 => word(self.control.bits()),
            8..=11 => {
                let ticks = PM_TIMER.ticks(now) as u32 & 0xff_ffff;
                ticks.to_le_bytes()[usize::from(offset - 8)]
            }
            _ => 0,
        }
    }

    fn pm_write(&mut self, offset: u16, value: u8, cx: &mut IoCtx) {
        let high = offset & 1 != 0;
        let merge = |old: u16| {
            let [a, b] = old.to_le_bytes();
            u16::from_le_bytes(if high { [a, value] } else { [value, b] })
        };
        match offset {
            0..=1 => self.clear_status(Pm1::from_bits_truncate(merge(0)), cx.now),
            2..=3 => self.enable = Pm1::from_bits_retain(merge(self.enable.bits())),
            4..=5 => self.write_control(merge(self.control.bits()), cx),
            _ => return,
        }
        self.update_sci(cx);
    }

    fn gpe_read(&self, offset: u16) -> u8 {
        let [s0, s1] = self.gpe_status.to_le_bytes();
        let [e0, e1] = self.gpe_enable.to_le_bytes();
        [s0, s1, e0, e1][usize::from(offset & 3)]
    }

    fn gpe_write(&mut self, offset: u16, value: u8, cx: &mut IoCtx) {
        let shift = 8 * (offset & 1);
        let bits = u16::from(value) << shift;
        if offset & 2 == 0 {
            self.gpe_status &= !bits;
        } else {
            self.gpe_enable = self.gpe_enable & !(0xff << shift) | bits;
        }
        self.update_sci(cx);
    }

    fn apm_command(&mut self, command: u8) {
        self.apm_control = command;
        match command {
            CMD_ACPI_ENABLE => self.control |= Pm1Control::SCI_ENABLE,
            CMD_ACPI_DISABLE => self.control &= !Pm1Control::SCI_ENABLE,
            _ => {}
        }
    }
}

fn offset_in(window: Option<PortWindow>, port: u16) -> Option<u16> {
    let window = window?;
    port.checked_sub(window.base).filter(|&o| o < window.len)
}

impl PciFunction for Pm {
    fn config(&self) -> &PciConfig {
        &self.config
    }
    fn config_mut(&mut self) -> &mut PciConfig {
        &mut self.config
    }
    fn config_written(&mut self, offset: u8, cx: &mut IoCtx) {
        match offset {
            // Bit 0 of a base address is wired to 1 (I/O space).
            REG_PM_BASE | REG_SMBUS_BASE => {
                let fixed = self.config.byte(offset) & 0xf0 | 1;
                self.config.set(usize::from(offset), &[fixed]);
                cx.signals.remap = true;
            }
            0x41 | 0x91 | REG_PM_ENABLE | REG_SMBUS_CONTROL => cx.signals.remap = true,
            _ => {}
        }
    }
}

impl PortIo for Pm {
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8 {
        match port {
            PORT_APM_CONTROL => return self.apm_control,
            PORT_APM_STATUS => return self.apm_status,
            _ if (PORT_HOTPLUG..PORT_HOTPLUG + HOTPLUG_LEN).contains(&port) => return 0,
            _ if (PORT_GPE..PORT_GPE + GPE_LEN).contains(&port) => {
                return self.gpe_read(port - PORT_GPE);
            }
            _ => {}
        }
        if let Some(offset) = offset_in(self.pm_window(), port) {
            self.pm_read(offset, cx.now)
        } else if let Some(offset) = offset_in(self.smbus_window(), port) {
            self.smbus.read(offset)
        } else {
            0xff
        }
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        match port {
            PORT_APM_CONTROL => self.apm_command(value),
            PORT_APM_STATUS => self.apm_status = value,
            _ if (PORT_GPE..PORT_GPE + GPE_LEN).contains(&port) => {
                self.gpe_write(port - PORT_GPE, value, cx);
            }
            _ => {
                if let Some(offset) = offset_in(self.pm_window(), port) {
                    self.pm_write(offset, value, cx);
                } else if let Some(offset) = offset_in(self.smbus_window(), port) {
                    self.smbus.write(offset, value);
                }
            }
        }
    }

    /// The registers are 16 bits wide: a split write of PM1 control would see SLP_EN without SLP_TYP.
    fn write_u16(&mut self, port: u16, value: u16, cx: &mut IoCtx) {
        if offset_in(self.pm_window(), port) == Some(4) {
            self.write_control(value, cx);
        } else {
            let [a, b] = value.to_le_bytes();
            self.write_u8(port, a, cx);
            self.write_u8(port.wrapping_add(1), b, cx);
        }
    }
}

impl Device for Pm {
    fn reset(&mut self, cx: &mut IoCtx) {
        let now = cx.now;
        *self = Self::new();
        self.carries_seen = Self::carries(now);
        self.update_sci(cx);
    }

    fn on_event(&mut self, _event: EventId, cx: &mut IoCtx) {
        self.update_sci(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::{Bench, conformance};
    use crate::devices::pci::{config_read, config_write};

    const BASE: u16 = 0xb000;

    /// The function as SeaBIOS's piix4_pm_config_setup leaves it.
    fn set_up() -> (Pm, Bench) {
        let (mut pm, mut bench) = (Pm::new(), Bench::new());
        pm.reset(&mut bench.cx());
        assert_eq!(pm.pm_window(), None);
        config_write(Some(&mut pm), 0x3c, 1, 9, &mut bench.cx());
        config_write(Some(&mut pm), 0x40, 4, 0xb001, &mut bench.cx());
        config_write(Some(&mut pm), 0x80, 1, 1, &mut bench.cx());
        config_write(Some(&mut pm), 0x90, 4, 0xb101, &mut bench.cx());
        config_write(Some(&mut pm), 0xd2, 1, 9, &mut bench.cx());
        assert!(bench.signals.remap);
        (pm, bench)
    }

    fn sci(bench: &Bench) -> bool {
        bench.irq.isa() & 1 << IRQ_SCI != 0
    }

    #[test]
    fn firmware_places_the_blocks_and_finds_smm_done() {
        let (mut pm, mut bench) = set_up();
        assert_eq!(pm.pm_window().map(|w| w.base), Some(0xb000));
        assert_eq!(pm.smbus_window().map(|w| w.base), Some(0xb100));
        assert_ne!(config_read(Some(&pm), 0x58, 4) & 1 << 25, 0);
        assert_eq!(pm.read_u32(PORT_HOTPLUG + 0xc, &mut bench.cx()), 0);
    }

    #[test]
    fn the_timer_counts_at_3_58_mhz_in_24_bits() {
        let (mut pm, mut bench) = set_up();
        bench.now = 1_000_000_000;
        assert_eq!(pm.read_u32(BASE + 8, &mut bench.cx()), 3_579_545);
        bench.now = PM_TIMER.time_of(1 << 24) + 280;
        assert_eq!(pm.read_u32(BASE + 8, &mut bench.cx()), 1);
    }

    #[test]
    fn a_timer_carry_raises_the_sci_until_acknowledged() {
        let (mut pm, mut bench) = set_up();
        pm.write_u16(BASE + 2, 1, &mut bench.cx());
        let carry = PM_TIMER.time_of(1 << 23);
        assert_eq!(bench.advance(&mut pm, carry - 1), 0);
        assert!(!sci(&bench));
        assert_eq!(bench.advance(&mut pm, carry), 1);
        assert!(sci(&bench));
        assert_eq!(pm.read_u16(BASE, &mut bench.cx()), 1);
        pm.write_u16(BASE, 1, &mut bench.cx());
        assert!(!sci(&bench));
        assert_eq!(bench.advance(&mut pm, PM_TIMER.time_of(1 << 24)), 1);
        pm.write_u16(BASE + 2, 0, &mut bench.cx());
        assert!(!sci(&bench));
        assert_eq!(bench.events.deadline(EventId::PmTimer), None);
    }

    #[test]
    fn acpi_is_enabled_by_command() {
        let (mut pm, mut bench) = set_up();
        pm.write_u8(PORT_APM_CONTROL, 0xf1, &mut bench.cx());
        assert_eq!(pm.read_u16(BASE + 4, &mut bench.cx()) & 1, 1);
        pm.write_u8(PORT_APM_CONTROL, 0xf0, &mut bench.cx());
        assert_eq!(pm.read_u16(BASE + 4, &mut bench.cx()) & 1, 0);
        pm.write_u8(PORT_APM_STATUS, 0x5a, &mut bench.cx());
        assert_eq!(pm.read_u8(PORT_APM_STATUS, &mut bench.cx()), 0x5a);
    }

    #[test]
    fn soft_off_powers_off_and_s3_does_not() {
        let (mut pm, mut bench) = set_up();
        pm.write_u16(BASE + 4, 1 << 13 | 1 << 10 | 1, &mut bench.cx());
        assert!(!bench.signals.power_off);
        assert_eq!(pm.read_u16(BASE + 4, &mut bench.cx()), 1 << 10 | 1);
        pm.write_u16(BASE + 4, 1 << 13 | 1, &mut bench.cx());
        assert!(bench.signals.power_off);
    }

    #[test]
    fn the_power_button_is_an_event() {
        let (mut pm, mut bench) = set_up();
        pm.write_u16(BASE + 2, 1 << 8, &mut bench.cx());
        pm.press_power_button(&mut bench.cx());
        assert!(sci(&bench));
        pm.write_u8(BASE + 1, 1, &mut bench.cx());
        assert!(!sci(&bench));
    }

    #[test]
    fn smbus_transfers_find_nobody() {
        let (mut pm, mut bench) = set_up();
        pm.write_u8(0xb104, 0xa1, &mut bench.cx());
        pm.write_u8(0xb102, 0x48, &mut bench.cx());
        assert_eq!(pm.read_u8(0xb100, &mut bench.cx()), 4);
        pm.write_u8(0xb100, 4, &mut bench.cx());
        assert_eq!(pm.read_u8(0xb100, &mut bench.cx()), 0);
    }

    #[test]
    fn gpe_enable_is_kept_and_status_clears() {
        let (mut pm, mut bench) = set_up();
        pm.write_u16(PORT_GPE + 2, 0x1234, &mut bench.cx());
        assert_eq!(pm.read_u32(PORT_GPE, &mut bench.cx()), 0x1234_0000);
    }

    #[test]
    fn conforms() {
        let mut ports: Vec<u16> = (BASE..BASE + 12).chain(0xb100..0xb108).collect();
        ports.extend([PORT_APM_CONTROL, PORT_APM_STATUS, 0xae0c]);
        ports.extend(PORT_GPE..PORT_GPE + GPE_LEN);
        conformance(set_up().0, &ports);
    }
}
