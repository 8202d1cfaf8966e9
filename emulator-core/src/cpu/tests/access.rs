//! Limits and types on every kind of data access, and the bits of CR0 that refuse instructions.

use crate::cpu::segment::{Seg, Segment};
use crate::cpu::state::*;
use crate::cpu::testing::*;

/// Ring 3 with FS = 100h bytes at 5000h, SSE on, handlers for all.
fn lab(access: u8) -> Lab {
    let mut lab = Lab::ring(3);
    lab.handlers();
    lab.cpu.cr4 |= cr4::OSFXSR;
    lab.cpu.cr0 |= cr0::NE;
    let fs = Segment::from_descriptor(FREE | 3, descriptor(0x5000, 0xff, access, 4));
    lab.cpu.set_segment(Seg::Fs, fs);
    lab
}

/// Instructions with an FS operand whose offset is the last four bytes, and the operand's size.
const LOADS: &[(&[u8], u32)] = &[
    (&[0x64, 0xa0], 1),
    (&[0x64, 0x66, 0xa1], 2),
    (&[0x64, 0xa1], 4),
    (&[0x64, 0x03, 0x05], 4),
    (&[0x64, 0x3b, 0x05], 4),
    (&[0x64, 0x0f, 0xb7, 0x05], 2),
    (&[0x64, 0xff, 0x35], 4),
    (&[0x64, 0xff, 0x25], 4),
    (&[0x64, 0xff, 0x2d], 6),
    (&[0x64, 0xf7, 0x25], 4),
    (&[0x64, 0x62, 0x05], 8),
    (&[0x64, 0xc5, 0x05], 6),
    (&[0x64, 0x8e, 0x05], 2),
    (&[0x64, 0x0f, 0xa3, 0x05], 4),
    (&[0x64, 0x0f, 0x02, 0x05], 2),
    (&[0x64, 0xd9, 0x05], 4),
    (&[0x64, 0xdd, 0x05], 8),
    (&[0x64, 0xdb, 0x2d], 10),
    (&[0x64, 0xdd, 0x25], 108),
    (&[0x64, 0xd9, 0x25], 28),
    (&[0x64, 0x0f, 0x6f, 0x05], 8),
    (&[0x64, 0x0f, 0x10, 0x05], 16),
    (&[0x64, 0x0f, 0xae, 0x15], 4),
];
const STORES: &[(&[u8], u32)] = &[
    (&[0x64, 0xa2], 1),
    (&[0x64, 0x66, 0xa3], 2),
    (&[0x64, 0xa3], 4),
    (&[0x64, 0x01, 0x05], 4),
    (&[0x64, 0xff, 0x05], 4),
    (&[0x64, 0xf7, 0x1d], 4),
    (&[0x64, 0xd1, 0x05], 4),
    (&[0x64, 0x87, 0x05], 4),
    (&[0x64, 0x8f, 0x05], 4),
    (&[0x64, 0x8c, 0x05], 2),
    (&[0x64, 0x0f, 0x94, 0x05], 1),
    (&[0x64, 0x0f, 0xab, 0x05], 4),
    (&[0x64, 0x0f, 0xb1, 0x05], 4),
    (&[0x64, 0x0f, 0xc1, 0x05], 4),
    (&[0x64, 0x0f, 0xc7, 0x0d], 8),
    (&[0x64, 0x0f, 0xa4, 0x05], 4),
    (&[0x64, 0x0f, 0x01, 0x05], 6),
    (&[0x64, 0xd9, 0x1d], 4),
    (&[0x64, 0xdd, 0x1d], 8),
    (&[0x64, 0xdb, 0x3d], 10),
    (&[0x64, 0xdd, 0x35], 108),
    (&[0x64, 0x0f, 0x7f, 0x05], 8),
    (&[0x64, 0x0f, 0x11, 0x05], 16),
    (&[0x64, 0x0f, 0xae, 0x05], 512),
];

