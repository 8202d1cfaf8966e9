//! Tests of the cards through their ports.

use super::receive::LineErrors;
use super::*;
use crate::bus::testing::{Bench, conformance};
use crate::devices::pci::{config_read, config_write};

pub(super) const BASE: u16 = 0x300;
pub(super) const IRQ: u8 = 10;
pub(super) const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const PEER: [u8; 6] = [0x52, 0x54, 0, 0xab, 0xcd, 0xef];
const ALL: [u8; 6] = [0xff; 6];

// Register offsets by their names in the data sheet.
pub(super) const CR: u16 = 0;
pub(super) const PSTART: u16 = 1;
pub(super) const PSTOP: u16 = 2;
pub(super) const BNRY: u16 = 3;
pub(super) const TPSR: u16 = 4;
pub(super) const TBCR0: u16 = 5;
pub(super) const TBCR1: u16 = 6;
pub(super) const ISR: u16 = 7;
pub(super) const CURR: u16 = 7;
pub(super) const RSAR0: u16 = 8;
pub(super) const RSAR1: u16 = 9;
pub(super) const RBCR0: u16 = 10;
pub(super) const RBCR1: u16 = 11;
pub(super) const RCR: u16 = 12;
pub(super) const TCR: u16 = 13;
pub(super) const DCR: u16 = 14;
pub(super) const IMR: u16 = 15;
pub(super) const DATA: u16 = 16;
pub(super) const RESET: u16 = 31;

/// A card on a bench, with what a driver does.
pub(super) struct Rig {
    pub(super) card: Ne2000,
    pub(super) bench: Bench,
}

impl Rig {
    pub(super) fn isa() -> Self {
        Self::with(Ne2000::isa(MAC, BASE, IRQ))
    }

    fn pci() -> Self {
        let mut rig = Self::with(Ne2000::pci(MAC));
        rig.configure(0x10, 4, BASE.into());
        rig.configure(4, 2, 1);
        rig
    }

    fn with(mut card: Ne2000) -> Self {
        let mut bench = Bench::new();
        card.reset(&mut bench.cx());
        Self { card, bench }
    }

    fn configure(&mut self, at: u8, size: u8, value: u32) {
        config_write(self.card.pci_function(), at, size, value, &mut self.bench.cx());
    }

    pub(super) fn out(&mut self, register: u16, value: u8) {
        self.card.write_u8(BASE + register, value, &mut self.bench.cx());
    }

    pub(super) fn inp(&mut self, register: u16) -> u8 {
        self.card.read_u8(BASE + register, &mut self.bench.cx())
    }

    fn irq(&self) -> bool {
        self.bench.irq.isa() & 1 << IRQ != 0 || (0..4).any(|n| self.bench.irq.pirq(n))
    }

    fn page1(&mut self, register: u16) -> u8 {
        self.out(CR, 0x60);
        let value = self.inp(register);
        self.out(CR, 0x20);
        value
    }

    /// The sequence with which Linux's driver starts the card: `ne2k-pci` and `8390`.
    pub(super) fn start(&mut self) -> &mut Self {
        let reset = self.inp(RESET);
        self.out(RESET, reset);
        assert_eq!(self.inp(ISR) & 0x80, 0x80, "the reset is acknowledged");
        for (register, value) in [
            (CR, 0x21),
            (DCR, 0x49),
            (RBCR0, 0),
            (RBCR1, 0),
            (RCR, 0x20),
            (TCR, 0x02),
            (TPSR, 0x40),
            (PSTART, 0x4c),
            (BNRY, 0x7f),
            (PSTOP, 0x80),
            (ISR, 0xff),
            (IMR, 0),
            (CR, 0x61),
        ] {
            self.out(register, value);
        }
        for (n, byte) in MAC.into_iter().enumerate() {
            self.out(1 + n as u16, byte);
        }
        for (register, value) in [(CURR, 0x4c), (CR, 0x21), (ISR, 0xff), (IMR, 0x3f), (CR, 0x22), (TCR, 0), (RCR, 0x04)]
        {
            self.out(register, value);
        }
        self
    }

    fn remote(&mut self, address: u16, count: u16, command: u8) {
        self.out(CR, 0x22);
        for (register, value) in [(RBCR0, count), (RBCR1, count >> 8), (RSAR0, address), (RSAR1, address >> 8)] {
            self.out(register, value as u8);
        }
        self.out(CR, command);
    }

