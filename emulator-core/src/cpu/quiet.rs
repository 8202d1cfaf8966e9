//! Dead flags: arithmetic whose flags nothing can observe is replaced by forms that do not record them.
//!
//! Flags are observed by instructions that read them, by whatever follows the block, and by anything that may
//! leave the block on the way: every memory access (it may fault) and every op that is not known here.

use super::op::{Kind, Op, SEG_FLAT};
use super::state::ZERO_REG;

/// What an op does with the status flags.
enum Effect {
    /// Neither reads nor writes them, and cannot leave the block.
    None,
    /// Writes all of them without reading any, and cannot leave the block.
    Kills,
    /// Writes all but CF (INC, DEC), and cannot leave the block.
    Steps,
    /// Anything else: takes the flags as they should be.
    Observes,
}

fn effect(kind: Kind) -> Effect {
    use Kind::*;
    match kind {
        Nop | Mov32RR | Mov32RI | Mov16RR | Mov16RI | Mov8RR | Mov8RI | Movzx32From8R | Movzx32From16R
        | Movsx32From8R | Movsx32From16R | Lea32 | Lea16 | Xchg32RR | Bswap32 | Not32R | Cdq | Cwde => Effect::None,
        Add32RR | Add32RI | Or32RR | Or32RI | And32RR | And32RI | Sub32RR | Sub32RI | Xor32RR | Xor32RI | Cmp32RR
        | Cmp32RI | Test32RR | Test32RI | Add8RR | Add8RI | Or8RR | Or8RI | And8RR | And8RI | Sub8RR | Sub8RI
        | Xor8RR | Xor8RI | Cmp8RR | Cmp8RI | Test8RR | Test8RI | Neg32R | Shl32RI | Shr32RI | Sar32RI | Imul32RR
        | Imul32RRI | Mul32R | CmpJcc32RR | CmpJcc32RI | TestJcc32RR | TestJcc32RI | TestJcc8RR | TestJcc8RI
        | CmpJcc8RR | CmpJcc8RI => Effect::Kills,
        Inc32R | Dec32R => Effect::Steps,
        _ => Effect::Observes,
    }
}

/// The form of `op` that leaves the flags alone, where there is one.
fn quiet(op: &Op) -> Option<Op> {
    use Kind::*;
    let lea = |base: u8, index: u8, disp: u32| Op { kind: Lea32, seg: SEG_FLAT, base, index, disp, ..*op };
    let zero = ZERO_REG as u8;
    let kind = match op.kind {
        Add32RI => return Some(lea(op.a, zero, op.imm)),
        Sub32RI => return Some(lea(op.a, zero, op.imm.wrapping_neg())),
        Inc32R => return Some(lea(op.a, zero, 1)),
        Dec32R => return Some(lea(op.a, zero, u32::MAX)),
        Add32RR => return Some(lea(op.a, op.b, 0)),
        Xor32RR | Sub32RR if op.a == op.b => return Some(Op { kind: Mov32RI, imm: 0, ..*op }),
        Sub32RR => Sub32RRQuiet,
        And32RR => And32RRQuiet,
        And32RI => And32RIQuiet,
        Or32RR => Or32RRQuiet,
        Or32RI => Or32RIQuiet,
        Xor32RR => Xor32RRQuiet,
        Xor32RI => Xor32RIQuiet,
        Shl32RI => Shl32RIQuiet,
        Shr32RI => Shr32RIQuiet,
        Sar32RI => Sar32RIQuiet,
        Imul32RR => Imul32RRQuiet,
        Cmp32RR | Cmp32RI | Test32RR | Test32RI => Nop,
        _ => return None,
    };
    Some(Op { kind, ..*op })
}

/// Rewrites a block's ops.
pub fn drop_dead_flags(ops: &mut [Op]) {
    let mut live = true;
    for op in ops.iter_mut().rev() {
        match effect(op.kind) {
            Effect::None => {}
            Effect::Kills => {
                if !live && let Some(quiet) = quiet(op) {
                    *op = quiet;
                }
                live = false;
            }
            Effect::Steps => {
                if !live && let Some(quiet) = quiet(op) {
                    *op = quiet;
                }
            }
            Effect::Observes => live = true,
        }
    }
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
    fn flags_overwritten_before_anything_sees_them_are_not_recorded() {
        // add eax,ebx; shl ecx,4; xor edx,edx; and esi,edi; jmp $
        let code = [0x01, 0xd8, 0xc1, 0xe1, 0x04, 0x31, 0xd2, 0x21, 0xfe, 0xeb, 0xfe];
        assert_eq!(kinds(&code), [Kind::Lea32, Kind::Shl32RIQuiet, Kind::Mov32RI, Kind::And32RR, Kind::Jmp]);
    }

    #[test]
    fn a_memory_access_or_a_reader_keeps_the_flags_before_it() {
        // add eax,ebx; mov ecx,[edx]; add eax,ebx; adc eax,ebx; inc eax; jmp $
        let code = [0x01, 0xd8, 0x8b, 0x0a, 0x01, 0xd8, 0x11, 0xd8, 0x40, 0xeb, 0xfe];
        let expect = [Kind::AddLoad32, Kind::Add32RR, Kind::Adc32RR, Kind::Inc32R, Kind::Jmp];
        assert_eq!(kinds(&code), expect);
    }
}
