//! The 512 bytes that IDENTIFY DEVICE and IDENTIFY PACKET DEVICE return (ATA/ATAPI-6, 8.15 and 8.16).

use super::drive::{Drive, Kind, MULTIPLE_MAX};

const MODEL_DISK: &str = "TAB86 HARDDISK";
const MODEL_CDROM: &str = "TAB86 CD-ROM";
const FIRMWARE: &str = "1.0";

/// Words under construction.
struct Words([u16; 256]);

impl Words {
    /// An ASCII field of `words` words, padded with blanks, first character in the high byte.
    fn text(&mut self, at: usize, words: usize, text: &str) {
        let mut chars = text.bytes().chain(std::iter::repeat(b' '));
        for w in &mut self.0[at..at + words] {
            *w = u16::from_be_bytes([chars.next().unwrap_or(b' '), chars.next().unwrap_or(b' ')]);
        }
    }

    fn dword(&mut self, at: usize, value: u32) {
        self.0[at] = value as u16;
        self.0[at + 1] = (value >> 16) as u16;
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|w| w.to_le_bytes()).collect()
    }
}

/// The identity of `drive`; empty for an absent one.
pub fn identify(drive: &Drive) -> Vec<u8> {
    match drive.kind {
        Kind::None => Vec::new(),
        Kind::Disk => disk(drive),
        Kind::Cdrom => cdrom(drive),
    }
}

/// Words common to both kinds: names, and the DMA modes with the selected one.
fn common(drive: &Drive, model: &str) -> Words {
    let mut w = Words([0; 256]);
    w.text(10, 10, &format!("TAB{:05}", drive.index + 1));
    w.text(23, 4, FIRMWARE);
    w.text(27, 20, model);
    w.0[48] = 1; // 32-bit data port accesses work
    w.0[53] = 0x0007; // words 54-58, 64-70 and 88 are valid
    let selected = |class: u8| {
        let mode = drive.transfer_mode;
        if mode >> 3 == class { 1u16 << (8 + (mode & 7)) } else { 0 }
    };
    w.0[62] = 0x0007 | selected(2);
    w.0[63] = 0x0007 | selected(4);
    w.0[64] = 0x0003; // PIO 3 and 4
    w.0[88] = 0x003f | selected(8);
    w
}

fn disk(drive: &Drive) -> Vec<u8> {
    let mut w = common(drive, MODEL_DISK);
    let d = &drive.disk;
    w.0[0] = 0x0040;
    w.0[1] = d.native.cylinders;
    w.0[3] = d.native.heads.into();
    w.0[4] = 512 * u16::from(d.native.sectors);
    w.0[5] = 512;
    w.0[6] = d.native.sectors.into();
    w.0[20] = 3;
    w.0[21] = 512;
    w.0[22] = 4;
    w.0[47] = 0x8000 | u16::from(MULTIPLE_MAX);
    w.0[49] = 1 << 11 | 1 << 9 | 1 << 8; // IORDY, LBA, DMA
    w.0[51] = 0x0200;
    w.0[52] = 0x0200;
    w.0[54] = d.current.cylinders;
    w.0[55] = d.current.heads.into();
    w.0[56] = d.current.sectors.into();
    w.dword(57, d.current.total().min(u32::MAX.into()) as u32);
    if d.multiple != 0 {
        w.0[59] = 0x0100 | u16::from(d.multiple);
    }
    w.dword(60, d.sectors.min(0x0fff_ffff) as u32);
    w.0[65..69].fill(120);
    w.0[80] = 0x00f0; // ATA-4 to ATA-7
    w.0[81] = 0x0016;
    w.0[82] = 1 << 14 | 1 << 5; // NOP, write cache
    w.0[83] = 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10; // FLUSH CACHE EXT, FLUSH CACHE, 48-bit
    w.0[84] = 1 << 14;
    w.0[85] = 1 << 14 | u16::from(d.write_cache) << 5;
    w.0[86] = w.0[83] & !(1 << 14);
    w.0[87] = 1 << 14;
    w.0[93] = 1 << 14 | 1 << 13 | 1; // 80-wire cable, device 0 passed
    w.dword(100, d.sectors as u32);
    w.dword(102, (d.sectors >> 32) as u32);
    w.bytes()
}

fn cdrom(drive: &Drive) -> Vec<u8> {
    let mut w = common(drive, MODEL_CDROM);
    w.0[0] = 0x85c0; // ATAPI, CD-ROM, removable, DRQ within 50 us, 12-byte packets
    w.0[49] = 1 << 11 | 1 << 9 | 1 << 8;
    w.0[65] = 0xb4;
    w.0[66] = 0xb4;
    w.0[67] = 0x12c;
    w.0[68] = 0xb4;
    w.0[71] = 30;
    w.0[72] = 30;
    w.0[80] = 0x001e; // ATA-1 to ATA/ATAPI-4
    w.0[82] = 1 << 9 | 1 << 4; // DEVICE RESET, PACKET
    w.0[83] = 1 << 14;
    w.0[84] = 1 << 14;
    w.0[85] = w.0[82];
    w.0[87] = 1 << 14;
    w.bytes()
}
