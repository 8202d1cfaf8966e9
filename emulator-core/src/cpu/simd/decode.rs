//! From an instruction that iced accepted to a SIMD operation, by opcode and mandatory prefix
//! (SDM vol. 2, appendix A, tables A-3).

use super::decode_sse4::{map3a, map38, sse3};
use super::table::{Class, IMMEDIATE_SOURCE, MMX_FORM, OP_SHIFT, SimdOp};
use crate::cpu::state::CpuModel;
use crate::cpu::system::feature;
use iced_x86::{Instruction, OpKind, Register};

/// A decoded SIMD instruction, but for its memory operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// `imm` of the op.
    pub imm: u32,
    /// `a` of the op: the first register operand.
    pub a: u8,
    /// The other operand.
    pub rm: Rm,
}

/// The second operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rm {
    /// A register, or none.
    Register(u8),
    /// The instruction's memory operand.
    Memory,
    /// DS:(E)DI, and the register that holds the mask.
    MaskedDi {
        /// The mask.
        mask: u8,
        /// 16-bit address.
        addr16: bool,
    },
}

/// The prefix that is part of the opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    None,
    P66,
    F3,
    F2,
}

/// The mandatory prefix, the opcode behind `0F` and the two bytes after it: ModRM, or in the maps 38 and 3A the opcode
/// and ModRM. F2 and F3 win over 66, and of those the last.
fn split(bytes: &[u8]) -> (Prefix, u8, [u8; 2]) {
    let mut prefix = Prefix::None;
    let mut at = 0;
    for b in bytes {
        match b {
            0xf3 => prefix = Prefix::F3,
            0xf2 => prefix = Prefix::F2,
            0x66 if prefix == Prefix::None => prefix = Prefix::P66,
            0x66 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x67 | 0xf0 => {}
            _ => break,
        }
        at += 1;
    }
    let byte = |n: usize| bytes.get(at + n).copied().unwrap_or(0);
    (prefix, byte(1), [byte(2), byte(3)])
}

/// An operation, whether it is its MMX form, and the CPUID feature it belongs to.
pub(super) type Found = (SimdOp, bool, u64);

/// The operation of an instruction `0F xx`, `0F 38 xx` or `0F 3A xx` on `model`; `None` is #UD. `bytes` are the instruction's.
#[must_use]
pub fn decode(insn: &Instruction, bytes: &[u8], model: CpuModel) -> Option<Decoded> {
    let (prefix, second, [modrm, fourth]) = split(bytes);
    let reg_form = modrm >> 6 == 3;
    let shift_group = (0x71..=0x73).contains(&second);
    let (op, mmx_form, needed) = if second == 0x38 {
        map38(modrm, prefix)?
    } else if second == 0x3a {
        map3a(modrm, prefix, fourth >> 6 == 3)?
    } else if shift_group {
        shift(second, modrm >> 3 & 7, prefix)?
    } else if second == 0xae {
        state(modrm >> 3 & 7, prefix)?
    } else {
        integer(second, prefix)
            .or_else(|| float(second, prefix))
            .or_else(|| sse3(second, prefix))
            .or_else(|| other(second, prefix, reg_form))?
    };
    if model.features() & needed == 0 {
        return None;
    }
    let last = insn.op_count().checked_sub(1);
    let imm8 = match last {
        Some(n) if insn.op_kind(n) == OpKind::Immediate8 => insn.immediate8(),
        _ => 0,
    };
    // From memory INSERTPS takes the one element that it reads.
    let imm8 = if op == SimdOp::Insertps && fourth >> 6 != 3 { imm8 & 0x3f } else { imm8 };
    let mut decoded = Decoded {
        imm: u32::from(imm8)
            | (op as u32) << OP_SHIFT
            | if mmx_form { MMX_FORM } else { 0 }
            | if shift_group { IMMEDIATE_SOURCE } else { 0 },
        a: 0,
        rm: Rm::Register(0),
    };
    let mut registers =
        (0..insn.op_count()).filter(|&n| insn.op_kind(n) == OpKind::Register).map(|n| number(insn.op_register(n)));
    decoded.a = registers.next().unwrap_or(0);
    let second_register = registers.next().unwrap_or(0);
    decoded.rm = if op == SimdOp::MaskMov {
        Rm::MaskedDi { mask: second_register, addr16: insn.op0_kind() == OpKind::MemorySegDI }
    } else if (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory) {
        if op.info().width == 0 {
            return None;
        }
        Rm::Memory
    } else if matches!(op.info().dst, Class::Memory) {
        return None;
    } else {
        Rm::Register(second_register)
    };
    Some(decoded)
}

