//! Linux bzImage and zImage: the boot protocol of the kernel's `Documentation/arch/x86/boot.rst`.

use super::option_rom;
use super::{BootImage, FIRMWARE_RESERVE, Fields, LoadError, MIB, describe};
use crate::devices::fw_cfg::key;

/// Header fields (offset in the file).
mod field {
    pub const SETUP_SECTS: usize = 0x1f1;
    pub const SYSSIZE: usize = 0x1f4;
    pub const VID_MODE: usize = 0x1fa;
    pub const BOOT_FLAG: usize = 0x1fe;
    pub const HEADER: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const TYPE_OF_LOADER: usize = 0x210;
    pub const LOADFLAGS: usize = 0x211;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21c;
    pub const HEAP_END_PTR: usize = 0x224;
    pub const CMD_LINE_PTR: usize = 0x228;
    pub const INITRD_ADDR_MAX: usize = 0x22c;
    pub const XLOADFLAGS: usize = 0x236;
    pub const CMDLINE_SIZE: usize = 0x238;
    pub const PREF_ADDRESS: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
    /// The header of protocol 2.00 ends here.
    pub const END: usize = 0x268;
}

/// loadflags: the kernel proper is loaded at 1 MiB.
const LOADED_HIGH: u8 = 1;
/// loadflags: heap_end_ptr is valid.
const CAN_USE_HEAP: u8 = 0x80;
/// xloadflags: the initrd may be anywhere.
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 2;
/// "Unregistered QEMU": the loader whose conventions these are.
const LOADER_TYPE: u8 = 0xb0;
const INITRD_MAX_OLD: u64 = 0x37ff_ffff;
const CMDLINE_MAX_OLD: usize = 255;
const PAGE: u64 = 4096;

/// Where things go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    setup: u32,
    cmdline: u32,
    kernel: u32,
}

/// Whether `image` has a Linux setup header.
#[must_use]
pub fn is_bzimage(image: &[u8]) -> bool {
    image.get(field::HEADER..field::HEADER + 4) == Some(b"HdrS") && image.u16_at(field::BOOT_FLAG) == Some(0xaa55)
}

/// Prepares `kernel` (a bzImage) with an optional initrd for a machine of `ram` bytes.
///
/// # Errors
/// When the image is no kernel or incomplete, or when something doesn't fit.
pub fn load(kernel: &[u8], initrd: Option<&[u8]>, cmdline: &str, ram: u64) -> Result<BootImage, LoadError> {
    if !is_bzimage(kernel) {
        return Err(LoadError::NotAKernel { wanted: "a Linux kernel (bzImage)", found: describe(kernel) });
    }
    let mut header = kernel.to_vec();
    header.truncate(field::END);
    header.resize(field::END, 0);
    let protocol = header.u16_at(field::VERSION).unwrap_or(0);
    let setup_size = setup_size(&header);
    let needed = image_size(&header, protocol, setup_size);
    if (kernel.len() as u64) < needed {
        return Err(LoadError::Truncated { needed, found: kernel.len() as u64 });
    }
    let (setup, system) = kernel.split_at(setup_size);
    let mut setup = setup.to_vec();
    let cmdline = cmdline_bytes(cmdline, &header, protocol)?;
    let layout = layout(&header, protocol, cmdline.len());
    if setup_size > (layout.cmdline - layout.setup) as usize - 0x1000 {
        return Err(LoadError::Damaged("its setup code is too large"));
    }
    let kernel_end = kernel_end(&header, protocol, layout, system.len());
    if kernel_end > ram.saturating_sub(FIRMWARE_RESERVE) {
        return Err(LoadError::KernelTooLarge { needed: kernel_end + FIRMWARE_RESERVE, ram });
    }
    let initrd = initrd.unwrap_or_default();
    let initrd_at = place_initrd(&header, protocol, initrd.len() as u64, kernel_end, ram)?;
    fill_header(&mut setup, protocol, layout, &cmdline, initrd_at, initrd.len());
    Ok(package(layout, setup, system, initrd, initrd_at, cmdline))
}

/// Boot sector and setup code, in bytes.
fn setup_size(header: &[u8]) -> usize {
    // "For backwards compatibility, if the setup_sects field contains 0, the real value is 4."
    let sectors = match header.u8_at(field::SETUP_SECTS) {
        None | Some(0) => 4,
        Some(n) => usize::from(n),
    };
    (sectors + 1) * 512
}

