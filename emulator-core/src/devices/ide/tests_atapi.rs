//! Tests of the CD-ROM drive through its ports.

use super::tests::{BM, Rig, Slow, image};
use super::*;
use crate::devices::block::MemoryBlock;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

fn disc() -> Box<dyn BlockBackend> {
    Box::new(MemoryBlock { data: image(1 << 20), read_only: true })
}

/// A CD-ROM drive as primary master.
fn rig(disc: Option<Box<dyn BlockBackend>>) -> Rig {
    let mut ide = Ide::new();
    ide.attach_cdrom(0, disc);
    Rig::new(ide)
}

fn packet(start: &[u8]) -> [u8; 12] {
    let mut p = [0; 12];
    p[..start.len()].copy_from_slice(start);
    p
}

fn read10(lba: u32, count: u8) -> [u8; 12] {
    let b = lba.to_be_bytes();
    packet(&[0x28, 0, b[0], b[1], b[2], b[3], 0, 0, count])
}

impl Rig {
    fn send(&mut self, p: [u8; 12], limit: u16, dma: bool) {
        self.outb(0x1f6, 0xa0);
        self.outb(0x1f1, dma.into());
        self.outb(0x1f4, limit as u8);
        self.outb(0x1f5, (limit >> 8) as u8);
        self.outb(0x1f7, 0xa0);
        assert_eq!((self.inb(0x3f6), self.inb(0x1f2)), (0x58, 1));
        for w in p.chunks(2) {
            let word = u16::from_le_bytes([w[0], w[1]]);
            self.ide.write_u16(0x1f0, word, &mut self.bench.cx());
        }
    }

    /// Sends a packet and takes its data by PIO: `Ok` with the sizes of the blocks, or the error register.
    fn packet_blocks(&mut self, p: [u8; 12], limit: u16) -> Result<(Vec<u8>, Vec<usize>), u8> {
        self.send(p, limit, false);
        let (mut data, mut blocks) = (Vec::new(), Vec::new());
        loop {
            self.settle();
            assert!(self.irq14());
            let status = self.inb(0x1f7);
            if status & 8 == 0 {
                assert_eq!(self.inb(0x1f2), 3, "status phase");
                return match status & 1 {
                    0 => Ok((data, blocks)),
                    _ => Err(self.inb(0x1f1)),
                };
            }
            assert_eq!(self.inb(0x1f2), 2, "data to the host");
            let n = usize::from(self.inb(0x1f4)) | usize::from(self.inb(0x1f5)) << 8;
            blocks.push(n);
            for _ in 0..n.div_ceil(2) {
                data.extend(self.inw(0x1f0).to_le_bytes());
            }
            data.truncate(blocks.iter().sum());
        }
    }

    fn packet(&mut self, p: [u8; 12]) -> Result<Vec<u8>, u8> {
        self.packet_blocks(p, 0xfffe).map(|(data, _)| data)
    }

    fn sense(&mut self) -> (u8, u8) {
        let s = self.packet(packet(&[3, 0, 0, 0, 18])).expect("never fails");
        (s[2], s[12])
    }
}

#[test]
fn a_cdrom_drive_shows_its_signature_and_identity() {
    let mut r = rig(Some(disc()));
    let signature = |r: &mut Rig| [r.inb(0x1f2), r.inb(0x1f3), r.inb(0x1f4), r.inb(0x1f5)];
    r.outb(0x1f7, 0xec);
    assert_eq!((r.inb(0x1f7), r.inb(0x1f1)), (0x41, 4));
    assert_eq!(signature(&mut r), [1, 1, 0x14, 0xeb]);
    r.outb(0x1f7, 0xa1);
    assert!(r.irq14());
    assert_eq!(r.inb(0x1f7), 0x58);
    let id: Vec<u16> = (0..256).map(|_| r.inw(0x1f0)).collect();
    assert_eq!((id[0], id[49] & 0x300), (0x85c0, 0x300));
    assert_eq!(r.inb(0x1f7), 0x50);
    // DEVICE RESET works even in the middle of a packet, and leaves the drive not ready.
    r.outb(0x1f7, 0xa0);
    assert_eq!(r.inb(0x3f6), 0x58);
    r.outb(0x1f7, 0x08);
    assert_eq!((r.inb(0x3f6), r.inb(0x1f1)), (0, 1));
    assert_eq!(signature(&mut r), [1, 1, 0x14, 0xeb]);
}

