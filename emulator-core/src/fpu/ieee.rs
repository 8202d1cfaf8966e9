//! Binary32 and binary64 arithmetic with MXCSR semantics, on raw bits, for SSE.
//! Spec: Intel SDM vol. 1 chapters 4.8, 10.2.3 and 11.5, IEEE 754-2008.
//!
//! Each operation has a fast path for ordinary operands under round-to-nearest that lets the host's
//! own IEEE operation work (exact by the standard, also in wasm) and an integer path for everything
//! else. NaNs never pass through host arithmetic.
//!
//! The caller makes an [`SseEnv`] per instruction, runs the operations of all elements and then asks
//! [`SseEnv::finish`] what becomes of MXCSR and whether #XM is due.

use std::cmp::Ordering;

use super::convert::Format;
use super::f80::{DE, IE, PE, Round, ZE};

mod soft;

use soft::{
    add_slow, comi, convert, div_slow, from_int, min_max, mul_slow, order, predicate, quiet_predicate, round_int,
    sqrt_slow, to_int,
};

const S: Format = Format::SINGLE;
const D: Format = Format::DOUBLE;
const FLAGS: u32 = 0x3F;
const DAZ: u32 = 0x40;
const MASK_SHIFT: u32 = 7;
const RC: u32 = 0x6000;
const FTZ: u32 = 0x8000;

/// MXCSR of one instruction in progress.
#[derive(Debug, Clone, Copy)]
pub struct SseEnv {
    mxcsr: u32,
    flags: u16,
    /// Those of steps that were completed, reported in any case.
    kept: u16,
}

impl SseEnv {
    /// Starts an instruction.
    #[inline(always)]
    pub fn new(mxcsr: u32) -> SseEnv {
        SseEnv { mxcsr, flags: 0, kept: 0 }
    }

    /// The exceptions raised so far, as MXCSR bits 0-5. PE is left out by fast paths when it is
    /// masked and sticky already.
    #[inline(always)]
    pub fn raised(&self) -> u32 {
        u32::from(self.flags)
    }

    /// Ends a step of an instruction that computes in steps; whether an unmasked exception was raised, so that it goes
    /// no further.
    #[inline]
    pub fn stopped(&mut self) -> bool {
        let stopped = u32::from(self.flags) & !(self.mxcsr >> MASK_SHIFT) & FLAGS != 0;
        if !stopped {
            self.kept = self.flags;
        }
        stopped
    }

    /// Ends an instruction: `Ok(mxcsr)` to go on with, or `Err(mxcsr)` when an unmasked exception
    /// was raised: MXCSR takes the value, the destination keeps its own, and #XM follows.
    #[inline(always)]
    pub fn finish(&self) -> Result<u32, u32> {
        let flags = u32::from(self.flags);
        if flags & !(self.mxcsr >> MASK_SHIFT) & FLAGS == 0 {
            return Ok(self.mxcsr | flags);
        }
        Err(self.mxcsr | self.reported())
    }

    /// Exceptions found before the operation keep those of its result from being seen.
    #[cold]
    fn reported(&self) -> u32 {
        let before = u32::from(IE | DE | ZE);
        let flags = u32::from(self.flags);
        let shown = if flags & before & !(self.mxcsr >> MASK_SHIFT) != 0 { flags & before } else { flags };
        shown | u32::from(self.kept)
    }

    #[inline(always)]
    fn raise(&mut self, flags: u16) {
        self.flags |= flags;
    }

    #[inline(always)]
    fn round(&self) -> Round {
        Round::from_bits((self.mxcsr >> 13) as u16)
    }

    #[inline(always)]
    fn nearest(&self) -> bool {
        self.mxcsr & RC == 0
    }

    /// Whether raising PE changes nothing: masked and sticky already.
    #[inline(always)]
    fn pe_settled(&self) -> bool {
        const SETTLED: u32 = (PE as u32) << MASK_SHIFT | PE as u32;
        self.mxcsr & SETTLED == SETTLED
    }

    #[inline(always)]
    fn masked(&self, flag: u16) -> bool {
        self.mxcsr >> MASK_SHIFT & u32::from(flag) != 0
    }

    #[inline(always)]
    fn inexact_if(&mut self, test: impl FnOnce() -> bool) {
        if !self.pe_settled() && test() {
            self.raise(PE);
        }
    }
}

/// Odd part of the significand of an ordinary non-zero binary64.
#[inline]
fn odd_part(bits: u64) -> u64 {
    let sig = bits & D.frac_mask() | 1 << D.frac_bits;
    sig >> sig.trailing_zeros()
}