/// Bytes the file must have. The size of the kernel proper is in paragraphs, valid since protocol 2.04.
fn image_size(header: &[u8], protocol: u16, setup_size: usize) -> u64 {
    let paragraphs = header.u32_at(field::SYSSIZE).unwrap_or(0);
    let system = if protocol >= 0x204 {
        // The last paragraph may be incomplete.
        (u64::from(paragraphs) * 16).saturating_sub(15)
    } else {
        1
    };
    setup_size as u64 + system.max(1)
}

fn cmdline_bytes(cmdline: &str, header: &[u8], protocol: u16) -> Result<Vec<u8>, LoadError> {
    let max = match header.u32_at(field::CMDLINE_SIZE) {
        Some(n) if protocol >= 0x206 && n != 0 => n as usize,
        _ => CMDLINE_MAX_OLD,
    }
    .min(0xff00);
    if cmdline.len() > max {
        return Err(LoadError::CommandLineTooLong { length: cmdline.len(), max });
    }
    let mut bytes: Vec<u8> = cmdline.bytes().filter(|&b| b != 0).collect();
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    Ok(bytes)
}

fn layout(header: &[u8], protocol: u16, cmdline_len: usize) -> Layout {
    let high = header.u8_at(field::LOADFLAGS).is_some_and(|f| f & LOADED_HIGH != 0);
    // Before 2.02 the command line lies in the 64 KiB of the setup code at 90000h, below the EBDA.
    let low = |kernel| Layout { setup: 0x9_0000, cmdline: 0x9_a000 - cmdline_len.min(0x1000) as u32, kernel };
    match (high, protocol) {
        (false, _) => low(0x1_0000),
        (true, ..=0x201) => low(0x10_0000),
        _ => Layout { setup: 0x1_0000, cmdline: 0x2_0000, kernel: 0x10_0000 },
    }
}

/// First byte after what the kernel uses until it has looked at the memory map.
fn kernel_end(header: &[u8], protocol: u16, layout: Layout, system: usize) -> u64 {
    let loaded = u64::from(layout.kernel) + system as u64;
    if protocol < 0x20a {
        return loaded;
    }
    let preferred = u64::from(header.u32_at(field::PREF_ADDRESS).unwrap_or(0));
    let init_size = u64::from(header.u32_at(field::INIT_SIZE).unwrap_or(0));
    loaded.max(preferred + init_size)
}

/// As high as the kernel and the RAM allow, on a page boundary, and above the kernel.
fn place_initrd(header: &[u8], protocol: u16, size: u64, kernel_end: u64, ram: u64) -> Result<u32, LoadError> {
    if size == 0 {
        return Ok(0);
    }
    let anywhere =
        protocol >= 0x20c && header.u16_at(field::XLOADFLAGS).is_some_and(|f| f & XLF_CAN_BE_LOADED_ABOVE_4G != 0);
    let highest = match header.u32_at(field::INITRD_ADDR_MAX) {
        _ if anywhere => u64::from(u32::MAX),
        Some(max) if protocol >= 0x203 => u64::from(max),
        _ => INITRD_MAX_OLD,
    };
    let end = (highest + 1).min(ram.saturating_sub(FIRMWARE_RESERVE));
    let lowest = kernel_end.next_multiple_of(PAGE).max(MIB);
    let at = end.saturating_sub(size) & !(PAGE - 1);
    if at < lowest {
        return Err(LoadError::InitrdTooLarge { size, room: end.saturating_sub(lowest) });
    }
    Ok(at as u32)
}

/// Video mode from `vga=` on the command line, as boot loaders take it.
fn video_mode(cmdline: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(cmdline).ok()?;
    let value = text.split([' ', '\0']).filter_map(|word| word.strip_prefix("vga=")).next_back()?;
    match value {
        "normal" => Some(0xffff),
        "ext" => Some(0xfffe),
        "ask" => Some(0xfffd),
        _ => value.strip_prefix("0x").map_or_else(|| value.parse().ok(), |hex| u16::from_str_radix(hex, 16).ok()),
    }
}

