//! EFLAGS: bit names, and the lazy arithmetic flags.
//!
//! An arithmetic instruction records its kind, result and first source ([`Lazy`]); the six status flags
//! are computed when something reads them.

use serde::{Deserialize, Serialize};

/// Carry.
pub const CF: u32 = 1;
/// Parity of the low byte.
pub const PF: u32 = 1 << 2;
/// Carry out of bit 3.
pub const AF: u32 = 1 << 4;
/// Zero.
pub const ZF: u32 = 1 << 6;
/// Sign.
pub const SF: u32 = 1 << 7;
/// Single-step trap.
pub const TF: u32 = 1 << 8;
/// Interrupts enabled.
pub const IF: u32 = 1 << 9;
/// String direction.
pub const DF: u32 = 1 << 10;
/// Overflow.
pub const OF: u32 = 1 << 11;
/// I/O privilege level (two bits).
pub const IOPL: u32 = 3 << 12;
/// Nested task.
pub const NT: u32 = 1 << 14;
/// Resume: no instruction breakpoint on the next instruction.
pub const RF: u32 = 1 << 16;
/// Virtual-8086 mode.
pub const VM: u32 = 1 << 17;
/// Alignment check.
pub const AC: u32 = 1 << 18;
/// Virtual interrupt flag.
pub const VIF: u32 = 1 << 19;
/// Virtual interrupt pending.
pub const VIP: u32 = 1 << 20;
/// CPUID can be used when this bit can be changed.
pub const ID: u32 = 1 << 21;
/// The six arithmetic status flags.
pub const STATUS: u32 = CF | PF | AF | ZF | SF | OF;
/// Bit 1, always set.
pub const ALWAYS: u32 = 2;

/// Which computation the recorded values stand for. The suffix is the operand width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "operation and width")]
pub enum LazyOp {
    /// `src` holds the flags themselves.
    #[default]
    Eager,
    Add8,
    Add16,
    Add32,
    Sub8,
    Sub16,
    Sub32,
    Logic8,
    Logic16,
    Logic32,
    /// INC; `src` holds CF.
    Inc8,
    Inc16,
    Inc32,
    /// DEC; `src` holds CF.
    Dec8,
    Dec16,
    Dec32,
    /// Shifts: `src` is the operand, with the count (1 to 31) in bits 63:32.
    Shl32,
    Shr32,
    Sar32,
    /// IMUL and MUL: `src` is the full product.
    Imul32,
    Mul32,
    /// ADC and SBB: `src` is the first operand, with the second one in bits 63:32.
    Adc32,
    Sbb32,
    Add64,
    Sub64,
    Logic64,
    Inc64,
    Dec64,
}

/// The last flag-setting computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lazy {
    /// What was computed.
    pub op: LazyOp,
    /// Its result, zero-extended.
    pub res: u64,
    /// Add: an addend. Sub: the minuend. Inc and Dec: CF. Logic: CF, AF and OF. Eager: the flags.
    pub src: u64,
}

/// The parity flag of a result's low byte.
#[inline]
#[must_use]
pub const fn parity(res: u64) -> u32 {
    if (res as u8).count_ones() & 1 == 0 { PF } else { 0 }
}

/// ZF, SF and PF of a result of `bits` bits.
#[inline]
#[must_use]
pub const fn zsp(res: u64, bits: u32) -> u32 {
    let masked = res << (64 - bits);
    (if masked == 0 { ZF } else { 0 }) | (if (masked as i64) < 0 { SF } else { 0 }) | parity(res)
}

impl Lazy {
    /// The six status flags.
    #[must_use]
    pub fn flags(&self) -> u32 {
        use LazyOp::*;
        match self.op {
            Eager => self.src as u32 & STATUS,
            Add8 => self.add(8),
            Add16 => self.add(16),
            Add32 => self.add(32),
            Add64 => self.add(64),
            Sub8 => self.sub(8),
            Sub16 => self.sub(16),
            Sub32 => self.sub(32),
            Sub64 => self.sub(64),
            Logic8 => zsp(self.res, 8) | self.src as u32 & (CF | AF | OF),
            Logic16 => zsp(self.res, 16) | self.src as u32 & (CF | AF | OF),
            Logic32 => zsp(self.res, 32) | self.src as u32 & (CF | AF | OF),
            Logic64 => zsp(self.res, 64) | self.src as u32 & (CF | AF | OF),
            Shl32 | Shr32 | Sar32 | Imul32 | Mul32 => {
                zsp(self.res, 32) | u32::from(self.carry()) * CF | u32::from(self.overflow()) * OF
            }
            Adc32 | Sbb32 => {
                let half = (self.src ^ self.src >> 32 ^ self.res) as u32 & AF;
                zsp(self.res, 32) | u32::from(self.carry()) * CF | u32::from(self.overflow()) * OF | half
            }
            Inc8 => self.step(8, true),
            Inc16 => self.step(16, true),
            Inc32 => self.step(32, true),
            Inc64 => self.step(64, true),
            Dec8 => self.step(8, false),
            Dec16 => self.step(16, false),
            Dec32 => self.step(32, false),
            Dec64 => self.step(64, false),
        }
    }

