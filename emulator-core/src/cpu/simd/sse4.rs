//! Integer operations and rearranging of SSE3, SSSE3, SSE4.1 and SSE4.2 (SDM vol. 2). Pure functions.

use super::integer::{bytes, dwords, from_dwords, from_quads, from_words, map8, map16, map32, map64, quads, words};
use super::table::SimdOp;

/// Pairs of neighbours of a, then of b.
fn pairs16(a: u128, b: u128, f: impl Fn(i16, i16) -> i16) -> u128 {
    let (a, b) = (words(a), words(b));
    from_words(std::array::from_fn(|i| {
        let (from, at) = if i < 4 { (&a, 2 * i) } else { (&b, 2 * i - 8) };
        f(from[at] as i16, from[at + 1] as i16) as u16
    }))
}

fn pairs32(a: u128, b: u128, f: impl Fn(u32, u32) -> u32) -> u128 {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (dwords(a), dwords(b));
    from_dwords([f(a0, a1), f(a2, a3), f(b0, b1), f(b2, b3)])
}

/// PSIGN: a negated, zeroed or kept by the sign of b.
macro_rules! sign {
    ($map:ident, $t:ident, $a:expr, $b:expr) => {
        $map($a, $b, |x, y| match 0.cmp(&(y as $t)) {
            std::cmp::Ordering::Less => x,
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Greater => x.wrapping_neg(),
        })
    };
}

/// Elements of `from` bytes at the low end, extended to `to` bytes.
fn extend(v: u128, from: u32, to: u32, signed: bool) -> u128 {
    (0..16 / to).fold(0, |r, n| {
        let element = (v >> (8 * from * n)) as u64;
        let unused = 64 - 8 * from;
        let wide = if signed { ((element << unused) as i64 >> unused) as u64 } else { element << unused >> unused };
        let kept = u128::from(wide << (64 - 8 * to) >> (64 - 8 * to));
        r | kept << (8 * to * n)
    })
}

/// The result: `a` the old destination, `b` the source.
pub(super) fn compute(op: SimdOp, a: u128, b: u128, imm: u8) -> u128 {
    use SimdOp::*;
    match op {
        Movddup => from_quads([b as u64; 2]),
        Movshdup => {
            let [_, y, _, w] = dwords(b);
            from_dwords([y, y, w, w])
        }
        Movsldup => {
            let [x, _, z, _] = dwords(b);
            from_dwords([x, x, z, z])
        }
        Pshufb => {
            let from = bytes(a);
            map8(b, 0, |s, _| if s & 0x80 != 0 { 0 } else { from[usize::from(s & 15)] })
        }
        Phaddw => pairs16(a, b, i16::wrapping_add),
        Phaddsw => pairs16(a, b, i16::saturating_add),
        Phsubw => pairs16(a, b, i16::wrapping_sub),
        Phsubsw => pairs16(a, b, i16::saturating_sub),
        Phaddd => pairs32(a, b, u32::wrapping_add),
        Phsubd => pairs32(a, b, u32::wrapping_sub),
        Pmaddubsw => map16(a, b, |x, y| {
            let product = |shift: u32| i32::from((x >> shift) as u8) * i32::from((y >> shift) as i8);
            (product(0) + product(8)).clamp(i16::MIN.into(), i16::MAX.into()) as u16
        }),
        Pmulhrsw => map16(a, b, |x, y| (((i32::from(x as i16) * i32::from(y as i16)) >> 14) + 1 >> 1) as u16),
        Psignb => sign!(map8, i8, a, b),
        Psignw => sign!(map16, i16, a, b),
        Psignd => sign!(map32, i32, a, b),
        Pabsb => map8(b, 0, |x, _| (x as i8).unsigned_abs()),
        Pabsw => map16(b, 0, |x, _| (x as i16).unsigned_abs()),
        Pabsd => map32(b, 0, |x, _| (x as i32).unsigned_abs()),
        Palignr => match u32::from(imm) {
            n @ 0..16 => b >> (8 * n) | a.checked_shl(128 - 8 * n).unwrap_or(0),
            n => a.checked_shr(8 * (n - 16)).unwrap_or(0),
        },
        _ => compute_sse41(op, a, b, imm),
    }
}

