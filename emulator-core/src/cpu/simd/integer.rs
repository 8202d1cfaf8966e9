//! Moves, integer arithmetic and rearranging on 128-bit values (SDM vol. 2). Pure functions.

use super::sse4;
use super::table::SimdOp;

/// `[$t; n]` lanes of a 128-bit value and back, and operations lane by lane.
macro_rules! lanes {
    ($t:ident, $n:literal, $split:ident, $join:ident, $map:ident) => {
        #[inline(always)]
        pub(super) fn $split(v: u128) -> [$t; $n] {
            const SIZE: usize = size_of::<$t>();
            let bytes = v.to_le_bytes();
            std::array::from_fn(|i| $t::from_le_bytes(std::array::from_fn(|j| bytes[SIZE * i + j])))
        }

        #[inline(always)]
        pub(super) fn $join(v: [$t; $n]) -> u128 {
            v.iter().rev().fold(0, |r: u128, e| r.unbounded_shl($t::BITS) | u128::from(*e))
        }

        #[inline(always)]
        pub(super) fn $map(a: u128, b: u128, f: impl Fn($t, $t) -> $t) -> u128 {
            let (a, b) = ($split(a), $split(b));
            $join(std::array::from_fn(|i| f(a[i], b[i])))
        }
    };
}

lanes!(u8, 16, bytes, from_bytes, map8);
lanes!(u16, 8, words, from_words, map16);
lanes!(u32, 4, dwords, from_dwords, map32);
lanes!(u64, 2, quads, from_quads, map64);

const LOW32: u128 = 0xffff_ffff;
const LOW64: u128 = 0xffff_ffff_ffff_ffff;

/// `a` with its low 32 bits replaced.
#[inline(always)]
pub(super) fn with_low32(a: u128, low: u32) -> u128 {
    a & !LOW32 | u128::from(low)
}

/// `a` with its low 64 bits replaced.
#[inline(always)]
pub(super) fn with_low64(a: u128, low: u64) -> u128 {
    a & !LOW64 | u128::from(low)
}

fn saturate_i8(v: i16) -> u8 {
    v.clamp(i8::MIN.into(), i8::MAX.into()) as u8
}

fn saturate_u8(v: i16) -> u8 {
    v.clamp(0, 255) as u8
}

fn saturate_i16(v: i32) -> u16 {
    v.clamp(i16::MIN.into(), i16::MAX.into()) as u16
}

/// Words of a, then of b, to bytes.
fn pack_words(a: u128, b: u128, f: impl Fn(i16) -> u8) -> u128 {
    let (a, b) = (words(a), words(b));
    from_bytes(std::array::from_fn(|i| f(if i < 8 { a[i] } else { b[i - 8] } as i16)))
}

/// Every other element from each: those of the halves that start at bit 0.
fn unpack8(a: u128, b: u128) -> u128 {
    let (a, b) = (bytes(a), bytes(b));
    from_bytes(std::array::from_fn(|i| if i % 2 == 0 { a[i / 2] } else { b[i / 2] }))
}

fn unpack16(a: u128, b: u128) -> u128 {
    let (a, b) = (words(a), words(b));
    from_words(std::array::from_fn(|i| if i % 2 == 0 { a[i / 2] } else { b[i / 2] }))
}

fn unpack32(a: u128, b: u128) -> u128 {
    let (a, b) = (dwords(a), dwords(b));
    from_dwords([a[0], b[0], a[1], b[1]])
}

/// Element `n` of four selected by two bits each.
fn select(imm: u8, n: usize) -> usize {
    usize::from(imm >> (2 * n) & 3)
}

/// Four words of `v` selected by `imm`.
fn shuffle_words(v: u64, imm: u8) -> u64 {
    (0..4).fold(0, |r, n| r | (v >> (16 * select(imm, n)) & 0xffff) << (16 * n))
}

fn mask_of(v: bool) -> u64 {
    if v { u64::MAX } else { 0 }
}