    /// Remote read of bytes in word mode, as `insw` does it.
    pub(super) fn fetch(&mut self, address: u16, count: u16) -> Vec<u8> {
        self.remote(address, count, 0x0a);
        let words = count.div_ceil(2);
        let read = |_| self.card.read_u16(BASE + DATA, &mut self.bench.cx()).to_le_bytes();
        let mut bytes: Vec<u8> = (0..words).flat_map(read).collect();
        bytes.truncate(count.into());
        assert_eq!(self.inp(ISR) & 0x40, 0x40, "remote DMA complete");
        self.out(ISR, 0x40);
        bytes
    }

    pub(super) fn upload(&mut self, address: u16, bytes: &[u8]) {
        self.remote(address, bytes.len() as u16, 0x12);
        for pair in bytes.chunks(2) {
            let word = u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            self.card.write_u16(BASE + DATA, word, &mut self.bench.cx());
        }
        assert_eq!(self.inp(ISR) & 0x40, 0x40, "remote DMA complete");
        self.out(ISR, 0x40);
    }

    pub(super) fn transmit(&mut self, frame: &[u8]) {
        self.upload(0x4000, frame);
        self.send(frame.len() as u16);
    }

    pub(super) fn send(&mut self, count: u16) {
        for (register, value) in [(TPSR, 0x40), (TBCR0, count as u8), (TBCR1, (count >> 8) as u8), (CR, 0x26)] {
            self.out(register, value);
        }
    }

    fn offer(&mut self, frame: &[u8]) -> bool {
        self.card.offer(frame, &mut self.bench.cx())
    }

    fn later(&mut self, nanoseconds: u64) {
        let until = self.bench.now + nanoseconds;
        self.bench.advance(&mut self.card, until);
    }

    /// Takes the next packet out of the ring as Linux's driver does; `None` when it is empty.
    fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let current = self.page1(CURR);
        let boundary = self.inp(BNRY);
        let this = if boundary + 1 >= 0x80 { 0x4c } else { boundary + 1 };
        if this == current {
            return None;
        }
        let header = self.fetch(u16::from(this) << 8, 4);
        let count = u16::from_le_bytes([header[2], header[3]]);
        let data = self.fetch((u16::from(this) << 8) + 4, count - 4);
        let next = header[1];
        self.out(BNRY, if next == 0x4c { 0x7f } else { next - 1 });
        Some((header[0], data))
    }

    /// What Linux's interrupt handler does with received packets: at most 9, then acknowledge.
    fn service(&mut self) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        while got.len() < 9 {
            let Some((status, data)) = self.receive() else { break };
            assert_eq!(status & 0x0f, 1);
            got.push(data);
        }
        self.out(ISR, 0x05);
        got
    }
}

fn frame(to: [u8; 6], length: usize, tag: u8) -> Vec<u8> {
    let mut data = [to, PEER].concat();
    data.extend([0x08, 0x00]);
    data.extend((0..length - 14).map(|i| (i as u8).wrapping_mul(3) ^ tag));
    data
}

#[test]
fn the_prom_shows_each_byte_twice_and_the_signature() {
    let mut rig = Rig::isa();
    rig.out(DCR, 0x48);
    rig.remote(0, 32, 0x0a);
    let bytes: Vec<u8> = (0..32).map(|_| rig.inp(DATA)).collect();
    for (i, byte) in MAC.into_iter().enumerate() {
        assert_eq!(bytes[2 * i..2 * i + 2], [byte; 2]);
    }
    assert_eq!(bytes[28..], [0x57; 4]);
    assert_eq!(rig.inp(ISR) & 0x40, 0x40);
    // Word mode: each access moves a word, a byte access gets its low half.
    rig.out(DCR, 0x49);
    rig.remote(0, 32, 0x0a);
    let bytes: Vec<u8> = (0..16).map(|_| rig.inp(DATA)).collect();
    assert_eq!(bytes[..6], MAC);
    assert_eq!(bytes[14..], [0x57; 2]);
}

#[test]
fn reset_leaves_the_controller_stopped_with_interrupts_masked() {
    let mut rig = Rig::isa();
    rig.start();
    assert_eq!(rig.inp(CR), 0x22);
    assert_eq!(rig.inp(ISR), 0, "starting clears RST");
    rig.inp(RESET);
    assert_eq!(rig.inp(CR), 0x21);
    assert_eq!(rig.inp(ISR), 0x80);
    rig.out(ISR, 0xff);
    assert_eq!(rig.inp(ISR), 0x80, "RST is a status");
    rig.out(CR, 0xa1);
    assert_eq!(rig.inp(IMR), 0x80);
    assert!(!rig.irq());
}

