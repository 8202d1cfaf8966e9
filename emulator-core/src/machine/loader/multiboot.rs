//! Multiboot images: the Multiboot Specification 0.6.96 (version 1), ELF32 and a.out-kludge.
//!
//! The option ROM loads the image and an information block at 9000h, asks the BIOS for memory sizes, the
//! memory map and a video mode, and enters the image in protected mode.

use super::option_rom::{self, Transfer};
use super::{BootImage, FIRMWARE_RESERVE, Fields, LoadError, MIB, describe};
use crate::devices::fw_cfg::key;

const MAGIC: u32 = 0x1bad_b002;
/// The header lies in the first 8 KiB, 4-byte aligned.
const SEARCH: usize = 8192;
const PAGE: u64 = 4096;
const BOOT_LOADER: &[u8] = b"tab86\0";

/// Header flags (3.1.2).
const FLAG_VIDEO: u32 = 1 << 2;
const FLAG_ADDRESSES: u32 = 1 << 16;
/// Flags below 16 must be understood: page-aligned modules, memory information, video mode.
const KNOWN_FLAGS: u32 = 7;

/// Layout of the block at 9000h; the ROM's code has these numbers too.
const INFO: u32 = 0x9000;
const GDTR: usize = 0x80;
const GDT: usize = 0x88;
const ENTRY_CODE: usize = 0xc0;
const MEMORY_MAP_AT: u32 = INFO + 0x100;
/// Strings and the module list follow the memory map (32 entries of 24 bytes).
const TAIL: usize = 0x420;
const INFO_MAX: usize = 0x1_0000;
/// Conventional memory that images may use: above the block, below the EBDA.
const LOW_END: u64 = 0x9_f000;

/// Flags of the information block (3.3).
mod info_flag {
    pub const MEMORY: u32 = 1 << 0;
    pub const CMDLINE: u32 = 1 << 2;
    pub const MODULES: u32 = 1 << 3;
    pub const MEMORY_MAP: u32 = 1 << 6;
    pub const LOADER_NAME: u32 = 1 << 9;
    pub const FRAME_BUFFER: u32 = 1 << 12;
}

/// A module: what GRUB's `module` command loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module<'a> {
    /// Its bytes.
    pub data: &'a [u8],
    /// Its command line.
    pub cmdline: &'a str,
}

/// A parsed image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Image {
    address: u32,
    /// Bytes in memory; past `data` they are zero.
    memory_size: u64,
    data: Vec<u8>,
    entry: u32,
    /// Width, height, bits per pixel of the graphics mode asked for; zeros for text.
    video: [u16; 3],
}

/// Where the header is.
fn find_header(image: &[u8]) -> Option<usize> {
    (0..SEARCH.min(image.len())).step_by(4).find(|&at| {
        let field = |n: usize| image.u32_at(at + 4 * n);
        match (field(0), field(1), field(2)) {
            (Some(MAGIC), Some(flags), Some(checksum)) => MAGIC.wrapping_add(flags).wrapping_add(checksum) == 0,
            _ => false,
        }
    })
}

/// Whether `image` has a Multiboot 1 header.
#[must_use]
pub fn is_multiboot(image: &[u8]) -> bool {
    find_header(image).is_some()
}

/// Prepares a Multiboot image for a machine of `ram` bytes.
///
/// # Errors
/// When the image is no Multiboot image or incomplete, asks for what isn't there, or doesn't fit.
pub fn load(file: &[u8], modules: &[Module], cmdline: &str, ram: u64) -> Result<BootImage, LoadError> {
    let mut image = parse(file, ram)?;
    check_room(&image, ram)?;
    let module_ranges = append_modules(&mut image, modules, ram)?;
    let info = information(&image, modules, &module_ranges, cmdline, ram)?;
    let transfers = [
        Transfer { key: key::KERNEL_DATA, length: image.memory_size as u32, address: image.address },
        Transfer { key: key::INITRD_DATA, length: info.len() as u32, address: INFO },
    ];
    let number = |n: u32| n.to_le_bytes().to_vec();
    Ok(BootImage {
        rom: option_rom::multiboot(image.video, transfers),
        rom_name: "multiboot.bin",
        items: vec![
            (key::KERNEL_ENTRY, number(image.entry)),
            (key::KERNEL_ADDR, number(image.address)),
            (key::KERNEL_SIZE, number(image.memory_size as u32)),
            (key::KERNEL_DATA, image.data),
            (key::INITRD_ADDR, number(INFO)),
            (key::INITRD_SIZE, number(info.len() as u32)),
            (key::INITRD_DATA, info),
        ],
    })
}