fn at(code: &[u8], offset: u32) -> Vec<u8> {
    // The byte behind is the count of SHLD.
    code.iter().copied().chain(offset.to_le_bytes()).chain([1]).collect()
}

#[test]
fn every_kind_of_access_stops_at_the_segment_limit() {
    // SDM vol. 3, 5.3.
    for &(code, size) in LOADS.iter().chain(STORES) {
        let mut lab = lab(0xf2);
        assert_eq!(lab.execute(&at(code, 0x101 - size)), Some(13), "{code:x?}");
        assert_eq!(lab.stack32(2), [0, CODE_AT], "error code 0, at the instruction: {code:x?}");
    }
    for &(code, size) in LOADS.iter().chain(STORES).filter(|&&(_, size)| size <= 16) {
        let mut lab = lab(0xf2);
        // BOUND of 0 in 0..=0, null selectors, a jump to 0: all of them are allowed to run or end otherwise.
        let vector = lab.execute(&at(code, 0x100 - size));
        assert!(vector.is_none() || code[1] == 0xff, "{code:x?} ends in {vector:?}");
    }
}

#[test]
fn every_kind_of_store_needs_a_writable_segment_and_every_load_a_readable_one() {
    // SDM vol. 3, 5.4.
    for &(code, _) in STORES {
        assert_eq!(lab(0xf0).execute(&at(code, 0)), Some(13), "read-only data: {code:x?}");
        assert_eq!(lab(0xfa).execute(&at(code, 0)), Some(13), "code: {code:x?}");
    }
    for &(code, _) in LOADS {
        assert_eq!(lab(0xf8).execute(&at(code, 0)), Some(13), "execute-only code: {code:x?}");
    }
    for &(code, _) in LOADS.iter().chain(STORES) {
        let mut lab = lab(0xf2);
        lab.cpu.set_segment(Seg::Fs, Segment::null(0));
        assert_eq!(lab.execute(&at(code, 0)), Some(13), "null selector: {code:x?}");
    }
}

#[test]
fn accesses_through_ss_raise_the_stack_fault() {
    // SDM vol. 3, 6.15, interrupt 12.
    let mut lab = lab(0xf2);
    let ss = Segment::from_descriptor(FREE | 3, descriptor(0x5000, 0xff, 0xf2, 4));
    for code in [&[0x36, 0xa1, 0xfd, 0, 0, 0][..], &[0x8b, 0x45, 0], &[0x50], &[0xc9], &[0x60]] {
        lab.cpu.set_segment(Seg::Ss, ss);
        lab.cpu.set_reg32(RBP, 0xfd);
        lab.cpu.set_reg32(RSP, 2);
        assert_eq!(lab.execute(code), Some(12), "{code:x?}");
        assert_eq!(lab.stack32(1), [0]);
        lab = self::lab(0xf2);
    }
}

#[test]
fn strings_check_both_segments() {
    // SDM vol. 3, 5.3; vol. 2, MOVS: the destination is ES whatever the prefix.
    for (code, source, destination) in [
        (&[0x64, 0xa4][..], 0x100, 0),
        (&[0x64, 0xa5], 0xfd, 0),
        (&[0x64, 0xac], 0x100, 0),
        (&[0x64, 0xa6], 0x100, 0),
        (&[0x64, 0x6f], 0xfd, 0),
        (&[0x64, 0xaa], 0, 0x100),
        (&[0x64, 0xae], 0, 0x100),
        (&[0x64, 0xa4], 0, 0x100),
        (&[0x64, 0x6d], 0, 0xfd),
    ] {
        let mut lab = lab(0xf2);
        let fs = *lab.cpu.segment(Seg::Fs);
        lab.cpu.set_segment(Seg::Es, fs);
        lab.cpu.set_reg32(RSI, source);
        lab.cpu.set_reg32(RDI, destination);
        assert_eq!(lab.execute(code), Some(13), "{code:x?}");
        assert_eq!((lab.cpu.reg32(RSI), lab.cpu.reg32(RDI)), (source, destination));
        assert!(lab.bus.read.is_empty() && lab.bus.written.is_empty(), "the port was not touched");
    }
}

