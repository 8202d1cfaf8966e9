//! Conditional jumps that need not look at how the flags were made: fused with the compare before them, or
//! specialised because the op that set the flags stands in the same block.

use super::op::{Kind, Op};

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
    use crate::cpu::decode::decode_block;
    use crate::cpu::state::{CpuModel, mode};

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
}
