//! Stores to pages that hold code: beside it they go by the write TLB, onto it they do not.

use crate::cpu::state::*;
use crate::cpu::testing::*;
use crate::cpu::tlb;

/// Where the code runs, and data in its page.
const CODE: u32 = 0x20_0000;
const DATA: u32 = CODE + 0x200;

/// A loop that stores EAX at [EDI] and goes on behind it: mov [edi], eax; inc eax; jmp to it.
fn lab() -> Lab {
    let mut lab = Lab::protected();
    lab.enable_paging();
    lab.at(CODE, 2);
    lab.code(&[0x89, 0x07, 0x40, 0xeb, 0xfb]);
    lab.cpu.set_reg32(RDI, DATA);
    lab
}

fn entry(lab: &Lab, lin: u32) -> u64 {
    lab.cpu.tlb.write[tlb::slot(lin, 0)]
}

/// Whether a doubleword store would be plain, beside code or neither.
fn hits(lab: &Lab, lin: u32) -> (bool, bool) {
    let e = entry(lab, lin);
    (tlb::hit(e, lin, 4).is_some(), tlb::hit_beside_code(e, lin, 4).is_some())
}

#[test]
fn a_page_with_code_is_in_the_write_tlb_with_a_mark() {
    let mut lab = lab();
    lab.run(30);
    assert_eq!(hits(&lab, DATA), (false, true));
    assert_eq!(lab.read32(DATA), lab.cpu.reg32(RAX) - 1);
    assert_eq!(tlb::hit_beside_code(entry(&lab, DATA), CODE + 0xffd, 4), None, "across the page's end");
}

#[test]
fn write_translations_are_marked_when_their_page_begins_to_hold_code_and_others_stay() {
    let mut lab = lab();
    let elsewhere = CODE + 0x5000;
    // Another linear page is the same memory.
    let alias = CODE + 0x7000;
    lab.write32(PAGE_DIRECTORY + 0x1000 + (alias >> 12) * 4, CODE | 7);
    for lin in [DATA, alias + 0x200, elsewhere] {
        lab.ok(|c, b| c.write_lin32(b, lin, 5));
        assert_eq!(hits(&lab, lin), (true, false));
    }
    lab.run(3);
    assert_eq!(
        [DATA, alias + 0x200, elsewhere].map(|lin| hits(&lab, lin)),
        [(false, true), (false, true), (true, false)]
    );
}

#[test]
fn every_width_and_place_beside_and_on_code_is_told_to_the_byte() {
    let mut lab = lab();
    lab.run(30);
    // The code has five bytes, whose granule has 64.
    for (lin, size, beside) in [
        (CODE + 5, 1, true),
        (CODE + 4, 1, false),
        (CODE + 5, 16, true),
        (CODE + 4, 16, false),
        (CODE + 56, 16, true),
        (CODE + 0xff0, 16, true),
        (CODE + 0xff1, 16, false),
        (CODE - 2, 4, false),
    ] {
        let offset = lab.cpu.beside_code(&lab.bus, lin, size, false);
        assert_eq!(offset, beside.then_some(lin), "{lin:x} {size}");
    }
}

#[test]
fn a_page_whose_code_is_gone_is_one_like_any_other() {
    let mut lab = lab();
    lab.run(30);
    lab.bus.mem.dma_write(CODE.into(), &[0x90]);
    assert!(lab.bus.mem.has_stale_code());
    assert_eq!(hits(&lab, DATA), (false, true));
    lab.ok(|c, b| c.write_lin32(b, DATA, 7));
    assert_eq!((hits(&lab, DATA), lab.read32(DATA)), ((true, false), 7));
}

#[test]
fn marked_translations_go_with_the_others() {
    type Flush = fn(&mut Lab);
    let flushes: [(&str, Flush); 4] = [
        ("CR3", |lab| lab.ok(|c, b| c.mov_to_cr(b, 3, PAGE_DIRECTORY))),
        ("INVLPG", |lab| lab.cpu.tlb.flush_page(DATA)),
        ("A20", |lab| {
            lab.bus.mem.set_a20(false);
            lab.bus.mem.set_a20(true);
            lab.cpu.sync_tlb(&lab.bus);
        }),
        ("a data breakpoint", |lab| lab.cpu.tlb.flush_data(0)),
    ];
    for (name, flush) in flushes {
        let mut lab = lab();
        lab.run(30);
        flush(&mut lab);
        assert_eq!(hits(&lab, DATA), (false, false), "{name}");
        // Read-only from now on: the next store must fault.
        lab.write32(PAGE_DIRECTORY + 0x1000 + (CODE >> 12) * 4, CODE | 5);
        lab.cpu.cr0 |= cr0::WP;
        lab.cpu.single = true;
        assert!(lab.cpu.write_lin32(&mut lab.bus, DATA, 9).is_err(), "{name}");
    }
}

#[test]
fn string_instructions_store_beside_code_in_one_go_and_onto_it_exactly() {
    let mut lab = lab();
    lab.run(30);
    // rep stosb, over the end of what may be overwritten: the loop's first byte becomes NOP.
    let at = CODE + 0x40;
    lab.at(at, 2);
    lab.code(&[0xf3, 0xaa, 0xeb, 0xfe]);
    lab.cpu.set_reg32(RAX, 0x90);
    lab.cpu.set_reg32(RDI, CODE + 0x100);
    lab.cpu.set_reg32(RCX, 0xf00);
    lab.run(4);
    assert_eq!((lab.cpu.reg32(RCX), lab.read32(CODE + 0xffc)), (0, 0x9090_9090));
    assert!(!lab.bus.mem.has_stale_code());
    assert!(lab.bus.mem.store_hits_code(CODE, 1));
    lab.at(at, 2);
    lab.cpu.set_reg32(RDI, CODE - 4);
    lab.cpu.set_reg32(RCX, 5);
    lab.run(20);
    assert_eq!((lab.cpu.reg32(RCX), lab.read32(CODE)), (0, 0xeb40_0790));
    assert!(!lab.bus.mem.store_hits_code(CODE, 1), "its blocks are gone");
}
