//! Tests of the controller through its ports, with a stand-in for the DMA controller.

use super::*;
use crate::bus::IsaDma;
use crate::bus::testing::{Bench, conformance};
use crate::devices::block::{BlockError, MemoryBlock};
use crate::mem::Memory;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// One programmed DMA channel: what it got, what it gives, and the rest of its count.
#[derive(Default)]
struct Dma {
    got: Vec<u8>,
    give: Vec<u8>,
    left: usize,
    masked: bool,
}

impl Dma {
    fn take(&mut self, n: usize) -> (usize, bool) {
        if self.masked || self.left == 0 {
            return (0, false);
        }
        let n = n.min(self.left);
        self.left -= n;
        (n, self.left == 0)
    }
}

impl IsaDma for Dma {
    fn write_memory(&mut self, channel: u8, data: &[u8], _: &mut Memory) -> (usize, bool) {
        assert_eq!(channel, 2);
        let (n, end) = self.take(data.len());
        self.got.extend_from_slice(&data[..n]);
        (n, end)
    }
    fn read_memory(&mut self, channel: u8, data: &mut [u8], _: &mut Memory) -> (usize, bool) {
        assert_eq!(channel, 2);
        let (n, end) = self.take(data.len());
        for (to, from) in data[..n].iter_mut().zip(self.give.drain(..n)) {
            *to = from;
        }
        (n, end)
    }
}

/// An image that the test can look at, that may answer "pending" a number of times first.
#[derive(Clone)]
struct Image {
    data: Arc<Mutex<Vec<u8>>>,
    pending: Arc<AtomicU32>,
}

impl Image {
    fn new(bytes: usize) -> Self {
        let data: Vec<u8> = (0..bytes as u32 / 4).flat_map(|i| (i ^ 0x1234_0000).to_le_bytes()).collect();
        Self { data: Arc::new(Mutex::new(data)), pending: Arc::default() }
    }

    fn sectors(&self, from: usize, n: usize) -> Vec<u8> {
        self.data.lock().expect("lock")[from * 512..(from + n) * 512].to_vec()
    }

    fn ready(&self) -> bool {
        let n = self.pending.load(Ordering::Relaxed);
        self.pending.store(n.saturating_sub(1), Ordering::Relaxed);
        n == 0
    }
}