/// The result of an operation that is not [`float`](super::table::Info::float) for the SSE form:
/// `a` the old destination, `b` the source (a general register or short memory operand zero-extended).
#[must_use]
pub fn compute(op: SimdOp, a: u128, b: u128, imm: u8) -> u128 {
    use SimdOp::*;
    match op {
        MovLow32 => with_low32(a, b as u32),
        MovLow64 => with_low64(a, b as u64),
        MovHigh64 => a & LOW64 | b << 64,
        Movhlps => with_low64(a, (b >> 64) as u64),
        Movq | Movdq2q => b & LOW64,
        MovssLoad | MovdToGpr => b & LOW32,

        Paddb => map8(a, b, u8::wrapping_add),
        Paddw => map16(a, b, u16::wrapping_add),
        Paddd => map32(a, b, u32::wrapping_add),
        Paddq => map64(a, b, u64::wrapping_add),
        Paddsb => map8(a, b, |x, y| (x as i8).saturating_add(y as i8) as u8),
        Paddsw => map16(a, b, |x, y| (x as i16).saturating_add(y as i16) as u16),
        Paddusb => map8(a, b, u8::saturating_add),
        Paddusw => map16(a, b, u16::saturating_add),
        Psubb => map8(a, b, u8::wrapping_sub),
        Psubw => map16(a, b, u16::wrapping_sub),
        Psubd => map32(a, b, u32::wrapping_sub),
        Psubq => map64(a, b, u64::wrapping_sub),
        Psubsb => map8(a, b, |x, y| (x as i8).saturating_sub(y as i8) as u8),
        Psubsw => map16(a, b, |x, y| (x as i16).saturating_sub(y as i16) as u16),
        Psubusb => map8(a, b, u8::saturating_sub),
        Psubusw => map16(a, b, u16::saturating_sub),
        Pmullw => map16(a, b, u16::wrapping_mul),
        Pmulhw => map16(a, b, |x, y| ((i32::from(x as i16) * i32::from(y as i16)) >> 16) as u16),
        Pmulhuw => map16(a, b, |x, y| ((u32::from(x) * u32::from(y)) >> 16) as u16),
        Pmuludq => map64(a, b, |x, y| u64::from(x as u32) * u64::from(y as u32)),
        Pmaddwd => map32(a, b, |x, y| {
            let product = |shift: u32| i32::from((x >> shift) as i16).wrapping_mul(i32::from((y >> shift) as i16));
            product(0).wrapping_add(product(16)) as u32
        }),
        Psadbw => map64(a, b, |x, y| {
            let (x, y) = (x.to_le_bytes(), y.to_le_bytes());
            x.iter().zip(y).map(|(x, y)| u64::from(x.abs_diff(y))).sum()
        }),
        Pavgb => map8(a, b, |x, y| (u16::from(x) + u16::from(y)).div_ceil(2) as u8),
        Pavgw => map16(a, b, |x, y| (u32::from(x) + u32::from(y)).div_ceil(2) as u16),
        Pminub => map8(a, b, u8::min),
        Pmaxub => map8(a, b, u8::max),
        Pminsw => map16(a, b, |x, y| (x as i16).min(y as i16) as u16),
        Pmaxsw => map16(a, b, |x, y| (x as i16).max(y as i16) as u16),
        Pcmpeqb => map8(a, b, |x, y| mask_of(x == y) as u8),
        Pcmpeqw => map16(a, b, |x, y| mask_of(x == y) as u16),
        Pcmpeqd => map32(a, b, |x, y| mask_of(x == y) as u32),
        Pcmpgtb => map8(a, b, |x, y| mask_of(x as i8 > y as i8) as u8),
        Pcmpgtw => map16(a, b, |x, y| mask_of(x as i16 > y as i16) as u16),
        Pcmpgtd => map32(a, b, |x, y| mask_of(x as i32 > y as i32) as u32),
        Pand => a & b,
        Pandn => !a & b,
        Por => a | b,
        Pxor => a ^ b,

        Psllw | Pslld | Psllq | Psrlw | Psrld | Psrlq | Psraw | Psrad => shift(op, a, b as u64),
        Pslldq => a.checked_shl(8 * b as u32).unwrap_or(0),
        Psrldq => a.checked_shr(8 * b as u32).unwrap_or(0),

        Packsswb => pack_words(a, b, saturate_i8),
        Packuswb => pack_words(a, b, saturate_u8),
        Packssdw => {
            let (a, b) = (dwords(a), dwords(b));
            from_words(std::array::from_fn(|i| saturate_i16(if i < 4 { a[i] } else { b[i - 4] } as i32)))
        }
        Punpcklbw => unpack8(a, b),
        Punpcklwd => unpack16(a, b),
        Punpckldq => unpack32(a, b),
        Punpcklqdq => a & LOW64 | b << 64,
        Punpckhbw => unpack8(a >> 64, b >> 64),
        Punpckhwd => unpack16(a >> 64, b >> 64),
        Punpckhdq => unpack32(a >> 64, b >> 64),
        Punpckhqdq => a >> 64 | b & !LOW64,
        Pshufd => {
            let b = dwords(b);
            from_dwords(std::array::from_fn(|n| b[select(imm, n)]))
        }
        Pshuflw => with_low64(b, shuffle_words(b as u64, imm)),
        Pshufhw => b & LOW64 | u128::from(shuffle_words((b >> 64) as u64, imm)) << 64,
        Shufps => {
            let (a, b) = (dwords(a), dwords(b));
            from_dwords(std::array::from_fn(|n| {
                let from = if n < 2 { a } else { b };
                from[select(imm, n)]
            }))
        }
        Shufpd => {
            let (a, b) = (quads(a), quads(b));
            from_quads([a[usize::from(imm & 1)], b[usize::from(imm >> 1 & 1)]])
        }
        Pinsrw => {
            let at = 16 * u32::from(imm & 7);
            a & !(0xffff << at) | (b & 0xffff) << at
        }
        Pextrw => b >> (16 * u32::from(imm & 7)) & 0xffff,
        Pmovmskb => bytes(b).iter().rev().fold(0, |m, v| m << 1 | u128::from(v >> 7)),
        Movmskps => dwords(b).iter().rev().fold(0, |m, v| m << 1 | u128::from(v >> 31)),
        Movmskpd => b >> 63 & 1 | b >> 127 << 1,
        Mova | Movu | Movd | Movq2dq => b,
        _ => sse4::compute(op, a, b, imm),
    }
}

