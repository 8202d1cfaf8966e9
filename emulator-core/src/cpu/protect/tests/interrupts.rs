//! Delivery of interrupts and exceptions (SDM vol. 3, chapter 6).

use crate::cpu::flags;
use crate::cpu::segment::Seg;
use crate::cpu::state::{Activity, RSP, TableReg};
use crate::cpu::testing::*;
use crate::cpu::{Delivered, Fault, Source};

const HANDLER: u32 = 0x3_0000;

#[test]
fn real_mode_pushes_three_words_and_masks() {
    // SDM vol. 3, 21.1.4.
    let mut lab = Lab::real();
    lab.cpu.set_eflags(flags::IF | flags::TF | flags::CF);
    lab.ok(|c, b| c.interrupt(b, 0x21, Source::IntN));
    assert_eq!((lab.selector(Seg::Cs), lab.cpu.rip), (0x3000, 0x121));
    assert_eq!(lab.stack16(3), [0x12, 0x2000, 0x0303]);
    assert_eq!(lab.cpu.eflags(), flags::CF | 2);
    // A fault pushes its own address and no error code.
    let mut lab = Lab::real();
    assert_eq!(lab.deliver(Fault::gp(0x18)), Delivered::Ok);
    assert_eq!(lab.stack16(3), [0x10, 0x2000, 2]);
    assert_eq!(lab.cpu.reg32(RSP), STACK0 - 6);
}

#[test]
fn real_mode_table_limit_escalates_to_double_fault_and_shutdown() {
    // SDM vol. 3, 21.1.4: vector outside the table is #GP, and so on.
    let mut lab = Lab::real();
    lab.cpu.idtr.limit = 0x21 * 4 + 2;
    lab.faults(Fault::gp(0x21 * 8 + 2), |c, b| c.interrupt(b, 0x21, Source::IntN));
    // Only vector 8 remains: #GP cannot be delivered, #DF can.
    lab.cpu.idtr.limit = 8 * 4 + 3;
    assert_eq!(lab.deliver(Fault::gp(0)), Delivered::Ok);
    assert_eq!(lab.cpu.rip, 0x108);
    lab.cpu.idtr.limit = 0;
    assert_eq!(lab.deliver(Fault::gp(0)), Delivered::Shutdown);
    assert_eq!(lab.cpu.activity, Activity::Shutdown);
}

#[test]
fn real_mode_push_with_sp_1_shuts_down() {
    // SDM vol. 2, PUSH, real-address mode exceptions.
    let mut lab = Lab::real();
    lab.cpu.set_reg32(RSP, 1);
    assert_eq!(lab.deliver(Fault::ss(0)), Delivered::Shutdown);
}

#[test]
fn an_interrupt_gate_from_ring_3_switches_stacks() {
    // SDM vol. 3, 6.12.1, figure 6-4.
    let mut lab = Lab::ring(3);
    lab.set_gate(0x40, gate(0x8e, CODE0, HANDLER, 0));
    lab.cpu.set_eflags(flags::IF | flags::TF | flags::NT | flags::AC);
    assert_eq!(lab.cpu.take_interrupt(&mut lab.bus, 0x40), Delivered::Ok);
    assert_eq!((lab.selector(Seg::Cs), lab.cpu.cpl), (CODE0, 0));
    assert_eq!(lab.cpu.rip, u64::from(HANDLER));
    let image = flags::IF | flags::TF | flags::NT | flags::AC | 2;
    assert_eq!(lab.stack32(5), [CODE_AT, 0x1b, image, STACK3, 0x23]);
    assert_eq!(lab.cpu.eflags(), flags::AC | 2);
    assert_eq!(lab.selector(Seg::Ds), DATA3);
}

#[test]
fn a_trap_gate_leaves_interrupts_on_and_stays_on_the_stack_at_the_same_level() {
    let mut lab = Lab::protected();
    lab.set_gate(0x40, gate(0x8f, CODE0, HANDLER, 0));
    lab.ok(|c, b| c.interrupt(b, 0x40, Source::IntN));
    assert_eq!(lab.stack32(3), [CODE_AT + 2, CODE0.into(), 0x202]);
    assert_eq!(lab.cpu.reg32(RSP), STACK0 - 12);
    assert!(lab.cpu.flag(flags::IF));
}

#[test]
fn a_16_bit_gate_pushes_words() {
    let mut lab = Lab::protected();
    lab.set_gate(0x40, gate(0x86, CODE16, 0x5_4321, 0));
    lab.ok(|c, b| c.interrupt(b, 0x40, Source::IntN));
    assert_eq!(lab.cpu.rip, 0x4321);
    assert_eq!(lab.stack16(3), [(CODE_AT + 2) as u16, CODE0, 0x202]);
}