#[test]
fn registers_read_back_where_the_data_sheet_says() {
    let mut rig = Rig::isa();
    rig.start();
    rig.out(CR, 0xa0);
    let page2: Vec<u8> = (0..16).map(|r| rig.inp(r)).collect();
    assert_eq!(page2[..3], [0xa2, 0x4c, 0x80]);
    assert_eq!(page2[4], 0x40);
    assert_eq!(page2[12..], [0xc4, 0xe0, 0xc9, 0xbf]);
    for (register, value) in [(1, 0x34), (2, 0x12), (3, 0x55), (5, 0x66), (6, 0x77), (7, 0x88)] {
        rig.out(register, value);
    }
    assert_eq!([3, 5, 6, 7].map(|r| rig.inp(r)), [0x55, 0x66, 0x77, 0x88]);
    rig.out(CR, 0x60);
    assert_eq!(rig.inp(CURR), 0x4c);
    for n in 0..8 {
        rig.out(8 + n, 0xa0 + n as u8);
    }
    assert_eq!((8..16).map(|r| rig.inp(r)).collect::<Vec<_>>(), (0xa0..0xa8).collect::<Vec<u8>>());
    assert_eq!((1..7).map(|r| rig.inp(r)).collect::<Vec<_>>(), MAC);
    rig.out(CR, 0x20);
    assert_eq!((rig.inp(1), rig.inp(2)), (0x34, 0x12), "current local DMA address");
    assert_eq!(rig.inp(5), 0, "no collisions");
}

#[test]
fn a_transmission_takes_its_time_and_interrupts() {
    let mut rig = Rig::isa();
    rig.start();
    let sent = frame(PEER, 61, 7);
    rig.transmit(&sent);
    assert_eq!(rig.inp(CR), 0x26, "the transmitter is busy");
    assert!(!rig.irq() && rig.card.take().is_none());
    rig.later(dp8390::TRANSMIT_NS);
    assert_eq!(rig.inp(CR), 0x22);
    assert_eq!(rig.inp(ISR), 0x02);
    assert!(rig.irq());
    assert_eq!(rig.inp(TPSR), 0x01, "TSR");
    assert_eq!(rig.card.take(), Some(sent));
    rig.out(ISR, 0x02);
    assert!(!rig.irq());
    assert_eq!(rig.card.counters().from_guest, Traffic { frames: 1, bytes: 61, dropped: 0 });
}

#[test]
fn the_transmitter_waits_for_a_host_that_takes_nothing() {
    let mut rig = Rig::isa();
    rig.start();
    rig.upload(0x4000, &frame(PEER, 60, 0));
    for _ in 0..QUEUE {
        rig.send(60);
        rig.later(10_000);
        rig.out(ISR, 0x02);
    }
    rig.send(60);
    rig.later(1_000_000);
    assert_eq!((rig.inp(CR), rig.inp(ISR)), (0x26, 0));
    assert!(rig.card.deferring());
    assert!(rig.card.take().is_some());
    rig.card.resume(&mut rig.bench.cx());
    assert_eq!((rig.inp(CR), rig.inp(ISR)), (0x22, 2));
    assert_eq!(rig.card.counters().from_guest.frames, QUEUE as u64 + 1);
    // Stopped while it waits: the packet is lost, the reset state comes at once.
    rig.send(60);
    rig.later(1_000_000);
    rig.out(CR, 0x21);
    assert_eq!((rig.inp(CR), rig.inp(ISR) & 0x80), (0x21, 0x80));
    assert_eq!(rig.card.counters().from_guest.dropped, 1);
}

#[test]
fn what_is_no_frame_is_transmitted_and_lost() {
    let mut rig = Rig::isa();
    rig.start();
    for count in [0, 13, 1519, 4000, 0xffff] {
        rig.send(count);
        rig.later(10_000);
        assert_eq!(rig.inp(ISR), 2, "{count}");
        rig.out(ISR, 2);
    }
    assert!(rig.card.take().is_none());
    assert_eq!(rig.card.counters().from_guest.dropped, 5);
}

