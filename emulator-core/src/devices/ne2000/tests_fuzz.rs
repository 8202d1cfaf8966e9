//! Random register traffic and frames: nothing panics, hangs or grows.

use super::tests::{BASE, IRQ, MAC, Rig};
use super::*;
use crate::bus::testing::Bench;

/// Operations of one run; `NE2000_FUZZ` in the environment multiplies them.
const OPERATIONS: u64 = 400_000;
/// Values that matter more often than chance would have them.
const COMMANDS: [u8; 12] = [0x21, 0x22, 0x26, 0x0a, 0x12, 0x1a, 0x61, 0x62, 0xa2, 0xe2, 0x24, 0x02];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
}

fn write_register(card: &mut Ne2000, bench: &mut Bench, random: &mut Random) {
    let offset = random.below(16) as u16;
    let value = match random.below(4) {
        0 if offset == 0 => COMMANDS[random.below(12) as usize],
        // Ring registers that make sense together, and those that don't.
        1 => 0x40 + random.below(0x44) as u8,
        _ => random.next() as u8,
    };
    card.write_u8(BASE + offset, value, &mut bench.cx());
}

fn step(card: &mut Ne2000, bench: &mut Bench, random: &mut Random) {
    match random.below(16) {
        0..=4 => write_register(card, bench, random),
        5 => card.write_u8(BASE, COMMANDS[random.below(12) as usize], &mut bench.cx()),
        6 => drop(card.read_u8(BASE + random.below(32) as u16, &mut bench.cx())),
        7 => drop(card.read_u32(BASE + random.below(32) as u16, &mut bench.cx())),
        8 => drop(card.read_u16(BASE + 16, &mut bench.cx())),
        9 => card.write_u32(BASE + random.below(20) as u16, random.next() as u32, &mut bench.cx()),
        10 | 11 => {
            let mut frame = vec![0; random.below(1600) as usize];
            for byte in frame.iter_mut().step_by(7) {
                *byte = random.next() as u8;
            }
            let to = [MAC, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]][random.below(3) as usize];
            frame.iter_mut().zip(to).for_each(|(byte, value)| *byte = value);
            card.offer(&frame, &mut bench.cx());
        }
        12 => {
            while random.below(8) != 0 && card.take().is_some() {}
            card.resume(&mut bench.cx());
        }
        13 => card.set_link(random.below(8) != 0, &mut bench.cx()),
        _ => {
            let until = bench.now + random.below(300_000);
            let fired = bench.advance(card, until);
            assert!(fired < 1000, "events re-arm themselves");
        }
    }
    assert!(card.room() <= QUEUE && card.nic.incoming.len() <= QUEUE && card.nic.outgoing.len() <= QUEUE);
}

#[test]
fn random_registers_and_frames_neither_panic_nor_hang_nor_grow() {
    let factor = std::env::var("NE2000_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut through = Counters::default();
    for (seed, card) in [(1, Ne2000::isa(MAC, BASE, IRQ)), (2, Ne2000::pci(MAC))] {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed << 17);
        let mut rig = Rig { card, bench: Bench::new() };
        rig.card.reset(&mut rig.bench.cx());
        for _ in 0..OPERATIONS * factor / 100 {
            // Noise from power-on state reaches little: every second stretch begins behind a driver's start.
            if random.below(2) != 0 {
                rig.start();
                rig.send(random.below(1600) as u16);
            }
            for _ in 0..100 {
                step(&mut rig.card, &mut rig.bench, &mut random);
            }
        }
        through.to_guest.frames += rig.card.counters().to_guest.frames;
        through.from_guest.frames += rig.card.counters().from_guest.frames;
        // Whatever state it is in, a driver's reset brings it back.
        rig.card.set_link(true, &mut rig.bench.cx());
        rig.start();
        while rig.card.take().is_some() {}
        let hello = [[0xff; 6], MAC, [7; 6], [7; 6], [7; 6], [7; 6], [7; 6], [7; 6], [7; 6], [7; 6]].concat();
        rig.transmit(&hello);
        let until = rig.bench.now + 10_000;
        rig.bench.advance(&mut rig.card, until);
        assert_eq!(rig.card.take(), Some(hello));
    }
    assert!(through.to_guest.frames > 1000 && through.from_guest.frames > 1000, "it reaches something: {through:?}");
}