/// Writes the fields that a boot loader owes the kernel.
fn fill_header(setup: &mut [u8], protocol: u16, layout: Layout, cmdline: &[u8], initrd_at: u32, initrd_len: usize) {
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(to) = setup.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    };
    let offset = (layout.cmdline - layout.setup) as u16;
    if let Some(mode) = video_mode(cmdline) {
        put(field::VID_MODE, &mode.to_le_bytes());
    }
    put(field::TYPE_OF_LOADER, &[LOADER_TYPE]);
    if protocol >= 0x202 {
        put(field::CMD_LINE_PTR, &layout.cmdline.to_le_bytes());
    } else {
        put(0x20, &0xa33f_u16.to_le_bytes()); // magic of the old command line protocol
        put(0x22, &offset.to_le_bytes());
    }
    if initrd_len > 0 {
        put(field::RAMDISK_IMAGE, &initrd_at.to_le_bytes());
        put(field::RAMDISK_SIZE, &(initrd_len as u32).to_le_bytes());
    }
    if protocol >= 0x201 {
        let heap_end = heap_end(layout) - 0x200;
        put(field::HEAP_END_PTR, &heap_end.to_le_bytes());
        let flags = setup.u8_at(field::LOADFLAGS).unwrap_or(0) | CAN_USE_HEAP;
        if let Some(f) = setup.get_mut(field::LOADFLAGS) {
            *f = flags;
        }
    }
}

/// Offset in the setup segment where heap and stack end.
fn heap_end(layout: Layout) -> u16 {
    (layout.cmdline - layout.setup).min(0xfff0) as u16
}

