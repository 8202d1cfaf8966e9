//! Tests of the controller and of ATA disks through their ports.

use super::*;
use crate::bus::testing::{Bench, conformance};
use crate::devices::block::{BlockError, BlockStatus, MemoryBlock};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Port of the bus master in these tests.
pub const BM: u16 = 0xc000;

/// A controller on a bench.
pub struct Rig {
    pub bench: Bench,
    pub ide: Ide,
}

/// A disk image that the test keeps an eye on.
#[derive(Clone)]
pub struct Shared(pub Arc<Mutex<Vec<u8>>>);

impl BlockBackend for Shared {
    fn len(&self) -> u64 {
        self.0.lock().expect("lock").len() as u64
    }
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<BlockStatus, BlockError> {
        let data = self.0.lock().expect("lock");
        let at = offset as usize;
        out.copy_from_slice(data.get(at..at + out.len()).ok_or(BlockError::OutOfRange)?);
        Ok(BlockStatus::Ready)
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<BlockStatus, BlockError> {
        let mut data = self.0.lock().expect("lock");
        let at = offset as usize;
        data.get_mut(at..at + bytes.len()).ok_or(BlockError::OutOfRange)?.copy_from_slice(bytes);
        Ok(BlockStatus::Ready)
    }
}

/// A backend that answers "pending" (or fails, when the count is `u32::MAX`) so many times first.
pub struct Slow(pub MemoryBlock, pub Arc<AtomicU32>);

impl Slow {
    fn gate(&self) -> Result<BlockStatus, BlockError> {
        match self.1.load(Ordering::Relaxed) {
            0 => Ok(BlockStatus::Ready),
            u32::MAX => Err(BlockError::Host("gone".into())),
            n => {
                self.1.store(n - 1, Ordering::Relaxed);
                Ok(BlockStatus::Pending)
            }
        }
    }
}

impl BlockBackend for Slow {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<BlockStatus, BlockError> {
        match self.gate()? {
            BlockStatus::Ready => self.0.read(offset, out),
            pending => Ok(pending),
        }
    }
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<BlockStatus, BlockError> {
        match self.gate()? {
            BlockStatus::Ready => self.0.write(offset, data),
            pending => Ok(pending),
        }
    }
}

/// An image whose every 32-bit word tells its position.
pub fn image(bytes: usize) -> Vec<u8> {
    (0..bytes as u32 / 4).flat_map(|i| (i ^ 0x5a00_0000).to_le_bytes()).collect()
}

impl Rig {
    pub fn new(ide: Ide) -> Self {
        let mut rig = Self { bench: Bench::new(), ide };
        rig.ide.reset(&mut rig.bench.cx());
        rig.ide.pci_write(0x20, 0x01);
        assert!(rig.ide.pci_write(0x21, (BM >> 8) as u8));
        assert!(rig.ide.pci_write(4, 5));
        rig
    }

    /// A 4 MiB disk as primary master.
    fn disk() -> (Self, Shared) {
        let data = Shared(Arc::new(Mutex::new(image(4 << 20))));
        let mut ide = Ide::new();
        ide.attach_disk(0, Box::new(data.clone()));
        (Self::new(ide), data)
    }

    pub fn inb(&mut self, port: u16) -> u8 {
        self.ide.read_u8(port, &mut self.bench.cx())
    }

    pub fn outb(&mut self, port: u16, value: u8) {
        self.ide.write_u8(port, value, &mut self.bench.cx());
    }

    pub fn outl(&mut self, port: u16, value: u32) {
        self.ide.write_u32(port, value, &mut self.bench.cx());
    }

    pub fn inw(&mut self, port: u16) -> u16 {
        self.ide.read_u16(port, &mut self.bench.cx())
    }

    /// Lets everything that is armed happen, up to a virtual millisecond.
    pub fn settle(&mut self) {
        let until = self.bench.now + 1_000_000;
        self.bench.advance(&mut self.ide, until);
    }

    pub fn irq14(&self) -> bool {
        self.bench.irq.isa() & 1 << 14 != 0
    }

    /// Parameters and a command to device 0 with 28-bit addressing.
    fn command28(&mut self, lba: u32, count: u8, code: u8) {
        let b = lba.to_le_bytes();
        self.outb(0x1f6, 0xe0 | b[3]);
        self.outb(0x1f2, count);
        self.outb(0x1f3, b[0]);
        self.outb(0x1f4, b[1]);
        self.outb(0x1f5, b[2]);
        self.outb(0x1f7, code);
    }

