//! Task switches (SDM vol. 3, chapter 7).

use crate::cpu::segment::Seg;
use crate::cpu::state::{RAX, RSP, cr0};
use crate::cpu::testing::*;
use crate::cpu::{Delivered, Exec, Fault, Source, flags};

const TASK_CODE: u32 = 0x4_0000;
const TASK_STACK: u32 = 0xd000;

/// Fills the second TSS with a 32-bit ring-0 task.
fn second_task(lab: &mut Lab) {
    lab.write32(TSS2 + 32, TASK_CODE);
    lab.write32(TSS2 + 36, 2);
    for i in 0..8 {
        lab.write32(TSS2 + 40 + 4 * i, 0x1000 + i);
    }
    lab.write32(TSS2 + 56, TASK_STACK);
    let segments = [DATA0, CODE0, DATA0, DATA0, DATA0, 0];
    for (i, &s) in segments.iter().enumerate() {
        lab.write32(TSS2 + 72 + 4 * i as u32, s.into());
    }
    lab.write32(TSS2 + 96, 0);
    lab.write32(TSS2 + 100, 0);
}

fn lab() -> Lab {
    let mut lab = Lab::protected();
    second_task(&mut lab);
    lab
}

fn busy(lab: &Lab, selector: u16) -> bool {
    lab.read64(GDT + u32::from(selector)) >> 41 & 1 != 0
}

#[test]
fn jump_saves_the_old_task_and_loads_the_new() {
    // SDM vol. 3, 7.3, tables 7-2.
    let mut lab = lab();
    lab.cpu.set_reg32(RAX, 0xaaaa);
    lab.cpu.set_eflags(flags::IF | flags::CF);
    lab.ok(|c, b| c.far_jump(b, TASK2, 0xdead, true));
    assert_eq!(lab.cpu.tr.selector, TASK2);
    assert_eq!(lab.cpu.rip, u64::from(TASK_CODE));
    assert_eq!(lab.cpu.reg32(RAX), 0x1000);
    assert_eq!(lab.cpu.reg32(RSP), TASK_STACK);
    assert!(!lab.cpu.segment(Seg::Gs).present());
    assert!(lab.cpu.cr0 & cr0::TS != 0);
    assert!(!busy(&lab, TASK) && busy(&lab, TASK2));
    assert_eq!(lab.read32(TSS + 32), CODE_AT + 2);
    assert_eq!(lab.read32(TSS + 36), flags::IF | flags::CF | 2);
    assert_eq!(lab.read32(TSS + 40), 0xaaaa);
    assert_eq!(lab.read16(TSS + 76), CODE0);
    assert!(!lab.cpu.flag(flags::NT));
}

#[test]
fn call_nests_and_iret_returns() {
    // SDM vol. 3, 7.4.
    let mut lab = lab();
    lab.ok(|c, b| c.far_call(b, TASK2, 0, true));
    assert!(busy(&lab, TASK) && busy(&lab, TASK2));
    assert_eq!(lab.read16(TSS2), TASK);
    assert!(lab.cpu.flag(flags::NT));
    // Recursion is refused.
    lab.faults(Fault::gp(TASK), |c, b| c.far_call(b, TASK, 0, true));
    lab.at(TASK_CODE + 0x10, 1);
    lab.ok(|c, b| c.iret(b, true));
    assert_eq!(lab.cpu.tr.selector, TASK);
    assert_eq!(lab.cpu.rip, u64::from(CODE_AT + 2));
    assert!(busy(&lab, TASK) && !busy(&lab, TASK2));
    assert_eq!(lab.read32(TSS2 + 32), TASK_CODE + 0x11);
    assert_eq!(lab.read32(TSS2 + 36) & flags::NT, 0);
}

#[test]
fn iret_with_nt_needs_a_busy_task() {
    let mut lab = lab();
    lab.cpu.system_flags |= flags::NT;
    lab.write16(TSS, TASK2);
    lab.faults(Fault::ts(TASK2), |c, b| c.iret(b, true));
    lab.write16(TSS, 0x2c);
    lab.faults(Fault::ts(0x2c), |c, b| c.iret(b, true));
}

#[test]
fn a_task_gate_in_the_idt_pushes_the_error_code_on_the_new_stack() {
    // SDM vol. 3, 6.12.2.
    let mut lab = lab();
    lab.set_gate(8, gate(0x85, TASK2, 0, 0));
    assert_eq!(lab.deliver(Fault::gp(0)), Delivered::Ok);
    assert_eq!(lab.cpu.tr.selector, TASK2);
    assert_eq!(lab.stack32(1), [0]);
    assert_eq!(lab.cpu.reg32(RSP), TASK_STACK - 4);
    assert_eq!(lab.read32(TSS + 32), CODE_AT, "the faulting instruction");
    assert_eq!(lab.read32(TSS + 36) & flags::RF, flags::RF);
    // INT n resumes behind itself.
    let mut lab = self::lab();
    lab.set_gate(0x40, gate(0x85, TASK2, 0, 0));
    lab.ok(|c, b| c.interrupt(b, 0x40, Source::IntN));
    assert_eq!(lab.read32(TSS + 32), CODE_AT + 2);
    assert_eq!(lab.cpu.rip, u64::from(TASK_CODE));
}

