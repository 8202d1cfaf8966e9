//! The option ROMs that SeaBIOS boots: real-mode code, a PnP header with a boot entry vector, and a table
//! of fw_cfg DMA transfers. Spec: BIOS Boot Specification 1.01, 3.2; Plug and Play BIOS 1.0A, 3.2.

use crate::devices::fw_cfg::key;

const ROM_UNIT: usize = 512;
const PNP_HEADER: usize = 0x20;
/// Two words of parameters for the code.
const PARAMETERS: usize = 0x40;
const TRANSFERS: usize = 0x44;
/// A third parameter, only where at most two transfers leave room.
const EXTRA: usize = 0x5c;
const NAME: usize = 0x74;
const CODE: usize = 0x80;
/// fw_cfg DMA control bits: select the item, read it.
const SELECT_READ: u32 = 0x0a;

/// Copies one fw_cfg item to physical memory; what exceeds the item is zero-filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// The item.
    pub key: u16,
    /// Bytes.
    pub length: u32,
    /// Physical address.
    pub address: u32,
}

/// A ROM that carries out `transfers`, then enters the Linux setup code at `segment`:0200h with its stack at
/// `stack`. The four transfers may be empty.
pub fn linux(segment: u16, stack: u16, transfers: [Transfer; 4]) -> Vec<u8> {
    build("tab86 Linux", &LINUX_CODE, [segment, stack], &transfers)
}

/// A ROM that loads a Multiboot image and its information block (which ends in a protected-mode entry, see
/// [`protected_entry`]), completes the block with what only the BIOS knows, and enters the image.
/// `video` is width, height and bits per pixel, all 0 for text.
pub fn multiboot(video: [u16; 3], transfers: [Transfer; 2]) -> Vec<u8> {
    let mut rom = build("tab86 Multi", &MULTIBOOT_CODE, [video[0], video[1]], &transfers);
    rom[EXTRA] = video[2] as u8;
    seal(&mut rom);
    rom
}

/// The 32-bit code at 90C0h: flat segments, magic number, information block, jump to `entry`.
pub fn protected_entry(entry: u32) -> Vec<u8> {
    let mut code = PROTECTED_ENTRY.to_vec();
    let at = code.len() - 6;
    code[at..at + 4].copy_from_slice(&entry.to_le_bytes());
    code
}

fn build(name: &str, code: &[u8], parameters: [u16; 2], transfers: &[Transfer]) -> Vec<u8> {
    let mut rom = vec![0; (CODE + code.len()).next_multiple_of(ROM_UNIT)];
    rom[..2].copy_from_slice(&[0x55, 0xaa]);
    rom[2] = (rom.len() / ROM_UNIT) as u8;
    rom[3] = 0xcb; // retf: nothing to initialise
    rom[0x1a] = PNP_HEADER as u8;
    let pnp = &mut rom[PNP_HEADER..PARAMETERS];
    pnp[..4].copy_from_slice(b"$PnP");
    pnp[4] = 1; // revision
    pnp[5] = 2; // length in units of 16 bytes
    pnp[0x10] = NAME as u8; // product name
    pnp[0x1a] = CODE as u8; // boot entry vector
    pnp[9] = checksum(pnp);
    for (i, value) in parameters.into_iter().enumerate() {
        rom[PARAMETERS + 2 * i..][..2].copy_from_slice(&value.to_le_bytes());
    }
    // The table holds control, length and address as the device wants them: big-endian.
    for (t, entry) in transfers.iter().zip(rom[TRANSFERS..].chunks_exact_mut(12)) {
        let control = u32::from(t.key) << 16 | SELECT_READ;
        entry[..4].copy_from_slice(&control.to_be_bytes());
        entry[4..8].copy_from_slice(&t.length.to_be_bytes());
        entry[8..].copy_from_slice(&t.address.to_be_bytes());
    }
    rom[NAME..NAME + name.len()].copy_from_slice(name.as_bytes());
    rom[CODE..CODE + code.len()].copy_from_slice(code);
    seal(&mut rom);
    rom
}

/// Makes all bytes of the ROM sum to 0; its last byte is free for that.
fn seal(rom: &mut [u8]) {
    if let Some(last) = rom.len().checked_sub(1) {
        rom[last] = 0;
        rom[last] = checksum(rom);
    }
}

/// The byte that makes the sum 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, b| sum.wrapping_sub(*b))
}

/// The transfers of a Linux image: setup code, kernel, initrd, command line.
pub fn linux_transfers(ranges: [(u32, u32); 4]) -> [Transfer; 4] {
    let keys = [key::SETUP_DATA, key::KERNEL_DATA, key::INITRD_DATA, key::CMDLINE_DATA];
    std::array::from_fn(|i| Transfer { key: keys[i], address: ranges[i].0, length: ranges[i].1 })
}

