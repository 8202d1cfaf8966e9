//! Intel 82441FX (i440FX) host bridge, PCI 8086:1237 at slot 0. Spec: Intel 290549 (82441FX PMC).
//!
//! What software uses of it: the PAM registers (shadowing of C0000h-FFFFFh) and the SMRAM register.

use super::pci::PciFunction;
use super::pci_config::PciConfig;
use crate::bus::{Device, IoCtx};
use crate::mem::Pam;
use serde::{Deserialize, Serialize};

const REG_PAM0: u8 = 0x59;
const REG_PAM6: u8 = 0x5f;
const REG_SMRAM: u8 = 0x72;
/// DRAM row boundary 7: top of memory in units of 8 MiB (290549, 3.2.19).
const REG_DRB7: usize = 0x57;
/// Subsystem identity by which SeaBIOS knows the QEMU board: 1AF4:1100.
const SUBSYSTEM: [u8; 4] = [0xf4, 0x1a, 0x00, 0x11];

bitflags::bitflags! {
    /// One nibble of a PAM register (290549, 3.2.18).
    struct PamBits: u8 {
        /// RE: reads go to DRAM.
        const READ = 1;
        /// WE: writes go to DRAM.
        const WRITE = 2;
    }

    /// System management RAM control (290549, 3.2.21).
    struct Smram: u8 {
        /// C_BASE_SEG: always A0000h.
        const BASE_SEG = 2;
        /// G_SMRAME: SMRAM enabled.
        const ENABLE = 0x08;
        /// D_LCK: D_OPEN is clear and the register read-only until reset.
        const LOCK = 0x10;
        /// D_CLS: closed to data accesses.
        const CLOSED = 0x20;
        /// D_OPEN: visible outside SMM too.
        const OPEN = 0x40;
    }
}

/// The host bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostBridge {
    config: PciConfig,
    smram_locked: bool,
}

impl HostBridge {
    /// A bridge over `ram_size` bytes of RAM.
    #[must_use]
    pub fn new(ram_size: u32) -> Self {
        let mut config = PciConfig::new(0, 0, 0x8086, 0x1237, 0x06_0000, 2, 0);
        config.set(0x06, &[0x80, 0x02]); // status: fast back-to-back, medium DEVSEL#
        config.set(0x2c, &SUBSYSTEM);
        config.set(REG_DRB7, &[(ram_size >> 23).min(255) as u8]);
        config.allow(0x40, &[0xff; 0xc0]);
        let mut bridge = Self { config, smram_locked: false };
        bridge.power_on_values();
        bridge
    }

    fn power_on_values(&mut self) {
        self.config.reset();
        self.config.set(0x04, &[0x06, 0x00]); // memory and bus master are wired on
        self.config.set(usize::from(REG_PAM0), &[0; 7]);
        self.config.set(usize::from(REG_SMRAM), &[Smram::BASE_SEG.bits()]);
        self.smram_locked = false;
    }

    /// PAM0 holds F0000h-FFFFFh in its high nibble; PAM1 to PAM6 hold two 16 KiB pieces each from C0000h.
    fn apply_pam(&self, register: u8, cx: &mut IoCtx) {
        let value = self.config.byte(register);
        let pam = |nibble: u8| {
            let bits = PamBits::from_bits_truncate(nibble);
            Pam { read_ram: bits.contains(PamBits::READ), write_ram: bits.contains(PamBits::WRITE) }
        };
        if register == REG_PAM0 {
            (12..16).for_each(|piece| cx.mem.set_pam(piece, pam(value >> 4)));
        } else {
            let first = 2 * usize::from(register - REG_PAM0 - 1);
            cx.mem.set_pam(first, pam(value));
            cx.mem.set_pam(first + 1, pam(value >> 4));
        }
    }

    fn write_smram(&mut self, cx: &mut IoCtx) {
        if self.smram_locked {
            let frozen = Smram::BASE_SEG | Smram::ENABLE | Smram::LOCK;
            self.config.set(usize::from(REG_SMRAM), &[frozen.bits()]);
            return;
        }
        let writable = Smram::ENABLE | Smram::LOCK | Smram::CLOSED | Smram::OPEN;
        let mut smram = Smram::from_bits_truncate(self.config.byte(REG_SMRAM)) & writable;
        smram |= Smram::BASE_SEG;
        if smram.contains(Smram::LOCK) {
            smram.remove(Smram::OPEN);
            smram.insert(Smram::ENABLE);
            self.smram_locked = true;
        }
        self.config.set(usize::from(REG_SMRAM), &[smram.bits()]);
        cx.mem.set_smram_open(smram.contains(Smram::OPEN));
    }

