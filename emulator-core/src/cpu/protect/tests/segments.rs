//! Segment registers, LDTR, TR, the stack, and the instructions that ask about selectors.

use crate::cpu::Fault;
use crate::cpu::flags;
use crate::cpu::segment::{Seg, Segment};
use crate::cpu::state::{RSP, cr0};
use crate::cpu::testing::*;

#[test]
fn real_mode_loads_change_base_only_so_unreal_limits_survive() {
    // SDM vol. 3, 21.1.1; the hidden limit is untouched outside protected mode.
    let mut lab = Lab::real();
    lab.cpu.set_segment(Seg::Ds, Segment::from_descriptor(DATA0, flat(0x93)));
    lab.ok(|c, b| c.load_segment(b, Seg::Ds, 0x1234));
    let ds = *lab.cpu.segment(Seg::Ds);
    assert_eq!((ds.base, ds.limit), (0x12340, u32::MAX));
}

#[test]
fn stack_segment_checks_in_order() {
    // SDM vol. 2, MOV, protected-mode exceptions for SS.
    let mut lab = Lab::protected();
    let mut load = |expected, selector| {
        lab.faults(expected, |c, b| c.load_segment(b, Seg::Ss, selector));
    };
    load(Fault::gp(0), 0);
    load(Fault::gp(0), 3);
    load(Fault::gp(OUTSIDE), OUTSIDE);
    load(Fault::gp(0x10), DATA0 | 3);
    load(Fault::gp(0x20), 0x20);
    load(Fault::gp(CODE0), CODE0);
    load(Fault::ss(ABSENT), ABSENT);
}

#[test]
fn data_segment_checks_in_order() {
    // SDM vol. 2, MOV, protected-mode exceptions for DS, ES, FS, GS.
    let mut lab = Lab::ring(3);
    let mut load = |expected, selector| {
        lab.faults(expected, |c, b| c.load_segment(b, Seg::Fs, selector));
    };
    load(Fault::gp(OUTSIDE), OUTSIDE);
    load(Fault::gp(0x10), DATA0);
    load(Fault::gp(0x70), EXECUTE_ONLY);
    load(Fault::gp(TASK), TASK);
    load(Fault::gp(ABSENT), ABSENT);
    // LDT that is not loaded.
    load(Fault::gp(0xc), 0xf);
    lab.set_descriptor(FREE, flat(0x72));
    lab.faults(Fault::np(FREE), |c, b| c.load_segment(b, Seg::Fs, FREE | 3));
    lab.ok(|c, b| c.load_segment(b, Seg::Fs, READ_ONLY));
    lab.ok(|c, b| c.load_segment(b, Seg::Fs, CONFORMING));
    lab.ok(|c, b| c.load_segment(b, Seg::Gs, 3));
    lab.faults(Fault::gp(0), |c, b| c.read8(b, Seg::Gs as u8, 0));
    lab.faults(Fault::gp(0), |c, b| c.write8(b, Seg::Fs as u8, 0, 0));
}

#[test]
fn a_load_sets_the_accessed_bit_in_the_table() {
    // SDM vol. 3, 3.4.5.1.
    let mut lab = Lab::protected();
    lab.set_descriptor(FREE, flat(0x92));
    lab.ok(|c, b| c.load_segment(b, Seg::Es, FREE));
    assert_eq!(lab.read64(GDT + u32::from(FREE)), flat(0x93));
}

#[test]
fn ldt_selectors_use_the_loaded_ldt() {
    // SDM vol. 2, LLDT; vol. 3, 3.5.1.
    let mut lab = Lab::protected();
    lab.faults(Fault::gp(DATA0), |c, b| c.lldt(b, DATA0));
    lab.faults(Fault::gp(0x5c), |c, b| c.lldt(b, LDT_SELECTOR | 4));
    lab.ok(|c, b| c.lldt(b, LDT_SELECTOR));
    assert_eq!(lab.ok(|c, b| c.sldt(b)), LDT_SELECTOR);
    lab.set_descriptor(0xc, descriptor(0x5000, 0xff, 0x92, 0));
    lab.ok(|c, b| c.load_segment(b, Seg::Es, 0xc));
    assert_eq!(lab.cpu.segment(Seg::Es).base, 0x5000);
    lab.faults(Fault::gp(0x104), |c, b| c.load_segment(b, Seg::Es, 0x104));
    lab.set_descriptor(LDT_SELECTOR, descriptor(LDT, 0xff, 0x02, 0));
    lab.faults(Fault::np(LDT_SELECTOR), |c, b| c.lldt(b, LDT_SELECTOR));
    lab.ok(|c, b| c.lldt(b, 0));
    lab.faults(Fault::gp(0xc), |c, b| c.load_segment(b, Seg::Es, 0xc));
}

#[test]
fn ltr_marks_the_task_busy_and_refuses_a_busy_one() {
    // SDM vol. 2, LTR.
    let mut lab = Lab::protected();
    lab.faults(Fault::gp(0), |c, b| c.ltr(b, 0));
    lab.faults(Fault::gp(TASK), |c, b| c.ltr(b, TASK));
    lab.ok(|c, b| c.ltr(b, TASK2));
    assert_eq!(lab.read64(GDT + u32::from(TASK2)) >> 40 & 0xff, 0x8b);
    assert_eq!(lab.ok(|c, b| c.str(b)), TASK2);
    let mut user = Lab::ring(3);
    user.faults(Fault::gp(0), |c, b| c.ltr(b, TASK2));
    let mut real = Lab::real();
    real.faults(Fault::UD, |c, b| c.ltr(b, TASK2));
    real.faults(Fault::UD, |c, b| c.sldt(b));
}