#[test]
fn software_may_append_the_frame_check_sequence() {
    let mut rig = Rig::isa();
    rig.start();
    rig.out(TCR, 0x01);
    let body = frame(PEER, 60, 9);
    let whole = [&body[..], &crc::frame_check(&body)].concat();
    rig.transmit(&whole);
    rig.later(10_000);
    assert_eq!(rig.card.take(), Some(body));
    let mut wrong = whole;
    wrong[20] ^= 1;
    rig.transmit(&wrong);
    rig.later(10_000);
    assert_eq!(rig.card.take(), None);
}

#[test]
fn a_received_packet_lies_in_the_ring_with_header_and_check() {
    let mut rig = Rig::isa();
    rig.start();
    let sent = frame(MAC, 300, 1);
    assert!(rig.offer(&sent));
    assert!(rig.irq());
    assert_eq!(rig.inp(ISR), 0x01);
    assert_eq!(rig.inp(RCR), 0x01, "RSR");
    assert_eq!(rig.page1(CURR), 0x4e);
    assert_eq!(rig.fetch(0x4c00, 4), [0x01, 0x4e, 0x30, 0x01], "status, next page, 304 bytes");
    let stored = rig.fetch(0x4c04, 304);
    assert_eq!(stored[..300], sent);
    assert_eq!(stored[300..], crc::frame_check(&sent));
    assert_eq!(rig.receive(), Some((1, sent)));
    assert_eq!(rig.receive(), None);
    assert_eq!(rig.card.counters().to_guest, Traffic { frames: 1, bytes: 300, dropped: 0 });
}

#[test]
fn packets_wrap_around_the_ring_whole() {
    let mut rig = Rig::isa();
    rig.start();
    // Lengths that put every part of a packet across the end of the ring at some time.
    for n in 0..600_u32 {
        let length = 60 + (n as usize * 37) % 1455;
        let sent = frame(if n % 2 == 0 { MAC } else { ALL }, length, n as u8);
        assert!(rig.offer(&sent));
        let (status, data) = rig.receive().expect("a packet");
        assert_eq!((status, data == sent), (if n % 2 == 0 { 0x01 } else { 0x21 }, true), "packet {n}");
        rig.out(ISR, 0x01);
    }
    assert_eq!(rig.receive(), None);
}

#[test]
fn short_frames_of_the_host_are_padded() {
    let mut rig = Rig::isa();
    rig.start();
    assert!(rig.offer(&frame(ALL, 42, 5)));
    let (_, data) = rig.receive().expect("a packet");
    assert_eq!(data.len(), 60);
    assert_eq!(data[..42], frame(ALL, 42, 5));
    assert_eq!(data[42..], [0; 18]);
    assert!(rig.offer(&[0xff; 13]) && rig.offer(&[0xff; 1519]), "no frames");
    assert_eq!(rig.receive(), None);
    assert_eq!(rig.card.counters().to_guest.dropped, 2);
}

#[test]
fn the_address_filter_follows_its_bits() {
    let mut rig = Rig::isa();
    rig.start();
    let (group, other) = ([0x01, 0x00, 0x5e, 0x00, 0x00, 0x01], [0x33, 0x33, 0, 0, 0, 2]);
    let accepted = |rig: &mut Rig, rcr: u8| {
        rig.out(RCR, rcr);
        [MAC, PEER, ALL, group, other].map(|to| {
            rig.offer(&frame(to, 60, 0));
            rig.out(ISR, 0xff);
            rig.receive().map(|(status, _)| status)
        })
    };
    assert_eq!(accepted(&mut rig, 0x00), [Some(1), None, None, None, None]);
    assert_eq!(accepted(&mut rig, 0x04), [Some(1), None, Some(0x21), None, None]);
    assert_eq!(accepted(&mut rig, 0x10), [Some(1), Some(1), None, None, None]);
    assert_eq!(accepted(&mut rig, 0x08), [Some(1), None, None, None, None], "the hash is empty");
    let hash = crc::multicast_hash(&group);
    rig.out(CR, 0x60);
    rig.out(8 + u16::from(hash >> 3), 1 << (hash & 7));
    rig.out(CR, 0x20);
    assert_eq!(accepted(&mut rig, 0x08), [Some(1), None, None, Some(0x21), None]);
    assert_eq!(accepted(&mut rig, 0x00), [Some(1), None, None, None, None]);
}