macro_rules! format_ops {
    ($bits:ident, $float:ident, $f:ident,
     $add:ident $sub:ident $mul:ident $div:ident $sqrt:ident $min:ident $max:ident $cmp:ident $comi:ident
     $ucomi:ident $to_i32:ident $to_i64:ident $from_i32:ident $from_i64:ident $round:ident $ordinary:ident $safe:ident $order:ident
     $mul_exact:expr, $div_exact:expr, $sqrt_exact:expr) => {
        /// A zero or a normal number.
        #[inline(always)]
        fn $ordinary(a: $bits) -> bool {
            const MIN: $bits = 1 << $f.frac_bits;
            const SPAN: $bits = (($f.max_exp() - 1) as $bits) << $f.frac_bits;
            let mag = a & ($bits::MAX >> 1);
            mag == 0 || mag.wrapping_sub(MIN) < SPAN
        }

        /// A normal number away from both ends of the range: no over- or underflow happened.
        #[inline(always)]
        fn $safe(a: $bits) -> bool {
            const MIN: $bits = 2 << $f.frac_bits;
            const SPAN: $bits = (($f.max_exp() - 3) as $bits) << $f.frac_bits;
            (a & ($bits::MAX >> 1)).wrapping_sub(MIN) < SPAN
        }

        /// The order of two operands; `None` is unordered.
        #[inline]
        fn $order(a: $bits, b: $bits, quiet: bool, env: &mut SseEnv) -> Option<Ordering> {
            if $ordinary(a) && $ordinary(b) {
                return $float::from_bits(a).partial_cmp(&$float::from_bits(b));
            }
            order(a.into(), b.into(), quiet, $f, env)
        }

        /// a + b.
        #[inline]
        pub fn $add(a: $bits, b: $bits, env: &mut SseEnv) -> $bits {
            if env.nearest() && $ordinary(a) && $ordinary(b) {
                let (x, y) = ($float::from_bits(a), $float::from_bits(b));
                let r = x + y;
                if $safe(r.to_bits()) {
                    // Knuth's two-sum: the exact error of the rounded sum.
                    env.inexact_if(|| {
                        let yy = r - x;
                        (x - (r - yy)) + (y - yy) != 0.0
                    });
                    return r.to_bits();
                }
                // Of ordinary numbers only opposite ones and zeros give zero, exactly.
                if r == 0.0 {
                    return r.to_bits();
                }
            }
            add_slow(a.into(), b.into(), false, $f, env) as $bits
        }

        /// a - b.
        #[inline]
        pub fn $sub(a: $bits, b: $bits, env: &mut SseEnv) -> $bits {
            if env.nearest() && $ordinary(a) && $ordinary(b) {
                return $add(a, b ^ !($bits::MAX >> 1), env);
            }
            add_slow(a.into(), b.into(), true, $f, env) as $bits
        }

        /// a * b.
        #[inline]
        pub fn $mul(a: $bits, b: $bits, env: &mut SseEnv) -> $bits {
            if env.nearest() && $ordinary(a) && $ordinary(b) {
                let (x, y) = ($float::from_bits(a), $float::from_bits(b));
                let r = x * y;
                if $safe(r.to_bits()) {
                    env.inexact_if(|| !$mul_exact(x, y, r));
                    return r.to_bits();
                }
                if x == 0.0 || y == 0.0 {
                    return r.to_bits();
                }
            }
            mul_slow(a.into(), b.into(), $f, env) as $bits
        }

        /// a / b.
        #[inline]
        pub fn $div(a: $bits, b: $bits, env: &mut SseEnv) -> $bits {
            if env.nearest() && $ordinary(a) && $ordinary(b) {
                let (x, y) = ($float::from_bits(a), $float::from_bits(b));
                let r = x / y;
                if $safe(r.to_bits()) {
                    env.inexact_if(|| !$div_exact(x, y, r));
                    return r.to_bits();
                }
            }
            div_slow(a.into(), b.into(), $f, env) as $bits
        }

        /// Square root.
        #[inline]
        pub fn $sqrt(a: $bits, env: &mut SseEnv) -> $bits {
            if env.nearest() && $safe(a) && a >> ($bits::BITS - 1) == 0 {
                let x = $float::from_bits(a);
                let r = x.sqrt();
                env.inexact_if(|| !$sqrt_exact(x, r));
                return r.to_bits();
            }
            sqrt_slow(a.into(), $f, env) as $bits
        }

        /// MIN: the smaller operand, or the second for NaNs and zeros.
        #[inline]
        pub fn $min(a: $bits, b: $bits, env: &mut SseEnv) -> $bits {
            let order = $order(a, b, false, env);
            min_max(a.into(), b.into(), order == Some(Ordering::Less), $f, env) as $bits
        }

        /// MAX: the larger operand, or the second for NaNs and zeros.
        #[inline]
        pub fn $max(a: $bits, b: $bits, env: &mut SseEnv) -> $bits {
            let order = $order(a, b, false, env);
            min_max(a.into(), b.into(), order == Some(Ordering::Greater), $f, env) as $bits
        }

        /// CMP with one of the eight SSE predicates: whether it holds.
        #[inline]
        pub fn $cmp(a: $bits, b: $bits, code: u8, env: &mut SseEnv) -> bool {
            predicate($order(a, b, quiet_predicate(code), env), code)
        }

        /// COMI: ZF, PF and CF at their places in EFLAGS (OF, SF and AF become 0).
        #[inline]
        pub fn $comi(a: $bits, b: $bits, env: &mut SseEnv) -> u32 {
            comi($order(a, b, false, env))
        }

        /// UCOMI: the same, a quiet NaN being no exception.
        #[inline]
        pub fn $ucomi(a: $bits, b: $bits, env: &mut SseEnv) -> u32 {
            comi($order(a, b, true, env))
        }

        /// To i32, rounded as MXCSR says or truncated.
        #[inline]
        pub fn $to_i32(a: $bits, truncate: bool, env: &mut SseEnv) -> i32 {
            if $ordinary(a) && (truncate || env.nearest()) {
                let x = $float::from_bits(a);
                let r = if truncate { x.trunc() } else { x.round_ties_even() };
                // Both bounds are powers of two: the comparison is exact.
                if (-2147483648.0..2147483648.0).contains(&r) {
                    env.inexact_if(|| r != x);
                    return r as i32;
                }
            }
            let mode = if truncate { Round::Zero } else { env.round() };
            to_int(a.into(), 32, mode, $f, env) as i32
        }

        /// To i64, rounded as MXCSR says or truncated.
        #[inline]
        pub fn $to_i64(a: $bits, truncate: bool, env: &mut SseEnv) -> i64 {
            let mode = if truncate { Round::Zero } else { env.round() };
            to_int(a.into(), 64, mode, $f, env)
        }

        /// From i32.
        #[inline]
        pub fn $from_i32(value: i32, env: &mut SseEnv) -> $bits {
            if env.nearest() {
                let r = value as $float;
                env.inexact_if(|| r as f64 != f64::from(value));
                return r.to_bits();
            }
            from_int(value.into(), $f, env) as $bits
        }

        /// From i64.
        #[inline]
        pub fn $from_i64(value: i64, env: &mut SseEnv) -> $bits {
            from_int(value, $f, env) as $bits
        }

        /// ROUND (SSE4.1) by its immediate: bits 0-1 mode, bit 2 MXCSR's mode instead, bit 3 no PE.
        #[inline]
        pub fn $round(a: $bits, imm: u8, env: &mut SseEnv) -> $bits {
            let mode = if imm & 4 != 0 { env.round() } else { Round::from_bits(imm.into()) };
            round_int(a.into(), mode, imm & 8 != 0, $f, env) as $bits
        }
    };
}

