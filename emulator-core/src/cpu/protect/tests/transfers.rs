//! Far JMP and CALL (SDM vol. 2; vol. 3, 5.8).

use crate::cpu::Fault;
use crate::cpu::segment::Seg;
use crate::cpu::state::RSP;
use crate::cpu::testing::*;

#[test]
fn real_mode_far_jump_and_call_check_the_limit_first() {
    let mut lab = Lab::real();
    lab.ok(|c, b| c.far_jump(b, 0x3000, 0x1234, false));
    assert_eq!((lab.cpu.segment(Seg::Cs).base, lab.cpu.rip), (0x30000, 0x1234));
    lab.faults(Fault::gp(0), |c, b| c.far_jump(b, 0x3000, 0x10000, true));
    lab.faults(Fault::gp(0), |c, b| c.far_call(b, 0x3000, 0x10000, true));
    lab.at(0x20, 5);
    lab.ok(|c, b| c.far_call(b, 0x4000, 0x10, false));
    assert_eq!(lab.stack16(2), [0x25, 0x3000]);
    lab.ok(|c, b| c.far_return(b, 0, false));
    assert_eq!((lab.selector(Seg::Cs), lab.cpu.rip), (0x3000, 0x25));
    assert_eq!(lab.cpu.reg32(RSP), STACK0);
}

#[test]
fn direct_jumps_stay_on_their_level() {
    // SDM vol. 3, 5.8.1.
    let mut lab = Lab::ring(3);
    let mut jump = |expected, selector| {
        lab.faults(expected, |c, b| c.far_jump(b, selector, 0, true));
    };
    jump(Fault::gp(0), 0);
    jump(Fault::gp(OUTSIDE), OUTSIDE);
    jump(Fault::gp(CODE0), CODE0);
    jump(Fault::gp(0x20), DATA3);
    jump(Fault::gp(TASK), TASK);
    lab.ok(|c, b| c.far_jump(b, CONFORMING, 0x77, true));
    assert_eq!((lab.selector(Seg::Cs), lab.cpu.cpl), (CONFORMING | 3, 3));
    let mut lab = Lab::protected();
    lab.faults(Fault::gp(0x18), |c, b| c.far_jump(b, CODE3, 0, true));
    lab.faults(Fault::gp(CODE0), |c, b| c.far_jump(b, CODE0 | 1, 0, true));
    lab.set_descriptor(FREE, flat(0x1a));
    lab.faults(Fault::np(FREE), |c, b| c.far_jump(b, FREE, 0, true));
    lab.faults(Fault::gp(0), |c, b| c.far_jump(b, CODE16, 0x10000, true));
}

#[test]
fn a_32_bit_call_gate_switches_stacks_and_copies_parameters() {
    // SDM vol. 3, 5.8.5, figure 5-13.
    let mut lab = Lab::ring(3);
    lab.set_descriptor(FREE, gate(0xec, CODE0, 0x12_3456, 2));
    lab.put_stack32(&[0x1111, 0x2222]);
    lab.ok(|c, b| c.far_call(b, FREE | 3, 0xdead_beef, true));
    assert_eq!((lab.selector(Seg::Cs), lab.cpu.cpl), (CODE0, 0));
    assert_eq!(lab.cpu.rip, 0x12_3456);
    assert_eq!(lab.selector(Seg::Ss), DATA0);
    let expected = [CODE_AT + 2, 0x1b, 0x1111, 0x2222, STACK3 - 8, 0x23];
    assert_eq!(lab.stack32(6), expected);
    assert_eq!(lab.cpu.reg32(RSP), STACK0 - 24);
    // And back, releasing the parameters on both stacks.
    lab.ok(|c, b| c.far_return(b, 8, true));
    assert_eq!((lab.selector(Seg::Cs), lab.cpu.cpl), (CODE3, 3));
    assert_eq!((lab.selector(Seg::Ss), lab.cpu.reg32(RSP)), (DATA3, STACK3));
    assert_eq!(lab.cpu.rip, u64::from(CODE_AT + 2));
}

#[test]
fn a_16_bit_call_gate_pushes_words() {
    let mut lab = Lab::ring(3);
    lab.set_descriptor(FREE, gate(0xe4, CODE16, 0x1234_5678, 1));
    lab.put_stack16(&[0xaaaa]);
    lab.ok(|c, b| c.far_call(b, FREE, 0, true));
    assert_eq!((lab.cpu.rip, lab.selector(Seg::Cs)), (0x5678, CODE16));
    let expected = [(CODE_AT + 2) as u16, 0x1b, 0xaaaa, (STACK3 - 2) as u16, 0x23];
    assert_eq!(lab.stack16(5), expected);
}

