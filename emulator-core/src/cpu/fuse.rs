//! Conditional jumps that need not look at how the flags were made: fused with the compare before them, or
//! specialised because the op that set the flags stands in the same block.

use super::op::{Kind, Op, SEG_FLAT};

/// Fuses a 32-bit (or byte) compare with the conditional jump behind it.
pub fn pair(first: &Op, jump: &Op) -> Option<Op> {
    use Kind::*;
    if jump.kind != Jcc {
        return None;
    }
    let (cond, disp) = (jump.a, jump.disp);
    let mut pair = Op { len: first.len + jump.len, ..*first };
    pair.kind = match first.kind {
        Cmp32RR => CmpJcc32RR,
        Cmp32RI => CmpJcc32RI,
        Test32RR => TestJcc32RR,
        Test32RI => TestJcc32RI,
        Test8RR => TestJcc8RR,
        Test8RI => TestJcc8RI,
        Cmp8RR => CmpJcc8RR,
        Cmp8RI => CmpJcc8RI,
        Dec32R => DecJcc32R,
        Cmp32RM => CmpJcc32RM,
        Cmp32MR => CmpJcc32MR,
        Cmp32MI if i8::try_from(first.imm as i32).is_ok() => CmpJcc32MI8,
        Test8MI => TestJcc8MI,
        Cmp8MI => CmpJcc8MI,
        _ => return None,
    };
    match pair.kind {
        CmpJcc32RM | CmpJcc32MR => (pair.b, pair.imm) = (cond, disp),
        CmpJcc32MI8 | TestJcc8MI | CmpJcc8MI => (pair.a, pair.b, pair.imm) = (first.imm as u8, cond, disp),
        _ => (pair.index, pair.disp) = (cond, disp),
    }
    Some(pair)
}

/// What the last op that set flags left behind.
enum Left {
    /// A 32-bit result in the lazy record.
    Result,
    /// A 32-bit subtraction: also its minuend.
    Subtraction,
    /// A 32-bit logical operation: CF and OF clear.
    Logic,
}

/// Two instructions that stand side by side in one op: dispatching costs about as much as a move does.
fn together(first: &Op, second: &Op) -> Option<Op> {
    use Kind::*;
    let (a, b, len) = (*first, *second, first.len + second.len);
    let flat = |op: Op| op.seg == SEG_FLAT;
    let pair = match (a.kind, b.kind) {
        (Mov32RB, Mov32RB) => Op { kind: LoadLoad32, b: b.a, index: b.base, imm: b.disp, seg: a.len, ..a },
        (Mov32RB, Lea32) if flat(b) => Op { kind: LoadLea32, b: b.a, seg: b.base, index: b.index, imm: b.disp, ..a },
        (Mov32RR, Mov32RB) => Op { kind: MovLoad32, a: a.a, b: a.b, index: b.a, seg: a.len, ..b },
        (Add32RR, Mov32RB) => Op { kind: AddLoad32, a: a.a, b: a.b, index: b.a, seg: a.len, ..b },
        (Add32RR, Mov32BR) => Op { kind: AddStore32, a: a.a, b: a.b, index: b.a, seg: a.len, ..b },
        (Mov32BR, Mov32RB) => Op { kind: StoreLoad32, b: b.a, index: b.base, imm: b.disp, seg: a.len, ..a },
        (Mov32BR, Mov32RR) => Op { kind: StoreMov32, b: b.a, index: b.b, ..a },
        (Mov32RR, Mov32RR) => Op { kind: MovMov32, base: b.a, index: b.b, ..a },
        (Push32R, Push32R) if flat(a) && flat(b) => Op { kind: PushPush32, b: b.a, seg: a.len, ..a },
        (Pop32R, Pop32R) if flat(a) && flat(b) => Op { kind: PopPop32, b: b.a, seg: a.len, ..a },
        _ => return None,
    };
    Some(Op { len, ..pair })
}

/// Puts neighbours of a block together where there is an op for both.
pub fn put_together(ops: &mut Vec<Op>, first: usize) {
    let (mut from, mut to) = (first, first);
    while let Some(&op) = ops.get(from) {
        let pair = ops.get(from + 1).and_then(|next| together(&op, next));
        ops[to] = pair.unwrap_or(op);
        from += 1 + usize::from(pair.is_some());
        to += 1;
    }
    ops.truncate(to);
}