#[test]
fn near_transfers_stop_at_the_code_limit() {
    // SDM vol. 3, 5.3: the limit holds for instruction fetches too.
    for code in [
        &[0xe9, 0, 1, 0, 0][..],
        &[0xeb, 0x7f],
        &[0xe8, 0, 1, 0, 0],
        &[0xff, 0xe0],
        &[0xff, 0xd0],
        &[0xc3],
        &[0x74, 0x7f],
    ] {
        let mut lab = lab(0xf2);
        let cs = Segment::from_descriptor(CODE3, descriptor(CODE_AT, 0x40, 0xfb, 4));
        lab.cpu.set_segment(Seg::Cs, cs);
        lab.cpu.set_status(crate::cpu::flags::ZF);
        lab.at(0, 2);
        lab.cpu.set_reg32(RAX, 0x41);
        lab.put_stack32(&[0x41]);
        assert_eq!(lab.execute(code), Some(13), "{code:x?}");
        assert_eq!(lab.stack32(2), [0, 0], "{code:x?}");
    }
    // An instruction that goes on behind the limit.
    let mut lab = lab(0xf2);
    let cs = Segment::from_descriptor(CODE3, descriptor(CODE_AT, 0x40, 0xfb, 4));
    lab.cpu.set_segment(Seg::Cs, cs);
    lab.at(0x3e, 5);
    assert_eq!(lab.execute(&[0xb8, 0, 0, 0, 0]), Some(13));
}

#[test]
fn privileged_instructions_fault_above_ring_0() {
    // SDM vol. 3, 5.9.
    let privileged: &[&[u8]] = &[
        &[0xf4],
        &[0x0f, 0x06],
        &[0x0f, 0x08],
        &[0x0f, 0x09],
        &[0x0f, 0x20, 0xc0],
        &[0x0f, 0x22, 0xc0],
        &[0x0f, 0x21, 0xc0],
        &[0x0f, 0x23, 0xc0],
        &[0x0f, 0x30],
        &[0x0f, 0x32],
        &[0x0f, 0x35],
        &[0x0f, 0x01, 0x10],
        &[0x0f, 0x01, 0x18],
        &[0x0f, 0x01, 0x38],
        &[0x0f, 0x01, 0xf0],
        &[0x0f, 0x00, 0xd0],
        &[0x0f, 0x00, 0xd8],
    ];
    for code in privileged {
        assert_eq!(lab(0xf2).execute(code), Some(13), "{code:x?}");
        let mut ring1 = Lab::ring(1);
        ring1.handlers();
        assert_eq!(ring1.execute(code), Some(13), "{code:x?} in ring 1");
    }
    // I/O and the interrupt flag obey IOPL instead (5.9 and vol. 1, 19.5).
    for code in [&[0xfa][..], &[0xfb]] {
        assert_eq!(lab(0xf2).execute(code), Some(13), "{code:x?}");
        let mut allowed = lab(0xf2);
        allowed.cpu.set_eflags(crate::cpu::flags::IOPL);
        assert_eq!(allowed.execute(code), None, "{code:x?} with IOPL 3");
    }
}

