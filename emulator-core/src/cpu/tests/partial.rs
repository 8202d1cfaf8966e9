//! Accesses that cross a page or wrap, and instructions that stop half-way.

use crate::cpu::flags;
use crate::cpu::segment::{Seg, Segment};
use crate::cpu::state::*;
use crate::cpu::testing::*;

fn paged() -> Lab {
    let mut lab = Lab::protected();
    lab.handlers();
    lab.enable_paging();
    lab.cpu.cr0 |= cr0::NE;
    lab.cpu.cr4 |= cr4::OSFXSR;
    lab
}

#[test]
fn a_store_whose_second_page_is_missing_leaves_nothing_on_the_first() {
    // SDM vol. 3, 6.5: a fault's instruction can be restarted.
    for code in [
        &[0x89, 0x03][..],
        &[0x01, 0x03],
        &[0xff, 0x03],
        &[0x87, 0x03],
        &[0x8f, 0x03],
        &[0xdd, 0x13],
        &[0xdd, 0x1b],
        &[0xdb, 0x3b],
        &[0xdd, 0x33],
        &[0x0f, 0x7f, 0x03],
        &[0x0f, 0x11, 0x03],
        &[0x0f, 0xc7, 0x0b],
        &[0x0f, 0xc1, 0x03],
        &[0x0f, 0xb1, 0x03],
        &[0x0f, 0x01, 0x03],
        &[0x0f, 0xa4, 0x03, 1],
    ] {
        for flags in [0, 5] {
            let mut lab = paged();
            lab.cpu.x87.init();
            assert_eq!(lab.execute(&[0xd9, 0xe8]), None);
            lab.cpu.set_reg32(RBX, 0x6ffe);
            lab.cpu.set_reg32(RAX, 0x5555_5555);
            lab.write16(0x6ffe, 0xaaaa);
            lab.set_page(0x7000, flags);
            lab.code(code);
            let before = serde_json::to_string(&(lab.cpu.gpr, &lab.cpu.x87, lab.cpu.eflags())).expect("state");
            let rip = lab.cpu.rip as u32;
            lab.step();
            let at = lab.stack32(2)[1];
            assert_eq!((lab.vector(), lab.cpu.cr2), (Some(14), 0x7000), "{code:x?}");
            assert_eq!((at, lab.read16(0x6ffe)), (rip, 0xaaaa), "{code:x?}");
            let frame = 4 * 4;
            lab.cpu.gpr[RSP] += frame;
            lab.cpu.set_eflags(lab.cpu.eflags() | self::flags::IF);
            let after = serde_json::to_string(&(lab.cpu.gpr, &lab.cpu.x87, lab.cpu.eflags())).expect("state");
            assert_eq!(after, before, "{code:x?}");
        }
    }
}

#[test]
fn pusha_enter_and_calls_check_their_whole_frame_first() {
    // SDM vol. 3, 6.5.
    for (code, written) in [(&[0x60][..], 0x6004), (&[0xc8, 0, 0, 3], 0x6004), (&[0x9a, 0, 0, 0, 0, 0x1b, 0], 0x6000)] {
        let mut lab = Lab::ring(3);
        lab.handlers();
        lab.enable_paging();
        lab.set_page(0x5000, 0);
        lab.cpu.set_reg32(RSP, written + 4);
        lab.cpu.set_reg32(RBP, 0x6100);
        lab.write32(written, 0x1234_5678);
        assert_eq!(lab.execute(code), Some(14), "{code:x?}");
        assert_eq!(lab.read32(written), 0x1234_5678, "{code:x?}");
        assert_eq!(lab.cpu.cr2 & !0xfff, 0x5000, "{code:x?}");
    }
}

#[test]
fn rep_stops_at_a_fault_and_resumes_where_it_was() {
    // SDM vol. 2, REP: registers show the iterations that are done.
    for (code, width) in [([0xf3, 0xa4], 1), ([0xf3, 0xa5], 4), ([0xf3, 0xab], 4)] {
        let mut lab = paged();
        for i in 0..64 {
            lab.write32(0x8000 + 4 * i, 0x0101_0101 * i);
        }
        lab.set_page(0x7000, 0);
        lab.cpu.set_reg32(RSI, 0x8000);
        lab.cpu.set_reg32(RDI, 0x7000 - 8 * width);
        lab.cpu.set_reg32(RCX, 20);
        lab.cpu.set_reg32(RAX, 0x1313_1313);
        lab.code(&code);
        lab.run(0);
        lab.step();
        assert_eq!((lab.vector(), lab.cpu.cr2), (Some(14), 0x7000));
        assert_eq!(lab.stack32(4)[3] & flags::RF, flags::RF);
        assert_eq!((lab.cpu.reg32(RCX), lab.cpu.reg32(RDI)), (12, 0x7000));
        lab.set_page(0x7000, 7);
        lab.cpu.rip = CODE_AT.into();
        lab.step();
        assert_eq!((lab.cpu.reg32(RCX), lab.cpu.reg32(RDI)), (0, 0x7000 + 12 * width));
        if code[1] != 0xab {
            assert_eq!(lab.read64(0x7000), lab.read64(0x8000 + 8 * width));
        }
    }
}