fn compute_sse41(op: SimdOp, a: u128, b: u128, imm: u8) -> u128 {
    use SimdOp::*;
    match op {
        Pmovsxbw => extend(b, 1, 2, true),
        Pmovsxbd => extend(b, 1, 4, true),
        Pmovsxbq => extend(b, 1, 8, true),
        Pmovsxwd => extend(b, 2, 4, true),
        Pmovsxwq => extend(b, 2, 8, true),
        Pmovsxdq => extend(b, 4, 8, true),
        Pmovzxbw => extend(b, 1, 2, false),
        Pmovzxbd => extend(b, 1, 4, false),
        Pmovzxbq => extend(b, 1, 8, false),
        Pmovzxwd => extend(b, 2, 4, false),
        Pmovzxwq => extend(b, 2, 8, false),
        Pmovzxdq => extend(b, 4, 8, false),
        Pmuldq => map64(a, b, |x, y| (i64::from(x as i32) * i64::from(y as i32)) as u64),
        Pmulld => map32(a, b, u32::wrapping_mul),
        Pcmpeqq => map64(a, b, |x, y| u64::from(x == y).wrapping_neg()),
        Pcmpgtq => map64(a, b, |x, y| u64::from(x as i64 > y as i64).wrapping_neg()),
        Packusdw => {
            let (a, b) = (dwords(a), dwords(b));
            from_words(std::array::from_fn(|i| {
                (if i < 4 { a[i] } else { b[i - 4] } as i32).clamp(0, u16::MAX.into()) as u16
            }))
        }
        Pminsb => map8(a, b, |x, y| (x as i8).min(y as i8) as u8),
        Pminsd => map32(a, b, |x, y| (x as i32).min(y as i32) as u32),
        Pminuw => map16(a, b, u16::min),
        Pminud => map32(a, b, u32::min),
        Pmaxsb => map8(a, b, |x, y| (x as i8).max(y as i8) as u8),
        Pmaxsd => map32(a, b, |x, y| (x as i32).max(y as i32) as u32),
        Pmaxuw => map16(a, b, u16::max),
        Pmaxud => map32(a, b, u32::max),
        Phminposuw => {
            let smallest = words(b).into_iter().enumerate().min_by_key(|(_, v)| *v);
            smallest.map_or(0, |(n, v)| u128::from(v) | (n as u128) << 16)
        }
        Mpsadbw => sums_of_differences(a, b, imm),
        Pblendw => {
            let (a, b) = (words(a), words(b));
            from_words(std::array::from_fn(|n| if imm >> n & 1 != 0 { b[n] } else { a[n] }))
        }
        Blendps => {
            let (a, b) = (dwords(a), dwords(b));
            from_dwords(std::array::from_fn(|n| if imm >> n & 1 != 0 { b[n] } else { a[n] }))
        }
        Blendpd => {
            let (a, b) = (quads(a), quads(b));
            from_quads(std::array::from_fn(|n| if imm >> n & 1 != 0 { b[n] } else { a[n] }))
        }
        Pinsrb => insert(a, b, 8, imm & 15),
        Pinsrd => insert(a, b, 32, imm & 3),
        Pextrb | StoreElement8 => b >> (8 * u32::from(imm & 15)) & 0xff,
        StoreElement16 => b >> (16 * u32::from(imm & 7)) & 0xffff,
        Pextrd | StoreElement32 => b >> (32 * u32::from(imm & 3)) & 0xffff_ffff,
        Insertps => {
            let element = dwords(b)[usize::from(imm >> 6)];
            let with = dwords(insert(a, element.into(), 32, imm >> 4 & 3));
            from_dwords(std::array::from_fn(|n| if imm >> n & 1 != 0 { 0 } else { with[n] }))
        }
        // ZF: none of a's bits in b; CF: all of b's bits in a.
        Ptest => u128::from(a & b == 0) << 6 | u128::from(!a & b == 0),
        // Lddqu, Movntdqa.
        _ => b,
    }
}

fn insert(a: u128, b: u128, bits: u32, at: u8) -> u128 {
    let mask = (1u128 << bits) - 1;
    let shift = bits * u32::from(at);
    a & !(mask << shift) | (b & mask) << shift
}

/// MPSADBW: eight sums of four differences, along a against one group of b.
fn sums_of_differences(a: u128, b: u128, imm: u8) -> u128 {
    let (x, y) = (bytes(a), bytes(b));
    let (from, with) = (usize::from(imm >> 2 & 1) * 4, usize::from(imm & 3) * 4);
    from_words(std::array::from_fn(|n| (0..4).map(|k| u16::from(x[from + n + k].abs_diff(y[with + k]))).sum()))
}