#[test]
fn monitor_mode_counts_and_keeps_nothing() {
    let mut rig = Rig::isa();
    rig.start();
    rig.out(RCR, 0x24);
    for _ in 0..127 {
        rig.offer(&frame(ALL, 60, 0));
        rig.offer(&frame(PEER, 60, 0));
    }
    assert_eq!(rig.inp(ISR), 0x04);
    assert_eq!(rig.inp(RCR), 0x70, "missed, group, disabled");
    rig.offer(&frame(ALL, 60, 0));
    assert_eq!(rig.inp(ISR), 0x24, "the counter's top bit is set");
    for _ in 0..100 {
        rig.offer(&frame(ALL, 60, 0));
    }
    assert_eq!([13, 14, 15].map(|r| rig.inp(r)), [0, 0, 0xc0], "it stops at C0h");
    assert_eq!(rig.inp(15), 0, "and is cleared by a read");
    assert_eq!(rig.page1(CURR), 0x4c);
    rig.out(RCR, 0x04);
    assert_eq!(rig.inp(RCR) & 0x40, 0, "receiver on");
}

#[test]
fn runts_and_errors_are_kept_when_asked_for() {
    let mut rig = Rig::isa();
    rig.start();
    let crc = LineErrors { crc: true, alignment: false };
    let alignment = LineErrors { crc: true, alignment: true };
    let arrive = |rig: &mut Rig, length: usize, errors: LineErrors| {
        rig.card.nic.arrive(&frame(ALL, length, 0), errors, &mut rig.bench.cx());
        let isr = rig.inp(ISR);
        rig.out(ISR, 0xff);
        (isr, rig.receive().map(|(status, data)| (status, data.len())))
    };
    assert_eq!(arrive(&mut rig, 40, LineErrors::default()), (0, None));
    assert_eq!(arrive(&mut rig, 60, crc), (4, None));
    assert_eq!(rig.inp(RCR), 0x22, "RSR: CRC error");
    assert_eq!(arrive(&mut rig, 60, alignment), (4, None));
    rig.out(RCR, 0x07);
    assert_eq!(arrive(&mut rig, 40, LineErrors::default()), (1, Some((0x21, 40))));
    assert_eq!(arrive(&mut rig, 60, crc), (4, Some((0x22, 60))));
    assert_eq!(arrive(&mut rig, 60, alignment), (4, Some((0x26, 60))));
    assert_eq!([13, 14, 15].map(|r| rig.inp(r)), [2, 2, 0]);
}

#[test]
fn packets_that_find_no_room_wait_in_the_queue_in_order() {
    let mut rig = Rig::isa();
    rig.start();
    let frames: Vec<Vec<u8>> = (0..60).map(|n| frame(ALL, 1000, n)).collect();
    for f in &frames {
        assert!(rig.offer(f));
    }
    assert_eq!(rig.card.room(), QUEUE - 59, "the first one went in at once; the others wait for the acknowledgement");
    let mut got = Vec::new();
    while got.len() < 60 {
        assert!(rig.irq(), "no packet is left without an interrupt");
        let some = rig.service();
        assert!(!some.is_empty());
        got.extend(some);
    }
    assert_eq!(got, frames);
    assert_eq!(rig.inp(ISR) & 0x11, 0);
    assert_eq!(rig.card.counters().to_guest, Traffic { frames: 60, bytes: 60_000, dropped: 0 });
}

#[test]
fn small_packets_never_outnumber_what_one_interrupt_takes() {
    let mut rig = Rig::isa();
    rig.start();
    for n in 0..40 {
        rig.offer(&frame(ALL, 60, n));
    }
    let mut got = 0;
    while rig.irq() {
        got += rig.service().len();
    }
    assert_eq!(got, 40);
}

#[test]
fn a_driver_that_polls_and_acknowledges_nothing_gets_everything() {
    let mut rig = Rig::isa();
    rig.start();
    for n in 0..30 {
        rig.offer(&frame(ALL, 60, n));
    }
    let mut got = 0;
    for _ in 0..10 {
        while rig.receive().is_some() {
            got += 1;
        }
        rig.later(1_000_000);
    }
    assert_eq!(got, 30);
    assert_eq!(rig.bench.events.earliest(), u64::MAX, "nothing waits: no event is armed");
}