/// Real-mode code at offset 80h.
#[rustfmt::skip]
const LINUX_CODE: [u8; 99] = [
    0xfa, // cli
    0xfc, // cld
    0x2e, 0xa1, 0x40, 0x00, // mov ax,[cs:0x40]   ; segment of the setup code
    0x8e, 0xd0, // mov ss,ax
    0x2e, 0x8b, 0x26, 0x42, 0x00, // mov sp,[cs:0x42]   ; stack at the end of its heap
    0xbe, 0x44, 0x00, // mov si,0x44   ; table of transfers
    0xb9, 0x04, 0x00, // mov cx,4   ; setup, kernel, initrd, command line
    // next:
    0x2e, 0x66, 0xff, 0x74, 0x08, // push dword [cs:si+8]   ; request: address, low half
    0x66, 0x6a, 0x00, // push dword 0   ; high half
    0x2e, 0x66, 0xff, 0x74, 0x04, // push dword [cs:si+4]   ; length
    0x2e, 0x66, 0xff, 0x34, // push dword [cs:si]   ; item, SELECT and READ
    0x66, 0x31, 0xc0, // xor eax,eax   ; physical address of the request
    0x8c, 0xd0, // mov ax,ss
    0x66, 0xc1, 0xe0, 0x04, // shl eax,4
    0x66, 0x0f, 0xb7, 0xdc, // movzx ebx,sp
    0x66, 0x01, 0xd8, // add eax,ebx
    0x66, 0x0f, 0xc8, // bswap eax   ; big-endian
    0xba, 0x18, 0x05, // mov dx,0x518
    0x66, 0xef, // out dx,eax   ; start
    0x89, 0xe5, // mov bp,sp
    // wait_:
    0x66, 0x8b, 0x46, 0x00, // mov eax,[bp+0]
    0x66, 0x25, 0xff, 0xff, 0xff, 0xfe, // and eax,0xfeffffff   ; all but the error bit
    0x75, 0xf4, // jnz wait_   ; until the device has written its result
    0x83, 0xc4, 0x10, // add sp,16   ; drop the request
    0x83, 0xc6, 0x0c, // add si,12   ; next transfer
    0xe2, 0xc1, // loop next
    0x8c, 0xd0, // mov ax,ss
    0x8e, 0xd8, // mov ds,ax   ; all segments equal
    0x8e, 0xc0, // mov es,ax
    0x8e, 0xe0, // mov fs,ax
    0x8e, 0xe8, // mov gs,ax
    0x83, 0xc0, 0x20, // add ax,0x20   ; the kernel's entry is 512 bytes in
    0x50, // push ax
    0x6a, 0x00, // push word 0
    0xcb, // retf   ; go
];