    fn add(&self, bits: u32) -> u32 {
        let (r, a) = (self.res, self.src);
        let mask = u64::MAX >> (64 - bits);
        let b = r.wrapping_sub(a) & mask;
        let sign = |v: u64| v >> (bits - 1) & 1 != 0;
        zsp(r, bits)
            | (if r < a { CF } else { 0 })
            | ((a ^ b ^ r) as u32 & AF)
            | (if sign((a ^ r) & (b ^ r)) { OF } else { 0 })
    }

    fn sub(&self, bits: u32) -> u32 {
        let (r, a) = (self.res, self.src);
        let mask = u64::MAX >> (64 - bits);
        let b = a.wrapping_sub(r) & mask;
        let sign = |v: u64| v >> (bits - 1) & 1 != 0;
        zsp(r, bits)
            | (if a < b { CF } else { 0 })
            | ((a ^ b ^ r) as u32 & AF)
            | (if sign((a ^ b) & (a ^ r)) { OF } else { 0 })
    }

    fn step(&self, bits: u32, inc: bool) -> u32 {
        let sign = 1u64 << (bits - 1);
        let (overflowed, half) = if inc { (sign, 0) } else { (sign - 1, 15) };
        zsp(self.res, bits)
            | (self.src as u32 & CF)
            | (if self.res & 15 == half { AF } else { 0 })
            | (if self.res == overflowed { OF } else { 0 })
    }

    /// Replaces CF and OF by `value`, of the commonest operations; `None` when all flags must be computed for it.
    #[inline(always)]
    #[must_use]
    pub fn quick_rotated(&self, value: u32) -> Option<Self> {
        use LazyOp::*;
        let (res, src) = (self.res as u32, self.src as u32);
        let half = match self.op {
            Logic32 => src,
            Add32 => src ^ res.wrapping_sub(src) ^ res,
            Sub32 => src ^ src.wrapping_sub(res) ^ res,
            Shl32 | Shr32 | Sar32 => 0,
            Adc32 | Sbb32 => src ^ (self.src >> 32) as u32 ^ res,
            _ => return None,
        };
        Some(Self { op: Logic32, res: self.res, src: u64::from(half & AF | value) })
    }

    /// The top bit is what ADC or SBB of the operands `a` and `b` carried out of the top.
    #[inline(always)]
    fn carry_out(subtracts: bool, a: u32, b: u32, res: u32) -> u32 {
        // A borrow out of a - b is a carry out of !a + b, which is !res.
        let flip = if subtracts { u32::MAX } else { 0 };
        let (a, res) = (a ^ flip, res ^ flip);
        a & b | (a | b) & !res
    }

    /// The top bit is OF of ADC or SBB.
    #[inline(always)]
    fn signed_overflow(subtracts: bool, a: u32, b: u32, res: u32) -> u32 {
        if subtracts { (a ^ b) & (a ^ res) } else { (a ^ res) & (b ^ res) }
    }

    /// OF of shifts, products, ADC and SBB.
    fn overflow(&self) -> bool {
        match self.op {
            LazyOp::Adc32 | LazyOp::Sbb32 => {
                let (a, b) = (self.src as u32, (self.src >> 32) as u32);
                Self::signed_overflow(self.op == LazyOp::Sbb32, a, b, self.res as u32) >> 31 != 0
            }
            LazyOp::Shl32 => self.carry() != (self.res >> 31 & 1 != 0),
            LazyOp::Shr32 => self.src >> 32 == 1 && self.src >> 31 & 1 != 0,
            LazyOp::Sar32 => false,
            _ => self.carry(),
        }
    }