/// While it takes packets out, more come in than it then looks at; it acknowledges them all the same. What is left in the
/// ring leaves no room for what waits, so no later packet would announce it.
#[test]
fn a_slow_driver_that_acknowledges_at_the_end_misses_nothing() {
    for length in [60, 1514] {
        let mut rig = Rig::isa();
        rig.start();
        let frames: Vec<Vec<u8>> = (0..60).map(|n| frame(ALL, length, n)).collect();
        for f in &frames {
            assert!(rig.offer(f));
        }
        let mut got = Vec::new();
        for _ in 0..40 {
            rig.later(2_000_000);
            if !rig.irq() {
                continue;
            }
            for _ in 0..9 {
                got.extend(rig.receive().map(|(_, data)| data));
                rig.later(1_200_000);
            }
            rig.out(ISR, 0x05);
        }
        assert!(got == frames, "{} of 60 packets of {length} bytes", got.len());
        assert_eq!(rig.bench.events.earliest(), u64::MAX, "nothing waits: no event is armed");
        assert!(!rig.irq());
    }
}

/// Moving many bytes of the data port at once is the same as moving them one by one.
#[test]
fn data_moved_at_once_is_the_same_as_one_by_one() {
    for (dcr, size) in [(0x49, 2), (0x49, 4), (0x48, 1), (0x49, 1), (0x48, 2)] {
        for (address, count) in
            [(0x4000_u16, 600_u16), (0x4c01, 77), (0x7ff0, 64), (0x40fe, 5), (0x0000, 32), (0x5000, 0)]
        {
            let mut one = Rig::isa();
            one.start();
            one.out(DCR, dcr);
            for command in [0x12, 0x0a] {
                one.remote(address, count, command);
                let mut many = Rig { card: one.card.clone(), bench: Bench::new() };
                let accesses = u32::from(count) / u32::from(size) + 3;
                let bytes: Vec<u8> = (0..accesses * u32::from(size)).map(|n| (n * 7 + 1) as u8).collect();
                let (mut read, mut read_many) = (Vec::new(), Vec::new());
                let single = |rig: &mut Rig, read: &mut Vec<u8>, at: usize| {
                    let cx = &mut rig.bench.cx();
                    let part = &bytes[at..at + usize::from(size)];
                    let value = part.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
                    match (command, size) {
                        (0x12, 1) => rig.card.write_u8(BASE + DATA, value as u8, cx),
                        (0x12, 2) => rig.card.write_u16(BASE + DATA, value as u16, cx),
                        (0x12, _) => rig.card.write_u32(BASE + DATA, value, cx),
                        (_, 1) => read.push(rig.card.read_u8(BASE + DATA, cx)),
                        (_, 2) => read.extend(rig.card.read_u16(BASE + DATA, cx).to_le_bytes()),
                        _ => read.extend(rig.card.read_u32(BASE + DATA, cx).to_le_bytes()),
                    }
                };
                for n in 0..accesses {
                    single(&mut one, &mut read, (n * u32::from(size)) as usize);
                }
                let mut n = 0;
                while n < accesses {
                    let at = (n * u32::from(size)) as usize;
                    let done = match command {
                        0x12 => many.card.write_many(BASE + DATA, size, accesses - n, |part| {
                            part.copy_from_slice(&bytes[at..at + part.len()]);
                        }),
                        _ => many.card.read_many(BASE + DATA, size, accesses - n, |part| read_many.extend(part)),
                    };
                    if done == 0 {
                        single(&mut many, &mut read_many, at);
                    }
                    n += done.max(1);
                }
                assert_eq!(read, read_many, "{dcr:x} {size} {address:x} {count}");
                assert!(one.card == many.card, "{dcr:x} {size} {address:x} {count} {command:x}");
            }
        }
    }
}

#[test]
fn an_overflow_is_seen_and_the_recovery_of_the_data_sheet_works() {
    let mut rig = Rig::isa();
    rig.start();
    let mut offered = 0_u32;
    while rig.offer(&frame(MAC, 1514, offered as u8)) {
        offered += 1;
    }
    assert_eq!(offered as usize, QUEUE + 8, "the ring holds 8 of them");
    assert_eq!(rig.inp(ISR) & 0x95, 0x95, "RST, OVW, RXE, PRX");
    assert_eq!(rig.inp(RCR), 0x10, "RSR: missed");
    assert_eq!(rig.inp(15), 1, "CNTR2");
    assert_eq!(rig.card.counters().to_guest.dropped, 1);
    // The routine of DP8390D, "Buffer Ring Overflow".
    let transmitting = rig.inp(CR) & 4;
    rig.out(CR, 0x21);
    rig.later(1_600_000);
    assert_eq!(rig.inp(ISR) & 0x80, 0x80);
    rig.out(RBCR0, 0);
    rig.out(RBCR1, 0);
    assert_eq!(transmitting, 0);
    rig.out(TCR, 0x02);
    rig.out(CR, 0x22);
    let mut got = 0;
    while rig.receive().is_some() {
        got += 1;
    }
    assert_eq!(got, 8, "in loopback nothing new comes in");
    rig.out(ISR, 0x15);
    assert_eq!(rig.inp(ISR) & 0x95, 0);
    rig.out(TCR, 0);
    while rig.irq() {
        got += rig.service().len() as u32;
    }
    assert_eq!(got, offered, "what waited in the queue is still there");
    assert!(rig.offer(&frame(MAC, 60, 0)));
}