#[test]
fn pushes_wrap_at_64k_on_a_16_bit_stack_and_fault_before_sp_moves() {
    // SDM vol. 3, 22.33; vol. 1, 6.2.3.
    let mut lab = Lab::real();
    lab.cpu.set_reg32(RSP, 0xabcd_0000);
    lab.ok(|c, b| c.push16(b, 0x1234));
    assert_eq!(lab.cpu.reg32(RSP), 0xabcd_fffe);
    assert_eq!(lab.ok(|c, b| c.pop16(b)), 0x1234);
    assert_eq!(lab.cpu.reg32(RSP), 0xabcd_0000);
    lab.cpu.set_reg32(RSP, 1);
    lab.faults(Fault::ss(0), |c, b| c.push16(b, 0));
    lab.cpu.set_reg32(RSP, 2);
    lab.faults(Fault::ss(0), |c, b| c.push32(b, 0));
}

#[test]
fn expand_down_stack_faults_at_its_limit() {
    // SDM vol. 3, 5.3.
    let mut lab = Lab::protected();
    lab.set_descriptor(FREE, descriptor(0, 0xfff, 0x96, 4));
    lab.ok(|c, b| c.load_segment(b, Seg::Ss, FREE));
    lab.cpu.set_reg32(RSP, 0x1008);
    lab.ok(|c, b| c.push32(b, 1));
    lab.ok(|c, b| c.push32(b, 2));
    lab.faults(Fault::ss(0), |c, b| c.push32(b, 3));
}

#[test]
fn supervisor_pushes_honour_write_protection_of_pages() {
    // SDM vol. 3, 4.6.1 (CR0.WP).
    let mut lab = Lab::protected();
    lab.enable_paging();
    lab.set_page(STACK0 - 0x1000, 1);
    lab.faults(Fault::pf(3), |c, b| c.push32(b, 0));
    assert_eq!(lab.cpu.cr2, u64::from(STACK0 - 4));
    lab.cpu.cr0 &= !cr0::WP;
    lab.cpu.tlb.flush_all();
    lab.ok(|c, b| c.push32(b, 0));
}

#[test]
fn lar_and_lsl_answer_only_for_visible_types() {
    // SDM vol. 2, LAR table 3-52 and LSL table 3-56.
    let mut lab = Lab::ring(3);
    let zf = |lab: &Lab| lab.cpu.eflags() & flags::ZF != 0;
    assert_eq!(lab.ok(|c, b| c.lar(b, DATA3)), Some(0x00c0_f200));
    assert!(zf(&lab));
    assert_eq!(lab.ok(|c, b| c.lsl(b, DATA3)), Some(u32::MAX));
    for hidden in [0, DATA0, OUTSIDE, TASK] {
        assert_eq!(lab.ok(|c, b| c.lar(b, hidden)), None, "{hidden:x}");
        assert!(!zf(&lab));
        assert_eq!(lab.ok(|c, b| c.lsl(b, hidden)), None, "{hidden:x}");
    }
    // RPL weakens: DPL 3 seen with RPL 3 stays visible, a conforming segment always is.
    assert_eq!(lab.ok(|c, b| c.lar(b, CONFORMING | 3)), Some(0x00c0_9e00));
    let mut lab = Lab::protected();
    lab.set_descriptor(FREE, gate(0x8c, CODE0, 0, 0));
    assert_eq!(lab.ok(|c, b| c.lar(b, FREE)), Some(0x8c00));
    assert_eq!(lab.ok(|c, b| c.lsl(b, FREE)), None);
    lab.set_descriptor(FREE, gate(0x8e, CODE0, 0, 0));
    assert_eq!(lab.ok(|c, b| c.lar(b, FREE)), None);
    assert_eq!(lab.ok(|c, b| c.lsl(b, TASK2)), Some(0x67));
    assert_eq!(lab.ok(|c, b| c.lar(b, DATA0 | 3)), None);
    Lab::vm86(3).faults(Fault::UD, |c, b| c.lar(b, DATA3));
}

#[test]
fn verr_and_verw_follow_type_and_privilege() {
    // SDM vol. 2, VERR/VERW.
    let mut lab = Lab::ring(3);
    let cases = [
        (DATA3, true, true),
        (READ_ONLY, true, false),
        (EXECUTE_ONLY, false, false),
        (DATA0, false, false),
        (CONFORMING, true, false),
        (TASK, false, false),
        (0, false, false),
    ];
    for (selector, read, write) in cases {
        lab.ok(|c, b| c.verr(b, selector));
        assert_eq!(lab.cpu.eflags() & flags::ZF != 0, read, "{selector:x}");
        lab.ok(|c, b| c.verw(b, selector));
        assert_eq!(lab.cpu.eflags() & flags::ZF != 0, write, "{selector:x}");
    }
}

#[test]
fn arpl_raises_the_rpl_to_the_weaker_one() {
    // SDM vol. 2, ARPL.
    let mut lab = Lab::protected();
    assert_eq!(lab.ok(|c, _| c.arpl(0x10, 3)), Some(0x13));
    assert!(lab.cpu.eflags() & flags::ZF != 0);
    assert_eq!(lab.ok(|c, _| c.arpl(0x12, 1)), None);
    assert!(lab.cpu.eflags() & flags::ZF == 0);
    Lab::real().faults(Fault::UD, |c, _| c.arpl(0, 3));
}