#[test]
fn reads_are_split_by_the_byte_count_limit() {
    let mut r = rig(Some(disc()));
    let expected = &image(1 << 20)[2048 * 9..2048 * 13];
    for (limit, blocks) in [
        (2048, vec![2048; 4]),
        (0xffff, vec![8192]),
        (3001, vec![3000, 3000, 2192]),
        (510, [vec![510; 16], vec![32]].concat()),
    ] {
        let (data, sizes) = r.packet_blocks(read10(9, 4), limit).expect("the disc is readable");
        assert!(data == expected);
        assert_eq!(sizes, blocks);
    }
    let data = r.packet(packet(&[0xa8, 0, 0, 0, 0, 9, 0, 0, 0, 4]));
    assert!(data.as_deref() == Ok(expected));
    assert_eq!(r.packet(read10(9, 0)), Ok(vec![]));
    // No room for data: the command is aborted.
    r.send(read10(9, 1), 0, false);
    assert_eq!((r.inb(0x1f7), r.inb(0x1f1)), (0x41, 4));
    assert_eq!(r.packet(packet(&[0])), Ok(vec![]));
}

#[test]
fn dma_reads_and_replies_land_in_memory() {
    let mut r = rig(Some(disc()));
    r.prd(0x1000, &[(0x20_0000, 0x1000), (0x30_0000, 0)]);
    r.outb(BM, 9);
    r.send(read10(1, 34), 0, true);
    r.settle();
    assert!(r.irq14());
    assert_eq!((r.inb(0x1f7), r.inb(0x1f2), r.inb(BM + 2)), (0x50, 3, 4));
    let mut got = r.memory(0x20_0000, 0x1000);
    got.extend(r.memory(0x30_0000, 0x1_0000));
    assert!(got == image(1 << 20)[2048..35 * 2048]);
    r.outb(BM, 0);
    r.outb(BM, 9);
    r.send(packet(&[0x25]), 0, true);
    r.settle();
    assert_eq!(r.memory(0x20_0000, 8), [0, 0, 1, 0xff, 0, 0, 8, 0]);
    assert_eq!(r.inb(BM + 2), 5);
    // A table too short for the data.
    r.prd(0x1000, &[(0x20_0000, 0x100)]);
    r.inb(0x1f7);
    r.outb(BM, 0);
    r.outb(BM + 2, 4);
    r.outb(BM, 9);
    r.send(read10(1, 1), 0, true);
    r.settle();
    assert!(!r.irq14());
    assert_eq!(r.inb(BM + 2), 0);
}

#[test]
fn errors_leave_sense_data_that_is_read_once() {
    let mut r = rig(Some(disc()));
    assert_eq!(r.packet(read10(511, 2)), Err(0x50));
    assert_eq!(r.sense(), (5, 0x21));
    assert_eq!(r.sense(), (0, 0));
    assert_eq!(r.packet(read10(0xffff_ffff, 255)), Err(0x50));
    assert_eq!(r.packet(packet(&[0xff])), Err(0x50));
    assert_eq!(r.sense(), (5, 0x20));
    assert_eq!(r.packet(packet(&[0x43, 0, 0, 0, 0, 0, 7, 0, 12])), Err(0x50));
    assert_eq!(r.sense(), (5, 0x24));
}

#[test]
fn an_empty_drive_is_not_ready_and_a_new_disc_announces_itself() {
    let mut r = rig(None);
    let gesn = packet(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]);
    assert_eq!(r.packet(packet(&[0])), Err(0x20));
    assert_eq!(r.sense(), (2, 0x3a));
    assert_eq!(r.packet(read10(0, 1)), Err(0x20));
    assert!(r.ide.insert_media(0, Some(disc())));
    assert_eq!(r.packet(gesn).map(|b| (b[4], b[5])), Ok((2, 2)));
    assert_eq!(r.packet(gesn).map(|b| (b[4], b[5])), Ok((0, 2)));
    assert_eq!(r.packet(packet(&[0])), Err(0x20));
    assert_eq!(r.packet(packet(&[0])), Err(0x60));
    assert_eq!(r.sense(), (6, 0x28));
    assert_eq!(r.packet(packet(&[0])), Ok(vec![]));
    assert!(r.ide.insert_media(0, None));
    assert_eq!(r.packet(gesn).map(|b| (b[4], b[5])), Ok((3, 1)));
    assert_eq!(r.packet(packet(&[0])), Err(0x20));
    assert!(!r.ide.insert_media(1, Some(disc())), "no drive there");
}

