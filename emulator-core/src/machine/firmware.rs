//! What the firmware is told about the machine: fw_cfg items, CMOS bytes and attached drives.

use super::board::Board;
use super::config::{ConfigError, DriveConfig, MachineConfig, NetworkKind};
use super::loader::bzimage;
use super::loader::multiboot::{self, Module};
use crate::devices::floppy::format::DriveType;
use crate::devices::fw_cfg::{BootDevice, FwCfg, MachineFacts};
use crate::devices::ne2000::Ne2000;

/// The display adapter's PCI identity, whose option ROM the video BIOS is.
const VGA_ID: (u16, u16) = (0x1234, 0x1111);

/// Firmware paths of the boot devices in the order asked for.
fn boot_paths(config: &MachineConfig) -> Vec<String> {
    let drives = |want_cd: bool| {
        config
            .drives
            .iter()
            .enumerate()
            .filter(move |(_, d)| {
                matches!((d, want_cd), (Some(DriveConfig::Disk(_)), false) | (Some(DriveConfig::Cdrom(_)), true))
            })
            .map(|(n, _)| BootDevice::Ide { channel: (n / 2) as u8, unit: (n % 2) as u8 })
    };
    let mut order = Vec::new();
    for letter in config.boot_order.chars() {
        match letter {
            'a' => order.extend([BootDevice::Floppy(0), BootDevice::Floppy(1)]),
            'c' => order.extend(drives(false)),
            'd' => order.extend(drives(true)),
            _ => {}
        }
    }
    order.iter().map(FwCfg::boot_path).collect()
}

/// The fw_cfg device, with the kernel to boot if there is one.
pub(super) fn fw_cfg(config: &MachineConfig) -> Result<FwCfg, ConfigError> {
    let image = match (&config.kernel, &config.multiboot) {
        (Some(kernel), _) => Some(bzimage::load(kernel, config.initrd.as_deref(), &config.cmdline, config.memory)?),
        (None, Some(image)) => {
            let modules: Vec<Module> = config.initrd.iter().map(|data| Module { data, cmdline: "" }).collect();
            Some(multiboot::load(image, &modules, &config.cmdline, config.memory)?)
        }
        (None, None) => None,
    };
    let mut boot_order = boot_paths(config);
    if let Some(image) = &image {
        boot_order.insert(0, image.boot_path());
    }
    let mut fw_cfg = FwCfg::new(&MachineFacts {
        ram_size: config.memory,
        cpus: config.cpus as u16,
        boot_order,
        boot_menu_wait: config.boot_menu,
    });
    if !config.vga_bios.is_empty() {
        fw_cfg.add_pci_rom(VGA_ID.0, VGA_ID.1, config.vga_bios.clone());
    }
    if let Some(image) = image {
        image.install(&mut fw_cfg);
    }
    Ok(fw_cfg)
}

/// Attaches drives and fills the CMOS as the firmware of a PC expects it (QEMU's `pc` board).
pub(super) fn attach(board: &mut Board, config: MachineConfig) {
    let memory = config.memory;
    for (n, image) in config.floppies.into_iter().enumerate() {
        if let Some(image) = image {
            board.floppy.attach(n, Some(image));
        }
    }
    let mut disks = [false; 4];
    for (n, drive) in config.drives.into_iter().enumerate() {
        match drive {
            Some(DriveConfig::Disk(image)) => {
                board.ide.attach_disk(n, image);
                disks[n] = true;
            }
            Some(DriveConfig::Cdrom(disc)) => board.ide.attach_cdrom(n, disc),
            None => {}
        }
    }
    board.network = config.network.map(|network| match network.kind {
        NetworkKind::Pci => Ne2000::pci(network.mac),
        NetworkKind::Isa { base, irq } => Ne2000::isa(network.mac, base, irq),
    });
    let floppies = [board.floppy.drive_type(0), board.floppy.drive_type(1)];
    board.with(0, |parts, cx| parts.rtc.set_time(config.start_time, cx));
    let rtc = &mut board.rtc;
    let mut word = |at: u8, value: u64| {
        rtc.set_cmos(at, value as u8);
        rtc.set_cmos(at + 1, (value >> 8) as u8);
    };
    // Base memory in KiB, extended memory in KiB (two places), memory above 16 MiB in 64 KiB pieces.
    word(0x15, 640);
    let extended = (memory.saturating_sub(1 << 20) >> 10).min(0xffff);
    word(0x17, extended);
    word(0x30, extended);
    word(0x34, (memory.saturating_sub(16 << 20) >> 16).min(0xffff));
    let code = |t: DriveType| t as u8;
    rtc.set_cmos(0x10, code(floppies[0]) << 4 | code(floppies[1]));
    let count = floppies.iter().filter(|t| **t != DriveType::None).count() as u8;
    // Equipment: FPU, PS/2 mouse, number of floppy drives.
    let floppy_bits = if count > 0 { 1 | (count - 1) << 6 } else { 0 };
    rtc.set_cmos(0x14, 0x06 | floppy_bits);
    // Disk types: Fh means "see 19h", and 47 is a user-defined type; the firmware asks the drive itself.
    rtc.set_cmos(0x12, u8::from(disks[0]) * 0xf0 | u8::from(disks[1]) * 0x0f);
    rtc.set_cmos(0x19, u8::from(disks[0]) * 47);
    rtc.set_cmos(0x1a, u8::from(disks[1]) * 47);
    // Boot order of last resort: hard disk, CD-ROM, floppy; no signature check for floppies.
    rtc.set_cmos(0x3d, 0x32);
    rtc.set_cmos(0x38, 0x11);
    // Geometry translation: LBA for every disk (2 bits each).
    let translation = (0..4).filter(|&n| disks[n]).fold(0, |t, n| t | 1 << (2 * n));
    rtc.set_cmos(0x39, translation);
    rtc.set_cmos(0x5f, 0);
}
