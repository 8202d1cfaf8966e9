//! Single step and debug registers (SDM vol. 3, chapter 18).

use crate::cpu::flags;
use crate::cpu::state::*;
use crate::cpu::testing::*;

fn lab() -> Lab {
    let mut lab = Lab::protected();
    lab.handlers();
    lab
}

/// Arms breakpoint `n` at `at` with the R/W and LEN fields of DR7.
fn arm(lab: &mut Lab, n: u32, at: u32, kind: u32, len: u32) {
    lab.cpu.dr[n as usize] = at.into();
    let dr7 = lab.cpu.dr[7] as u32 | 1 << (2 * n) | (kind | len << 2) << (16 + 4 * n);
    let rip = lab.cpu.rip as u32;
    lab.at(rip, 3);
    let (c, b) = (&mut lab.cpu, &mut lab.bus);
    c.mov_to_dr(b, 7, dr7).expect("ring 0");
}

/// The flags and the address that the topmost frame holds.
fn frame(lab: &Lab) -> (u32, u32) {
    let words = lab.stack32(3);
    (words[0], words[2])
}

#[test]
fn tf_traps_behind_each_instruction_and_the_handler_runs_without_it() {
    // SDM vol. 3, 18.3.1.4.
    let mut lab = lab();
    lab.cpu.system_flags |= flags::TF;
    assert_eq!(lab.execute(&[0x40]), Some(1));
    assert_eq!(frame(&lab), (CODE_AT + 1, 0x202 | flags::TF));
    assert_eq!(lab.cpu.dr[6], 0xffff_4ff0, "BS alone");
    assert_eq!(lab.execute(&[0xcf]), None, "IRET turns TF on: it does not trap itself");
    assert_eq!(lab.execute(&[0x40]), Some(1));
    assert_eq!(frame(&lab).0, CODE_AT + 2);
}

#[test]
fn popf_that_sets_tf_traps_behind_the_next_instruction() {
    // SDM vol. 3, 18.3.1.4.
    let mut lab = lab();
    lab.put_stack32(&[flags::TF | 2]);
    assert_eq!(lab.execute(&[0x9d]), None);
    assert_eq!(lab.execute(&[0x9d]), Some(1));
}

#[test]
fn software_interrupts_are_not_trapped_but_an_into_that_does_nothing_is() {
    // SDM vol. 3, 18.3.1.4 and 6.4.2.
    for (code, vector) in [(&[0xcd, 0x40][..], 0x40), (&[0xcc], 3), (&[0xf1], 1)] {
        let mut lab = lab();
        lab.cpu.system_flags |= flags::TF;
        assert_eq!(lab.execute(code), Some(vector), "{code:x?}");
        assert_eq!(lab.cpu.dr[6] & 0x4000, 0, "{code:x?}");
    }
    let mut lab = lab();
    lab.cpu.system_flags |= flags::TF;
    assert_eq!(lab.execute(&[0xce]), Some(1));
    assert_eq!(frame(&lab).0, CODE_AT + 1);
    lab.cpu.system_flags |= flags::TF;
    lab.cpu.set_status(flags::OF);
    assert_eq!(lab.execute(&[0xce]), Some(4));
}

#[test]
fn int1_is_a_trap_without_a_reason_in_dr6() {
    // SDM vol. 3, 6.3.1 and 18.3.1.
    let mut lab = Lab::ring(3);
    lab.set_gate(1, gate(0x8e, CODE0, HANDLERS + 16, 0));
    assert_eq!(lab.execute(&[0xf1]), Some(1), "the gate's DPL does not matter");
    assert_eq!(lab.stack32(1), [CODE_AT + 1]);
    assert_eq!(lab.cpu.dr[6], 0xffff_0ff0);
}

#[test]
fn rep_traps_behind_each_iteration_with_rf_in_the_image() {
    // SDM vol. 3, 18.3.1.4 and 18.3.1.1.
    for code in [[0xf3, 0xaa], [0xf3, 0xa4], [0xf3, 0xac]] {
        let mut lab = lab();
        lab.cpu.set_reg32(RCX, 3);
        lab.cpu.set_reg32(RDI, 0x6000);
        lab.cpu.set_reg32(RSI, 0x6100);
        lab.cpu.system_flags |= flags::TF;
        for left in [2, 1] {
            assert_eq!(lab.execute(&code), Some(1));
            assert_eq!(lab.cpu.reg32(RCX), left);
            let (back, image) = frame(&lab);
            assert_eq!((back, image & flags::RF), (CODE_AT, flags::RF));
            assert_eq!(lab.execute(&[0xcf]), None);
        }
        assert_eq!(lab.execute(&code), Some(1));
        let (back, image) = frame(&lab);
        assert_eq!((back, image & flags::RF), (CODE_AT + 2, 0), "the last iteration");
    }
}

