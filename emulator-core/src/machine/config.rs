//! What a machine is made of, and what is wrong with a configuration.

use super::clock::ClockMode;
use super::loader::LoadError;
use crate::cpu::state::CpuModel;
use crate::devices::block::BlockBackend;
use crate::devices::ne2000::{ISA_BASES, ISA_IRQS};
use thiserror::Error;

/// Least RAM: firmware and boot loaders need the first mebibyte and a little more.
pub const MIN_MEMORY: u64 = 2 << 20;
/// Most RAM: it ends below the PCI window.
pub const MAX_MEMORY: u64 = 3 << 30;
const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
const CD_SECTOR: u64 = 2048;
/// Largest firmware image: the window below 4 GiB.
const MAX_BIOS: usize = 256 << 10;
/// Largest floppy image, 2.88 MB.
pub const MAX_FLOPPY: u64 = 2880 << 10;

/// A drive on the IDE bus.
pub enum DriveConfig {
    /// A hard disk.
    Disk(Box<dyn BlockBackend>),
    /// A CD-ROM drive with a disc or empty.
    Cdrom(Option<Box<dyn BlockBackend>>),
}

impl std::fmt::Debug for DriveConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disk(_) => "Disk",
            Self::Cdrom(_) => "Cdrom",
        })
    }
}

/// How a network card is plugged in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkKind {
    /// RTL8029 on the PCI bus.
    #[default]
    Pci,
    /// NE2000 on the ISA bus.
    Isa {
        /// First I/O port, one of [`ISA_BASES`].
        base: u16,
        /// Interrupt line, one of [`ISA_IRQS`].
        irq: u8,
    },
}

/// A network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Its address. The host chooses one for each machine, as a rule locally administered (bit 1 of the first
    /// byte), because frames for equal addresses cannot be told apart on one network.
    pub mac: [u8; 6],
    /// The card.
    pub kind: NetworkKind,
}

/// Everything that a machine starts with.
#[derive(Default)]
pub struct MachineConfig {
    /// Bytes of RAM.
    pub memory: u64,
    /// Processor model; the default is a Pentium III.
    pub cpu: Option<CpuModel>,
    /// vCPUs.
    pub cpus: usize,
    /// Firmware image (SeaBIOS).
    pub bios: Vec<u8>,
    /// Video BIOS (SeaVGABIOS).
    pub vga_bios: Vec<u8>,
    /// Linux kernel (bzImage) to boot directly.
    pub kernel: Option<Vec<u8>>,
    /// Its initial RAM disk, or the Multiboot image's module.
    pub initrd: Option<Vec<u8>>,
    /// Its command line.
    pub cmdline: String,
    /// Multiboot image to boot directly.
    pub multiboot: Option<Vec<u8>>,
    /// Floppy disks.
    pub floppies: [Option<Box<dyn BlockBackend>>; 2],
    /// Primary master and slave, secondary master and slave.
    pub drives: [Option<DriveConfig>; 4],
    /// Order of boot devices: `a` floppy, `c` hard disk, `d` CD-ROM; empty for the firmware's own.
    pub boot_order: String,
    /// Show the firmware's boot menu for this many milliseconds.
    pub boot_menu: Option<u16>,
    /// Where virtual time comes from.
    pub clock: ClockMode,
    /// Wall-clock time at power-on, seconds since 1970 UTC.
    pub start_time: i64,
    /// Serial ports (at most 4).
    pub serials: usize,
    /// Port of the isa-debug-exit device.
    pub debug_exit: Option<u16>,
    /// The network card, if there is one.
    pub network: Option<NetworkConfig>,
}

/// Why a machine cannot be made as asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Too little RAM.
    #[error("{} of memory are too little: a machine needs at least {} MiB", size(*.0), MIN_MEMORY / MIB)]
    MemoryTooSmall(u64),
    /// Too much RAM.
    #[error("{} of memory are too much: a machine can have at most {} MiB", size(*.0), MAX_MEMORY / MIB)]
    MemoryTooLarge(u64),
    /// Number of vCPUs.
    #[error("a machine with {0} CPUs is not possible yet: only 1 is")]
    Cpus(usize),
    /// No firmware.
    #[error("the firmware image is empty")]
    NoBios,
    /// Impossible firmware.
    #[error("the firmware image has {0} bytes: expected a multiple of 64 KiB up to 256 KiB")]
    BiosSize(usize),
    /// Impossible video firmware.
    #[error("the video BIOS is not an option ROM (it does not begin with 55 AA)")]
    VgaBios,
    /// Both ways to boot a kernel.
    #[error("give either a kernel or a Multiboot image, not both")]
    TwoKernels,
    /// A kernel or initrd problem.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// Nothing in an image.
    #[error("the {0} image is empty")]
    EmptyImage(&'static str),
    /// Not whole sectors.
    #[error(
        "the {what} image has {bytes} bytes, which is not a multiple of its {sector}-byte sectors: is it truncated or compressed?"
    )]
    OddSize {
        /// Which image.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// Bytes per sector.
        sector: u64,
    },
    /// Larger than any floppy.
    #[error("the floppy image has {0} bytes, more than the 2.88 MB of the largest floppy: attach it as a hard disk")]
    FloppyTooLarge(u64),
    /// Unknown letter.
    #[error("unknown boot device `{0}`: use a (floppy), c (hard disk), d (CD-ROM) or n (network)")]
    BootOrder(char),
    /// Not the address of one station.
    #[error("{} cannot be a card's address: the first byte must be even and not all may be zero", mac(.0))]
    Mac([u8; 6]),
    /// Ports that other devices use.
    #[error("a network card cannot have I/O base {0:#x}: use {bases}", bases = list(ISA_BASES.iter().map(|b| format!("{b:#x}"))))]
    NetworkBase(u16),
    /// A line that other devices use.
    #[error("a network card cannot have IRQ {0}: use {irqs}", irqs = list(ISA_IRQS.iter().map(u8::to_string)))]
    NetworkIrq(u8),
}