#[test]
fn em_ts_and_mp_refuse_floating_point_as_the_table_says() {
    // SDM vol. 3, 2.5 and table 9-3; 12.1 for MMX, 13.1.4 for SSE.
    const FLD1: &[u8] = &[0xd9, 0xe8];
    const FWAIT: &[u8] = &[0x9b];
    const PADDB: &[u8] = &[0x0f, 0xfc, 0xc1];
    const ADDPS: &[u8] = &[0x0f, 0x58, 0xc1];
    let (em, ts, mp) = (cr0::EM, cr0::TS, cr0::MP);
    let cases: &[(u64, [Option<u8>; 4])] = &[
        (0, [None, None, None, None]),
        (mp, [None, None, None, None]),
        (ts, [Some(7), None, Some(7), Some(7)]),
        (ts | mp, [Some(7), Some(7), Some(7), Some(7)]),
        (em, [Some(7), None, Some(6), Some(6)]),
        (em | ts | mp, [Some(7), Some(7), Some(6), Some(6)]),
    ];
    for &(bits, expected) in cases {
        for (code, vector) in [FLD1, FWAIT, PADDB, ADDPS].into_iter().zip(expected) {
            let mut lab = lab(0xf2);
            lab.cpu.cr0 |= bits;
            assert_eq!(lab.execute(code), vector, "{code:x?} with {bits:x}");
        }
    }
    let mut lab = lab(0xf2);
    lab.cpu.cr4 &= !cr4::OSFXSR;
    assert_eq!(lab.execute(ADDPS), Some(6), "SSE that the system did not enable");
}

#[test]
fn ne_decides_between_mf_and_the_interrupt_line() {
    // SDM vol. 3, 2.5 (NE) and 6.15, interrupt 16: reported before the next waiting instruction.
    let pending = |lab: &mut Lab| {
        lab.cpu.x87.init();
        // FLDCW with all exceptions unmasked, FLDZ, FLD1, FDIVRP: divide by zero.
        lab.write16(0x5000, 0x0340);
        for code in [&[0x64, 0xd9, 0x2d, 0, 0, 0, 0][..], &[0xd9, 0xee], &[0xd9, 0xe8], &[0xde, 0xf1]] {
            assert_eq!(lab.execute(code), None);
        }
        let rip = lab.cpu.rip as u32;
        lab.at(rip, 1);
    };
    let mut lab = self::lab(0xf2);
    pending(&mut lab);
    let at = lab.cpu.rip as u32;
    assert_eq!(lab.execute(&[0x9b]), Some(16));
    assert_eq!(lab.stack32(1), [at]);
    let mut lab = self::lab(0xf2);
    pending(&mut lab);
    assert_eq!(lab.execute(&[0xdb, 0xe3]), None, "FNINIT does not wait");
    let mut lab = self::lab(0xf2);
    lab.cpu.cr0 &= !cr0::NE;
    pending(&mut lab);
    assert_eq!(lab.execute(&[0x9b]), None, "IRQ 13 instead");
}

#[test]
fn fxsave_and_fxrstor_want_16_bytes_of_alignment_and_keep_reserved_mxcsr_bits_out() {
    // SDM vol. 2, FXSAVE and FXRSTOR; vol. 3, 13.1.
    for code in [&[0x0f, 0xae, 0x05, 8, 0x60, 0, 0][..], &[0x0f, 0xae, 0x0d, 8, 0x60, 0, 0]] {
        assert_eq!(lab(0xf2).execute(code), Some(13), "{code:x?}");
    }
    let mut lab = lab(0xf2);
    lab.cpu.xmm[7] = 0x1234;
    lab.cpu.mxcsr = 0x1fa0;
    assert_eq!(lab.execute(&[0x0f, 0xae, 0x05, 0, 0x60, 0, 0]), None);
    assert_eq!((lab.read32(0x6018), lab.read64(0x6000 + 160 + 7 * 16)), (0x1fa0, 0x1234));
    lab.cpu.xmm[7] = 0;
    assert_eq!(lab.execute(&[0x0f, 0xae, 0x0d, 0, 0x60, 0, 0]), None);
    assert_eq!(lab.cpu.xmm[7], 0x1234);
    lab.write32(0x6018, 0x1_0000);
    assert_eq!(lab.execute(&[0x0f, 0xae, 0x0d, 0, 0x60, 0, 0]), Some(13));
    assert_eq!(lab.cpu.mxcsr, 0x1fa0);
}