/// What is known of the flags behind `ops`.
fn left_by(ops: &[Op]) -> Option<Left> {
    use Kind::*;
    for op in ops.iter().rev() {
        return Some(match op.kind {
            Nop | Mov32RR | Mov32RI | Mov32RM | Mov32MR | Mov32MI | Mov32RB | Mov32BR | Mov16RR | Mov16RI | Mov16RM
            | Mov16MR | Mov16MI | Mov8RR | Mov8RI | Mov8RM | Mov8MR | Mov8MI | Movzx32From8R | Movzx32From8M
            | Movzx32From16R | Movzx32From16M | Movsx32From8R | Movsx32From8M | Movsx32From16R | Movsx32From16M
            | Lea32 | Lea16 | Xchg32RR | Xchg32RM | Cmov32RR | Cmov32RM | SetccR | SetccM | Bswap32 | Push32R
            | Push32I | Push32M | Pop32R | Leave32 | Not32R | Cdq | Cwde => continue,
            Sub32RR | Sub32RI | Sub32RM | Sub32MR | Sub32MI | Cmp32RR | Cmp32RI | Cmp32RM | Cmp32MR | Cmp32MI
            | Neg32R => Left::Subtraction,
            And32RR | And32RI | And32RM | And32MR | And32MI | Or32RR | Or32RI | Or32RM | Or32MR | Or32MI | Xor32RR
            | Xor32RI | Xor32RM | Xor32MR | Xor32MI | Test32RR | Test32RI | Test32MR | Test32MI => Left::Logic,
            Add32RR | Add32RI | Add32RM | Add32MR | Add32MI | Inc32R | Dec32R | Inc32M | Dec32M | Adc32RR | Adc32RI
            | Adc32RM | Adc32MR | Adc32MI | Sbb32RR | Sbb32RI | Sbb32RM | Sbb32MR | Sbb32MI => Left::Result,
            // A shift by a constant always records (a count of zero was lowered to nothing).
            Shl32RI | Shr32RI | Sar32RI => Left::Result,
            _ => return None,
        });
    }
    None
}