#[test]
fn task_gate_and_tss_privilege() {
    // SDM vol. 3, 7.2.5.
    let mut lab = Lab::ring(3);
    second_task(&mut lab);
    lab.faults(Fault::gp(TASK2), |c, b| c.far_jump(b, TASK2, 0, true));
    lab.set_descriptor(FREE, gate(0x85, TASK2, 0, 0));
    lab.faults(Fault::gp(FREE), |c, b| c.far_call(b, FREE, 0, true));
    lab.set_descriptor(FREE, gate(0xe5, TASK, 0, 0));
    lab.faults(Fault::gp(TASK), |c, b| c.far_call(b, FREE, 0, true));
    lab.set_descriptor(FREE, gate(0xe5, TASK2, 0, 0));
    lab.ok(|c, b| c.far_call(b, FREE, 0, true));
    assert_eq!(lab.cpu.cpl, 0, "the TSS descriptor's DPL does not matter");
    let mut lab = self::lab();
    lab.set_descriptor(TASK2, descriptor(TSS2, 0x67, 0x09, 0));
    lab.faults(Fault::np(TASK2), |c, b| c.far_jump(b, TASK2, 0, true));
    lab.set_descriptor(TASK2, descriptor(TSS2, 0x66, 0x89, 0));
    lab.faults(Fault::ts(TASK2), |c, b| c.far_jump(b, TASK2, 0, true));
}

#[test]
fn a_missing_page_of_either_tss_faults_in_the_old_task() {
    // SDM vol. 3, 7.3, step 7.
    let mut lab = lab();
    lab.enable_paging();
    lab.set_page(TSS2, 0);
    lab.faults(Fault::pf(0), |c, b| c.far_jump(b, TASK2, 0, true));
    lab.set_page(TSS2, 7);
    lab.set_page(TSS, 5);
    lab.faults(Fault::pf(3), |c, b| c.far_jump(b, TASK2, 0, true));
    assert!(busy(&lab, TASK) && !busy(&lab, TASK2));
}

/// Switches with one segment selector or the LDT of the new task spoiled; the fault must come in the new task.
#[track_caller]
fn spoiled(offset: u32, selector: u16, expected: Fault) {
    let mut lab = lab();
    lab.write16(TSS2 + offset, selector);
    let result: Exec = lab.cpu.far_jump(&mut lab.bus, TASK2, 0, true);
    assert_eq!(result, Err(expected));
    assert_eq!(lab.cpu.tr.selector, TASK2);
    assert_eq!(lab.cpu.rip, u64::from(TASK_CODE));
}

#[test]
fn bad_selectors_fault_in_the_new_task() {
    // SDM vol. 3, table 7-1.
    spoiled(96, DATA0, Fault::ts(DATA0));
    spoiled(96, OUTSIDE, Fault::ts(OUTSIDE));
    spoiled(76, 0, Fault::ts(0));
    spoiled(76, DATA0, Fault::ts(DATA0));
    spoiled(76, CODE0 | 3, Fault::ts(CODE0));
    spoiled(80, 0, Fault::ts(0));
    spoiled(80, DATA3, Fault::ts(0x20));
    spoiled(80, ABSENT, Fault::ss(ABSENT));
    spoiled(84, TASK, Fault::ts(TASK));
    spoiled(84, ABSENT, Fault::np(ABSENT));
}

#[test]
fn sixteen_bit_tasks_save_words() {
    // SDM vol. 3, 7.6.
    let mut lab = lab();
    lab.set_descriptor(TASK2, descriptor(TSS2, 0x2b, 0x81, 0));
    for i in 0..0x2c {
        lab.write16(TSS2 + i, 0);
    }
    lab.write16(TSS2 + 14, 0x1234);
    lab.write16(TSS2 + 16, 2);
    lab.write16(TSS2 + 18, 0x5678);
    lab.write16(TSS2 + 26, 0xd000);
    for (i, s) in [DATA0, CODE16, STACK16, DATA0].into_iter().enumerate() {
        lab.write16(TSS2 + 34 + 2 * i as u32, s);
    }
    lab.ok(|c, b| c.far_call(b, TASK2, 0, true));
    assert_eq!(lab.cpu.rip, 0x1234);
    assert_eq!(lab.cpu.reg16(RAX), 0x5678);
    assert_eq!(lab.read16(TSS2), TASK);
    lab.at(0x1300, 1);
    lab.cpu.set_reg32(RAX, 0xabcd_4321);
    lab.ok(|c, b| c.iret(b, false));
    assert_eq!(lab.read16(TSS2 + 14), 0x1301);
    assert_eq!(lab.read16(TSS2 + 18), 0x4321);
    assert_eq!(lab.read16(TSS2 + 20), 0, "ECX is next");
    assert_eq!(lab.cpu.rip, u64::from(CODE_AT + 2));
}

#[test]
fn the_trap_bit_raises_debug_before_the_first_instruction() {
    // SDM vol. 3, 18.3.1.5.
    let mut lab = lab();
    lab.write32(TSS2 + 100, 1);
    lab.set_gate(1, gate(0x8e, CODE0, 0x5_0000, 0));
    lab.ok(|c, b| c.far_jump(b, TASK2, 0, true));
    let trap = lab.cpu.debug_trap(&mut lab.bus, false);
    assert_eq!(trap, Some(Delivered::Ok));
    assert_eq!(lab.stack32(1), [TASK_CODE]);
    assert!(lab.cpu.dr[6] & 0x8000 != 0);
}

#[test]
fn a_task_may_be_a_virtual_8086_one() {
    // SDM vol. 3, 21.2.1.
    let mut lab = lab();
    lab.write32(TSS2 + 32, 0x100);
    lab.write32(TSS2 + 36, flags::VM | 2);
    for i in 0..6 {
        lab.write32(TSS2 + 72 + 4 * i, 0x1110 * (i + 1));
    }
    lab.ok(|c, b| c.far_jump(b, TASK2, 0, true));
    assert!(lab.cpu.vm86());
    assert_eq!((lab.cpu.cpl, lab.cpu.segment(Seg::Cs).base), (3, 0x22200));
}