#[test]
fn the_guest_ejects_unless_it_locked_the_drive() {
    let mut r = rig(Some(disc()));
    assert_eq!(r.packet(packet(&[0x1e, 0, 0, 0, 1])), Ok(vec![]));
    assert_eq!(r.packet(packet(&[0x1b, 0, 0, 0, 2])), Err(0x50));
    assert_eq!(r.sense(), (5, 0x53));
    assert_eq!(r.packet(packet(&[0x1e])), Ok(vec![]));
    assert_eq!(r.packet(packet(&[0x1b, 0, 0, 0, 2])), Ok(vec![]));
    assert_eq!(r.packet(read10(0, 1)), Err(0x20));
    assert_eq!(r.packet(packet(&[0x1b, 0, 0, 0, 3])), Ok(vec![]));
    assert_eq!(r.packet(read10(0, 1)).map(|d| d.len()), Ok(2048));
}

#[test]
fn informative_commands_have_their_layouts() {
    let mut r = rig(Some(disc()));
    let inquiry = r.packet(packet(&[0x12, 0, 0, 0, 36])).expect("inquiry");
    assert_eq!((inquiry.len(), inquiry[0], inquiry[1], inquiry[4]), (36, 5, 0x80, 31));
    assert_eq!(r.packet(packet(&[0x12, 0, 0, 0, 5])).map(|d| d.len()), Ok(5));
    assert_eq!(
        r.packet(packet(&[0x43, 0, 0, 0, 0, 0, 0, 1, 0])),
        Ok(vec![0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 2, 0])
    );
    // Minutes, seconds, frames: 512 + 150 frames are 0:08:62.
    assert_eq!(
        r.packet(packet(&[0x43, 2, 0, 0, 0, 0, 0xaa, 1, 0])),
        Ok(vec![0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 8, 62])
    );
    // Sessions, with the format where SFF-8020i has it.
    assert_eq!(
        r.packet(packet(&[0x43, 0, 0, 0, 0, 0, 0, 1, 0, 0x40])),
        Ok(vec![0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0])
    );
    let raw = r.packet(packet(&[0x43, 0, 2, 0, 0, 0, 1, 1, 0])).expect("raw");
    assert_eq!((raw.len(), raw[1], raw[7]), (48, 46, 0xa0));
    let config = r.packet(packet(&[0x46, 0, 0, 0, 0, 0, 0, 1, 0])).expect("features");
    assert_eq!(config[..8], [0, 0, 0, 36, 0, 0, 0, 8]);
    assert_eq!(config.len(), 40);
    let page = r.packet(packet(&[0x5a, 0, 0x2a, 0, 0, 0, 0, 1, 0])).expect("page");
    assert_eq!((page.len(), page[1], page[8], page[9]), (28, 26, 0x2a, 18));
    let page = r.packet(packet(&[0x1a, 0, 0x2a, 0, 255])).expect("page");
    assert_eq!((page.len(), page[0], page[4]), (24, 23, 0x2a));
    assert_eq!(r.packet(packet(&[0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0])).map(|d| d.len()), Ok(52));
    assert_eq!(r.packet(packet(&[0x51, 0, 0, 0, 0, 0, 0, 0, 34])).map(|d| d.len()), Ok(34));
    assert_eq!(r.packet(packet(&[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8])).map(|d| d.len()), Ok(8));
}

#[test]
fn read_cd_gives_user_data_or_whole_sectors() {
    let mut r = rig(Some(disc()));
    let user = &image(1 << 20)[3 * 2048..5 * 2048];
    let data = r.packet(packet(&[0xbe, 0, 0, 0, 0, 3, 0, 0, 2, 0x10]));
    assert!(data.as_deref() == Ok(user));
    let (raw, blocks) = r.packet_blocks(packet(&[0xbe, 0, 0, 0, 0, 3, 0, 0, 2, 0xf8]), 2352).expect("readable");
    assert_eq!(blocks, [2352, 2352]);
    assert_eq!(raw[..16], [0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 2, 3, 1]);
    assert!(raw[16..2064] == user[..2048] && raw[2352 + 16..2352 + 2064] == user[2048..]);
    assert_eq!(raw[2352 + 14], 4);
}

#[test]
fn a_streamed_disc_blocks_until_its_sectors_arrive() {
    for dma in [false, true] {
        let pending = Arc::new(AtomicU32::new(2));
        let mut r = rig(Some(Box::new(Slow(MemoryBlock::new(image(65536)), pending))));
        r.prd(0x1000, &[(0x20_0000, 0x1000)]);
        r.outb(BM, 9);
        r.send(read10(2, 2), 0xfffe, dma);
        let until = r.bench.now + 100_000;
        r.bench.advance(&mut r.ide, until);
        assert!(r.ide.blocked() && !r.irq14());
        r.settle();
        assert!(!r.ide.blocked() && r.irq14());
        let got =
            if dma { r.memory(0x20_0000, 4096) } else { (0..2048).flat_map(|_| r.inw(0x1f0).to_le_bytes()).collect() };
        assert!(got == image(65536)[4096..8192]);
    }
}