#[test]
fn a_stopped_or_looped_receiver_hears_nothing() {
    let mut rig = Rig::isa();
    rig.start();
    rig.out(CR, 0x21);
    assert!(rig.offer(&frame(MAC, 60, 0)));
    rig.out(CR, 0x22);
    rig.out(TCR, 0x02);
    assert!(rig.offer(&frame(MAC, 60, 0)));
    rig.out(TCR, 0);
    assert_eq!(rig.receive(), None);
    assert_eq!(rig.card.counters().to_guest.dropped, 2);
}

#[test]
fn without_link_nothing_passes_and_the_carrier_is_lost() {
    let mut rig = Rig::pci();
    rig.start();
    rig.card.set_link(false, &mut rig.bench.cx());
    rig.offer(&frame(MAC, 60, 0));
    assert_eq!(rig.receive(), None);
    rig.transmit(&frame(PEER, 60, 0));
    rig.later(10_000);
    assert_eq!((rig.inp(ISR), rig.inp(TPSR)), (0x02, 0x11));
    assert_eq!(rig.card.take(), None);
    rig.out(CR, 0xe2);
    assert_eq!(rig.inp(3), 0x04, "CONFIG0: on the coaxial cable");
    rig.card.set_link(true, &mut rig.bench.cx());
    assert_eq!(rig.inp(3), 0);
}

#[test]
fn remote_dma_counts_wraps_and_keeps_its_bounds() {
    let mut rig = Rig::isa();
    rig.start();
    let pattern: Vec<u8> = (0..=255).collect();
    rig.upload(0x7f80, &pattern[..128]);
    rig.upload(0x4c00, &pattern[128..]);
    assert_eq!(rig.fetch(0x7f80, 256), pattern, "the end of the ring leads to its start");
    // An odd count in word mode ends with the word that holds the last byte.
    rig.remote(0x4c00, 3, 0x0a);
    let words = [(); 3].map(|()| rig.card.read_u16(BASE + DATA, &mut rig.bench.cx()));
    assert_eq!(words, [0x8180, 0x8382, 0x8382], "behind the end the latch stays");
    assert_eq!((rig.inp(RSAR0), rig.inp(RSAR1)), (0x04, 0x4c));
    // The 32-bit port moves two words, or in byte mode four bytes.
    rig.remote(0x4c00, 4, 0x0a);
    assert_eq!(rig.card.read_u32(BASE + DATA, &mut rig.bench.cx()), 0x8382_8180);
    assert_eq!(rig.inp(ISR) & 0x40, 0x40);
    rig.out(DCR, 0x48);
    rig.remote(0x4c01, 4, 0x0a);
    assert_eq!(rig.card.read_u32(BASE + DATA, &mut rig.bench.cx()), 0x8483_8281);
    // A count of zero is complete at once, and an aborted DMA moves nothing.
    rig.out(ISR, 0xff);
    rig.remote(0x4c00, 0, 0x0a);
    assert_eq!(rig.inp(ISR) & 0x40, 0x40);
    rig.remote(0x4c00, 4, 0x12);
    rig.out(CR, 0x22);
    rig.card.write_u32(BASE + DATA, 0, &mut rig.bench.cx());
    rig.out(DCR, 0x49);
    assert_eq!(rig.fetch(0x4c00, 4), [0x80, 0x81, 0x82, 0x83]);
    // The PROM is read-only; the address space repeats at 8000h.
    rig.upload(0, &[0; 4]);
    assert_eq!(rig.fetch(0x8000, 4), [MAC[0], MAC[0], MAC[1], MAC[1]]);
    assert_eq!(rig.fetch(0xcc00, 2), [0x80, 0x81]);
}