/// Number of an MMX, XMM or 32-bit general register, from the order of iced's enumeration.
fn number(r: Register) -> u8 {
    [(Register::XMM0, 16), (Register::MM0, 8), (Register::EAX, 16)]
        .into_iter()
        .find_map(|(first, count)| {
            let n = (r as u32).wrapping_sub(first as u32);
            (n < count).then_some(n as u8)
        })
        .unwrap_or(0)
}

/// Operations on MMX registers without a prefix, on XMM registers with 66.
fn integer(second: u8, prefix: Prefix) -> Option<Found> {
    use SimdOp::*;
    use feature::{MMX, SSE, SSE2};
    let (op, mmx_feature) = match second {
        0x60 => (Punpcklbw, MMX),
        0x61 => (Punpcklwd, MMX),
        0x62 => (Punpckldq, MMX),
        0x63 => (Packsswb, MMX),
        0x64 => (Pcmpgtb, MMX),
        0x65 => (Pcmpgtw, MMX),
        0x66 => (Pcmpgtd, MMX),
        0x67 => (Packuswb, MMX),
        0x68 => (Punpckhbw, MMX),
        0x69 => (Punpckhwd, MMX),
        0x6a => (Punpckhdq, MMX),
        0x6b => (Packssdw, MMX),
        0x6e => (Movd, MMX),
        0x6f => (Mova, MMX),
        0x74 => (Pcmpeqb, MMX),
        0x75 => (Pcmpeqw, MMX),
        0x76 => (Pcmpeqd, MMX),
        0xc4 => (Pinsrw, SSE),
        0xc5 => (Pextrw, SSE),
        0xd1 => (Psrlw, MMX),
        0xd2 => (Psrld, MMX),
        0xd3 => (Psrlq, MMX),
        0xd4 => (Paddq, SSE2),
        0xd5 => (Pmullw, MMX),
        0xd7 => (Pmovmskb, SSE),
        0xd8 => (Psubusb, MMX),
        0xd9 => (Psubusw, MMX),
        0xda => (Pminub, SSE),
        0xdb => (Pand, MMX),
        0xdc => (Paddusb, MMX),
        0xdd => (Paddusw, MMX),
        0xde => (Pmaxub, SSE),
        0xdf => (Pandn, MMX),
        0xe0 => (Pavgb, SSE),
        0xe1 => (Psraw, MMX),
        0xe2 => (Psrad, MMX),
        0xe3 => (Pavgw, SSE),
        0xe4 => (Pmulhuw, SSE),
        0xe5 => (Pmulhw, MMX),
        0xe7 => (StoreA, SSE),
        0xe8 => (Psubsb, MMX),
        0xe9 => (Psubsw, MMX),
        0xea => (Pminsw, SSE),
        0xeb => (Por, MMX),
        0xec => (Paddsb, MMX),
        0xed => (Paddsw, MMX),
        0xee => (Pmaxsw, SSE),
        0xef => (Pxor, MMX),
        0xf1 => (Psllw, MMX),
        0xf2 => (Pslld, MMX),
        0xf3 => (Psllq, MMX),
        0xf4 => (Pmuludq, SSE2),
        0xf5 => (Pmaddwd, MMX),
        0xf6 => (Psadbw, SSE),
        0xf7 => (MaskMov, SSE),
        0xf8 => (Psubb, MMX),
        0xf9 => (Psubw, MMX),
        0xfa => (Psubd, MMX),
        0xfb => (Psubq, SSE2),
        0xfc => (Paddb, MMX),
        0xfd => (Paddw, MMX),
        0xfe => (Paddd, MMX),
        _ => return None,
    };
    match prefix {
        Prefix::None => Some((op, true, mmx_feature)),
        Prefix::P66 => Some((op, false, SSE2)),
        // F3 0F 6F is MOVDQU; the rest has no such form.
        _ => None,
    }
}