#[test]
fn rep_compares_stop_at_a_fault_with_the_flags_from_before_the_instruction() {
    // SDM vol. 2, REP: Description.
    let mut lab = paged();
    lab.set_page(0x7000, 0);
    lab.cpu.set_reg32(RSI, 0x8000);
    lab.cpu.set_reg32(RDI, 0x6ffc);
    lab.cpu.set_reg32(RCX, 9);
    lab.write32(0x8000, 0x0403_0201);
    lab.write32(0x6ffc, 0x0403_0201);
    lab.cpu.set_status(flags::CF);
    assert_eq!(lab.execute(&[0xf3, 0xa6]), Some(14));
    assert_eq!(lab.cpu.reg32(RCX), 5);
    assert_eq!(lab.stack32(4)[3] & flags::STATUS, flags::CF);
}

#[test]
fn sixteen_bit_offsets_wrap_between_operands_but_not_inside_one() {
    // SDM vol. 3, 21.1.1 and 5.3: a word at FFFFh is #GP, its address arithmetic wraps.
    let mut lab = Lab::real();
    lab.write16(0x10, 0x1234);
    lab.cpu.set_reg32(RBX, 0xfff0);
    lab.cpu.set_reg32(RSI, 0x20);
    lab.code(&[0x8b, 0x00]);
    lab.step();
    assert_eq!(lab.cpu.reg16(RAX), 0x1234);
    let mut lab = Lab::real();
    lab.cpu.set_reg32(RBX, 0xffff);
    lab.code(&[0x8b, 0x07]);
    lab.step();
    assert_eq!((lab.selector(Seg::Cs), lab.cpu.rip), (0x3000, 0x10d), "#GP");
}

#[test]
fn ip_and_sp_wrap_at_64k() {
    // SDM vol. 3, 21.1.1; vol. 1, 6.2.3 and vol. 2, JMP (16-bit operand size).
    let mut lab = Lab::real();
    lab.at(0x10, 3);
    // JMP back past zero.
    lab.code(&[0xe9, 0x00, 0xff]);
    lab.step();
    assert_eq!(lab.cpu.rip, 0xff13);
    lab.code(&[0xe9, 0x00, 0x01]);
    lab.step();
    assert_eq!(lab.cpu.rip, 0x16);
    lab.cpu.set_reg32(RSP, 0);
    lab.code(&[0x50, 0x58]);
    lab.step();
    assert_eq!(lab.cpu.reg32(RSP), 0xfffe);
    lab.step();
    assert_eq!(lab.cpu.reg32(RSP), 0);
    // Running off the end does not wrap: the limit says #GP.
    lab.at(0xffff, 1);
    lab.code(&[0x90]);
    lab.run(1);
    assert_eq!(lab.cpu.rip, 0x1_0000);
    lab.run(1);
    assert_eq!(lab.selector(Seg::Cs), 0x3000);
}

#[test]
fn a_closed_a20_gate_wraps_code_and_data_at_one_mebibyte() {
    // SDM vol. 3, 21.1.1 and 9.9: A20M# masks address bit 20.
    let mut lab = Lab::real();
    lab.write32(0x10, 0x1122_3344);
    lab.write32(0x10_0010, 0x5566_7788);
    lab.cpu.set_segment(Seg::Ds, Segment::real(0xffff));
    for (open, expected) in [(true, 0x5566_7788), (false, 0x1122_3344), (true, 0x5566_7788)] {
        lab.bus.mem.set_a20(open);
        lab.at(0x10, 4);
        // MOV EAX, [20h].
        lab.code(&[0x66, 0xa1, 0x20, 0]);
        lab.run(1);
        assert_eq!(lab.cpu.reg32(RAX), expected);
    }
    lab.bus.mem.set_a20(false);
    lab.cpu.set_segment(Seg::Cs, Segment::real(0xffff));
    lab.at(0x110, 1);
    lab.bus.mem.block().write(0x100, &[0x43]);
    lab.bus.mem.block().write(0x10_0100, &[0x41]);
    lab.run(1);
    assert_eq!((lab.cpu.reg32(RBX), lab.cpu.reg32(RCX)), (1, 0));
}

#[test]
fn a_read_modify_write_on_a_read_only_page_faults_as_a_write() {
    // SDM vol. 3, 4.7.
    let mut lab = paged();
    lab.set_page(0x6000, 5);
    assert_eq!(lab.execute(&[0xff, 0x05, 0, 0x60, 0, 0]), Some(14));
    assert_eq!(lab.stack32(1), [3]);
}

#[test]
fn enter_with_32_bit_operands_on_a_16_bit_stack_takes_all_of_esp() {
    // SDM vol. 2, ENTER: FrameTemp is ESP for a 32-bit operand size. Found by comparison with QEMU.
    let mut lab = Lab::protected();
    lab.set_descriptor(FREE, descriptor(0, 0xffff, 0x92, 0));
    lab.ok(|c, b| c.load_segment(b, Seg::Ss, FREE));
    lab.cpu.set_reg32(RSP, 0x12_9000);
    lab.at(CODE_AT, 4);
    assert_eq!(lab.execute(&[0xc8, 8, 0, 1]), None);
    assert_eq!(lab.cpu.reg32(RBP), 0x12_8ffc);
    assert_eq!(lab.cpu.reg32(RSP), 0x12_8ff0);
    assert_eq!(lab.read32(0x8ff8), 0x12_8ffc);
}