/// A conditional jump behind `ops`, in the form that what is known of the flags allows.
#[must_use]
pub fn known_flags(ops: &[Op], op: Op) -> Op {
    if op.kind != Kind::Jcc {
        return op;
    }
    let kind = match (left_by(ops), op.a) {
        (Some(_), 4 | 5 | 8 | 9) => Kind::JccResult32,
        (Some(Left::Subtraction), _) => Kind::JccSub32,
        (Some(Left::Logic), _) => Kind::JccLogic32,
        _ => Kind::Jcc,
    };
    Op { kind, ..op }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::cache::CodeCache;
    use crate::cpu::decode::decode_block;
    use crate::cpu::state::{Activity, CpuModel, RAX, RBX, RCX, RDI, RDX, RSI, RSP, mode};
    use crate::cpu::testing::{CODE_AT, CODE0, Lab, gate};

    const HANDLER: u32 = 0x3_0000;

    fn kinds(code: &[u8]) -> Vec<Kind> {
        let mut ops = Vec::new();
        let mode_bits = mode::CODE32 | mode::STACK32 | mode::FLAT | mode::PROTECTED;
        decode_block(code, mode_bits, CpuModel::PentiumIII, &mut ops).expect("complete code");
        ops.iter().map(|op| op.kind).collect()
    }

    #[test]
    fn a_jump_right_behind_a_compare_is_fused() {
        assert_eq!(kinds(&[0x39, 0xd8, 0x72, 0x00]), [Kind::CmpJcc32RR]);
        assert_eq!(kinds(&[0x85, 0xc0, 0x74, 0x00]), [Kind::TestJcc32RR]);
        assert_eq!(kinds(&[0x49, 0x75, 0xfd]), [Kind::DecJcc32R]);
    }

    #[test]
    fn a_jump_behind_known_arithmetic_is_specialised() {
        // sub eax,ebx; mov ecx,eax; jb
        assert_eq!(kinds(&[0x29, 0xd8, 0x89, 0xc1, 0x72, 0x00])[2], Kind::JccSub32);
        // and eax,ebx; ja
        assert_eq!(kinds(&[0x21, 0xd8, 0x77, 0x00])[1], Kind::JccLogic32);
        // add eax,ebx; jz, and jc
        assert_eq!(kinds(&[0x01, 0xd8, 0x74, 0x00])[1], Kind::JccResult32);
        assert_eq!(kinds(&[0x01, 0xd8, 0x72, 0x00])[1], Kind::Jcc);
        // shl eax,cl; jz: a count of zero keeps older flags
        assert_eq!(kinds(&[0xd3, 0xe0, 0x74, 0x00])[1], Kind::Jcc);
    }

    /// Code and what it becomes. EDI points to memory for the first instruction and ESI for the second.
    const PAIRS: [(&[u8], Kind); 12] = [
        (&[0x8b, 0x47, 0x04, 0x8b, 0x5e, 0x08], Kind::LoadLoad32),
        // The second instruction uses what the first one loads.
        (&[0x8b, 0x37, 0x8b, 0x5e, 0x08], Kind::LoadLoad32),
        (&[0x8b, 0x47, 0x04, 0x8d, 0x5c, 0x88, 0x07], Kind::LoadLea32),
        (&[0x89, 0xd1, 0x8b, 0x5e, 0x08], Kind::MovLoad32),
        (&[0x01, 0xd1, 0x8b, 0x5e, 0x08], Kind::AddLoad32),
        (&[0x01, 0xd1, 0x89, 0x4e, 0x08], Kind::AddStore32),
        (&[0x89, 0x47, 0x04, 0x8b, 0x5e, 0x08], Kind::StoreLoad32),
        (&[0x89, 0x47, 0x04, 0x89, 0xcb], Kind::StoreMov32),
        (&[0x89, 0xc8, 0x89, 0xc3], Kind::MovMov32),
        (&[0x50, 0x54], Kind::PushPush32),
        (&[0x58, 0x5b], Kind::PopPop32),
        (&[0x5c, 0x5b], Kind::PopPop32),
    ];

    /// Runs the code and then its handler or a jump to itself, three instructions in all: everything that it changed.
    fn outcome(code: &[u8], setup: impl Fn(&mut Lab), blocks: bool) -> (Vec<u64>, u32, u64, Vec<u8>) {
        // In ring 3, so that the fault's frame goes to another stack.
        let mut lab = Lab::ring(3);
        let ram = lab.bus.mem.block_handle();
        ram.write(CODE_AT, code);
        ram.write(CODE_AT + code.len() as u32, &[0xeb, 0xfe]);
        ram.write(HANDLER, &[0xeb, 0xfe]);
        lab.set_gate(14, gate(0x8e, CODE0, HANDLER, 0));
        lab.enable_paging();
        let values =
            [(RAX, 0x1111), (RCX, 0xffff_fff0), (RDX, 0x2222), (RBX, 0x3333), (RSI, 0x5_0000), (RDI, 0x5_1000)];
        for (register, value) in values {
            lab.cpu.set_reg32(register, value);
        }
        for at in (0x5_0000..0x5_2000).step_by(4) {
            lab.write32(at, 0x5_0000 + at % 0x100);
        }
        lab.cpu.rip = CODE_AT.into();
        setup(&mut lab);
        lab.cpu.single = false;
        let (mut cache, until) = (CodeCache::default(), lab.cpu.icount + 3);
        if blocks {
            lab.cpu.run(&mut lab.bus, &mut cache, until);
        } else {
            while lab.cpu.icount < until {
                lab.cpu.step(&mut lab.bus, &mut cache);
                assert_eq!(lab.cpu.activity, Activity::Running);
            }
        }
        let mut memory = vec![0; 0x6_0000];
        ram.read(0, &mut memory);
        let mut registers = lab.cpu.gpr[..8].to_vec();
        registers.extend([lab.cpu.rip, lab.cpu.cr2]);
        (registers, lab.cpu.eflags(), lab.cpu.icount, memory)
    }

    #[test]
    fn neighbours_become_one_op() {
        for (code, kind) in PAIRS {
            assert_eq!(kinds(&[code, &[0xeb, 0xfe]].concat()), [kind, Kind::Jmp]);
        }
    }

    #[test]
    fn a_pair_does_what_its_two_instructions_do() {
        for (code, kind) in PAIRS {
            assert_eq!(outcome(code, |_| (), true), outcome(code, |_| (), false), "{kind:?}");
        }
    }

    #[test]
    fn a_fault_of_either_half_leaves_what_came_before_it() {
        for (code, kind) in PAIRS {
            for absent in [0x5_0000, 0x5_1000] {
                let setup = |lab: &mut Lab| {
                    lab.set_page(absent, 0);
                    // The second push or pop is in another page than the first.
                    let top = if kind == Kind::PushPush32 { 0x5_1004 } else { 0x5_0ffc };
                    lab.cpu.set_reg32(RSP, top);
                };
                assert_eq!(outcome(code, setup, true), outcome(code, setup, false), "{kind:?} without {absent:x}");
            }
        }
    }
}