    /// CF alone.
    #[inline(always)]
    #[must_use]
    pub fn carry(&self) -> bool {
        use LazyOp::*;
        match self.op {
            Add8 | Add16 | Add32 | Add64 => self.res < self.src,
            Sub8 => (self.src as u8) < (self.src.wrapping_sub(self.res) as u8),
            Sub16 => (self.src as u16) < (self.src.wrapping_sub(self.res) as u16),
            Sub32 => (self.src as u32) < (self.src.wrapping_sub(self.res) as u32),
            Sub64 => self.src < self.src.wrapping_sub(self.res),
            Shl32 => self.src as u32 >> (32 - (self.src >> 32 & 31)) & 1 != 0,
            Shr32 | Sar32 => self.src as u32 >> ((self.src >> 32) - 1 & 31) & 1 != 0,
            Imul32 => self.src as i64 != i64::from(self.src as i32),
            Mul32 => self.src >> 32 != 0,
            Adc32 | Sbb32 => {
                let (a, b) = (self.src as u32, (self.src >> 32) as u32);
                Self::carry_out(self.op == Sbb32, a, b, self.res as u32) >> 31 != 0
            }
            Eager | Logic8 | Logic16 | Logic32 | Logic64 | Inc8 | Inc16 | Inc32 | Inc64 | Dec8 | Dec16 | Dec32
            | Dec64 => self.src & 1 != 0,
        }
    }

    /// SF alone.
    #[inline(always)]
    #[must_use]
    pub fn sign(&self) -> bool {
        use LazyOp::*;
        let bit = match self.op {
            Eager => return self.src as u32 & SF != 0,
            Add32 | Sub32 | Logic32 | Inc32 | Dec32 | Shl32 | Shr32 | Sar32 | Imul32 | Mul32 | Adc32 | Sbb32 => 31,
            Add8 | Sub8 | Logic8 | Inc8 | Dec8 => 7,
            Add16 | Sub16 | Logic16 | Inc16 | Dec16 => 15,
            Add64 | Sub64 | Logic64 | Inc64 | Dec64 => 63,
        };
        self.res >> bit & 1 != 0
    }

    /// Condition `cc` as instructions encode it (0 O, 1 NO, 2 B, … 15 G).
    #[inline]
    #[must_use]
    pub fn condition(&self, cc: u8) -> bool {
        let holds = match cc >> 1 & 7 {
            0 => self.flags() & OF != 0,
            1 => self.carry(),
            2 => self.zero(),
            3 => self.carry() || self.zero(),
            4 => self.sign(),
            5 => self.flags() & PF != 0,
            6 => self.less(),
            _ => self.zero() || self.less(),
        };
        holds ^ (cc & 1 != 0)
    }

    /// The same where that takes little work, for the block loop.
    #[inline(always)]
    #[must_use]
    pub fn quick_condition(&self, cc: u8) -> Option<bool> {
        let holds = match cc >> 1 & 7 {
            1 => self.carry(),
            2 => self.zero(),
            3 => self.zero() || self.carry(),
            4 => self.sign(),
            6 => self.quick_less()?,
            7 => self.zero() || self.quick_less()?,
            _ => return None,
        };
        Some(holds ^ (cc & 1 != 0))
    }

    /// SF ≠ OF, of the commonest operations.
    #[inline(always)]
    fn quick_less(&self) -> Option<bool> {
        use LazyOp::*;
        let difference = self.src.wrapping_sub(self.res);
        Some(match self.op {
            Sub32 => (self.src as i32) < (difference as i32),
            Sub16 => (self.src as i16) < (difference as i16),
            Sub8 => (self.src as i8) < (difference as i8),
            Logic32 => ((self.res as i32) < 0) != (self.src as u32 & OF != 0),
            Logic8 => ((self.res as i8) < 0) != (self.src as u32 & OF != 0),
            Inc32 => (self.res as i32) < 0 && self.res != 0x8000_0000,
            Dec32 => (self.res as i32) < 0 || self.res == 0x7fff_ffff,
            Add32 => {
                // The addends' signs agree and differ from the sum's: OF.
                let overflow = (self.res ^ self.src) & (self.res ^ self.res.wrapping_sub(self.src));
                ((self.res ^ overflow) as i32) < 0
            }
            Adc32 | Sbb32 => {
                let (a, b, res) = (self.src as u32, (self.src >> 32) as u32, self.res as u32);
                ((res ^ Self::signed_overflow(self.op == Sbb32, a, b, res)) as i32) < 0
            }
            _ => return None,
        })
    }

    /// SF ≠ OF.
    #[inline]
    fn less(&self) -> bool {
        if self.op == LazyOp::Sub32 {
            return (self.src as i32) < (self.src.wrapping_sub(self.res) as i32);
        }
        let f = self.flags();
        (f & SF != 0) != (f & OF != 0)
    }