fn parse(file: &[u8], ram: u64) -> Result<Image, LoadError> {
    let header = find_header(file)
        .ok_or_else(|| LoadError::NotAKernel { wanted: "a Multiboot image", found: describe(file) })?;
    let field = |n: usize| file.u32_at(header + 4 * n).ok_or(LoadError::Damaged("its Multiboot header is cut off"));
    let flags = field(1)?;
    if flags & 0xffff & !KNOWN_FLAGS != 0 {
        return Err(LoadError::Unsupported(format!("Multiboot header flags {:#x}", flags & 0xffff & !KNOWN_FLAGS)));
    }
    let mut image = if flags & FLAG_ADDRESSES != 0 {
        let addresses = [field(3)?, field(4)?, field(5)?, field(6)?, field(7)?];
        by_addresses(file, header, addresses)?
    } else {
        by_elf(file, ram)?
    };
    if flags & FLAG_VIDEO != 0 && field(8)? == 0 {
        image.video = video_mode([field(9)?, field(10)?, field(11)?]);
    }
    Ok(image)
}

/// "No preference" (0) becomes 1024 × 768 × 32.
fn video_mode(wanted: [u32; 3]) -> [u16; 3] {
    let pick = |value: u32, default: u16| match u16::try_from(value) {
        Ok(0) | Err(_) => default,
        Ok(n) => n,
    };
    [pick(wanted[0], 1024), pick(wanted[1], 768), pick(wanted[2], 32).min(255)]
}

/// The header's address fields: header, load, load end, bss end, entry (3.1.3).
fn by_addresses(file: &[u8], header: usize, addresses: [u32; 5]) -> Result<Image, LoadError> {
    let [header_addr, load, load_end, bss_end, entry] = addresses;
    let before = header_addr
        .checked_sub(load)
        .map(|n| n as usize)
        .filter(|&n| n <= header)
        .ok_or(LoadError::Damaged("its load address lies before the file"))?;
    let available = &file[header - before..];
    let size = match load_end {
        0 => available.len(),
        end => end.checked_sub(load).ok_or(LoadError::Damaged("it ends before its load address"))? as usize,
    };
    let data = available
        .get(..size)
        .ok_or(LoadError::Truncated { needed: (header - before + size) as u64, found: file.len() as u64 })?;
    let memory_size = match bss_end {
        0 => size as u64,
        end => u64::from(end.saturating_sub(load)).max(size as u64),
    };
    Ok(Image { address: load, memory_size, data: data.to_vec(), entry, video: [0; 3] })
}

/// A loadable segment of an ELF file.
struct Segment<'a> {
    data: &'a [u8],
    virt: u32,
    phys: u32,
    memory_size: u32,
}

fn elf_segments(file: &[u8]) -> Result<Vec<Segment<'_>>, LoadError> {
    let damaged = || LoadError::Damaged("its ELF headers are cut off");
    let table = file.u32_at(28).ok_or_else(damaged)? as usize;
    let entry_size = usize::from(file.u16_at(42).ok_or_else(damaged)?);
    let count = usize::from(file.u16_at(44).ok_or_else(damaged)?);
    let mut segments = Vec::new();
    for n in 0..count {
        let at = table.checked_add(n * entry_size).ok_or_else(damaged)?;
        let field = |i: usize| at.checked_add(4 * i).and_then(|at| file.u32_at(at)).ok_or_else(damaged);
        let (kind, offset, size) = (field(0)?, field(1)? as usize, field(4)? as usize);
        let memory_size = field(5)?;
        if kind != 1 || memory_size == 0 {
            continue; // not PT_LOAD
        }
        let end = offset as u64 + size as u64;
        let data =
            file.get(offset..end as usize).ok_or(LoadError::Truncated { needed: end, found: file.len() as u64 })?;
        segments.push(Segment { data, virt: field(2)?, phys: field(3)?, memory_size: memory_size.max(size as u32) });
    }
    Ok(segments)
}