/// Shifts lane by lane; counts of the lane's width and more empty it.
fn shift(op: SimdOp, a: u128, count: u64) -> u128 {
    use SimdOp::*;
    let n = count.min(64) as u32;
    match op {
        Psllw => map16(a, 0, |x, _| x.checked_shl(n).unwrap_or(0)),
        Pslld => map32(a, 0, |x, _| x.checked_shl(n).unwrap_or(0)),
        Psllq => map64(a, 0, |x, _| x.checked_shl(n).unwrap_or(0)),
        Psrlw => map16(a, 0, |x, _| x.checked_shr(n).unwrap_or(0)),
        Psrld => map32(a, 0, |x, _| x.checked_shr(n).unwrap_or(0)),
        Psrlq => map64(a, 0, |x, _| x.checked_shr(n).unwrap_or(0)),
        Psraw => map16(a, 0, |x, _| (x as i16 >> n.min(15)) as u16),
        _ => map32(a, 0, |x, _| (x as i32 >> n.min(31)) as u32),
    }
}

/// The same for the MMX form, whose lanes are those of the low half but where halves are combined.
#[must_use]
pub fn compute_mmx(op: SimdOp, a: u64, b: u64, imm: u8) -> u64 {
    use SimdOp::*;
    let (wide_a, wide_b) = (u128::from(a), u128::from(b));
    match op {
        Punpckhbw => (unpack8(wide_a, wide_b) >> 64) as u64,
        Punpckhwd => (unpack16(wide_a, wide_b) >> 64) as u64,
        Punpckhdq => (unpack32(wide_a, wide_b) >> 64) as u64,
        Packsswb | Packssdw | Packuswb => compute(op, wide_a | wide_b << 64, 0, 0) as u64,
        Pinsrw | Pextrw => compute(op, wide_a, wide_b, imm & 3) as u64,
        _ => sse4::compute_mmx(op, a, b, imm).unwrap_or_else(|| compute(op, wide_a, wide_b, imm) as u64),
    }
}