/// Shifts by a constant: opcodes 71, 72, 73 with the operation in the register field.
fn shift(second: u8, field: u8, prefix: Prefix) -> Option<Found> {
    use SimdOp::*;
    let op = match (second, field) {
        (0x71, 2) => Psrlw,
        (0x71, 4) => Psraw,
        (0x71, 6) => Psllw,
        (0x72, 2) => Psrld,
        (0x72, 4) => Psrad,
        (0x72, 6) => Pslld,
        (0x73, 2) => Psrlq,
        (0x73, 6) => Psllq,
        (0x73, 3) if prefix == Prefix::P66 => Psrldq,
        (0x73, 7) if prefix == Prefix::P66 => Pslldq,
        _ => return None,
    };
    match prefix {
        Prefix::None => Some((op, true, feature::MMX)),
        Prefix::P66 => Some((op, false, feature::SSE2)),
        _ => None,
    }
}

/// Opcode AE: memory forms (the fences are decoded elsewhere).
fn state(field: u8, prefix: Prefix) -> Option<Found> {
    let (op, needed) = match field {
        0 => (SimdOp::Fxsave, feature::FXSR),
        1 => (SimdOp::Fxrstor, feature::FXSR),
        2 => (SimdOp::Ldmxcsr, feature::SSE),
        3 => (SimdOp::Stmxcsr, feature::SSE),
        7 => (SimdOp::Clflush, feature::CLFSH),
        _ => return None,
    };
    (prefix == Prefix::None).then_some((op, false, needed))
}

/// Arithmetic in the four formats.
fn float(second: u8, prefix: Prefix) -> Option<Found> {
    use SimdOp::*;
    let [ps, pd, ss, sd] = match second {
        0x51 => [Sqrtps, Sqrtpd, Sqrtss, Sqrtsd],
        0x58 => [Addps, Addpd, Addss, Addsd],
        0x59 => [Mulps, Mulpd, Mulss, Mulsd],
        0x5a => [Cvtps2pd, Cvtpd2ps, Cvtss2sd, Cvtsd2ss],
        0x5c => [Subps, Subpd, Subss, Subsd],
        0x5d => [Minps, Minpd, Minss, Minsd],
        0x5e => [Divps, Divpd, Divss, Divsd],
        0x5f => [Maxps, Maxpd, Maxss, Maxsd],
        0xc2 => [Cmpps, Cmppd, Cmpss, Cmpsd],
        _ => return None,
    };
    let op = match prefix {
        Prefix::None => ps,
        Prefix::P66 => pd,
        Prefix::F3 => ss,
        Prefix::F2 => sd,
    };
    let single = matches!(prefix, Prefix::None | Prefix::F3) && second != 0x5a;
    Some((op, false, if single { feature::SSE } else { feature::SSE2 }))
}