fn by_elf(file: &[u8], ram: u64) -> Result<Image, LoadError> {
    if file.get(..5) != Some(b"\x7fELF\x01") || file.u16_at(18) != Some(3) {
        return Err(LoadError::Unsupported(
            "a Multiboot image must be a 32-bit x86 ELF file or give its addresses in the header".to_owned(),
        ));
    }
    let segments = elf_segments(file)?;
    let end_of = |s: &Segment| u64::from(s.phys) + u64::from(s.memory_size);
    let (Some(first), Some(end)) = (segments.iter().map(|s| s.phys).min(), segments.iter().map(end_of).max()) else {
        return Err(LoadError::Damaged("it has nothing to load"));
    };
    if end > ram {
        // Before anything of that size is allocated.
        return Err(LoadError::KernelTooLarge { needed: end, ram });
    }
    let entry = file.u32_at(24).unwrap_or(0);
    // An entry point given as a virtual address is moved like its segment.
    let entry = segments
        .iter()
        .find(|s| entry >= s.virt && entry - s.virt < s.memory_size)
        .map_or(entry, |s| entry - s.virt + s.phys);
    let offset = |s: &Segment| (s.phys - first) as usize;
    let filled = segments.iter().map(|s| offset(s) + s.data.len()).max().unwrap_or(0);
    let mut data = vec![0; filled];
    for s in &segments {
        data[offset(s)..][..s.data.len()].copy_from_slice(s.data);
    }
    Ok(Image { address: first, memory_size: end - u64::from(first), data, entry, video: [0; 3] })
}

fn check_room(image: &Image, ram: u64) -> Result<(), LoadError> {
    let (start, end) = (u64::from(image.address), u64::from(image.address) + image.memory_size);
    if end > ram.saturating_sub(FIRMWARE_RESERVE) {
        return Err(LoadError::KernelTooLarge { needed: end + FIRMWARE_RESERVE, ram });
    }
    let low = start >= u64::from(INFO) + INFO_MAX as u64 && end <= LOW_END;
    if !low && start < MIB {
        return Err(LoadError::Unsupported(format!(
            "loading at {start:#x}-{end:#x}, where the firmware is (use 1 MiB and above)"
        )));
    }
    Ok(())
}

/// Appends the modules, page-aligned, and returns where each begins and ends.
fn append_modules(image: &mut Image, modules: &[Module], ram: u64) -> Result<Vec<(u32, u32)>, LoadError> {
    let base = u64::from(image.address);
    let end_of_kernel = (base + image.memory_size).next_multiple_of(PAGE);
    let limit = if base < MIB { LOW_END } else { ram.saturating_sub(FIRMWARE_RESERVE) };
    let mut at = end_of_kernel;
    let mut ranges = Vec::new();
    for module in modules {
        let end = at + module.data.len() as u64;
        if end > limit {
            return Err(LoadError::InitrdTooLarge {
                size: modules.iter().map(|m| m.data.len() as u64).sum(),
                room: limit.saturating_sub(end_of_kernel),
            });
        }
        image.data.resize((at - base) as usize, 0);
        image.data.extend_from_slice(module.data);
        image.memory_size = end - base;
        ranges.push((at as u32, end as u32));
        at = end.next_multiple_of(PAGE);
    }
    Ok(ranges)
}