impl ConfigError {
    /// A stable short name, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MemoryTooSmall(_) | Self::MemoryTooLarge(_) => "bad-memory-size",
            Self::Cpus(_) => "bad-cpu-count",
            Self::NoBios | Self::BiosSize(_) | Self::VgaBios => "bad-firmware",
            Self::TwoKernels => "bad-options",
            Self::Load(LoadError::InitrdTooLarge { .. }) => "initrd-too-large",
            Self::Load(_) => "bad-kernel",
            Self::EmptyImage(_) => "empty-image",
            Self::OddSize { .. } | Self::FloppyTooLarge(_) => "bad-image-size",
            Self::BootOrder(_) => "bad-boot-order",
            Self::Mac(_) | Self::NetworkBase(_) | Self::NetworkIrq(_) => "bad-network",
        }
    }
}

fn mac(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) && bytes > 0 {
        format!("{} GiB", bytes >> 30)
    } else if bytes >= MIB {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{bytes} bytes")
    }
}

impl MachineConfig {
    /// Checks everything that does not need the loaders.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.memory < MIN_MEMORY {
            return Err(ConfigError::MemoryTooSmall(self.memory));
        }
        if self.memory > MAX_MEMORY {
            return Err(ConfigError::MemoryTooLarge(self.memory));
        }
        if self.cpus != 1 {
            return Err(ConfigError::Cpus(self.cpus));
        }
        if self.bios.is_empty() {
            return Err(ConfigError::NoBios);
        }
        if self.bios.len() > MAX_BIOS || !self.bios.len().is_multiple_of(64 << 10) {
            return Err(ConfigError::BiosSize(self.bios.len()));
        }
        if !self.vga_bios.is_empty() && !self.vga_bios.starts_with(&[0x55, 0xaa]) {
            return Err(ConfigError::VgaBios);
        }
        if self.kernel.is_some() && self.multiboot.is_some() {
            return Err(ConfigError::TwoKernels);
        }
        for image in self.floppies.iter().flatten() {
            check_image("floppy", image.len(), SECTOR)?;
            if image.len() > MAX_FLOPPY {
                return Err(ConfigError::FloppyTooLarge(image.len()));
            }
        }
        for drive in self.drives.iter().flatten() {
            match drive {
                DriveConfig::Disk(image) => check_image("hard disk", image.len(), SECTOR)?,
                DriveConfig::Cdrom(Some(image)) => check_image("CD-ROM", image.len(), CD_SECTOR)?,
                DriveConfig::Cdrom(None) => {}
            }
        }
        if let Some(network) = &self.network {
            self.check_network(network)?;
        }
        match self.boot_order.chars().find(|c| !"acdn".contains(*c)) {
            Some(c) => Err(ConfigError::BootOrder(c)),
            None => Ok(()),
        }
    }

    fn check_network(&self, network: &NetworkConfig) -> Result<(), ConfigError> {
        if network.mac[0] & 1 != 0 || network.mac == [0; 6] {
            return Err(ConfigError::Mac(network.mac));
        }
        let NetworkKind::Isa { base, irq } = network.kind else { return Ok(()) };
        if !ISA_BASES.contains(&base) {
            return Err(ConfigError::NetworkBase(base));
        }
        // The second serial port's line.
        if !ISA_IRQS.contains(&irq) || (irq == 3 && self.serials > 1) {
            return Err(ConfigError::NetworkIrq(irq));
        }
        Ok(())
    }
}

fn check_image(what: &'static str, bytes: u64, sector: u64) -> Result<(), ConfigError> {
    if bytes == 0 {
        Err(ConfigError::EmptyImage(what))
    } else if !bytes.is_multiple_of(sector) {
        Err(ConfigError::OddSize { what, bytes, sector })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(mac: [u8; 6], kind: NetworkKind, serials: usize) -> Result<(), ConfigError> {
        let network = Some(NetworkConfig { mac, kind });
        let bios = vec![0; 64 << 10];
        MachineConfig { memory: MIN_MEMORY, cpus: 1, bios, serials, network, ..MachineConfig::default() }.check()
    }

    #[test]
    fn network_cards_that_cannot_be_are_refused() {
        let mac = [2, 0, 0, 0, 0, 1];
        let isa = |base, irq| NetworkKind::Isa { base, irq };
        assert_eq!(with(mac, NetworkKind::Pci, 4), Ok(()));
        assert_eq!(with(mac, isa(0x300, 3), 1), Ok(()));
        assert_eq!(with(mac, isa(0x300, 3), 2), Err(ConfigError::NetworkIrq(3)));
        assert_eq!(with(mac, isa(0x300, 14), 1), Err(ConfigError::NetworkIrq(14)));
        assert_eq!(with(mac, isa(0x310, 3), 1), Err(ConfigError::NetworkBase(0x310)));
        assert_eq!(with([0; 6], NetworkKind::Pci, 1), Err(ConfigError::Mac([0; 6])));
        let group = with([0x33, 0x33, 0, 0, 0, 1], NetworkKind::Pci, 1).expect_err("a group's address");
        assert!(group.to_string().starts_with("33:33:00:00:00:01 cannot be"), "{group}");
        assert_eq!(group.code(), "bad-network");
    }
}