#[test]
fn an_interrupt_between_two_iterations_pushes_rf() {
    // SDM vol. 3, 18.3.1.1.
    let mut lab = lab();
    lab.cpu.set_reg32(RCX, 10_000);
    lab.cpu.set_reg32(RDI, 0x6_0000);
    lab.code(&[0xf3, 0xaa, 0x40]);
    lab.write16(HANDLERS + 0x40 * 16, 0xfeeb);
    lab.run(1);
    assert!(lab.cpu.reg32(RCX) != 0 && lab.cpu.rip == u64::from(CODE_AT));
    lab.bus.interrupt = Some(0x40);
    lab.run(1);
    assert_eq!(frame(&lab), (CODE_AT, 0x202 | flags::RF));
    // And not once it is complete.
    lab.write16(HANDLERS + 0x40 * 16, 0xcf);
    lab.run(10);
    assert_eq!((lab.cpu.reg32(RCX), lab.cpu.flag(flags::RF)), (0, false));
}

#[test]
fn an_instruction_breakpoint_comes_before_the_instruction_and_once() {
    // SDM vol. 3, 18.3.1.1.
    let mut lab = lab();
    lab.code(&[0x40, 0x43, 0xeb, 0xfc]);
    arm(&mut lab, 2, CODE_AT + 1, 0, 0);
    lab.run(2);
    assert_eq!(lab.cpu.reg32(RBX), 0, "the instruction did not run");
    assert_eq!(frame(&lab).0, CODE_AT + 1);
    assert_eq!(lab.cpu.dr[6] & 0xf, 4);
    // The handler returns with RF set: the instruction runs, and RF is clear behind it.
    let sp = lab.cpu.reg32(RSP);
    lab.write32(sp + 8, 0x202 | flags::RF);
    lab.cpu.rip = (HANDLERS + 16).into();
    lab.code(&[0xcf]);
    lab.run(2);
    assert_eq!(lab.cpu.reg32(RBX), 1);
    assert!(!lab.cpu.flag(flags::RF));
    lab.run(3);
    assert_eq!(lab.cpu.reg32(RBX), 1, "and the next time round it hits again");
}

#[test]
fn rf_is_cleared_by_every_instruction_whether_or_not_breakpoints_are_armed() {
    // SDM vol. 3, 18.3.1.1.
    for code in [&[0x40][..], &[0xea, 0x10, 0, 2, 0, 8, 0], &[0x9d]] {
        let mut lab = lab();
        lab.put_stack32(&[2]);
        lab.code(code);
        lab.cpu.system_flags |= flags::RF;
        lab.run(1);
        assert!(!lab.cpu.flag(flags::RF), "{code:x?}");
    }
}

#[test]
fn mov_ss_holds_off_an_instruction_breakpoint() {
    // SDM vol. 3, 6.8.3.
    let mut lab = lab();
    lab.cpu.set_reg32(RAX, DATA0.into());
    arm(&mut lab, 0, CODE_AT + 2, 0, 0);
    lab.at(CODE_AT, 2);
    assert_eq!(lab.execute(&[0x8e, 0xd0]), None);
    assert_eq!(lab.execute(&[0x43]), None);
    assert_eq!(lab.cpu.reg32(RBX), 1);
}

#[test]
fn data_breakpoints_trap_behind_the_access() {
    // SDM vol. 3, 18.2.5 and 18.3.1.2. 4 bytes at 6000h; kind 1 writes, 3 accesses.
    let store: &[u8] = &[0x89, 0x03];
    let load: &[u8] = &[0x8b, 0x03];
    for (kind, at, code, hit) in [
        (1, 0x6000, store, true),
        (1, 0x5ffd, store, true),
        (1, 0x6003, store, true),
        (1, 0x6004, store, false),
        (1, 0x5ffc, store, false),
        (1, 0x6000, load, false),
        (3, 0x6000, load, true),
        (3, 0x6000, store, true),
        (3, 0x6004, load, false),
        (3, 0x6000, &[0xff, 0x03], true),
        (1, 0x6000, &[0xff, 0x03], true),
        (1, 0x6000, &[0x87, 0x03], true),
        (3, 0x6000, &[0xdd, 0x03], true),
        (3, 0x6000, &[0x0f, 0x6f, 0x03], true),
        (3, 0x6000, &[0x0f, 0x18, 0x03], false),
        (3, 0x6000, &[0x8d, 0x03], false),
    ] {
        let mut lab = lab();
        // Translations are cached before the breakpoint is set.
        lab.cpu.set_reg32(RBX, at);
        assert_eq!(lab.execute(&[0xff, 0x03]), None);
        arm(&mut lab, 1, 0x6000, kind, 3);
        lab.at(CODE_AT, 2);
        lab.cpu.x87.init();
        assert_eq!(lab.execute(code), hit.then_some(1), "{kind} {at:x} {code:x?}");
        if hit {
            assert_eq!(lab.cpu.dr[6] & 15, 2);
            assert_eq!(frame(&lab).0, CODE_AT + code.len() as u32);
        }
    }
}