/// The information block, but for what the ROM fills in.
fn information(
    image: &Image,
    modules: &[Module],
    ranges: &[(u32, u32)],
    cmdline: &str,
    ram: u64,
) -> Result<Vec<u8>, LoadError> {
    let mut block = vec![0; TAIL];
    let mut append = |bytes: &[u8]| {
        let at = INFO + block.len() as u32;
        block.extend_from_slice(bytes);
        block.resize(block.len().next_multiple_of(4), 0);
        at
    };
    let mut text = |s: &str| append(&[s.as_bytes(), b"\0"].concat());
    let cmdline_at = text(cmdline);
    let strings: Vec<u32> = modules.iter().map(|m| text(m.cmdline)).collect();
    let loader_at = append(BOOT_LOADER);
    let list: Vec<u8> = ranges
        .iter()
        .zip(strings)
        .flat_map(|(&(start, end), string)| [start, end, string, 0])
        .flat_map(u32::to_le_bytes)
        .collect();
    let list_at = append(&list);
    if block.len() > INFO_MAX {
        return Err(LoadError::CommandLineTooLong {
            length: cmdline.len() + modules.iter().map(|m| m.cmdline.len()).sum::<usize>(),
            max: INFO_MAX - TAIL - 64,
        });
    }
    let mut put = |at: usize, value: u32| {
        block[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    use info_flag::*;
    let mut flags = MEMORY | CMDLINE | MODULES | MEMORY_MAP | LOADER_NAME;
    put(8, (ram.saturating_sub(MIB) >> 10) as u32);
    put(16, cmdline_at);
    put(20, ranges.len() as u32);
    put(24, list_at);
    put(48, MEMORY_MAP_AT);
    put(64, loader_at);
    if image.video == [0; 3] {
        // Text mode 3, which the firmware has set: EGA text, 80 × 25, 16 bits a character.
        flags |= FRAME_BUFFER;
        put(88, 0xb8000);
        put(96, 160);
        put(100, 80);
        put(104, 25);
        put(108, 0x0210);
    }
    put(0, flags);
    descriptors(&mut block, image.entry);
    Ok(block)
}

/// GDT (null, flat code, flat data), its pointer, and the code that enters the image.
fn descriptors(block: &mut [u8], entry: u32) {
    const FLAT_CODE: u64 = 0x00cf_9a00_0000_ffff;
    const FLAT_DATA: u64 = 0x00cf_9200_0000_ffff;
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(GDTR, &23_u16.to_le_bytes());
    put(GDTR + 2, &(INFO + GDT as u32).to_le_bytes());
    put(GDT + 8, &FLAT_CODE.to_le_bytes());
    put(GDT + 16, &FLAT_DATA.to_le_bytes());
    put(ENTRY_CODE, &option_rom::protected_entry(entry));
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: u64 = 64 << 20;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn header(flags: u32) -> Vec<u32> {
        vec![MAGIC, flags, 0_u32.wrapping_sub(MAGIC).wrapping_sub(flags)]
    }

    /// An a.out-kludge image at 1 MiB, 64 bytes loaded, 4 KiB with bss.
    fn kludge() -> Vec<u8> {
        let mut h = header(FLAG_ADDRESSES | 3);
        h.extend([0x10_0000, 0x10_0000, 0x10_0040, 0x10_1000, 0x10_0030]);
        let mut file = words(&h);
        file.resize(64, 0x90);
        file
    }

    /// An ELF file with one segment at 1 MiB that holds the header, linked at C0100000h.
    fn elf() -> Vec<u8> {
        let mut file = b"\x7fELF\x01\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend(words(&[0x0003_0002, 1, 0xc010_0020, 52, 0, 0]));
        file.extend(words(&[0x0020_0034, 1, 0]));
        file.extend(words(&[1, 0x60, 0xc010_0000, 0x10_0000, 0x30, 0x2000, 7, 4096]));
        file.resize(0x60, 0);
        file.extend(words(&header(0)));
        file.resize(0x90, 0x90);
        file
    }

    fn item(image: &BootImage, key: u16) -> &[u8] {
        image.items.iter().find(|(k, _)| *k == key).map(|(_, data)| data.as_slice()).expect("item present")
    }

    #[test]
    fn both_formats_give_address_size_and_entry() {
        let image = load(&kludge(), &[], "", RAM).expect("loads");
        assert_eq!(item(&image, key::KERNEL_ADDR), 0x10_0000_u32.to_le_bytes());
        assert_eq!(item(&image, key::KERNEL_SIZE), 0x1000_u32.to_le_bytes());
        assert_eq!(item(&image, key::KERNEL_ENTRY), 0x10_0030_u32.to_le_bytes());
        let image = load(&elf(), &[], "", RAM).expect("loads");
        assert_eq!(item(&image, key::KERNEL_SIZE), 0x2000_u32.to_le_bytes());
        assert_eq!(item(&image, key::KERNEL_ENTRY), 0x10_0020_u32.to_le_bytes());
        assert_eq!(item(&image, key::KERNEL_DATA).len(), 0x30);
    }

    #[test]
    fn the_information_block_names_modules_and_command_line() {
        let modules = [Module { data: &[1; 5000], cmdline: "initrd" }, Module { data: &[2; 10], cmdline: "" }];
        let image = load(&kludge(), &modules, "root=x", RAM).expect("loads");
        let info = item(&image, key::INITRD_DATA);
        let at = |offset: usize| info.u32_at(offset).expect("inside");
        let string = |address: u32| {
            let s = &info[(address - INFO) as usize..];
            s.split(|&b| b == 0).next().expect("a string").to_vec()
        };
        assert_eq!(at(0), 0x124d);
        assert_eq!(string(at(16)), b"root=x");
        assert_eq!(string(at(64)), b"tab86");
        assert_eq!(at(20), 2);
        let list = (at(24) - INFO) as usize;
        assert_eq!((at(list), at(list + 4)), (0x10_1000, 0x10_2388));
        assert_eq!(string(at(list + 8)), b"initrd");
        assert_eq!((at(list + 16), at(list + 20)), (0x10_3000, 0x10_300a));
        let data = item(&image, key::KERNEL_DATA);
        assert_eq!(data[0x1000..0x1002], [1, 1]);
        assert_eq!(data[0x3009..], [2]);
    }

    #[test]
    fn a_video_request_reaches_the_rom() {
        let mut h = header(FLAG_VIDEO);
        h.extend([0, 0, 0, 0, 0, 0, 800, 600, 0]);
        let mut file = elf();
        file.splice(0x60..0x90, words(&h));
        let image = load(&file, &[], "", RAM).expect("loads");
        assert_eq!(image.rom[0x40..0x44], [0x20, 3, 0x58, 2]);
        assert_eq!(image.rom[0x5c], 32);
        let info = item(&image, key::INITRD_DATA);
        assert_eq!(info.u32_at(0).map(|f| f & info_flag::FRAME_BUFFER), Some(0));
    }

    #[test]
    fn what_cannot_be_loaded_is_said() {
        let error = |file: &[u8], ram| load(file, &[], "", ram).expect_err("must fail").to_string();
        assert_eq!(error(b"\x7fELF nothing", RAM), "this is not a Multiboot image: it is an ELF file");
        assert_eq!(
            error(&kludge()[..50], RAM),
            "the kernel image is truncated: its header asks for 64 bytes, the file has 50"
        );
        assert!(error(&elf(), MIB).contains("the machine has 1 MiB"));
        let mut low = kludge();
        low[12..20].copy_from_slice(&words(&[0x8000, 0x8000]));
        low[20..28].copy_from_slice(&words(&[0, 0]));
        assert!(error(&low, RAM).contains("where the firmware is"));
        let mut unknown = header(1 << 9);
        unknown.resize(16, 0);
        assert!(error(&words(&unknown), RAM).contains("flags 0x200"));
    }

    #[test]
    fn random_images_never_panic() {
        let mut seed = 1_u64;
        for n in 0..4000 {
            let mut file = if n % 2 == 0 { kludge() } else { elf() };
            for _ in 0..3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 40) as usize % file.len();
                file[at] = (seed >> 32) as u8;
            }
            let _ = load(&file, &[], "x", RAM);
        }
    }
}