/// Real-mode code at offset 80h. The information block is at 9000h (see [`super::multiboot`]).
#[rustfmt::skip]
const MULTIBOOT_CODE: [u8; 329] = [
    0xfa, // cli
    0xfc, // cld
    0x31, 0xc0, // xor ax,ax
    0x8e, 0xd0, // mov ss,ax
    0xbc, 0x00, 0x8f, // mov sp,0x8f00   ; stack below the information
    0x8e, 0xd8, // mov ds,ax
    0x8e, 0xc0, // mov es,ax
    0xbe, 0x44, 0x00, // mov si,0x44   ; table of transfers
    0xb9, 0x02, 0x00, // mov cx,2   ; image, information
    // next:
    0x2e, 0x66, 0xff, 0x74, 0x08, // push dword [cs:si+8]   ; request: address, low half
    0x66, 0x6a, 0x00, // push dword 0   ; high half
    0x2e, 0x66, 0xff, 0x74, 0x04, // push dword [cs:si+4]   ; length
    0x2e, 0x66, 0xff, 0x34, // push dword [cs:si]   ; item, SELECT and READ
    0x66, 0x0f, 0xb7, 0xc4, // movzx eax,sp   ; physical address of the request (SS = 0)
    0x66, 0x0f, 0xc8, // bswap eax   ; big-endian
    0xba, 0x18, 0x05, // mov dx,0x518
    0x66, 0xef, // out dx,eax   ; start
    0x89, 0xe5, // mov bp,sp
    // wait_:
    0x66, 0x8b, 0x46, 0x00, // mov eax,[bp+0]
    0x66, 0x25, 0xff, 0xff, 0xff, 0xfe, // and eax,0xfeffffff   ; all but the error bit
    0x75, 0xf4, // jnz wait_   ; until the device has written its result
    0x83, 0xc4, 0x10, // add sp,16   ; drop the request
    0x83, 0xc6, 0x0c, // add si,12   ; next transfer
    0xe2, 0xcd, // loop next
    // -- memory map
    0xbf, 0x04, 0x91, // mov di,0x9104   ; first entry, after its size field
    0x66, 0x31, 0xdb, // xor ebx,ebx   ; start of the list
    // e820:
    0x66, 0xb8, 0x20, 0xe8, 0x00, 0x00, // mov eax,0xe820
    0x66, 0xba, 0x50, 0x41, 0x4d, 0x53, // mov edx,0x534d4150   ; "SMAP"
    0x66, 0xb9, 0x14, 0x00, 0x00, 0x00, // mov ecx,20
    0xcd, 0x15, // int 0x15
    0x72, 0x3a, // jc mapped
    0x66, 0x3d, 0x50, 0x41, 0x4d, 0x53, // cmp eax,0x534d4150
    0x75, 0x32, // jne mapped
    0x66, 0xc7, 0x45, 0xfc, 0x14, 0x00, 0x00, 0x00, // mov dword [di-4],20   ; size of the entry
    0x66, 0x81, 0x3d, 0x00, 0x00, 0x10, 0x00, // cmp dword [di],0x100000   ; RAM at 1 MiB?
    0x75, 0x13, // jne notup
    0x66, 0x83, 0x7d, 0x04, 0x00, // cmp dword [di+4],0
    0x75, 0x0c, // jne notup
    0x66, 0x8b, 0x45, 0x08, // mov eax,[di+8]
    0x66, 0xc1, 0xe8, 0x0a, // shr eax,10
    0x66, 0xa3, 0x08, 0x90, // mov [0x9008],eax   ; mem_upper, in KiB
    // notup:
    0x83, 0xc7, 0x18, // add di,24
    0x66, 0x85, 0xdb, // test ebx,ebx
    0x74, 0x06, // jz mapped
    0x81, 0xff, 0x04, 0x94, // cmp di,0x9404   ; 32 entries at most
    0x72, 0xb0, // jb e820
    // mapped:
    0x81, 0xef, 0x04, 0x91, // sub di,0x9104
    0x89, 0x3e, 0x2c, 0x90, // mov [0x902c],di   ; mmap_length
    0xcd, 0x12, // int 0x12
    0xa3, 0x04, 0x90, // mov [0x9004],ax   ; mem_lower
    // -- video
    0x2e, 0x83, 0x3e, 0x40, 0x00, 0x00, // cmp word [cs:0x40],0   ; graphics wanted? (width)
    0x0f, 0x84, 0x83, 0x00, // je enter
    0xb9, 0x00, 0x01, // mov cx,0x100   ; first VESA mode
    // find:
    0xb8, 0x01, 0x4f, // mov ax,0x4f01   ; VBE: mode information
    0xbf, 0x00, 0x80, // mov di,0x8000
    0xcd, 0x10, // int 0x10
    0x83, 0xf8, 0x4f, // cmp ax,0x4f
    0x75, 0x6c, // jne nextmode
    0xf6, 0x06, 0x00, 0x80, 0x80, // test byte [0x8000],0x80   ; linear frame buffer?
    0x74, 0x65, // jz nextmode
    0xa1, 0x12, 0x80, // mov ax,[0x8012]   ; width
    0x2e, 0x3b, 0x06, 0x40, 0x00, // cmp ax,[cs:0x40]
    0x75, 0x5b, // jne nextmode
    0xa1, 0x14, 0x80, // mov ax,[0x8014]   ; height
    0x2e, 0x3b, 0x06, 0x42, 0x00, // cmp ax,[cs:0x42]
    0x75, 0x51, // jne nextmode
    0xa0, 0x19, 0x80, // mov al,[0x8019]   ; bits per pixel
    0x2e, 0x3a, 0x06, 0x5c, 0x00, // cmp al,[cs:0x5c]
    0x75, 0x47, // jne nextmode
    0xb8, 0x02, 0x4f, // mov ax,0x4f02   ; VBE: set mode
    0x89, 0xcb, // mov bx,cx
    0x80, 0xcf, 0x40, // or bh,0x40   ; with the linear frame buffer
    0xcd, 0x10, // int 0x10
    0x83, 0xf8, 0x4f, // cmp ax,0x4f
    0x75, 0x3f, // jne enter
    0x66, 0xa1, 0x28, 0x80, // mov eax,[0x8028]
    0x66, 0xa3, 0x58, 0x90, // mov [0x9058],eax   ; framebuffer_addr
    0xa1, 0x10, 0x80, // mov ax,[0x8010]
    0xa3, 0x60, 0x90, // mov [0x9060],ax   ; framebuffer_pitch
    0xa1, 0x12, 0x80, // mov ax,[0x8012]   ; width
    0xa3, 0x64, 0x90, // mov [0x9064],ax   ; framebuffer_width
    0xa1, 0x14, 0x80, // mov ax,[0x8014]   ; height
    0xa3, 0x68, 0x90, // mov [0x9068],ax   ; framebuffer_height
    0xa0, 0x19, 0x80, // mov al,[0x8019]   ; bits per pixel
    0xb4, 0x01, // mov ah,1   ; direct colour
    0xa3, 0x6c, 0x90, // mov [0x906c],ax   ; framebuffer_bpp, framebuffer_type
    0xbe, 0x1f, 0x80, // mov si,0x801f   ; mask sizes and positions
    0xbf, 0x6e, 0x90, // mov di,0x906e   ; color_info
    0xb9, 0x03, 0x00, // mov cx,3
    // colour:
    0xad, // lodsw
    0x86, 0xc4, // xchg al,ah   ; position first
    0xab, // stosw
    0xe2, 0xfa, // loop colour
    0x80, 0x0e, 0x01, 0x90, 0x10, // or byte [0x9001],0x10   ; flag 12: frame buffer fields valid
    0xeb, 0x07, // jmp enter
    // nextmode:
    0x41, // inc cx
    0x81, 0xf9, 0x00, 0x02, // cmp cx,0x200
    0x72, 0x80, // jb find
    // enter:
    0xfa, // cli
    0x0f, 0x01, 0x16, 0x80, 0x90, // lgdt [0x9080]   ; flat segments
    0x0f, 0x20, 0xc0, // mov eax,cr0
    0x0c, 0x01, // or al,1   ; PE
    0x0f, 0x22, 0xc0, // mov cr0,eax
    0xea, 0xc0, 0x90, 0x08, 0x00, // jmp 8:0x90c0   ; to PROTECTED_ENTRY
];