#[test]
fn call_gate_privilege_and_presence() {
    // SDM vol. 3, 5.8.4 and vol. 2, CALL, call-gate.
    let mut lab = Lab::ring(3);
    let mut gate_fault = |expected, raw| {
        lab.set_descriptor(FREE, raw);
        lab.faults(expected, |c, b| c.far_call(b, FREE, 0, true));
    };
    gate_fault(Fault::gp(FREE), gate(0x8c, CODE0, 0, 0));
    gate_fault(Fault::np(FREE), gate(0x6c, CODE0, 0, 0));
    gate_fault(Fault::gp(0), gate(0xec, 0, 0, 0));
    gate_fault(Fault::gp(OUTSIDE), gate(0xec, OUTSIDE, 0, 0));
    gate_fault(Fault::gp(DATA0), gate(0xec, DATA0, 0, 0));
    lab.set_descriptor(FREE2, flat(0x1a));
    lab.set_descriptor(FREE, gate(0xec, FREE2, 0, 0));
    lab.faults(Fault::np(FREE2), |c, b| c.far_call(b, FREE, 0, true));
    // A jump through a gate may not change the level.
    lab.set_descriptor(FREE, gate(0xec, CODE0, 0, 0));
    lab.faults(Fault::gp(CODE0), |c, b| c.far_jump(b, FREE, 0, true));
    lab.set_descriptor(FREE, gate(0xec, CONFORMING, 0x99, 0));
    lab.ok(|c, b| c.far_jump(b, FREE, 0, true));
    assert_eq!((lab.cpu.cpl, lab.cpu.rip), (3, 0x99));
    // Entry point outside the segment.
    lab.set_descriptor(FREE2, descriptor(0, 0xff, 0x9a, 4));
    lab.set_descriptor(FREE, gate(0xec, FREE2, 0x100, 0));
    lab.faults(Fault::gp(0), |c, b| c.far_call(b, FREE, 0, true));
}

#[test]
fn inner_stack_checks_name_the_stack_selector() {
    // SDM vol. 2, CALL, more-privilege: #TS for the selector, #SS when absent or too small.
    let mut lab = Lab::ring(3);
    lab.set_descriptor(FREE, gate(0xec, CODE0, 0, 0));
    let mut stack_fault = |expected, selector: u16, sp: u32| {
        lab.write32(TSS + 4, sp);
        lab.write16(TSS + 8, selector);
        lab.faults(expected, |c, b| c.far_call(b, FREE, 0, true));
    };
    stack_fault(Fault::ts(0), 0, STACK0);
    stack_fault(Fault::ts(OUTSIDE), OUTSIDE, STACK0);
    stack_fault(Fault::ts(0x10), DATA0 | 3, STACK0);
    stack_fault(Fault::ts(0x20), 0x20, STACK0);
    stack_fault(Fault::ts(CODE0), CODE0, STACK0);
    stack_fault(Fault::ss(ABSENT), ABSENT, STACK0);
    lab.set_descriptor(FREE2, descriptor(0, 0xfff, 0x96, 4));
    lab.write32(TSS + 4, 0x100c);
    lab.write16(TSS + 8, FREE2);
    lab.faults(Fault::ss(FREE2), |c, b| c.far_call(b, FREE, 0, true));
    // A TSS too short for the stack pointer.
    lab.cpu.tr.limit = 8;
    lab.faults(Fault::ts(TASK), |c, b| c.far_call(b, FREE, 0, true));
}

#[test]
fn a_call_whose_frame_meets_a_missing_page_leaves_nothing_behind() {
    let mut lab = Lab::ring(3);
    lab.enable_paging();
    lab.set_descriptor(FREE, gate(0xec, CODE0, 0, 0));
    // The frame straddles a page boundary and the lower page is absent.
    lab.write32(TSS + 4, 0x9008);
    lab.write32(0x9004, 0x5555);
    lab.set_page(0x8000, 0);
    lab.faults(Fault::pf(2), |c, b| c.far_call(b, FREE, 0, true));
    assert_eq!(lab.read32(0x9004), 0x5555);
}

#[test]
fn return_to_the_same_level_checks_code() {
    // SDM vol. 2, RET.
    let mut lab = Lab::ring(1);
    let mut ret = |expected, selector: u16, offset: u32| {
        lab.cpu.set_reg32(RSP, STACK1);
        lab.put_stack32(&[offset, selector.into()]);
        lab.faults(expected, |c, b| c.far_return(b, 0, true));
    };
    ret(Fault::gp(0), 0, 0);
    ret(Fault::gp(OUTSIDE), OUTSIDE | 1, 0);
    ret(Fault::gp(CODE0), CODE0, 0);
    ret(Fault::gp(0x38), DATA1, 0);
    ret(Fault::gp(CODE0), CODE0 | 3, 0);
    lab.set_descriptor(FREE, descriptor(0, 0xff, 0xba, 4));
    lab.cpu.set_reg32(RSP, STACK1);
    lab.put_stack32(&[0x100, u32::from(FREE | 1)]);
    lab.faults(Fault::gp(0), |c, b| c.far_return(b, 0, true));
}

#[test]
fn outer_return_checks_the_stack_and_drops_inner_segments() {
    // SDM vol. 3, 5.8.6.
    let mut lab = Lab::protected();
    let mut ret = |expected, ss: u32| {
        lab.cpu.set_reg32(RSP, STACK0);
        lab.put_stack32(&[0x55, CODE3.into(), STACK3, ss]);
        lab.faults(expected, |c, b| c.far_return(b, 0, true));
    };
    ret(Fault::gp(0), 0);
    ret(Fault::gp(0x20), 0x20);
    ret(Fault::gp(0x10), u32::from(DATA0 | 3));
    ret(Fault::gp(0x18), CODE3.into());
    lab.ok(|c, b| c.load_segment(b, Seg::Fs, CONFORMING));
    lab.ok(|c, b| c.load_segment(b, Seg::Gs, DATA3));
    lab.cpu.set_reg32(RSP, STACK0);
    lab.put_stack32(&[0x55, CODE3.into(), STACK3, DATA3.into()]);
    lab.ok(|c, b| c.far_return(b, 0, true));
    assert_eq!(lab.selector(Seg::Ds), 0);
    assert!(!lab.cpu.segment(Seg::Es).present());
    assert_eq!(lab.selector(Seg::Fs), CONFORMING);
    assert_eq!(lab.selector(Seg::Gs), DATA3);
}