impl BlockBackend for Image {
    fn len(&self) -> u64 {
        self.data.lock().expect("lock").len() as u64
    }
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<BlockStatus, BlockError> {
        if !self.ready() {
            return Ok(BlockStatus::Pending);
        }
        let at = offset as usize;
        out.copy_from_slice(&self.data.lock().expect("lock")[at..at + out.len()]);
        Ok(BlockStatus::Ready)
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<BlockStatus, BlockError> {
        if !self.ready() {
            return Ok(BlockStatus::Pending);
        }
        let at = offset as usize;
        self.data.lock().expect("lock")[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(BlockStatus::Ready)
    }
}

struct Rig {
    bench: Bench,
    dma: Dma,
    fdc: Floppy,
}

impl Rig {
    /// A controller out of reset, with `disk` in drive 0 and 500 kbit/s.
    fn new(disk: Option<Box<dyn BlockBackend>>) -> Self {
        let mut fdc = Floppy::new();
        fdc.attach(0, disk);
        let mut r = Self { bench: Bench::new(), dma: Dma::default(), fdc };
        r.with(|f, cx| f.reset(cx));
        assert_eq!(r.inb(0x3f4), 0, "in reset");
        r.outb(0x3f2, 0x1c);
        r.settle();
        for drive in 0..4 {
            assert!(drive > 0 || r.irq());
            assert_eq!(r.command(&[8]), [0xc0 | drive, 0]);
        }
        assert_eq!(r.command(&[8]), [0x80]);
        r.outb(0x3f7, 0);
        r.command(&[3, 0xaf, 0x02]);
        r
    }

    fn with<T>(&mut self, f: impl FnOnce(&mut Floppy, &mut IoCtx) -> T) -> T {
        let mut cx = self.bench.cx();
        cx.isa_dma = Some(&mut self.dma);
        f(&mut self.fdc, &mut cx)
    }

    fn inb(&mut self, port: u16) -> u8 {
        self.with(|f, cx| f.read_u8(port, cx))
    }

    fn outb(&mut self, port: u16, value: u8) {
        self.with(|f, cx| f.write_u8(port, value, cx));
    }

    fn irq(&self) -> bool {
        self.bench.irq.isa() & 1 << 6 != 0
    }

    /// Lets events happen for half a virtual second.
    fn settle(&mut self) {
        self.run(500_000_000);
    }

    fn run(&mut self, span: u64) {
        let until = self.bench.now + span;
        while self.bench.events.earliest() <= until {
            self.bench.now = self.bench.events.earliest();
            let now = self.bench.now;
            while let Some(e) = self.bench.events.pop_due(now) {
                self.with(|f, cx| f.on_event(e, cx));
            }
        }
        self.bench.now = until;
    }

    fn send(&mut self, bytes: &[u8]) {
        for &b in bytes {
            assert_eq!(self.inb(0x3f4) & 0xc0, 0x80, "ready for a command byte");
            self.outb(0x3f5, b);
        }
    }

    fn result(&mut self) -> Vec<u8> {
        let mut result = Vec::new();
        while self.inb(0x3f4) & 0xd0 == 0xd0 {
            result.push(self.inb(0x3f5));
        }
        assert_eq!(self.inb(0x3f4), 0x80);
        result
    }

    /// A command from its first byte to its last result byte.
    fn command(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.settle();
        self.result()
    }

    /// Reads `sectors` sectors by DMA from cylinder, head and sector; multi-track, 18 sectors a track.
    fn read(&mut self, c: u8, h: u8, s: u8, sectors: usize) -> (Vec<u8>, Vec<u8>) {
        self.dma.left = sectors * 512;
        self.dma.got.clear();
        let result = self.command(&[0xe6, h << 2, c, h, s, 2, 18, 0x1b, 0xff]);
        (result, std::mem::take(&mut self.dma.got))
    }
}

#[test]
fn random_traffic_is_harmless_and_the_state_survives_a_snapshot() {
    let mut f = Floppy::new();
    f.attach(0, Some(Box::new(Image::new(1_474_560))));
    f.attach(1, None);
    let mut ports = vec![0x3f0, 0x3f1, 0x3f2, 0x3f3, 0x3f4, 0x3f7];
    ports.extend([0x3f5; 20]);
    conformance(f, &ports);
}

#[test]
fn reads_cross_sectors_and_heads_until_terminal_count() {
    let image = Image::new(1_474_560);
    let mut r = Rig::new(Some(Box::new(image.clone())));
    assert_eq!(r.fdc.drive_type(0) as u8, 4);
    // A whole cylinder; the result names the sector after the last.
    let (result, data) = r.read(3, 0, 1, 36);
    assert_eq!(result, [0, 0, 0, 4, 0, 1, 2]);
    assert!(data == image.sectors(3 * 36, 36));
    let (result, data) = r.read(0, 0, 18, 2);
    assert_eq!(result, [0, 0, 0, 0, 1, 2, 2]);
    assert!(data == image.sectors(17, 2));
    let (result, data) = r.read(79, 1, 5, 1);
    assert_eq!(result, [4, 0, 0, 79, 1, 6, 2]);
    assert!(data == image.sectors(79 * 36 + 18 + 4, 1));
    assert_eq!(r.fdc.activity(0).sectors_read, 39);
}

#[test]
fn the_interrupt_stays_until_the_result_is_read() {
    let mut r = Rig::new(Some(Box::new(Image::new(1_474_560))));
    r.dma.left = 512;
    r.send(&[0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]);
    assert_eq!(r.inb(0x3f4), 0x10, "busy");
    r.settle();
    assert!(r.irq());
    assert_eq!((r.inb(0x3f0), r.inb(0x3f4)), (0x80, 0xd0));
    r.inb(0x3f5);
    assert!(!r.irq());
    assert_eq!(r.result().len(), 6);
    // Without the gate in the DOR the line stays low.
    r.outb(0x3f2, 0x14);
    r.send(&[0x4a, 0]);
    r.settle();
    assert!(!r.irq());
    r.outb(0x3f2, 0x1c);
    assert!(r.irq());
}

#[test]
fn writes_reach_the_image_also_across_the_heads() {
    let image = Image::new(1_474_560);
    let mut r = Rig::new(Some(Box::new(image.clone())));
    let data: Vec<u8> = (0..1536_u32).map(|i| (i * 7) as u8).collect();
    r.dma.give = data.clone();
    r.dma.left = 1536;
    let result = r.command(&[0xc5, 0, 10, 0, 17, 2, 18, 0x1b, 0xff]);
    assert_eq!(result, [0, 0, 0, 10, 1, 2, 2]);
    assert!(image.sectors(10 * 36 + 16, 3) == data);
    assert_eq!(r.fdc.activity(0).sectors_written, 3);
    let (_, back) = r.read(10, 0, 17, 3);
    assert!(back == data);
}

#[test]
fn a_track_is_formatted_with_the_filler() {
    let image = Image::new(737_280);
    let mut r = Rig::new(Some(Box::new(image.clone())));
    r.outb(0x3f7, 2);
    r.command(&[0x0f, 4, 5]);
    r.command(&[8]);
    r.dma.give = (1..=9).flat_map(|s| [5, 1, s, 2]).collect();
    r.dma.left = 36;
    let result = r.command(&[0x4d, 4, 2, 9, 0x50, 0xf6]);
    assert_eq!(result[..3], [4, 0, 0]);
    assert!(image.sectors(5 * 18 + 9, 9).iter().all(|&b| b == 0xf6));
    assert_ne!(image.sectors(5 * 18 + 8, 1)[511], 0xf6);
    assert_ne!(image.sectors(5 * 18 + 18, 1)[0], 0xf6);
}

#[test]
fn seeks_report_through_sense_interrupt() {
    let mut r = Rig::new(Some(Box::new(Image::new(1_474_560))));
    r.send(&[0x0f, 0, 20]);
    assert_eq!(r.inb(0x3f4), 0x01, "drive 0 is seeking");
    r.settle();
    assert!(r.irq());
    assert_eq!(r.command(&[8]), [0x20, 20]);
    assert!(!r.irq());
    assert_eq!(r.command(&[4, 0]), [0x28]);
    assert_eq!(r.command(&[0x4a, 0])[3..], [20, 0, 1, 2]);
    r.command(&[0xcf, 0, 3]);
    assert_eq!(r.command(&[8]), [0x20, 23]);
    r.command(&[7, 0]);
    assert_eq!(r.command(&[8]), [0x20, 0]);
    assert_eq!(r.command(&[4, 4]), [0x3c], "track 0, head 1");
    // No drive 1: no track 0 signal.
    r.command(&[7, 1]);
    assert_eq!(r.command(&[8]), [0x71, 0]);
}

#[test]
fn the_change_line_falls_with_the_first_step() {
    let mut r = Rig::new(Some(Box::new(Image::new(1_474_560))));
    assert_eq!(r.inb(0x3f7), 0x80);
    r.command(&[7, 0]);
    assert_eq!(r.inb(0x3f7), 0);
    r.command(&[8]);
    assert!(r.fdc.insert_media(0, None));
    assert_eq!(r.inb(0x3f7), 0x80);
    r.command(&[7, 0]);
    assert_eq!(r.inb(0x3f7), 0x80, "still no disk");
    r.command(&[8]);
    let (result, _) = r.read(0, 0, 1, 1);
    assert_eq!(result[..2], [0x40, 0x01]);
    let odd = MemoryBlock::new(vec![0; 4 << 20]);
    assert!(!r.fdc.insert_media(0, Some(Box::new(odd))), "no floppy");
    assert!(r.fdc.insert_media(0, Some(Box::new(Image::new(737_280)))));
    assert!(!r.fdc.insert_media(1, None), "no drive");
    r.command(&[0x0f, 0, 1]);
    assert_eq!(r.inb(0x3f7), 0);
}

#[test]
fn only_the_right_data_rate_finds_sectors() {
    for (bytes, kind, rates) in [
        (163_840, 2, vec![1, 2]),
        (368_640, 2, vec![1, 2]),
        (737_280, 4, vec![2]),
        (1_228_800, 2, vec![0]),
        (1_474_560, 4, vec![0]),
        (2_949_120, 5, vec![3]),
    ] {
        let mut r = Rig::new(Some(Box::new(Image::new(bytes))));
        assert_eq!(r.fdc.drive_type(0) as u8, kind);
        for rate in 0..4 {
            r.outb(0x3f7, rate);
            let result = r.command(&[0x4a, 0]);
            let expected = if rates.contains(&rate) { [0, 0] } else { [0x40, 1] };
            assert_eq!(result[..2], expected, "{bytes} bytes at rate {rate}");
        }
    }
}

#[test]
fn double_density_in_a_high_density_drive_is_double_stepped() {
    let image = Image::new(368_640);
    let mut r = Rig::new(Some(Box::new(image.clone())));
    r.outb(0x3f7, 1);
    r.command(&[0x0f, 0, 20]);
    r.command(&[8]);
    assert_eq!(r.command(&[0x4a, 0])[3], 10);
    r.dma.left = 512;
    r.command(&[0x46, 0, 10, 0, 1, 2, 9, 0x2a, 0xff]);
    assert!(r.dma.got == image.sectors(180, 1));
}

#[test]
fn bad_sectors_sizes_and_protected_disks_are_errors() {
    let mut r = Rig::new(Some(Box::new(MemoryBlock { data: vec![0; 1_474_560], read_only: true })));
    for (c, h, s) in [(80, 0, 1), (0, 0, 0), (0, 0, 19), (255, 1, 255)] {
        let (result, _) = r.read(c, h, s, 1);
        assert_eq!(result[..2], [0x40 | h << 2, 0x04], "{c} {h} {s}");
    }
    r.dma.left = 512;
    let result = r.command(&[0x46, 0, 0, 0, 1, 3, 18, 0x1b, 0xff]);
    assert_eq!(result[..2], [0x40, 0x04], "1024-byte sectors");
    r.dma.give = vec![1; 512];
    let result = r.command(&[0x45, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]);
    assert_eq!(result[..2], [0x40, 0x02]);
    assert_eq!(r.command(&[4, 0])[0] & 0x40, 0x40);
    // The track ends before the DMA count.
    r.dma.left = 5 * 512;
    let result = r.command(&[0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff]);
    assert_eq!(result[..2], [0x40, 0x80]);
    assert_eq!(r.dma.left, 3 * 512);
}

#[test]
fn a_masked_dma_channel_delays_the_transfer() {
    let image = Image::new(1_474_560);
    let mut r = Rig::new(Some(Box::new(image.clone())));
    r.dma.left = 512;
    r.dma.masked = true;
    r.send(&[0x46, 0, 0, 0, 2, 2, 18, 0x1b, 0xff]);
    r.run(10_000_000);
    assert!(!r.irq());
    r.dma.masked = false;
    r.settle();
    assert!(r.irq() && r.dma.got == image.sectors(1, 1));
}

#[test]
fn without_dma_the_bytes_pass_through_the_data_register() {
    let image = Image::new(1_474_560);
    let mut r = Rig::new(Some(Box::new(image.clone())));
    r.command(&[3, 0xaf, 0x03]);
    r.send(&[0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff]);
    let mut data = Vec::new();
    for _ in 0..2 {
        r.settle();
        assert!(r.irq());
        while r.inb(0x3f4) == 0xf0 {
            data.push(r.inb(0x3f5));
        }
    }
    r.settle();
    assert_eq!(r.result(), [0, 0, 0, 1, 0, 1, 2]);
    assert!(data == image.sectors(16, 2));
    r.send(&[0x45, 0, 0, 0, 18, 2, 18, 0x1b, 0xff]);
    r.settle();
    for i in 0..512_u32 {
        assert_eq!(r.inb(0x3f4), 0xb0);
        r.outb(0x3f5, i as u8);
    }
    r.settle();
    assert_eq!(r.result()[..3], [0, 0, 0]);
    assert_eq!(image.sectors(17, 1)[..4], [0, 1, 2, 3]);
}

#[test]
fn a_pending_backend_is_asked_again_and_shows_as_blocked() {
    let image = Image::new(1_474_560);
    let mut r = Rig::new(Some(Box::new(image.clone())));
    image.pending.store(4, Ordering::Relaxed);
    r.dma.left = 512;
    r.send(&[0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]);
    r.run(250_000);
    assert!(r.fdc.blocked());
    // The state saved now goes on after the image is attached again.
    let state = serde_json::to_string(&r.fdc).expect("serialises");
    r.fdc = serde_json::from_str(&state).expect("deserialises");
    assert!(!r.fdc.reattach(0, Box::new(Image::new(737_280))));
    assert!(r.fdc.reattach(0, Box::new(image.clone())));
    r.settle();
    assert!(!r.fdc.blocked());
    assert_eq!(r.result()[..3], [0, 0, 0]);
    assert!(r.dma.got == image.sectors(0, 1));
    // A write that ends with terminal count in its first sector.
    image.pending.store(4, Ordering::Relaxed);
    r.dma.give = vec![9; 512];
    r.dma.left = 512;
    assert_eq!(r.command(&[0x45, 0, 0, 0, 3, 2, 18, 0x1b, 0xff]), [0, 0, 0, 0, 0, 4, 2]);
    assert_eq!(image.sectors(2, 1), [9; 512]);
}

#[test]
fn identification_configuration_and_lock() {
    let mut r = Rig::new(None);
    assert_eq!(r.command(&[0x10]), [0x90]);
    assert_eq!(r.command(&[0x18]), [0x41]);
    assert_eq!(r.command(&[0x1f]), [0x80]);
    r.command(&[0x13, 0, 0x57, 3]);
    r.command(&[0x12, 0x84]);
    assert_eq!(r.command(&[0x94]), [0x10]);
    assert_eq!(r.command(&[0x0e]), [0, 0, 0, 0, 0xaf, 2, 0, 0x84, 0x57, 3]);
    // Locked settings survive a reset by the DSR.
    r.outb(0x3f4, 0x80);
    assert_eq!(r.inb(0x3f4), 0);
    r.settle();
    assert!(r.irq());
    assert_eq!(r.command(&[0x0e])[7..], [0x84, 0x57, 3]);
    assert_eq!(r.command(&[0x14]), [0]);
    r.outb(0x3f2, 0);
    r.outb(0x3f2, 0x0c);
    r.settle();
    assert_eq!(r.command(&[0x0e])[7..], [0x04, 0x20, 0]);
}

#[test]
fn verify_reads_without_moving_data() {
    let mut r = Rig::new(Some(Box::new(Image::new(1_474_560))));
    let result = r.command(&[0xd6, 0x80, 0, 0, 1, 2, 18, 0x1b, 4]);
    assert_eq!(result, [0, 0, 0, 0, 0, 5, 2]);
    let result = r.command(&[0x56, 0, 0, 0, 1, 2, 19, 0x1b, 0]);
    assert_eq!(result[..2], [0x40, 0x04], "no sector 19");
    assert!(r.dma.got.is_empty());
}
