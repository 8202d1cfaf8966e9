//! Alignment checking (SDM vol. 3, 6.15, interrupt 17, and table 6-7).

use crate::cpu::flags;
use crate::cpu::state::*;
use crate::cpu::testing::*;

/// CPL 3 with CR0.AM, EFLAGS.AC and handlers; EBX is what the test's memory operand is based on.
fn checked() -> Lab {
    let mut lab = Lab::ring(3);
    lab.handlers();
    lab.cpu.cr0 |= cr0::AM | cr0::NE;
    lab.cpu.cr4 |= cr4::OSFXSR;
    lab.cpu.set_eflags(flags::AC);
    lab
}

/// Instructions on `[ebx]` and the alignment that each needs.
const FORMS: &[(&[u8], u32)] = &[
    (&[0x8a, 0x03], 1),
    (&[0x66, 0x8b, 0x03], 2),
    (&[0x8b, 0x03], 4),
    (&[0x89, 0x03], 4),
    (&[0x66, 0x89, 0x03], 2),
    (&[0x01, 0x03], 4),
    (&[0xff, 0x03], 4),
    (&[0x66, 0xff, 0x03], 2),
    (&[0x87, 0x03], 4),
    (&[0xff, 0x33], 4),
    (&[0xd9, 0x03], 4),
    (&[0xdd, 0x03], 8),
    (&[0xdb, 0x2b], 8),
    (&[0xd9, 0x33], 4),
    (&[0x66, 0xd9, 0x33], 2),
    (&[0xd9, 0x3b], 2),
    (&[0x0f, 0x6f, 0x03], 8),
    (&[0x0f, 0xc7, 0x0b], 8),
    (&[0x0f, 0x10, 0x03], 8),
    (&[0x0f, 0xab, 0x03], 4),
    (&[0x8e, 0x03], 2),
];

#[test]
fn each_operand_is_checked_by_its_size_and_nothing_happens_before_the_fault() {
    for &(code, align) in FORMS {
        for offset in 0..8 {
            let mut lab = checked();
            lab.cpu.set_reg32(RBX, 0x6000 + offset);
            let before = lab.read64(0x6000 + offset);
            let expected = (offset % align != 0).then_some(17);
            assert_eq!(lab.execute(code), expected, "{code:x?} at {offset}");
            if expected.is_some() {
                assert_eq!(lab.stack32(2), [0, CODE_AT], "error code 0");
                assert_eq!(lab.read64(0x6000 + offset), before);
            }
        }
    }
}

#[test]
fn am_ac_and_ring_3_must_all_be_there() {
    let unaligned: &[u8] = &[0x8b, 0x03];
    let with = |mut lab: Lab| {
        lab.cpu.set_reg32(RBX, 0x6001);
        lab.execute(unaligned)
    };
    assert_eq!(with(checked()), Some(17));
    let mut lab = checked();
    lab.cpu.set_eflags(0);
    assert_eq!(with(lab), None, "without AC");
    let mut lab = checked();
    lab.cpu.cr0 &= !cr0::AM;
    lab.cpu.mode_changed();
    assert_eq!(with(lab), None, "without AM");
    for mut lab in [Lab::protected(), Lab::ring(1)] {
        lab.handlers();
        lab.cpu.cr0 |= cr0::AM;
        lab.cpu.set_eflags(flags::AC);
        assert_eq!(with(lab), None, "ring 0 and 1");
    }
}

#[test]
fn popf_turns_the_check_on_and_cached_translations_do_not_hide_it() {
    let mut lab = Lab::ring(3);
    lab.handlers();
    lab.cpu.cr0 |= cr0::AM;
    lab.cpu.mode_changed();
    lab.cpu.set_reg32(RBX, 0x6001);
    assert_eq!(lab.execute(&[0x8b, 0x03]), None);
    assert_eq!(lab.execute(&[0x89, 0x03]), None);
    lab.put_stack32(&[flags::AC | 2]);
    assert_eq!(lab.execute(&[0x9d]), None);
    assert_eq!(lab.execute(&[0x8b, 0x03]), Some(17));
    // The handler's own unaligned accesses are those of ring 0; its IRET brings the check back.
    assert_eq!(lab.execute(&[0x8b, 0x03]), None);
}

#[test]
fn the_check_holds_in_blocks_too() {
    let mut lab = checked();
    lab.cpu.set_reg32(RBX, 0x6002);
    // MOV EAX, 5; MOV [EBX], EAX; INC EAX.
    lab.code(&[0xb8, 5, 0, 0, 0, 0x89, 0x03, 0x40]);
    lab.write32(HANDLERS + 17 * 16, 0xfeeb);
    lab.run(2);
    assert_eq!(lab.vector(), Some(17));
    assert_eq!(lab.stack32(2), [0, CODE_AT + 5]);
    assert_eq!(lab.cpu.reg32(RAX), 5);
}

#[test]
fn stack_and_string_accesses_are_checked_before_they_do_anything() {
    let mut lab = checked();
    lab.cpu.set_reg32(RSP, STACK3 - 2);
    for code in [&[0x50][..], &[0x58], &[0x60], &[0xe8, 0, 0, 0, 0], &[0xc8, 8, 0, 2], &[0x9c]] {
        assert_eq!(lab.execute(code), Some(17), "{code:x?}");
        assert_eq!(lab.stack32(5)[4], STACK3 - 2, "ESP as it was: {code:x?}");
        lab = checked();
        lab.cpu.set_reg32(RSP, STACK3 - 2);
    }
    let mut lab = checked();
    lab.cpu.set_reg32(RDI, 0x6002);
    lab.cpu.set_reg32(RDX, 0x80);
    assert_eq!(lab.execute(&[0x6d]), Some(17));
    assert!(lab.bus.read.is_empty(), "INS asks the port only when it can store");
}

#[test]
fn implicit_supervisor_accesses_are_not_checked() {
    // Descriptor tables and the inner stack are read and written as by ring 0.
    let mut lab = checked();
    lab.cpu.idtr.base += 1;
    for v in 0..256u32 {
        lab.write64(IDT + 1 + v * 8, gate(0xee, CODE0, HANDLERS + 16 * v, 0));
    }
    lab.write32(TSS + 4, STACK0 - 1);
    assert_eq!(lab.execute(&[0xcd, 0x40]), Some(0x40));
}
