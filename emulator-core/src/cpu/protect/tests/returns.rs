//! IRET, and the flag instructions (SDM vol. 2).

use crate::cpu::segment::Seg;
use crate::cpu::state::{RSP, Shadow, cr4};
use crate::cpu::testing::*;
use crate::cpu::{Fault, flags};

#[test]
fn real_mode_iret_loads_low_flags_or_all() {
    let mut lab = Lab::real();
    lab.cpu.set_eflags(flags::AC);
    lab.put_stack16(&[0x100, 0x3000, 0x7ed5]);
    lab.ok(|c, b| c.iret(b, false));
    assert_eq!((lab.selector(Seg::Cs), lab.cpu.rip), (0x3000, 0x100));
    assert_eq!(lab.cpu.eflags(), flags::AC | 0x7ed7);
    lab.put_stack32(&[0x200, 0x4000, 0xffff_ffff]);
    lab.ok(|c, b| c.iret(b, true));
    // VM, VIF and VIP keep their values.
    assert_eq!(lab.cpu.eflags(), 0x0025_7fd7);
    lab.put_stack32(&[0x1_0000, 0x4000, 0]);
    lab.faults(Fault::gp(0), |c, b| c.iret(b, true));
}

#[test]
fn iret_to_ring_3_restores_stack_and_clears_inner_segments() {
    let mut lab = Lab::protected();
    lab.put_stack32(&[0x55, CODE3.into(), 0x3202, STACK3, DATA3.into()]);
    lab.ok(|c, b| c.iret(b, true));
    assert_eq!((lab.cpu.cpl, lab.cpu.rip), (3, 0x55));
    assert_eq!((lab.selector(Seg::Ss), lab.cpu.reg32(RSP)), (DATA3, STACK3));
    assert_eq!(lab.cpu.iopl(), 3);
    assert!(!lab.cpu.segment(Seg::Ds).present());
}

#[test]
fn iret_to_a_16_bit_stack_keeps_the_upper_half_of_esp() {
    let mut lab = Lab::protected();
    lab.set_descriptor(FREE, descriptor(0, 0xffff, 0xf2, 0));
    lab.cpu.set_reg32(RSP, 0x2_9000);
    lab.put_stack32(&[0x55, CODE3.into(), 2, 0x1234, u32::from(FREE | 3)]);
    lab.ok(|c, b| c.iret(b, true));
    assert_eq!(lab.cpu.reg32(RSP), 0x2_1234);
}

#[test]
fn iret_masks_if_and_iopl_by_privilege() {
    // SDM vol. 2, IRET, RETURN-TO-SAME-PRIVILEGE-LEVEL.
    let mut lab = Lab::ring(3);
    lab.cpu.set_eflags(flags::IF);
    lab.put_stack32(&[0x55, CODE3.into(), flags::IOPL | flags::ID | flags::VIF]);
    lab.ok(|c, b| c.iret(b, true));
    assert_eq!(lab.cpu.eflags(), flags::IF | flags::ID | 2);
    let mut lab = Lab::protected();
    lab.put_stack32(&[0x55, CODE0.into(), flags::IOPL | flags::VIF | flags::RF]);
    lab.ok(|c, b| c.iret(b, true));
    assert_eq!(lab.cpu.eflags(), flags::IOPL | flags::VIF | flags::RF | 2);
}

#[test]
fn iret_returns_to_virtual_8086_mode_from_ring_0_only() {
    // SDM vol. 3, 21.2.5.
    let frame = [0x100, 0x2000, flags::VM | flags::IF | 2, 0x800, 0x1000, 0x2222, 0x1111, 0x3333, 0x4444];
    let mut lab = Lab::protected();
    lab.put_stack32(&frame);
    lab.ok(|c, b| c.iret(b, true));
    assert!(lab.cpu.vm86());
    assert_eq!((lab.cpu.cpl, lab.cpu.rip), (3, 0x100));
    let ds = *lab.cpu.segment(Seg::Ds);
    assert_eq!((ds.base, ds.limit, ds.dpl()), (0x11110, 0xffff, 3));
    assert_eq!(lab.selector(Seg::Gs), 0x4444);
    assert_eq!((lab.selector(Seg::Ss), lab.cpu.reg32(RSP)), (0x1000, 0x800));
    let mut lab = Lab::protected();
    let mut far = frame;
    far[0] = 0x1_0000;
    lab.put_stack32(&far);
    lab.faults(Fault::gp(0), |c, b| c.iret(b, true));
    // Elsewhere VM in the image is ignored and CS is a selector.
    let mut lab = Lab::ring(1);
    lab.put_stack32(&[0x55, CODE1.into(), flags::VM | 2]);
    lab.ok(|c, b| c.iret(b, true));
    assert!(!lab.cpu.vm86());
}

#[test]
fn popf_changes_only_what_the_level_may() {
    // SDM vol. 2, POPF, table 4-16.
    let all = 0x003f_7fd5;
    let mut lab = Lab::ring(3);
    lab.put_stack32(&[all]);
    lab.ok(|c, b| c.popf(b, true));
    let kept = flags::IOPL | flags::VIF | flags::VIP | flags::VM | flags::RF;
    assert_eq!(lab.cpu.eflags(), all & !kept | 2);
    let mut lab = Lab::ring(3);
    lab.cpu.set_eflags(flags::IF);
    lab.put_stack16(&[0]);
    lab.ok(|c, b| c.popf(b, false));
    assert!(lab.cpu.flag(flags::IF), "CPL 3 > IOPL 0");
    let mut lab = Lab::protected();
    lab.put_stack32(&[flags::IOPL]);
    lab.ok(|c, b| c.popf(b, true));
    assert_eq!(lab.cpu.eflags(), flags::IOPL | 2);
}

#[test]
fn pushf_hides_vm_and_rf() {
    let mut lab = Lab::vm86(3);
    lab.cpu.system_flags |= flags::RF;
    lab.ok(|c, b| c.pushf(b, true));
    assert_eq!(lab.stack32(1), [flags::IF | flags::IOPL | 2]);
}

#[test]
fn cli_and_sti_obey_iopl_and_sti_opens_after_one_instruction() {
    let mut lab = Lab::ring(3);
    lab.faults(Fault::gp(0), |c, _| c.cli());
    lab.faults(Fault::gp(0), |c, _| c.sti());
    let mut lab = Lab::protected();
    lab.ok(|c, _| c.sti());
    assert_eq!(lab.cpu.shadow, Shadow::None, "IF was set already");
    lab.ok(|c, _| c.cli());
    lab.ok(|c, _| c.sti());
    assert_eq!(lab.cpu.shadow, Shadow::Sti);
}

#[test]
fn protected_mode_virtual_interrupts() {
    // SDM vol. 3, 21.4 (PVI).
    let mut lab = Lab::ring(3);
    lab.cpu.cr4 |= cr4::PVI;
    lab.ok(|c, _| c.sti());
    assert!(lab.cpu.flag(flags::VIF));
    lab.ok(|c, _| c.cli());
    assert!(!lab.cpu.flag(flags::VIF) && lab.cpu.flag(flags::IF));
    lab.cpu.system_flags |= flags::VIP;
    lab.faults(Fault::gp(0), |c, _| c.sti());
    let mut lab = Lab::ring(1);
    lab.cpu.cr4 |= cr4::PVI;
    lab.faults(Fault::gp(0), |c, _| c.sti());
}