#[test]
fn stack_and_string_accesses_meet_data_breakpoints() {
    // SDM vol. 3, 18.2.5.
    let mut lab = lab();
    arm(&mut lab, 0, STACK0 - 4, 1, 3);
    lab.at(CODE_AT, 2);
    assert_eq!(lab.execute(&[0x50]), Some(1), "PUSH");
    // REP stops behind the iteration that met it.
    let mut lab = self::lab();
    lab.cpu.set_reg32(RCX, 16);
    lab.cpu.set_reg32(RDI, 0x6000);
    arm(&mut lab, 0, 0x6005, 1, 0);
    lab.at(CODE_AT, 2);
    assert_eq!(lab.execute(&[0xf3, 0xaa]), Some(1));
    assert_eq!(lab.cpu.reg32(RCX), 10);
    assert_eq!(frame(&lab), (CODE_AT, 0x202 | flags::RF));
    // And an interrupt's own frame is seen at its handler.
    let mut lab = self::lab();
    arm(&mut lab, 0, STACK0 - 8, 1, 3);
    lab.at(CODE_AT, 2);
    assert_eq!(lab.execute(&[0xcd, 0x40]), Some(1));
    assert_eq!(frame(&lab).0, HANDLERS + 0x40 * 16);
}

#[test]
fn a_data_breakpoint_hit_by_mov_ss_is_reported_behind_the_next_instruction() {
    // SDM vol. 3, 6.8.3.
    let mut lab = lab();
    lab.write16(0x6000, DATA0);
    arm(&mut lab, 0, 0x6000, 3, 1);
    lab.at(CODE_AT, 2);
    assert_eq!(lab.execute(&[0x8e, 0x15, 0, 0x60, 0, 0]), None);
    assert_eq!(lab.execute(&[0x40]), Some(1));
    assert_eq!(frame(&lab).0, CODE_AT + 7);
    assert_eq!(lab.cpu.dr[6] & 15, 1);
}

#[test]
fn an_access_that_faults_meets_no_breakpoint() {
    // SDM vol. 3, 18.3.1.2: data breakpoints are traps, of instructions that complete.
    let mut lab = lab();
    lab.enable_paging();
    lab.set_page(0x6000, 0);
    arm(&mut lab, 0, 0x6000, 3, 3);
    lab.at(CODE_AT, 2);
    assert_eq!(lab.execute(&[0xa1, 0, 0x60, 0, 0]), Some(14));
    assert_eq!((lab.cpu.dr[6] & 15, lab.cpu.pending_debug), (0, 0));
}

#[test]
fn io_breakpoints_trap_behind_in_out_and_string_io() {
    // SDM vol. 3, 18.2.4 (R/W = 10 with CR4.DE).
    for code in [&[0xe4, 0x60][..], &[0xe6, 0x60], &[0xec], &[0xef], &[0x6e], &[0x6c]] {
        for de in [true, false] {
            let mut lab = lab();
            lab.cpu.set_reg32(RDX, 0x60);
            lab.cpu.set_reg32(RSI, 0x6000);
            lab.cpu.set_reg32(RDI, 0x6000);
            lab.cpu.cr4 |= if de { cr4::DE } else { 0 };
            arm(&mut lab, 3, 0x60, 2, 0);
            lab.at(CODE_AT, 2);
            assert_eq!(lab.execute(code), de.then_some(1), "{code:x?} DE {de}");
        }
    }
}

#[test]
fn gd_guards_the_debug_registers_and_opens_for_the_handler() {
    // SDM vol. 3, 18.2.4 (GD).
    let mut lab = lab();
    lab.cpu.dr[7] |= 0x2000;
    assert_eq!(lab.execute(&[0x0f, 0x21, 0xc0]), Some(1));
    assert_eq!(frame(&lab).0, CODE_AT, "a fault: before the MOV");
    assert_eq!(lab.cpu.dr[6] & 0x2000, 0x2000);
    assert_eq!(lab.cpu.dr[7] & 0x2000, 0);
    assert_eq!(lab.execute(&[0x0f, 0x21, 0xc0]), None);
    // INT 1 is no debug exception.
    let mut lab = self::lab();
    lab.cpu.dr[7] |= 0x2000;
    assert_eq!(lab.execute(&[0xcd, 1]), Some(1));
    assert_eq!(lab.cpu.dr[7] & 0x2000, 0x2000);
}

#[test]
fn a_task_switch_clears_local_breakpoints_only() {
    // SDM vol. 3, 18.2.4.
    let mut lab = lab();
    lab.cpu.dr[7] = 0x4ff;
    lab.write32(TSS2 + 32, 0x4_0000);
    lab.write32(TSS2 + 56, 0xd000);
    for (i, s) in [DATA0, CODE0, DATA0, DATA0, 0, 0].into_iter().enumerate() {
        lab.write32(TSS2 + 72 + 4 * i as u32, s.into());
    }
    lab.ok(|c, b| c.far_jump(b, TASK2, 0, true));
    assert_eq!(lab.cpu.dr[7], 0x4aa);
}