format_ops!(u64, f64, D,
    add_f64 sub_f64 mul_f64 div_f64 sqrt_f64 min_f64 max_f64 cmp_f64 comi_f64
    ucomi_f64 f64_to_i32 f64_to_i64 f64_from_i32 f64_from_i64 round_f64 ordinary_f64 safe_f64 order_f64
    |x: f64, y: f64, r: f64| product_is(x, y, r),
    |x: f64, y: f64, r: f64| product_is(r, y, x),
    |x: f64, r: f64| product_is(r, r, x));

// The product of two singles is exact in double precision.
format_ops!(u32, f32, S,
    add_f32 sub_f32 mul_f32 div_f32 sqrt_f32 min_f32 max_f32 cmp_f32 comi_f32
    ucomi_f32 f32_to_i32 f32_to_i64 f32_from_i32 f32_from_i64 round_f32 ordinary_f32 safe_f32 order_f32
    |x: f32, y: f32, r: f32| f64::from(x) * f64::from(y) == f64::from(r),
    |x: f32, y: f32, r: f32| f64::from(r) * f64::from(y) == f64::from(x),
    |x: f32, r: f32| f64::from(r) * f64::from(r) == f64::from(x));

/// Whether x * y is exactly r, given that r is x * y rounded (or a factor is such a quotient): the
/// odd parts of the significands decide. Zeros only give zeros here, exactly.
#[inline]
fn product_is(x: f64, y: f64, r: f64) -> bool {
    if x == 0.0 || y == 0.0 || r == 0.0 {
        return true;
    }
    let (x, y, r) = (odd_part(x.to_bits()), odd_part(y.to_bits()), odd_part(r.to_bits()));
    // An exact product has the two lengths' sum of bits, or one less: rule out most without it.
    x.leading_zeros() + y.leading_zeros() >= 128 - 54 && x * y == r
}