/// Protected-mode code at 90C0h.
#[rustfmt::skip]
const PROTECTED_ENTRY: [u8; 31] = [
    0x66, 0xb8, 0x10, 0x00, // mov ax,0x10   ; flat data
    0x8e, 0xd8, // mov ds,ax
    0x8e, 0xc0, // mov es,ax
    0x8e, 0xe0, // mov fs,ax
    0x8e, 0xe8, // mov gs,ax
    0x8e, 0xd0, // mov ss,ax
    0xb8, 0x02, 0xb0, 0xad, 0x2b, // mov eax,0x2badb002
    0xbb, 0x00, 0x90, 0x00, 0x00, // mov ebx,0x9000   ; information block
    0xb9, 0x78, 0x56, 0x34, 0x12, // mov ecx,0x12345678   ; replaced by the entry point
    0xff, 0xe1, // jmp ecx
];

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |s: u8, b| s.wrapping_add(*b))
    }

    #[test]
    fn roms_are_valid_to_seabios() {
        let transfers = linux_transfers([(0x10000, 0x4000), (0x10_0000, 1), (0, 0), (0x20000, 9)]);
        let two = [transfers[0], transfers[1]];
        for rom in [linux(0x1000, 0xfff0, transfers), multiboot([800, 600, 32], two)] {
            assert_eq!(rom[..2], [0x55, 0xaa]);
            assert_eq!(usize::from(rom[2]) * 512, rom.len());
            assert!(rom.len() <= 2048);
            assert_eq!(sum(&rom), 0);
            let pnp = usize::from(rom[0x1a]);
            assert_eq!(&rom[pnp..pnp + 4], b"$PnP");
            assert_eq!(sum(&rom[pnp..pnp + 32]), 0);
            assert_eq!(rom[pnp + 0x1a], 0x80);
            assert_eq!(rom[0x80], 0xfa);
            assert_eq!(rom[NAME + 11], 0, "the name ends");
        }
    }

    #[test]
    fn transfers_are_ready_made_requests() {
        let transfers = linux_transfers([(0x10000, 0x4000), (0x10_0000, 1), (0, 0), (0x20000, 9)]);
        let rom = linux(0x1000, 0xfff0, transfers);
        assert_eq!(rom[0x44..0x50], [0, 0x18, 0, 10, 0, 0, 0x40, 0, 0, 1, 0, 0]);
        assert_eq!(rom[0x68..0x74], [0, 0x15, 0, 10, 0, 0, 0, 9, 0, 2, 0, 0]);
    }

    #[test]
    fn the_entry_point_is_patched_in() {
        let code = protected_entry(0xdead_beef);
        assert_eq!(code[24..], [0xb9, 0xef, 0xbe, 0xad, 0xde, 0xff, 0xe1]);
    }
}