#[test]
fn faults_push_their_code_and_rf_but_traps_do_not() {
    // SDM vol. 3, 6.13 and 18.3.1.1.
    let mut lab = Lab::ring(3);
    lab.set_gate(13, gate(0x8e, CODE0, HANDLER, 0));
    lab.deliver(Fault::gp(0x1234));
    let image = flags::RF | 0x202;
    assert_eq!(lab.stack32(6), [0x1234, CODE_AT, 0x1b, image, STACK3, 0x23]);
    let mut lab = Lab::ring(3);
    lab.set_gate(3, gate(0xee, CODE0, HANDLER, 0));
    lab.ok(|c, b| c.interrupt(b, 3, Source::Int3));
    assert_eq!(lab.stack32(3), [CODE_AT + 2, 0x1b, 0x202]);
}

#[test]
fn software_interrupts_obey_the_gates_dpl_and_hardware_does_not() {
    // SDM vol. 3, 6.12.1.1.
    let mut lab = Lab::ring(3);
    lab.set_gate(0x40, gate(0x8e, CODE0, HANDLER, 0));
    let code = 0x40 * 8 + 2;
    lab.faults(Fault::gp(code), |c, b| c.interrupt(b, 0x40, Source::IntN));
    lab.faults(Fault::gp(code), |c, b| c.interrupt(b, 0x40, Source::Int3));
    lab.ok(|c, b| c.interrupt(b, 0x40, Source::Int1));
    assert_eq!(lab.cpu.cpl, 0);
}

#[test]
fn gate_faults_carry_idt_and_ext_bits() {
    // SDM vol. 3, 6.13.
    let mut lab = Lab::protected();
    let idt = 0x40 * 8 + 2;
    let cases = [
        (Fault::gp(idt), Fault::gp(idt + 1), 0),
        (Fault::np(idt), Fault::np(idt + 1), gate(0x0e, CODE0, 0, 0)),
        (Fault::gp(0), Fault::gp(1), gate(0x8e, 0, 0, 0)),
        (Fault::gp(OUTSIDE), Fault::gp(OUTSIDE + 1), gate(0x8e, OUTSIDE, 0, 0)),
        (Fault::gp(DATA0), Fault::gp(DATA0 + 1), gate(0x8e, DATA0, 0, 0)),
        (Fault::gp(0x18), Fault::gp(0x19), gate(0x8e, CODE3, 0, 0)),
        (Fault::gp(0), Fault::gp(1), gate(0x8e, FREE, 0x100, 0)),
    ];
    lab.set_descriptor(FREE, descriptor(0, 0xff, 0x9a, 4));
    for (software, external, raw) in cases {
        lab.set_gate(0x40, raw);
        lab.faults(software, |c, b| c.interrupt(b, 0x40, Source::IntN));
        lab.faults(external, |c, b| c.interrupt(b, 0x40, Source::External));
    }
    lab.cpu.idtr.limit = idt + 4;
    lab.faults(Fault::gp(idt), |c, b| c.interrupt(b, 0x40, Source::IntN));
    lab.set_gate(0x20, gate(0x8e, CODE0, 0, 0));
    lab.cpu.set_reg32(RSP, 8);
    lab.set_descriptor(FREE, descriptor(0, 0xfff, 0x92, 4));
    lab.ok(|c, b| c.load_segment(b, Seg::Ss, FREE));
    lab.cpu.set_reg32(RSP, 8);
    lab.faults(Fault::ss(1), |c, b| c.interrupt(b, 0x20, Source::External));
    lab.faults(Fault::ss(0), |c, b| c.interrupt(b, 0x20, Source::IntN));
}