    /// Brings the memory map in line with the registers (after a snapshot was loaded).
    pub fn apply(&self, cx: &mut IoCtx) {
        (REG_PAM0..=REG_PAM6).for_each(|register| self.apply_pam(register, cx));
        let smram = Smram::from_bits_truncate(self.config.byte(REG_SMRAM));
        cx.mem.set_smram_open(smram.contains(Smram::OPEN));
    }
}

impl PciFunction for HostBridge {
    fn config(&self) -> &PciConfig {
        &self.config
    }
    fn config_mut(&mut self) -> &mut PciConfig {
        &mut self.config
    }
    fn config_written(&mut self, offset: u8, cx: &mut IoCtx) {
        match offset {
            REG_PAM0..=REG_PAM6 => self.apply_pam(offset, cx),
            REG_SMRAM => self.write_smram(cx),
            _ => {}
        }
    }
}

impl Device for HostBridge {
    fn reset(&mut self, cx: &mut IoCtx) {
        self.power_on_values();
        self.apply(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::Bench;
    use crate::devices::pci::{config_read, config_write};
    use crate::mem::Frame;

    fn write(dev: &mut HostBridge, bench: &mut Bench, at: u8, size: u8, value: u32) {
        config_write(Some(dev), at, size, value, &mut bench.cx());
    }

    #[test]
    fn identity_is_what_seabios_looks_for() {
        let dev = HostBridge::new(64 << 20);
        assert_eq!(config_read(Some(&dev), 0, 4), 0x1237_8086);
        assert_eq!(config_read(Some(&dev), 0x2c, 4), 0x1100_1af4);
        assert_eq!(config_read(Some(&dev), 8, 4), 0x0600_0002);
        assert_eq!(config_read(Some(&dev), 0x0e, 1), 0);
        assert_eq!(config_read(Some(&dev), 0x57, 1), 8);
    }

    #[test]
    fn firmware_shadows_itself_and_locks_the_shadow() {
        let (mut dev, mut bench) = (HostBridge::new(16 << 20), Bench::new());
        dev.reset(&mut bench.cx());
        assert_eq!(bench.mem.frame(0xf0000, true), Frame::Mmio);
        // Make all of C0000h-FFFFFh RAM, as make_bios_writable does.
        write(&mut dev, &mut bench, 0x59, 1, 0x30);
        for register in 0x5a..=0x5f {
            write(&mut dev, &mut bench, register, 1, 0x33);
        }
        for page in (0xc0..0x100).map(|p| p << 12) {
            assert_eq!(bench.mem.frame(page, true), Frame::Memory(page as u32));
            assert_eq!(bench.mem.frame(page, false), Frame::Memory(page as u32));
        }
        // Read-only F0000h; E8000h writable, EC000h not.
        write(&mut dev, &mut bench, 0x58, 4, 0x0000_1000);
        write(&mut dev, &mut bench, 0x5f, 1, 0x13);
        assert_eq!(bench.mem.frame(0xff000, false), Frame::Memory(0xff000));
        assert_eq!(bench.mem.frame(0xff000, true), Frame::Mmio);
        assert_eq!(bench.mem.frame(0xe8000, true), Frame::Memory(0xe8000));
        assert_eq!(bench.mem.frame(0xec000, true), Frame::Mmio);
        dev.reset(&mut bench.cx());
        assert_eq!(bench.mem.frame(0xe8000, true), Frame::Mmio);
    }

    #[test]
    fn smram_opens_and_stays_closed_once_locked() {
        let (mut dev, mut bench) = (HostBridge::new(16 << 20), Bench::new());
        write(&mut dev, &mut bench, 0x72, 1, 0x4a);
        assert_eq!(bench.mem.frame(0xa0000, true), Frame::Memory(0xa0000));
        write(&mut dev, &mut bench, 0x72, 1, 0x5a);
        assert_eq!(config_read(Some(&dev), 0x72, 1), 0x1a);
        assert_eq!(bench.mem.frame(0xa0000, true), Frame::Mmio);
        write(&mut dev, &mut bench, 0x72, 1, 0x4a);
        assert_eq!(config_read(Some(&dev), 0x72, 1), 0x1a);
        assert_eq!(bench.mem.frame(0xa0000, true), Frame::Mmio);
    }

    #[test]
    fn a_snapshot_restores_the_map() {
        let (mut dev, mut bench) = (HostBridge::new(16 << 20), Bench::new());
        write(&mut dev, &mut bench, 0x5a, 1, 0x33);
        let saved = serde_json::to_string(&dev).expect("serialises");
        let restored: HostBridge = serde_json::from_str(&saved).expect("deserialises");
        assert_eq!(dev, restored);
        let mut fresh = Bench::new();
        restored.apply(&mut fresh.cx());
        assert_eq!(fresh.mem.frame(0xc4000, true), Frame::Memory(0xc4000));
    }
}