/// Everything without a pattern.
fn other(second: u8, prefix: Prefix, reg: bool) -> Option<Found> {
    use Prefix::{F2, F3, None as N, P66};
    use SimdOp::*;
    use feature::{MMX, SSE, SSE2};
    let pick = |register: SimdOp, memory: SimdOp| if reg { register } else { memory };
    let xmm = |op, needed| Some((op, false, needed));
    match (prefix, second) {
        (N, 0x10) => xmm(Movu, SSE),
        (P66, 0x10) => xmm(Movu, SSE2),
        (F3, 0x10) => xmm(pick(MovLow32, MovssLoad), SSE),
        (F2, 0x10) => xmm(pick(MovLow64, Movq), SSE2),
        (N, 0x11) => xmm(pick(Movu, StoreU), SSE),
        (P66, 0x11) => xmm(pick(Movu, StoreU), SSE2),
        (F3, 0x11) => xmm(pick(MovLow32, Store32), SSE),
        (F2, 0x11) => xmm(pick(MovLow64, Store64), SSE2),
        (N, 0x12) => xmm(pick(Movhlps, MovLow64), SSE),
        (P66, 0x12) => xmm(MovLow64, SSE2),
        (N, 0x13) => xmm(Store64, SSE),
        (P66, 0x13) => xmm(Store64, SSE2),
        (N, 0x14) => xmm(Punpckldq, SSE),
        (P66, 0x14) => xmm(Punpcklqdq, SSE2),
        (N, 0x15) => xmm(Punpckhdq, SSE),
        (P66, 0x15) => xmm(Punpckhqdq, SSE2),
        (N, 0x16) => xmm(MovHigh64, SSE),
        (P66, 0x16) => xmm(MovHigh64, SSE2),
        (N, 0x17) => xmm(StoreHigh64, SSE),
        (P66, 0x17) => xmm(StoreHigh64, SSE2),
        (N, 0x28) => xmm(Mova, SSE),
        (P66, 0x28) => xmm(Mova, SSE2),
        (N, 0x29) => xmm(pick(Mova, StoreA), SSE),
        (P66, 0x29) => xmm(pick(Mova, StoreA), SSE2),
        (N, 0x2a) => xmm(Cvtpi2ps, SSE),
        (P66, 0x2a) => xmm(Cvtpi2pd, SSE2),
        (F3, 0x2a) => xmm(Cvtsi2ss, SSE),
        (F2, 0x2a) => xmm(Cvtsi2sd, SSE2),
        (N, 0x2b) => xmm(StoreA, SSE),
        (P66, 0x2b) => xmm(StoreA, SSE2),
        (N, 0x2c) => xmm(Cvttps2pi, SSE),
        (P66, 0x2c) => xmm(Cvttpd2pi, SSE2),
        (F3, 0x2c) => xmm(Cvttss2si, SSE),
        (F2, 0x2c) => xmm(Cvttsd2si, SSE2),
        (N, 0x2d) => xmm(Cvtps2pi, SSE),
        (P66, 0x2d) => xmm(Cvtpd2pi, SSE2),
        (F3, 0x2d) => xmm(Cvtss2si, SSE),
        (F2, 0x2d) => xmm(Cvtsd2si, SSE2),
        (N, 0x2e) => xmm(Ucomiss, SSE),
        (P66, 0x2e) => xmm(Ucomisd, SSE2),
        (N, 0x2f) => xmm(Comiss, SSE),
        (P66, 0x2f) => xmm(Comisd, SSE2),
        (N, 0x50) => xmm(Movmskps, SSE),
        (P66, 0x50) => xmm(Movmskpd, SSE2),
        (N, 0x52) => xmm(Rsqrtps, SSE),
        (F3, 0x52) => xmm(Rsqrtss, SSE),
        (N, 0x53) => xmm(Rcpps, SSE),
        (F3, 0x53) => xmm(Rcpss, SSE),
        (N, 0x54) => xmm(Pand, SSE),
        (P66, 0x54) => xmm(Pand, SSE2),
        (N, 0x55) => xmm(Pandn, SSE),
        (P66, 0x55) => xmm(Pandn, SSE2),
        (N, 0x56) => xmm(Por, SSE),
        (P66, 0x56) => xmm(Por, SSE2),
        (N, 0x57) => xmm(Pxor, SSE),
        (P66, 0x57) => xmm(Pxor, SSE2),
        (N, 0x5b) => xmm(Cvtdq2ps, SSE2),
        (P66, 0x5b) => xmm(Cvtps2dq, SSE2),
        (F3, 0x5b) => xmm(Cvttps2dq, SSE2),
        (P66, 0x6c) => xmm(Punpcklqdq, SSE2),
        (P66, 0x6d) => xmm(Punpckhqdq, SSE2),
        (F3, 0x6f) => xmm(Movu, SSE2),
        (N, 0x70) => Some((Pshuflw, true, SSE)),
        (P66, 0x70) => xmm(Pshufd, SSE2),
        (F3, 0x70) => xmm(Pshufhw, SSE2),
        (F2, 0x70) => xmm(Pshuflw, SSE2),
        (N, 0x77) => Some((Emms, true, MMX)),
        (N, 0x7e) => Some((pick(MovdToGpr, Store32), true, MMX)),
        (P66, 0x7e) => xmm(pick(MovdToGpr, Store32), SSE2),
        (F3, 0x7e) => xmm(Movq, SSE2),
        (N, 0x7f) => Some((pick(Mova, StoreA), true, MMX)),
        (P66, 0x7f) => xmm(pick(Mova, StoreA), SSE2),
        (F3, 0x7f) => xmm(pick(Movu, StoreU), SSE2),
        (N, 0xc6) => xmm(Shufps, SSE),
        (P66, 0xc6) => xmm(Shufpd, SSE2),
        (P66, 0xd6) => xmm(pick(Movq, Store64), SSE2),
        (F3, 0xd6) => xmm(Movq2dq, SSE2),
        (F2, 0xd6) => xmm(Movdq2q, SSE2),
        (P66, 0xe6) => xmm(Cvttpd2dq, SSE2),
        (F3, 0xe6) => xmm(Cvtdq2pd, SSE2),
        (F2, 0xe6) => xmm(Cvtpd2dq, SSE2),
        _ => None,
    }
}
