//! Virtual-8086 mode: IOPL, VME, software interrupts (SDM vol. 3, 21.3).

use crate::cpu::segment::Seg;
use crate::cpu::state::cr4;
use crate::cpu::testing::*;
use crate::cpu::{Fault, Source, flags};

const HANDLER: u32 = 0x3_0000;

#[test]
fn segment_loads_multiply_by_16() {
    let mut lab = Lab::vm86(0);
    lab.ok(|c, b| c.load_segment(b, Seg::Es, 0xfff0));
    let es = *lab.cpu.segment(Seg::Es);
    assert_eq!((es.base, es.limit, es.dpl()), (0xfff00, 0xffff, 3));
}

#[test]
fn without_vme_iopl_below_3_traps_every_sensitive_instruction() {
    let mut lab = Lab::vm86(0);
    lab.faults(Fault::gp(0), |c, _| c.cli());
    lab.faults(Fault::gp(0), |c, _| c.sti());
    lab.faults(Fault::gp(0), |c, b| c.pushf(b, false));
    lab.faults(Fault::gp(0), |c, b| c.popf(b, false));
    lab.faults(Fault::gp(0), |c, b| c.iret(b, false));
    lab.faults(Fault::gp(0), |c, b| c.interrupt(b, 0x21, Source::IntN));
}

#[test]
fn iopl_3_sends_interrupts_to_the_protected_mode_handler() {
    // Method 1.
    let mut lab = Lab::vm86(3);
    lab.set_gate(0x21, gate(0xee, CODE0, HANDLER, 0));
    lab.ok(|c, b| c.interrupt(b, 0x21, Source::IntN));
    assert_eq!((lab.cpu.cpl, lab.cpu.rip), (0, u64::from(HANDLER)));
    assert_eq!(lab.stack32(2), [0x12, 0x2000]);
}

#[test]
fn int3_ignores_iopl_but_not_the_gates_dpl() {
    let mut lab = Lab::vm86(0);
    lab.cpu.cr4 |= cr4::VME;
    lab.set_gate(3, gate(0x8e, CODE0, HANDLER, 0));
    lab.faults(Fault::gp(3 * 8 + 2), |c, b| c.interrupt(b, 3, Source::Int3));
    lab.set_gate(3, gate(0xee, CODE0, HANDLER, 0));
    lab.ok(|c, b| c.interrupt(b, 3, Source::Int3));
    assert_eq!(lab.cpu.cpl, 0);
}

#[test]
fn vme_redirects_by_the_map() {
    // Methods 3 and 6.
    let mut lab = Lab::vm86(0);
    lab.cpu.cr4 |= cr4::VME;
    lab.cpu.system_flags |= flags::VIF;
    lab.ok(|c, b| c.interrupt(b, 0x21, Source::IntN));
    assert!(lab.cpu.vm86());
    assert_eq!((lab.selector(Seg::Cs), lab.cpu.rip), (0x3000, 0x121));
    // The image shows VIF as IF, and IOPL 3.
    assert_eq!(lab.stack16(3), [0x12, 0x2000, 0x3202]);
    assert!(!lab.cpu.flag(flags::VIF) && lab.cpu.flag(flags::IF));
    // Bit set in the map: to the monitor.
    lab.write16(TSS + 0x68 + 0x21 / 8, 1 << 1);
    lab.faults(Fault::gp(0), |c, b| c.interrupt(b, 0x21, Source::IntN));
    // Method 5: IOPL 3 and a clear bit clears IF itself.
    let mut lab = Lab::vm86(3);
    lab.cpu.cr4 |= cr4::VME;
    lab.ok(|c, b| c.interrupt(b, 0x21, Source::IntN));
    assert!(lab.cpu.vm86() && !lab.cpu.flag(flags::IF));
}

#[test]
fn vme_runs_flag_instructions_on_vif() {
    // SDM vol. 3, 21.3.2 and vol. 2, POPF, IRET.
    let mut lab = Lab::vm86(0);
    lab.cpu.cr4 |= cr4::VME;
    lab.ok(|c, _| c.sti());
    assert!(lab.cpu.flag(flags::VIF));
    lab.ok(|c, b| c.pushf(b, false));
    assert_eq!(lab.stack16(1), [0x3202]);
    lab.faults(Fault::gp(0), |c, b| c.pushf(b, true));
    lab.put_stack16(&[0]);
    lab.ok(|c, b| c.popf(b, false));
    assert!(!lab.cpu.flag(flags::VIF) && lab.cpu.flag(flags::IF));
    lab.put_stack16(&[flags::TF as u16]);
    lab.faults(Fault::gp(0), |c, b| c.popf(b, false));
    lab.put_stack16(&[0x50, 0x6000, flags::IF as u16]);
    lab.ok(|c, b| c.iret(b, false));
    assert_eq!((lab.selector(Seg::Cs), lab.cpu.rip), (0x6000, 0x50));
    assert!(lab.cpu.flag(flags::VIF));
    assert_eq!(lab.cpu.iopl(), 0);
    lab.cpu.system_flags |= flags::VIP;
    lab.put_stack16(&[flags::IF as u16]);
    lab.faults(Fault::gp(0), |c, b| c.popf(b, false));
    lab.faults(Fault::gp(0), |c, _| c.sti());
}

#[test]
fn iopl_3_iret_keeps_iopl_and_vm() {
    let mut lab = Lab::vm86(3);
    lab.put_stack16(&[0x50, 0x6000, 0]);
    lab.ok(|c, b| c.iret(b, false));
    assert!(lab.cpu.vm86());
    assert_eq!(lab.cpu.iopl(), 3);
    assert!(!lab.cpu.flag(flags::IF));
}