/// The MMX form of SSSE3's operations whose halves are combined; `None` for those that go lane by lane.
pub(super) fn compute_mmx(op: SimdOp, a: u64, b: u64, imm: u8) -> Option<u64> {
    use SimdOp::*;
    let (wide_a, wide_b) = (u128::from(a), u128::from(b));
    match op {
        Phaddw | Phaddsw | Phsubw | Phsubsw | Phaddd | Phsubd => Some(compute(op, wide_a | wide_b << 64, 0, 0) as u64),
        Pshufb => Some(compute(op, wide_a, wide_b & 0x8787_8787_8787_8787, 0) as u64),
        Palignr => Some((wide_a << 64 | wide_b).checked_shr(8 * u32::from(imm)).unwrap_or(0) as u64),
        _ => None,
    }
}

/// PBLENDVB, BLENDVPS, BLENDVPD: elements of b where the mask's element is negative.
pub(super) fn blend(op: SimdOp, a: u128, b: u128, mask: u128) -> u128 {
    let chosen = match op {
        SimdOp::Pblendvb => map8(mask, 0, |m, _| (m as i8 >> 7) as u8),
        SimdOp::Blendvps => map32(mask, 0, |m, _| (m as i32 >> 31) as u32),
        _ => map64(mask, 0, |m, _| (m as i64 >> 63) as u64),
    };
    a & !chosen | b & chosen
}

/// What a string comparison finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matches {
    /// IntRes2: a bit for each element.
    bits: u32,
    /// Elements: 16 or 8.
    count: u32,
    /// CF, ZF, SF and OF at their places.
    pub flags: u32,
}

impl Matches {
    /// ECX of the index forms: the first or last match, or the number of elements.
    pub fn index(self, imm: u8) -> u32 {
        match (self.bits, imm & 0x40) {
            (0, _) => self.count,
            (bits, 0) => bits.trailing_zeros(),
            (bits, _) => 31 - bits.leading_zeros(),
        }
    }

    /// XMM0 of the mask forms: bits, or whole elements.
    pub fn mask(self, imm: u8) -> u128 {
        if imm & 0x40 == 0 {
            return self.bits.into();
        }
        let width = 128 / self.count;
        let ones = (1u128 << width) - 1;
        (0..self.count).filter(|n| self.bits >> n & 1 != 0).fold(0, |r, n| r | ones << (width * n))
    }
}

/// PCMPESTRI and its like (SDM vol. 2, 4.1). `lengths` are EAX and EDX of the explicit forms.
pub(super) fn compare_strings(a: u128, b: u128, imm: u8, lengths: Option<(u32, u32)>) -> Matches {
    let wide = imm & 1 != 0;
    let count: usize = if wide { 8 } else { 16 };
    let element = |v: u128, n: usize| -> i32 {
        match (wide, imm & 2 != 0) {
            (false, false) => bytes(v)[n].into(),
            (false, true) => (bytes(v)[n] as i8).into(),
            (true, false) => words(v)[n].into(),
            (true, true) => (words(v)[n] as i16).into(),
        }
    };
    let length = |v: u128, explicit: Option<u32>| match explicit {
        Some(n) => (n as i32).unsigned_abs().min(count as u32) as usize,
        None => (0..count).find(|n| element(v, *n) == 0).unwrap_or(count),
    };
    let (la, lb) = (length(a, lengths.map(|l| l.0)), length(b, lengths.map(|l| l.1)));
    let mut found = 0u32;
    for j in 0..count {
        let hit = match imm >> 2 & 3 {
            0 => j < lb && (0..la).any(|i| element(a, i) == element(b, j)),
            1 => {
                let within = |i: usize| (element(a, i)..=element(a, i + 1)).contains(&element(b, j));
                j < lb && (0..la / 2).any(|i| within(2 * i))
            }
            2 if j < la && j < lb => element(a, j) == element(b, j),
            2 => j >= la && j >= lb,
            _ => (0..la.min(count - j)).all(|i| j + i < lb && element(a, i) == element(b, j + i)),
        };
        found |= u32::from(hit) << j;
    }
    let all = (1u32 << count) - 1;
    let bits = match imm >> 4 & 3 {
        1 => found ^ all,
        3 => found ^ ((1u32 << lb) - 1),
        _ => found,
    };
    let flags = u32::from(bits != 0) | u32::from(lb < count) << 6 | u32::from(la < count) << 7 | (bits & 1) << 11;
    Matches { bits, count: count as u32, flags }
}

/// CRC32 (SDM vol. 2): the Castagnoli polynomial, reflected, over `width` bytes of `value`.
#[must_use]
pub fn crc32(crc: u32, value: u32, width: u32) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = crc;
    for byte in &value.to_le_bytes()[..width.min(4) as usize] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (crc & 1) * POLYNOMIAL;
        }
    }
    crc
}
