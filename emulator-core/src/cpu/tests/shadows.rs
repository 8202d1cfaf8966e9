//! What is held off behind STI and loads of SS, and what comes first when several things wait.

use crate::cpu::flags;
use crate::cpu::state::*;
use crate::cpu::testing::*;

const NOPS: [u8; 8] = [0x90; 8];

fn lab() -> Lab {
    let mut lab = Lab::protected();
    lab.handlers();
    lab
}

#[test]
fn an_interrupt_waits_one_instruction_behind_sti() {
    // SDM vol. 2, STI.
    let mut lab = lab();
    lab.cpu.set_eflags(0);
    lab.code(&[0xfb, 0x40, 0x40]);
    lab.bus.interrupt = Some(0x40);
    lab.run(3);
    assert_eq!(lab.cpu.reg32(RAX), 1, "the INC behind STI, not the next one");
    assert_eq!(lab.stack32(1), [CODE_AT + 2]);
    // STI; CLI: the interrupt never gets in.
    let mut lab = self::lab();
    lab.cpu.set_eflags(0);
    lab.code(&[0xfb, 0xfa, 0x40]);
    lab.bus.interrupt = Some(0x40);
    lab.run(3);
    assert_eq!(lab.cpu.reg32(RAX), 1);
    assert_eq!(lab.bus.interrupt, Some(0x40));
}

#[test]
fn interrupts_and_traps_wait_one_instruction_behind_a_load_of_ss() {
    // SDM vol. 3, 6.8.3.
    for load in [&[0x8e, 0xd0][..], &[0x17, 0x90]] {
        let mut lab = lab();
        lab.cpu.set_reg32(RAX, DATA0.into());
        lab.put_stack32(&[DATA0.into()]);
        lab.code(load);
        let at = CODE_AT + if load[0] == 0x17 { 1 } else { 2 };
        lab.bus.mem.block().write(at, &[0x41, 0x41, 0x41]);
        lab.bus.interrupt = Some(0x40);
        lab.cpu.set_eflags(0);
        lab.step();
        lab.cpu.system_flags |= flags::IF;
        lab.run(2);
        assert_eq!(lab.cpu.reg32(RCX), 1, "{load:x?}");
        assert_eq!(lab.stack32(1), [at + 1]);
        // The same with the trap flag.
        let mut lab = self::lab();
        lab.cpu.set_reg32(RAX, DATA0.into());
        lab.put_stack32(&[DATA0.into()]);
        lab.code(load);
        lab.bus.mem.block().write(at, &[0x41, 0x41, 0x41]);
        lab.cpu.system_flags |= flags::TF;
        lab.step();
        assert_eq!(lab.vector(), None, "{load:x?}");
        lab.step();
        assert_eq!(lab.vector(), Some(1), "{load:x?}");
        assert_eq!(lab.stack32(1), [at + 1]);
    }
}

#[test]
fn lss_needs_no_shadow() {
    // SDM vol. 3, 6.8.3: LSS loads SS and ESP in one instruction.
    let mut lab = lab();
    lab.write32(0x6000, STACK0);
    lab.write16(0x6004, DATA0);
    lab.cpu.system_flags |= flags::TF;
    assert_eq!(lab.execute(&[0x0f, 0xb2, 0x25, 0, 0x60, 0, 0]), Some(1));
}

#[test]
fn a_trap_comes_before_an_nmi_and_an_nmi_before_an_interrupt() {
    // SDM vol. 3, 6.9, table 6-2.
    let mut lab = lab();
    lab.code(&NOPS);
    lab.cpu.system_flags |= flags::TF;
    lab.step();
    assert_eq!(lab.vector(), Some(1));
    lab.cpu.nmi_pending = true;
    lab.bus.interrupt = Some(0x40);
    lab.cpu.system_flags |= flags::IF;
    lab.write16(HANDLERS + 2 * 16, 0x9090);
    lab.run(1);
    assert_eq!(lab.stack32(1), [HANDLERS + 16], "the NMI interrupted the #DB handler");
    assert_eq!(lab.bus.interrupt, Some(0x40), "which the NMI's gate holds off");
}

#[test]
fn an_interrupt_comes_before_the_breakpoint_and_the_faults_of_the_next_instruction() {
    // SDM vol. 3, 6.9, table 6-2.
    let mut lab = lab();
    lab.cpu.dr[0] = CODE_AT.into();
    lab.ok(|c, b| c.mov_to_dr(b, 7, 1));
    lab.at(CODE_AT, 2);
    lab.code(&[0x0f, 0x0b]);
    lab.bus.interrupt = Some(0x40);
    lab.write16(HANDLERS + 0x40 * 16, 0x9090);
    lab.run(1);
    assert_eq!(lab.stack32(1), [CODE_AT]);
    assert_eq!(lab.cpu.dr[6] & 15, 0);
    lab.cpu.rip = CODE_AT.into();
    lab.step();
    assert_eq!((lab.vector(), lab.cpu.dr[6] & 15), (Some(1), 1), "then the breakpoint");
    lab.cpu.rip = CODE_AT.into();
    lab.cpu.system_flags |= flags::RF;
    lab.step();
    assert_eq!(lab.vector(), Some(6), "then #UD");
}

#[test]
fn fetch_faults_come_before_decoding_faults_and_those_before_operand_faults() {
    // SDM vol. 3, 6.9, table 6-2.
    let mut lab = lab();
    lab.enable_paging();
    lab.at(0x4_0fff, 2);
    lab.code(&[0x0f, 0x0b]);
    lab.set_page(0x4_1000, 0);
    lab.step();
    assert_eq!((lab.vector(), lab.cpu.cr2), (Some(14), 0x4_1000), "the fetch of the second byte");
    // LOCK on an instruction that takes none, with an operand that would fault.
    let mut lab = self::lab();
    lab.enable_paging();
    lab.set_page(0x6_0000, 0);
    assert_eq!(lab.execute(&[0xf0, 0xa1, 0, 0, 6, 0]), Some(6));
    // The device check comes before the operand's page.
    let mut lab = self::lab();
    lab.enable_paging();
    lab.set_page(0x6_0000, 0);
    lab.cpu.cr0 |= cr0::TS;
    assert_eq!(lab.execute(&[0xd9, 0x05, 0, 0, 6, 0]), Some(7));
}

#[test]
fn the_segment_comes_before_the_page() {
    // SDM vol. 3, 6.9: the linear address does not exist before the segment allows it.
    let mut lab = lab();
    lab.enable_paging();
    lab.set_page(0x5000, 0);
    lab.set_descriptor(FREE, descriptor(0x5000, 0xff, 0x92, 4));
    lab.ok(|c, b| c.load_segment(b, crate::cpu::Seg::Fs, FREE));
    lab.at(CODE_AT, 2);
    assert_eq!(lab.execute(&[0x64, 0xa1, 0, 1, 0, 0]), Some(13));
    lab.at(CODE_AT, 2);
    assert_eq!(lab.execute(&[0x64, 0xa1, 0xfc, 0, 0, 0]), Some(14));
}
