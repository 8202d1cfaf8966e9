//! REP MOVS and STOS in both directions: what is moved in bulk is as if element by element (SDM vol. 2, MOVS: Description).

use crate::cpu::flags;
use crate::cpu::state::*;
use crate::cpu::testing::*;

/// Memory that the test uses, from `BASE` on.
const BASE: u32 = 0x10_0000;
const SIZE: u32 = 0x4000;

fn memory(lab: &Lab) -> Vec<u8> {
    (0..SIZE).step_by(4).flat_map(|at| lab.read32(BASE + at).to_le_bytes()).collect()
}

/// Runs a REP instruction on memory with a pattern that repeats nowhere, and compares with `expected` of it.
fn check(code: &[u8], down: bool, [from, to, count]: [u32; 3], expected: impl Fn(&mut [u8])) {
    let mut lab = Lab::protected();
    for at in (0..SIZE).step_by(4) {
        lab.write32(BASE + at, at.wrapping_mul(0x9e37_79b9) ^ 0x1234_5678);
    }
    let mut model = memory(&lab);
    expected(&mut model);
    lab.code(code);
    lab.cpu.set_eflags(if down { flags::DF | 2 } else { 2 });
    lab.cpu.set_reg32(RAX, 0x8765_4321);
    lab.cpu.set_reg32(RSI, BASE + from);
    lab.cpu.set_reg32(RDI, BASE + to);
    lab.cpu.set_reg32(RCX, count);
    let end = lab.cpu.rip as u32 + code.len() as u32;
    while lab.cpu.rip as u32 != end {
        lab.step();
    }
    let what = format!("{code:x?} down {down}: {count} from {from:x} to {to:x}");
    assert!(memory(&lab) == model, "{what}");
    let width = if code.contains(&0xa4) || code.contains(&0xaa) {
        1
    } else if code[0] == 0x66 {
        2
    } else {
        4
    };
    let by = if down { (count * width).wrapping_neg() } else { count * width };
    assert_eq!(lab.cpu.reg32(RDI), (BASE + to).wrapping_add(by), "{what}");
    assert_eq!(lab.cpu.reg32(RCX), 0, "{what}");
}

#[test]
fn repeated_moves_and_stores_go_element_by_element_either_way() {
    let widths: [(usize, &[u8], &[u8]); 3] = [
        (1, &[0xf3, 0xa4], &[0xf3, 0xaa]),
        (2, &[0x66, 0xf3, 0xa5], &[0x66, 0xf3, 0xab]),
        (4, &[0xf3, 0xa5], &[0xf3, 0xab]),
    ];
    for (width, moves, stores) in widths {
        for down in [false, true] {
            let step = if down { -(width as i64) } else { width as i64 };
            // Apart, overlapping by less and by more than an element, across borders of pages in the middle of an element.
            for from in [0x1ffcu32, 0x1ffd, 0x2000, 0x1800] {
                for ahead in [0i64, 1, 3, 4, 7, 8, 64, 0x700, -1, -3, -4, -8, -64, -0x700] {
                    let (to, count) = ((i64::from(from) + ahead) as u32, 0x300 / width as u32);
                    check(moves, down, [from, to, count], |bytes| {
                        for n in 0..i64::from(count) {
                            let [from, to] = [from, to].map(|at| (i64::from(at) + n * step) as usize);
                            bytes.copy_within(from..from + width, to);
                        }
                    });
                }
                check(stores, down, [0, from, 0x300], |bytes| {
                    for n in 0..0x300 {
                        let to = (i64::from(from) + n * step) as usize;
                        bytes[to..to + width].copy_from_slice(&0x8765_4321u32.to_le_bytes()[..width]);
                    }
                });
            }
        }
    }
}
