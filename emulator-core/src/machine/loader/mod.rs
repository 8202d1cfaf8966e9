//! Direct boot of a Linux bzImage or a Multiboot image, as QEMU's `-kernel` does it.
//!
//! The firmware runs as ever; then it boots an option ROM of ours (file `genroms/…` of fw_cfg, first in
//! the boot order) that pulls the image into place by fw_cfg DMA and enters it. So the guest finds the
//! firmware's tables, memory map and video as behind any boot loader.

pub mod bzimage;
pub mod multiboot;
mod option_rom;

use crate::devices::fw_cfg::{BootDevice, FwCfg};
use thiserror::Error;

/// Top of RAM that SeaBIOS keeps for itself (ACPI tables and its high heap).
const FIRMWARE_RESERVE: u64 = 256 << 10;
const MIB: u64 = 1 << 20;

/// Why an image cannot be booted directly.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// Neither a bzImage nor what was asked for.
    #[error("this is not {wanted}: it {found}")]
    NotAKernel {
        /// What the option asks for.
        wanted: &'static str,
        /// What the file looks like.
        found: String,
    },
    /// The file ends early.
    #[error("the kernel image is truncated: its header asks for {needed} bytes, the file has {found}")]
    Truncated {
        /// Bytes that the header promises.
        needed: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The image contradicts itself.
    #[error("the kernel image is damaged: {0}")]
    Damaged(&'static str),
    /// The image needs something that isn't offered.
    #[error("the kernel asks for something this loader does not offer: {0}")]
    Unsupported(String),
    /// The kernel needs more memory.
    #[error("the kernel needs {} MiB of memory and the machine has {} MiB", needed.div_ceil(MIB), ram / MIB)]
    KernelTooLarge {
        /// First byte after what the kernel occupies while it starts.
        needed: u64,
        /// Bytes of RAM.
        ram: u64,
    },
    /// The initrd (or the modules) don't fit beside the kernel.
    #[error("the initrd of {size} bytes does not fit: {room} bytes of memory are free for it")]
    InitrdTooLarge {
        /// Bytes of the initrd.
        size: u64,
        /// Bytes between the kernel and the highest address it accepts.
        room: u64,
    },
    /// The command line is too long.
    #[error("the command line has {length} bytes and this kernel takes at most {max}")]
    CommandLineTooLong {
        /// Bytes given.
        length: usize,
        /// Bytes the kernel takes.
        max: usize,
    },
}

/// An image ready to boot: fw_cfg items and the option ROM that fetches them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootImage {
    items: Vec<(u16, Vec<u8>)>,
    rom_name: &'static str,
    rom: Vec<u8>,
}

impl BootImage {
    /// What to put first into [`MachineFacts::boot_order`](crate::devices::fw_cfg::MachineFacts::boot_order).
    #[must_use]
    pub fn boot_path(&self) -> String {
        FwCfg::boot_path(&BootDevice::Rom(self.rom_name.to_owned()))
    }

    /// Puts items and ROM into `fw_cfg`.
    pub fn install(self, fw_cfg: &mut FwCfg) {
        for (key, data) in self.items {
            fw_cfg.set(key, data);
        }
        fw_cfg.add_file(&format!("genroms/{}", self.rom_name), self.rom);
    }
}

/// In a few words, what a file that isn't a kernel seems to be.
fn describe(image: &[u8]) -> String {
    let known: [(usize, &[u8], &str); 9] = [
        (0, b"\x7fELF", "is an ELF file"),
        (0, b"\x1f\x8b", "is gzip-compressed data"),
        (0, b"\xfd7zXZ", "is xz-compressed data"),
        (0, b"BZh", "is bzip2-compressed data"),
        (0, b"\x28\xb5\x2f\xfd", "is zstd-compressed data"),
        (0, b"070701", "is a cpio archive (an initrd?)"),
        (0x8001, b"CD001", "is a CD image (use it as a CD-ROM)"),
        (0x202, b"HdrS", "is a Linux kernel"),
        (510, b"\x55\xaa", "is a boot sector (use it as a floppy or hard disk)"),
    ];
    if image.is_empty() {
        return "is empty".to_owned();
    }
    known.iter().find(|(at, magic, _)| image.get(*at..*at + magic.len()) == Some(*magic)).map_or_else(
        || {
            let head: Vec<String> = image.iter().take(4).map(|b| format!("{b:02x}")).collect();
            format!("begins with bytes {}, no known format", head.join(" "))
        },
        |(_, _, what)| (*what).to_owned(),
    )
}

/// Little-endian fields of an image; `None` outside it.
trait Fields {
    fn u8_at(&self, at: usize) -> Option<u8>;
    fn u16_at(&self, at: usize) -> Option<u16>;
    fn u32_at(&self, at: usize) -> Option<u32>;
}

impl Fields for [u8] {
    fn u8_at(&self, at: usize) -> Option<u8> {
        self.get(at).copied()
    }
    fn u16_at(&self, at: usize) -> Option<u16> {
        let bytes = self.get(at..at.checked_add(2)?)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    }
    fn u32_at(&self, at: usize) -> Option<u32> {
        let bytes = self.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_kernels_are_named() {
        assert_eq!(describe(b""), "is empty");
        assert_eq!(describe(b"\x1f\x8b\x08"), "is gzip-compressed data");
        assert_eq!(describe(b"hello world"), "begins with bytes 68 65 6c 6c, no known format");
        let mut sector = vec![0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        assert!(describe(&sector).contains("boot sector"));
    }
}