#[test]
fn double_and_triple_faults_follow_the_contributory_table() {
    // SDM vol. 3, 6.15, table 6-5.
    let mut lab = Lab::protected();
    lab.set_gate(8, gate(0x8e, CODE0, HANDLER + 8, 0));
    lab.set_gate(11, gate(0x8e, CODE0, HANDLER + 11, 0));
    // #GP, whose gate is absent: #NP while delivering #GP is a double fault with code 0.
    lab.set_gate(13, gate(0x0e, CODE0, 0, 0));
    lab.deliver(Fault::gp(0));
    assert_eq!(lab.cpu.rip, u64::from(HANDLER + 8));
    assert_eq!(lab.stack32(2), [0, CODE_AT]);
    // Benign first: #UD, then #NP is delivered as it is, naming the #UD gate.
    let mut lab = Lab::protected();
    lab.set_gate(6, gate(0x0e, CODE0, 0, 0));
    lab.set_gate(11, gate(0x8e, CODE0, HANDLER + 11, 0));
    lab.deliver(Fault::UD);
    assert_eq!(lab.cpu.rip, u64::from(HANDLER + 11));
    assert_eq!(lab.stack32(2), [6 * 8 + 3, CODE_AT]);
    // No table at all.
    let mut lab = Lab::protected();
    lab.cpu.idtr = TableReg::default();
    assert_eq!(lab.deliver(Fault::UD), Delivered::Shutdown);
}

#[test]
fn a_page_fault_on_the_inner_stack_is_delivered_when_it_can_be() {
    // SDM vol. 3, 6.15: external interrupt, then #PF, are handled serially; #PF on #PF is a double fault.
    let mut lab = Lab::ring(3);
    lab.enable_paging();
    lab.set_gate(0x40, gate(0x8e, CODE0, HANDLER, 0));
    lab.set_page(STACK0 - 0x1000, 0);
    lab.faults(Fault::pf(2), |c, b| c.interrupt(b, 0x40, Source::External));
    assert_eq!(lab.cpu.cr2 as u32 & !0xfff, STACK0 - 0x1000);
    // #PF and #DF through gates that use the same stack: shutdown.
    lab.set_gate(14, gate(0x8e, CODE0, HANDLER, 0));
    lab.set_gate(8, gate(0x8e, CODE0, HANDLER, 0));
    assert_eq!(lab.cpu.take_interrupt(&mut lab.bus, 0x40), Delivered::Shutdown);
}

#[test]
fn conforming_handlers_run_at_the_interrupted_level() {
    // SDM vol. 3, 6.12.1.1.
    let mut lab = Lab::ring(3);
    lab.set_gate(0x40, gate(0xee, CONFORMING, HANDLER, 0));
    lab.ok(|c, b| c.interrupt(b, 0x40, Source::IntN));
    assert_eq!((lab.cpu.cpl, lab.selector(Seg::Cs)), (3, CONFORMING | 3));
    assert_eq!(lab.stack32(3), [CODE_AT + 2, 0x1b, 0x202]);
}

#[test]
fn virtual_8086_interrupts_save_the_data_segments() {
    // SDM vol. 3, 21.3.1, figure 21-4.
    let mut lab = Lab::vm86(0);
    lab.set_gate(0x40, gate(0x8e, CODE0, HANDLER, 0));
    assert_eq!(lab.cpu.take_interrupt(&mut lab.bus, 0x40), Delivered::Ok);
    let image = flags::VM | flags::IF | 2;
    assert_eq!(lab.stack32(9), [0x10, 0x2000, image, 0x800, 0x1000, 0x2222, 0x1111, 0x3333, 0x4444]);
    assert!(!lab.cpu.vm86());
    assert_eq!(lab.cpu.cpl, 0);
    for seg in [Seg::Ds, Seg::Es, Seg::Fs, Seg::Gs] {
        assert!(!lab.cpu.segment(seg).present());
    }
    // Only ring 0 may take it.
    let mut lab = Lab::vm86(0);
    lab.set_gate(0x40, gate(0x8e, CODE1 & !3, HANDLER, 0));
    lab.faults(Fault::gp(0x31), |c, b| c.interrupt(b, 0x40, Source::External));
    lab.set_gate(0x40, gate(0x8e, CONFORMING, HANDLER, 0));
    lab.faults(Fault::gp(CONFORMING + 1), |c, b| c.interrupt(b, 0x40, Source::External));
}

#[test]
fn nmi_is_blocked_until_iret() {
    // SDM vol. 3, 6.7.1.
    let mut lab = Lab::protected();
    lab.set_gate(2, gate(0x8e, CODE0, HANDLER, 0));
    lab.cpu.nmi_pending = true;
    lab.cpu.activity = Activity::Halted;
    assert_eq!(lab.cpu.take_nmi(&mut lab.bus), Delivered::Ok);
    assert!(lab.cpu.nmi_blocked && !lab.cpu.nmi_pending);
    assert_eq!(lab.cpu.activity, Activity::Running);
    lab.ok(|c, b| c.iret(b, true));
    assert!(!lab.cpu.nmi_blocked);
    assert_eq!(lab.cpu.rip, u64::from(CODE_AT));
}