    fn command48(&mut self, lba: u64, count: u16, code: u8) {
        let (b, n) = (lba.to_le_bytes(), count.to_be_bytes());
        self.outb(0x1f6, 0x40);
        for half in 0..2 {
            self.outb(0x1f2, n[half]);
            for (i, port) in (0x1f3..=0x1f5).enumerate() {
                self.outb(port, b[i + 3 * (1 - half)]);
            }
        }
        self.outb(0x1f7, code);
    }

    /// Reads one interrupt's worth of PIO data, checking the protocol.
    fn read_block(&mut self, bytes: usize) -> Vec<u8> {
        self.settle();
        assert!(self.irq14());
        assert_eq!(self.inb(0x1f7), 0x58);
        assert!(!self.irq14(), "reading the status acknowledges");
        (0..bytes / 2).flat_map(|_| self.inw(0x1f0).to_le_bytes()).collect()
    }

    fn write_block(&mut self, data: &[u8]) {
        assert_eq!(self.inb(0x3f6), 0x58);
        for w in data.chunks(4) {
            self.outl(0x1f0, u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        }
        self.settle();
        assert!(self.irq14());
    }

    /// Writes a descriptor table of (address, count field) at `at`; the last entry gets the end mark.
    pub fn prd(&mut self, at: u32, entries: &[(u32, u16)]) {
        for (i, (address, count)) in entries.iter().enumerate() {
            let end = if i + 1 == entries.len() { 0x8000 } else { 0 };
            let mut e = address.to_le_bytes().to_vec();
            e.extend_from_slice(&count.to_le_bytes());
            e.extend_from_slice(&u16::to_le_bytes(end));
            self.bench.mem.dma_write(u64::from(at) + 8 * i as u64, &e);
        }
        self.outl(BM + 4, at);
    }

    pub fn memory(&mut self, at: u64, len: usize) -> Vec<u8> {
        let mut b = vec![0; len];
        self.bench.mem.dma_read(at, &mut b);
        b
    }
}

fn word(data: &[u8], n: usize) -> u16 {
    u16::from_le_bytes([data[2 * n], data[2 * n + 1]])
}

#[test]
fn random_traffic_is_harmless_and_the_state_survives_a_snapshot() {
    let mut ports: Vec<u16> = (0x1f0..=0x1f7).chain(0x170..=0x177).collect();
    ports.extend([0x3f6, 0x376]);
    // Most traffic should hit the registers that start something.
    ports.extend([0x1f7; 4].iter().chain(&[0x177; 4]).chain(&[0x1f0; 12]).chain(&[0x170; 12]));
    ports.extend(BM..BM + 16);
    let mut ide = Ide::new();
    ide.attach_disk(0, Box::new(MemoryBlock::new(image(1 << 20))));
    ide.attach_cdrom(1, Some(Box::new(MemoryBlock::new(image(1 << 20)))));
    ide.attach_cdrom(2, None);
    conformance(ide, &ports);
}

#[test]
fn identify_tells_capacity_geometry_and_modes() {
    let (mut r, _) = Rig::disk();
    r.command28(0, 0, 0xec);
    let id = r.read_block(512);
    assert_eq!(r.inb(0x1f7), 0x50);
    assert_eq!((word(&id, 1), word(&id, 3), word(&id, 6)), (8, 16, 63));
    assert_eq!((word(&id, 60), word(&id, 61)), (8192, 0));
    assert_eq!((word(&id, 100), word(&id, 101)), (8192, 0));
    assert_eq!(word(&id, 83) & 0x0400, 0x0400, "48-bit addresses");
    assert_eq!(&id[54..58], b"AT8B", "TAB86 with swapped bytes");
    // A selected DMA mode shows.
    r.outb(0x1f1, 3);
    r.outb(0x1f2, 0x22);
    r.outb(0x1f7, 0xef);
    assert_eq!(r.inb(0x1f7), 0x50);
    r.outb(0x1f7, 0xec);
    let id = r.read_block(512);
    assert_eq!(word(&id, 63), 0x0407);
}

#[test]
fn reset_presents_signatures_and_an_absent_slave_has_status_zero() {
    let (mut r, _) = Rig::disk();
    r.outb(0x3f6, 4);
    assert_eq!(r.inb(0x3f6), 0x80);
    r.outb(0x3f6, 0);
    assert_eq!([r.inb(0x1f7), r.inb(0x1f1), r.inb(0x1f2), r.inb(0x1f3)], [0x50, 1, 1, 1]);
    assert_eq!((r.inb(0x1f4), r.inb(0x1f5)), (0, 0));
    r.outb(0x1f6, 0xb0);
    assert_eq!((r.inb(0x1f7), r.inb(0x3f6)), (0, 0));
    r.outb(0x1f7, 0xec);
    assert!(!r.irq14(), "an absent device ignores commands");
    assert_eq!(r.inb(0x177), 0, "nothing on the second cable");
    // The diagnostic selects device 0 again.
    r.outb(0x1f6, 0xa0);
    r.outb(0x1f7, 0x90);
    assert!(r.irq14());
    assert_eq!((r.inb(0x1f1), r.inb(0x1f7)), (1, 0x50));
}

#[test]
fn pio_reads_by_lba28_chs_and_lba48_agree() {
    let (mut r, data) = Rig::disk();
    let expected = data.0.lock().expect("lock")[1000 * 512..1003 * 512].to_vec();
    r.command28(1000, 3, 0x20);
    assert_eq!(r.inb(0x1f7), 0xc0, "busy until the data is there");
    let got: Vec<u8> = (0..3).flat_map(|_| r.read_block(512)).collect();
    assert!(got == expected);
    r.settle();
    assert!(!r.irq14(), "no interrupt after the last sector");
    assert_eq!(r.inb(0x1f7), 0x50);

    r.command48(1000, 3, 0x24);
    let got: Vec<u8> = (0..3).flat_map(|_| r.read_block(512)).collect();
    assert!(got == expected);

    // 1000 = (0 * 16 + 15) * 63 + 55
    for (port, value) in [(0x1f6, 0xaf), (0x1f2, 1), (0x1f3, 56), (0x1f4, 0), (0x1f5, 0), (0x1f7, 0x20)] {
        r.outb(port, value);
    }
    assert!(r.read_block(512) == expected[..512]);

    // After INITIALIZE DEVICE PARAMETERS with 8 heads and 17 sectors: 1000 = (7 * 8 + 2) * 17 + 14
    for (port, value) in [(0x1f6, 0xa7), (0x1f2, 17), (0x1f7, 0x91)] {
        r.outb(port, value);
    }
    assert_eq!(r.inb(0x1f7), 0x50);
    for (port, value) in [(0x1f6, 0xa2), (0x1f2, 1), (0x1f3, 15), (0x1f4, 7), (0x1f5, 0), (0x1f7, 0x20)] {
        r.outb(port, value);
    }
    assert!(r.read_block(512) == expected[..512]);
    assert_eq!(r.ide.activity(0).sectors_read, 8);
}

#[test]
fn multiple_sectors_come_in_blocks() {
    let (mut r, data) = Rig::disk();
    r.command28(0, 4, 0xc6);
    assert_eq!(r.inb(0x1f7), 0x50);
    r.command28(8, 6, 0xc4);
    let mut got = r.read_block(4 * 512);
    got.extend(r.read_block(2 * 512));
    assert!(got == data.0.lock().expect("lock")[8 * 512..14 * 512]);
    let new = vec![0x77; 6 * 512];
    r.command28(20, 6, 0xc5);
    r.write_block(&new[..4 * 512]);
    assert_eq!(r.inb(0x1f7), 0x58);
    r.write_block(&new[4 * 512..]);
    assert_eq!(r.inb(0x1f7), 0x50);
    assert!(data.0.lock().expect("lock")[20 * 512..26 * 512] == new);
    // Off, and a bad block size.
    r.command28(0, 0, 0xc6);
    r.command28(8, 6, 0xc4);
    assert_eq!((r.inb(0x1f7), r.inb(0x1f1)), (0x41, 4));
    r.command28(0, 3, 0xc6);
    assert_eq!(r.inb(0x1f7), 0x41);
}

#[test]
fn pio_writes_reach_the_image_and_read_back() {
    let (mut r, data) = Rig::disk();
    let new = image(1024).iter().map(|b| !b).collect::<Vec<_>>();
    r.command28(5, 2, 0x30);
    assert!(!r.irq14(), "no interrupt before the first block");
    r.write_block(&new[..512]);
    r.write_block(&new[512..]);
    assert_eq!(r.inb(0x1f7), 0x50);
    assert!(data.0.lock().expect("lock")[5 * 512..7 * 512] == new);
    r.command48(100, 1, 0x34);
    r.write_block(&new[..512]);
    assert!(data.0.lock().expect("lock")[100 * 512..101 * 512] == new[..512]);
    r.command28(0, 0, 0xe7);
    assert_eq!(r.inb(0x1f7), 0x50);
    assert_eq!(r.ide.activity(0).sectors_written, 3);
}

#[test]
fn string_block_reads_take_a_whole_block_and_go_on() {
    let (mut r, data) = Rig::disk();
    r.command28(7, 2, 0x20);
    let mut got = vec![0; 1024];
    r.settle();
    let n = r.ide.pio_read_block(0x1f0, &mut got, &mut r.bench.cx());
    assert_eq!(n, 512);
    assert_eq!(r.inb(0x3f6), 0xc0);
    r.settle();
    let n = r.ide.pio_read_block(0x1f0, &mut got[512..], &mut r.bench.cx());
    assert_eq!(n, 512);
    assert!(got == data.0.lock().expect("lock")[7 * 512..9 * 512]);
    assert_eq!(r.inw(0x1f0), 0, "nothing left");
}

#[test]
fn accesses_beyond_the_end_and_unknown_commands_abort() {
    let (mut r, _) = Rig::disk();
    for (lba, count, code) in
        [(8191, 2, 0x20), (8192, 1, 0x30), (8192, 1, 0xc8), (8191, 2, 0x40), (0, 1, 0xfe), (0, 1, 0xb0), (0, 1, 0x00)]
    {
        r.command28(lba, count, code);
        assert!(r.irq14(), "{code:x}");
        assert_eq!((r.inb(0x1f7), r.inb(0x1f1)), (0x41, 4), "{code:x}");
    }
    r.command48(0xffff_ffff_ffff, 1, 0x24);
    assert_eq!(r.inb(0x1f7), 0x41);
    r.command28(8191, 1, 0x40);
    assert_eq!((r.inb(0x1f7), r.inb(0x1f1)), (0x50, 0));
    r.command28(0, 0, 0xf8);
    assert_eq!([r.inb(0x1f3), r.inb(0x1f4), r.inb(0x1f5)], [0xff, 0x1f, 0]);
    r.command28(0, 0, 0xe5);
    assert_eq!(r.inb(0x1f2), 0xff, "active");
    // Sector 0 does not exist in CHS.
    for (port, value) in [(0x1f6, 0xa0), (0x1f2, 1), (0x1f3, 0), (0x1f7, 0x20)] {
        r.outb(port, value);
    }
    assert_eq!(r.inb(0x1f7), 0x41);
}

#[test]
fn hob_shows_the_previous_register_contents() {
    let (mut r, _) = Rig::disk();
    r.outb(0x1f3, 0x12);
    r.outb(0x1f3, 0x34);
    r.outb(0x3f6, 0x80);
    assert_eq!(r.inb(0x1f3), 0x12);
    r.outb(0x1f2, 0);
    assert_eq!(r.inb(0x1f3), 0x34);
}

#[test]
fn nien_disconnects_the_interrupt_line() {
    let (mut r, _) = Rig::disk();
    r.outb(0x3f6, 2);
    r.command28(0, 1, 0x40);
    assert!(!r.irq14());
    r.outb(0x3f6, 0);
    assert!(r.irq14(), "still pending");
    r.inb(0x1f7);
    assert!(!r.irq14());
}

#[test]
fn dma_moves_through_descriptors_in_either_start_order() {
    let (mut r, data) = Rig::disk();
    r.prd(0x1000, &[(0x20_0000, 0x300), (0x30_0002, 0x100)]);
    r.command28(64, 2, 0xc8);
    r.settle();
    assert!(!r.irq14(), "waits for the bus master");
    r.outb(BM, 9);
    assert_eq!(r.inb(BM + 2), 1);
    r.settle();
    assert!(r.irq14());
    assert_eq!((r.inb(BM + 2), r.inb(0x1f7)), (4, 0x50));
    let mut got = r.memory(0x20_0000, 0x300);
    got.extend(r.memory(0x30_0002, 0x100));
    assert!(got == data.0.lock().expect("lock")[64 * 512..66 * 512]);
    r.outb(BM, 0);
    r.outb(BM + 2, 0x26);
    assert_eq!(r.inb(BM + 2), 0x20);

    // Memory to disk, the engine first.
    r.prd(0x1000, &[(0x20_0000, 0x200), (0x20_0200, 0x200)]);
    let new = vec![0xa5; 1024];
    r.bench.mem.dma_write(0x20_0000, &new);
    r.outb(BM, 1);
    r.command48(9, 2, 0x35);
    r.settle();
    assert_eq!((r.inb(BM + 2), r.inb(0x1f7)), (0x24, 0x50));
    assert!(data.0.lock().expect("lock")[9 * 512..11 * 512] == new);
}

#[test]
fn a_zero_count_is_64_kib_and_a_longer_table_keeps_the_engine_active() {
    let (mut r, data) = Rig::disk();
    r.prd(0x1000, &[(0x20_0000, 0), (0x40_0000, 0)]);
    r.command28(0, 128, 0xc8);
    r.outb(BM, 9);
    r.settle();
    assert_eq!(r.inb(BM + 2), 5, "active and interrupt: the table was longer");
    assert!(r.memory(0x20_0000, 0x1_0000) == data.0.lock().expect("lock")[..0x1_0000]);
    assert_eq!(r.memory(0x40_0000, 4), [0; 4]);
    r.outb(BM, 0);
    assert_eq!(r.inb(BM + 2), 4);
    r.outb(BM + 2, 4);
    // 256 sectors need both.
    r.outb(BM, 9);
    r.command28(0, 0, 0xc8);
    r.settle();
    assert_eq!(r.inb(BM + 2), 4);
    assert!(r.memory(0x40_0000, 0x1_0000) == data.0.lock().expect("lock")[0x1_0000..0x2_0000]);
}

#[test]
fn a_short_table_stops_the_engine_without_an_interrupt() {
    let (mut r, _) = Rig::disk();
    r.prd(0x1000, &[(0x20_0000, 0x300)]);
    r.command28(0, 2, 0xc8);
    r.outb(BM, 9);
    r.settle();
    assert!(!r.irq14());
    assert_eq!((r.inb(BM + 2), r.inb(0x3f6)), (0, 0x50));
    // The drive takes the next command.
    r.command28(0, 1, 0x40);
    assert!(r.irq14());
}

#[test]
fn hostile_tables_lose_data_and_nothing_else() {
    let (mut r, _) = Rig::disk();
    // Regions without memory behind them, up to the top of the address space.
    r.prd(0x1000, &[(0xe000_0000, 0), (0xffff_fffe, 0)]);
    for code in [0xc8, 0xca] {
        r.command28(0, 0, code);
        r.outb(BM, 9);
        r.settle();
        assert_eq!(r.inb(0x1f7), 0x50);
        r.outb(BM, 0);
    }
    // A table without memory: entries of FFh. And one without an end, all over RAM.
    for table in [0xffff_fff8, 0xe000_0000, 0x80_0000] {
        r.outl(BM + 4, table);
        r.command48(0, 8192, 0x25);
        r.outb(BM, 9);
        r.settle();
        r.outb(BM, 0);
        assert_eq!(r.inb(0x1f7) & 0x88, 0);
    }
    // Not a bus master: the transfer does not happen.
    r.ide.pci_write(4, 1);
    r.command28(0, 1, 0xc8);
    r.outb(BM, 9);
    r.settle();
    assert_eq!(r.inb(BM + 2) & 3, 2);
    r.outb(0x3f6, 4);
    r.outb(0x3f6, 0);
    assert_eq!(r.inb(0x1f7), 0x50);
}

#[test]
fn a_pending_backend_is_asked_again_and_shows_as_blocked() {
    for dma in [false, true] {
        for write in [false, true] {
            let pending = Arc::new(AtomicU32::new(3));
            let mut ide = Ide::new();
            let disk = MemoryBlock::new(image(1 << 20));
            ide.attach_disk(0, Box::new(Slow(disk, pending.clone())));
            let mut r = Rig::new(ide);
            r.prd(0x1000, &[(0x20_0000, 0x200)]);
            r.outb(BM, 9);
            let code = [[0x20, 0x30], [0xc8, 0xca]][usize::from(dma)][usize::from(write)];
            r.command28(1, 1, code);
            if write && !dma {
                for _ in 0..128 {
                    r.outl(0x1f0, 0);
                }
            }
            let until = r.bench.now + 170_000;
            r.bench.advance(&mut r.ide, until);
            assert!(r.ide.blocked() && !r.irq14());
            // The saved state goes on with a backend of the same size, and no other.
            let state = serde_json::to_string(&r.ide).expect("serialises");
            let mut copy: Ide = serde_json::from_str(&state).expect("deserialises");
            let wrong = copy.reattach(0, Box::new(MemoryBlock::new(vec![0; 512])));
            assert!(matches!(wrong, Err(AttachError::SizeDiffers { .. })));
            assert_eq!(copy.reattach(1, Box::new(MemoryBlock::default())), Err(AttachError::NoDrive(1)));
            let disk = MemoryBlock::new(image(1 << 20));
            assert_eq!(copy.reattach(0, Box::new(Slow(disk, pending))), Ok(()));
            r.ide = copy;
            r.settle();
            assert!(!r.ide.blocked() && r.irq14());
            let done = if dma || write { 0x50 } else { 0x58 };
            assert_eq!(r.inb(0x1f7), done);
            if dma && !write {
                assert!(r.memory(0x20_0000, 512) == image(1024)[512..]);
            }
        }
    }
}

#[test]
fn a_failing_host_is_uncorrectable_data_and_a_read_only_image_refuses() {
    let fault = Arc::new(AtomicU32::new(u32::MAX));
    let mut ide = Ide::new();
    ide.attach_disk(0, Box::new(Slow(MemoryBlock::new(vec![0; 8192]), fault)));
    ide.attach_disk(1, Box::new(MemoryBlock { data: vec![0; 8192], read_only: true }));
    let mut r = Rig::new(ide);
    r.prd(0x1000, &[(0x20_0000, 0x200)]);
    for code in [0x20, 0xc8] {
        r.outb(BM, 9);
        r.command28(0, 1, code);
        r.settle();
        assert!(r.irq14());
        assert_eq!((r.inb(0x1f7), r.inb(0x1f1)), (0x41, 0x40));
        r.outb(BM, 0);
    }
    r.outb(0x1f6, 0xf0);
    r.outb(0x1f7, 0x30);
    assert_eq!((r.inb(0x1f7), r.inb(0x1f1)), (0x41, 4));
}

#[test]
fn the_bus_master_follows_its_base_address_register() {
    let (mut r, _) = Rig::disk();
    r.outl(BM + 12, 0x1234_5677);
    let read = r.ide.read_u32(BM + 12, &mut r.bench.cx());
    assert_eq!(read, 0x1234_5674);
    r.ide.pci_write(0x21, 0xd0);
    assert_eq!(r.inb(BM + 12), 0xff);
    assert_eq!(r.inb(0xd00c), 0x74);
    assert_eq!(r.ide.pci().read_u32(0), 0x7010_8086);
    assert_eq!(r.ide.pci().read_u32(8) >> 8, 0x01_0180);
    r.ide.pci_write(0x41, 0x80);
    assert_eq!(r.ide.pci().byte(0x41), 0x80);
}

#[test]
fn the_interrupt_bit_of_the_bus_master_marks_rising_edges() {
    let (mut r, _) = Rig::disk();
    r.command28(0, 1, 0x40);
    assert_eq!(r.inb(BM + 2), 4);
    r.outb(BM + 2, 4);
    r.outb(0x3f6, 0);
    assert_eq!(r.inb(BM + 2), 0, "the line is still high, but that is no new edge");
    r.inb(0x1f7);
    r.command28(0, 1, 0x40);
    assert_eq!(r.inb(BM + 2), 4);
}

#[test]
fn a_software_reset_ends_a_transfer_in_flight() {
    let (mut r, _) = Rig::disk();
    r.command28(0, 2, 0x20);
    r.outb(0x3f6, 4);
    r.outb(0x3f6, 0);
    r.settle();
    assert!(!r.irq14());
    assert_eq!((r.inb(0x1f7), r.inw(0x1f0)), (0x50, 0));
    // The registers are locked while a block waits.
    r.command28(0, 2, 0x20);
    r.settle();
    r.outb(0x1f3, 0x99);
    r.outb(0x1f6, 0xf0);
    assert_eq!((r.inb(0x1f3), r.inb(0x1f6)), (0, 0xe0));
}