fn package(
    layout: Layout,
    setup: Vec<u8>,
    system: &[u8],
    initrd: &[u8],
    initrd_at: u32,
    cmdline: Vec<u8>,
) -> BootImage {
    let ranges = [
        (layout.setup, setup.len() as u32),
        (layout.kernel, system.len() as u32),
        (initrd_at, initrd.len() as u32),
        (layout.cmdline, cmdline.len() as u32),
    ];
    let rom = option_rom::linux((layout.setup >> 4) as u16, heap_end(layout) - 16, option_rom::linux_transfers(ranges));
    let number = |n: u32| n.to_le_bytes().to_vec();
    let [(setup_at, setup_len), (kernel_at, kernel_len), (_, initrd_len), (cmdline_at, cmdline_len)] = ranges;
    BootImage {
        items: vec![
            (key::SETUP_ADDR, number(setup_at)),
            (key::SETUP_SIZE, number(setup_len)),
            (key::SETUP_DATA, setup),
            (key::KERNEL_ADDR, number(kernel_at)),
            (key::KERNEL_SIZE, number(kernel_len)),
            (key::KERNEL_DATA, system.to_vec()),
            (key::INITRD_ADDR, number(initrd_at)),
            (key::INITRD_SIZE, number(initrd_len)),
            (key::INITRD_DATA, initrd.to_vec()),
            (key::CMDLINE_ADDR, number(cmdline_at)),
            (key::CMDLINE_SIZE, number(cmdline_len)),
            (key::CMDLINE_DATA, cmdline),
        ],
        rom_name: "linuxboot.bin",
        rom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel of protocol 2.12 with 2 setup sectors and 64 KiB of system.
    fn kernel() -> Vec<u8> {
        let mut k = vec![0; 512 * 3 + 65536];
        let mut put = |at: usize, bytes: &[u8]| k[at..at + bytes.len()].copy_from_slice(bytes);
        put(field::SETUP_SECTS, &[2]);
        put(field::SYSSIZE, &4096_u32.to_le_bytes());
        put(field::BOOT_FLAG, &[0x55, 0xaa]);
        put(field::HEADER, b"HdrS");
        put(field::VERSION, &[0x0c, 0x02]);
        put(field::LOADFLAGS, &[1]);
        put(field::INITRD_ADDR_MAX, &0x7fff_ffff_u32.to_le_bytes());
        put(field::CMDLINE_SIZE, &2047_u32.to_le_bytes());
        put(field::PREF_ADDRESS, &0x10_0000_u64.to_le_bytes());
        put(field::INIT_SIZE, &0x20_0000_u32.to_le_bytes());
        k
    }

    fn item(image: &BootImage, key: u16) -> &[u8] {
        image.items.iter().find(|(k, _)| *k == key).map(|(_, data)| data.as_slice()).expect("item present")
    }

    #[test]
    fn the_header_is_filled_as_the_protocol_says() {
        let image = load(&kernel(), Some(&[1; 5000]), "quiet vga=0x317", 64 << 20).expect("loads");
        let setup = item(&image, key::SETUP_DATA);
        assert_eq!(setup.len(), 1536);
        assert_eq!(setup.u8_at(field::TYPE_OF_LOADER), Some(0xb0));
        assert_eq!(setup.u8_at(field::LOADFLAGS), Some(0x81));
        assert_eq!(setup.u16_at(field::VID_MODE), Some(0x317));
        assert_eq!(setup.u16_at(field::HEAP_END_PTR), Some(0xfdf0));
        assert_eq!(setup.u32_at(field::CMD_LINE_PTR), Some(0x2_0000));
        let initrd = (64 << 20) - (256 << 10) - 8192;
        assert_eq!(setup.u32_at(field::RAMDISK_IMAGE), Some(initrd));
        assert_eq!(setup.u32_at(field::RAMDISK_SIZE), Some(5000));
        assert_eq!(item(&image, key::KERNEL_ADDR), 0x10_0000_u32.to_le_bytes());
        assert_eq!(item(&image, key::KERNEL_DATA).len(), 65536);
        assert_eq!(item(&image, key::CMDLINE_DATA), b"quiet vga=0x317\0");
        assert_eq!(image.boot_path(), "/rom@genroms/linuxboot.bin");
    }

    #[test]
    fn the_initrd_stays_below_what_the_kernel_reaches() {
        let mut k = kernel();
        k[field::INITRD_ADDR_MAX..][..4].copy_from_slice(&0x00ff_ffff_u32.to_le_bytes());
        let image = load(&k, Some(&[1; 4096]), "", 64 << 20).expect("loads");
        assert_eq!(item(&image, key::INITRD_ADDR), 0x00ff_f000_u32.to_le_bytes());
    }

    #[test]
    fn an_old_kernel_gets_the_old_layout() {
        let mut k = kernel();
        k[field::VERSION] = 0;
        k[field::LOADFLAGS] = 0;
        let image = load(&k, None, "a", 16 << 20).expect("loads");
        assert_eq!(item(&image, key::SETUP_ADDR), 0x9_0000_u32.to_le_bytes());
        assert_eq!(item(&image, key::KERNEL_ADDR), 0x1_0000_u32.to_le_bytes());
        let setup = item(&image, key::SETUP_DATA);
        assert_eq!(setup.u32_at(0x20), Some(0x9ff0_a33f));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let error = |k: &[u8], initrd: usize, cmdline: &str, ram: u64| {
            load(k, Some(&vec![0; initrd]), cmdline, ram).expect_err("must fail").to_string()
        };
        let k = kernel();
        assert_eq!(
            error(&k, 64 << 20, "", 64 << 20),
            "the initrd of 67108864 bytes does not fit: 63700992 bytes of memory are free for it"
        );
        assert_eq!(error(&k, 0, "", 2 << 20), "the kernel needs 4 MiB of memory and the machine has 2 MiB");
        assert_eq!(
            error(&k[..40000], 0, "", 64 << 20),
            "the kernel image is truncated: its header asks for 67057 bytes, the file has 40000"
        );
        assert_eq!(error(b"", 0, "", 64 << 20), "this is not a Linux kernel (bzImage): it is empty");
        assert_eq!(
            error(&k, 0, &"x".repeat(3000), 64 << 20),
            "the command line has 3000 bytes and this kernel takes at most 2047"
        );
    }

    #[test]
    fn random_headers_never_panic() {
        let mut seed = 1_u64;
        for _ in 0..2000 {
            let mut k = kernel();
            for _ in 0..8 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = 0x1f1 + (seed >> 40) as usize % 0x78;
                k[at] = (seed >> 32) as u8;
            }
            k[field::HEADER..field::HEADER + 4].copy_from_slice(b"HdrS");
            k.truncate(600 + (seed >> 33) as usize % 70000);
            let _ = load(&k, Some(&[1; 100]), "x", 32 << 20);
        }
    }
}