/// CVTSD2SS.
#[inline]
pub fn f64_to_f32(a: u64, env: &mut SseEnv) -> u32 {
    if env.nearest() && ordinary_f64(a) {
        let x = f64::from_bits(a);
        let r = x as f32;
        if safe_f32(r.to_bits()) {
            env.inexact_if(|| f64::from(r) != x);
            return r.to_bits();
        }
    }
    convert(a, D, S, env) as u32
}

/// CVTSS2SD.
#[inline]
pub fn f32_to_f64(a: u32, env: &mut SseEnv) -> u64 {
    if ordinary_f32(a) {
        return f64::from(f32::from_bits(a)).to_bits();
    }
    convert(a.into(), S, D, env)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MXCSR flags of one packed operation with the exceptions of `unmasked` unmasked.
    fn fault(unmasked: u32, run: impl FnOnce(&mut SseEnv)) -> Result<u32, u32> {
        let mut env = SseEnv::new(0x1F80 & !(unmasked << MASK_SHIFT));
        run(&mut env);
        env.finish().map(|m| m & FLAGS).map_err(|m| m & FLAGS)
    }

    const ONE: u64 = 0x3FF0_0000_0000_0000;
    const HALF: u64 = 0x3FE0_0000_0000_0000;
    const TWO: u64 = 0x4000_0000_0000_0000;
    const THIRD: u64 = 0x3FD5_5555_5555_5555;
    const BIG: u64 = 0x7FE0_0000_0000_0001;
    const TINY: u64 = 0x0010_0000_0000_0001;
    const SNAN: u64 = 0x7FF0_0000_0000_0001;

    /// Measured on an Intel host from a SIGFPE handler.
    #[test]
    fn unmasked_exceptions_report_the_flags_of_the_hardware() {
        let mul = |unmasked: u32, pairs: &[(u64, u64)]| {
            fault(unmasked, |env| {
                for (a, b) in pairs {
                    mul_f64(*a, *b, env);
                }
            })
        };
        assert_eq!(mul(0x08, &[(BIG, BIG)]), Err(0x28));
        assert_eq!(mul(0x08, &[(0x7FE0_0000_0000_0000, TWO)]), Err(0x08));
        assert_eq!(mul(0x10, &[(TINY, TINY)]), Err(0x30));
        assert_eq!(mul(0x10, &[(0x0010_0000_0000_0000, HALF)]), Err(0x10));
        assert_eq!(mul(0x10, &[(TINY, HALF)]), Err(0x10), "exact but for its exponent");
        assert_eq!(mul(0x20, &[(BIG, BIG)]), Err(0x28));
        assert_eq!(mul(0x02, &[(1, THIRD), (THIRD, THIRD)]), Err(0x02));
        assert_eq!(mul(0x02, &[(1, ONE), (BIG, BIG)]), Err(0x02));
        assert_eq!(mul(0x20, &[(THIRD, THIRD), (1, ONE)]), Err(0x22));
        assert_eq!(mul(0x01, &[(SNAN, ONE), (1, ONE)]), Err(0x03));
        assert_eq!(mul(0x08, &[(BIG, BIG), (TINY, TINY)]), Err(0x38));
        assert_eq!(mul(0x02, &[(THIRD, THIRD)]), Ok(0x20));
        let div = fault(0x04, |env| {
            div_f64(ONE, 0, env);
            div_f64(1, THIRD, env);
        });
        assert_eq!(div, Err(0x06));
    }

    #[test]
    fn nan_operands_keep_their_payload_and_the_first_wins() {
        let mut env = SseEnv::new(0x1F80);
        assert_eq!(add_f64(SNAN, 0x7FF8_0000_0000_0002, &mut env), SNAN | 1 << 51);
        assert_eq!(env.raised(), u32::from(IE));
        let mut env = SseEnv::new(0x1F80);
        assert_eq!(add_f32(0xFFC0_0001, 0x7FC0_0002, &mut env), 0xFFC0_0001);
        assert_eq!(env.raised(), 0);
    }
}