#[test]
fn send_packet_hands_over_packets_and_moves_the_boundary() {
    let mut rig = Rig::isa();
    rig.start();
    // With this command BNRY points at the next packet.
    rig.out(BNRY, 0x4c);
    let frames: Vec<Vec<u8>> = (0..2).map(|n| frame(ALL, 300, n)).collect();
    for f in &frames {
        rig.offer(f);
        rig.out(ISR, 0x01);
    }
    rig.out(RBCR1, 0x0f);
    rig.out(CR, 0x1a);
    assert_eq!(rig.inp(BNRY), 0x4c, "not without the auto-initialise bit");
    rig.out(DCR, 0x59);
    for (n, f) in frames.iter().enumerate() {
        rig.out(CR, 0x1a);
        let words: Vec<u8> =
            (0..152).flat_map(|_| rig.card.read_u16(BASE + DATA, &mut rig.bench.cx()).to_le_bytes()).collect();
        assert_eq!(words[..4], [0x21, 0x4e + 2 * n as u8, 0x30, 0x01]);
        assert_eq!(words[4..], f[..300]);
        assert_eq!(rig.inp(BNRY), 0x4e + 2 * n as u8);
        assert_eq!(rig.inp(ISR) & 0x40, 0x40);
    }
}

#[test]
fn byte_order_select_swaps_the_bytes_of_packets() {
    let mut rig = Rig::isa();
    rig.start();
    rig.out(DCR, 0x4b);
    let sent = frame(ALL, 60, 0);
    rig.offer(&sent);
    let stored = rig.fetch(0x4c00, 64);
    let swapped: Vec<u8> = stored.chunks(2).flat_map(|p| [p[1], p[0]]).collect();
    assert_eq!(swapped[..4], [0x21, 0x4d, 64, 0]);
    assert_eq!(swapped[4..], sent);
    rig.upload(0x4000, &stored[4..]);
    rig.send(60);
    rig.later(10_000);
    assert_eq!(rig.card.take(), Some(sent));
}

#[test]
fn the_pci_function_is_an_rtl8029() {
    let mut rig = Rig::pci();
    let id = rig.card.pci_function().map(|f| config_read(Some(&*f), 0, 4));
    assert_eq!(id, Some(0x8029_10ec));
    rig.configure(0x10, 4, 0xffff_ffff);
    let size = rig.card.pci_function().map(|f| config_read(Some(&*f), 0x10, 4));
    assert_eq!(size, Some(0xffff_ffe1));
    assert_eq!(rig.card.base(), None, "not an I/O port of this bus");
    rig.configure(0x10, 4, BASE.into());
    assert_eq!(rig.card.base(), Some(BASE));
    rig.start();
    assert_eq!([0x0a, 0x0b].map(|r| rig.inp(r)), *b"PC");
    rig.out(CR, 0xe2);
    assert_eq!([0x0e, 0x0f].map(|r| rig.inp(r)), [0x29, 0x80]);
    // Full duplex as ne2k-pci switches it: CONFIG3 is write-protected.
    rig.out(6, 0);
    assert_eq!(rig.inp(6), 0x40);
    rig.out(1, 0xc0);
    rig.out(6, 0);
    assert_eq!(rig.inp(6), 0);
    rig.out(1, 0x40);
    assert_eq!((rig.inp(1), rig.inp(6)), (0, 0x40), "loaded again");
    rig.out(CR, 0x22);
    rig.offer(&frame(MAC, 60, 0));
    assert!(rig.bench.irq.pirq(2), "slot 3 INTA is PIRQ C");
    rig.out(ISR, 0xff);
    assert!(!rig.bench.irq.pirq(2));
}

#[test]
fn the_address_can_be_changed_by_the_driver() {
    let mut rig = Rig::isa();
    rig.start();
    rig.out(CR, 0x60);
    for (n, byte) in PEER.into_iter().enumerate() {
        rig.out(1 + n as u16, byte);
    }
    rig.out(CR, 0x20);
    rig.offer(&frame(MAC, 60, 0));
    assert_eq!(rig.receive(), None);
    rig.offer(&frame(PEER, 60, 0));
    assert!(rig.receive().is_some());
    assert_eq!(rig.card.mac(), MAC);
}

#[test]
fn conforms() {
    let ports: Vec<u16> = (BASE..BASE + PORTS).collect();
    conformance(Ne2000::isa(MAC, BASE, IRQ), &ports);
    conformance(Ne2000::pci(MAC), &ports);
}