    /// ZF alone.
    #[inline(always)]
    #[must_use]
    pub fn zero(&self) -> bool {
        if self.op == LazyOp::Eager { self.src as u32 & ZF != 0 } else { self.res == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operands at which carries and signs change, and some in between.
    const EDGES: [u32; 10] =
        [0, 1, 0xf, 0x10, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xffff_fff0, 0xffff_ffff, 0x1234_5678];

    /// All ADC and SBB of those: the record, and the flags that it stands for.
    fn with_carry() -> impl Iterator<Item = (Lazy, u32)> {
        let operands = EDGES.into_iter().flat_map(|a| EDGES.into_iter().flat_map(move |b| [(a, b, 0), (a, b, 1)]));
        operands.flat_map(|(a, b, c)| {
            [false, true].map(|subtracts| {
                let (wide_a, wide_b) = (i64::from(a), i64::from(b) + i64::from(c));
                let signed_b = i64::from(b as i32) + i64::from(c);
                let (wide, signed) = if subtracts {
                    (wide_a - wide_b, i64::from(a as i32) - signed_b)
                } else {
                    (wide_a + wide_b, i64::from(a as i32) + signed_b)
                };
                let res = wide as u32;
                let expect = zsp(res.into(), 32)
                    | u32::from(wide != i64::from(res)) * CF
                    | u32::from(signed != i64::from(res as i32)) * OF
                    | ((a ^ b ^ res) & AF);
                let op = if subtracts { LazyOp::Sbb32 } else { LazyOp::Adc32 };
                (Lazy { op, res: res.into(), src: u64::from(a) | u64::from(b) << 32 }, expect)
            })
        })
    }

    #[test]
    fn adc_and_sbb_are_recorded_by_their_operands() {
        for (lazy, expect) in with_carry() {
            assert_eq!(lazy.flags(), expect, "{lazy:?}");
            assert_eq!(lazy.carry(), expect & CF != 0, "{lazy:?}");
            for cc in 0..16 {
                let eager = Lazy { op: LazyOp::Eager, res: 0, src: expect.into() };
                assert_eq!(lazy.condition(cc), eager.condition(cc), "{lazy:?} {cc}");
                if let Some(holds) = lazy.quick_condition(cc) {
                    assert_eq!(holds, eager.condition(cc), "{lazy:?} {cc}");
                }
            }
        }
    }

    #[test]
    fn a_rotation_keeps_all_but_cf_and_of() {
        use LazyOp::{Add32, Logic32, Shl32, Sub32};
        let others = EDGES.into_iter().flat_map(|a| {
            EDGES.into_iter().flat_map(move |b| {
                let src = u64::from(a);
                [
                    Lazy { op: Add32, res: a.wrapping_add(b).into(), src },
                    Lazy { op: Sub32, res: a.wrapping_sub(b).into(), src },
                    Lazy { op: Logic32, res: (a & b).into(), src: u64::from(b & (CF | AF | OF)) },
                    Lazy { op: Shl32, res: (a << 3).into(), src: src | 3 << 32 },
                ]
            })
        });
        for before in with_carry().map(|(lazy, _)| lazy).chain(others) {
            for value in [0, CF, OF, CF | OF] {
                let after = before.quick_rotated(value).expect("a common record");
                assert_eq!(after.flags(), before.flags() & !(CF | OF) | value, "{before:?}");
            }
        }
        let eager = Lazy { op: LazyOp::Eager, res: 0, src: u64::from(ZF | PF) };
        assert_eq!(eager.quick_rotated(CF), None);
    }

    #[test]
    fn lazy_flags_equal_their_definition_for_all_bytes() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let (r, c) = a.overflowing_add(b);
                let o = (a as i8).overflowing_add(b as i8).1;
                let expect = zsp(r.into(), 8) | u32::from(c) * CF | u32::from(o) * OF | ((a ^ b ^ r) as u32 & AF);
                let lazy = Lazy { op: LazyOp::Add8, res: r.into(), src: a.into() };
                assert_eq!((lazy.flags(), lazy.carry(), lazy.zero()), (expect, c, r == 0));
                let (r, c) = a.overflowing_sub(b);
                let o = (a as i8).overflowing_sub(b as i8).1;
                let expect = zsp(r.into(), 8) | u32::from(c) * CF | u32::from(o) * OF | ((a ^ b ^ r) as u32 & AF);
                let lazy = Lazy { op: LazyOp::Sub8, res: r.into(), src: a.into() };
                assert_eq!((lazy.flags(), lazy.carry(), lazy.zero()), (expect, c, r == 0));
            }
            let r = a.wrapping_add(1);
            let expect = zsp(r.into(), 8) | CF | u32::from(a == 0x7f) * OF | ((a ^ 1 ^ r) as u32 & AF);
            assert_eq!(Lazy { op: LazyOp::Inc8, res: r.into(), src: 1 }.flags(), expect);
            let r = a.wrapping_sub(1);
            let expect = zsp(r.into(), 8) | u32::from(a == 0x80) * OF | ((a ^ 1 ^ r) as u32 & AF);
            assert_eq!(Lazy { op: LazyOp::Dec8, res: r.into(), src: 0 }.flags(), expect);
        }
    }
}
