//! The usual case of x87 operations on its own: ordinary operands and results, to nearest.
//!
//! Everything stays in the host's registers here, because no reference to an [`Env`](super::f80::Env) or a result is handed on.
//! `None` means that the operation in full ([`super::f80`]) decides; it says the same where both answer.

use super::f80::{BIAS, C1, F80, PE};
use super::wide::{self, Unrounded};

const TOP: u64 = 1 << 63;
/// Precision and rounding control: 64 bits, to nearest.
const PLAIN: u16 = 0x300;
const CONTROLS: u16 = 0xF00;
const ROUNDING: u16 = 0xC00;

/// A result and the flags that it raises: PE and C1 at most.
pub type Rounded = (F80, u16);

/// Rounds to the precision of the control word.
#[inline(always)]
fn round(cw: u16, sign: u16, r: Unrounded) -> Option<Rounded> {
    let exp = r.exp + BIAS;
    // A carry leads to one exponent more.
    if (exp as u32).wrapping_sub(1) >= 0x7FFD {
        return None;
    }
    let (kept, unit, up, inexact) = if cw & CONTROLS == PLAIN {
        // Branch-free: the data decides, at random.
        let up = (u64::from(r.lo > TOP) | u64::from(r.lo == TOP) & r.hi) & 1;
        (r.hi, 1, up, r.lo != 0)
    } else {
        // Less than 64 bits is what C libraries set for their own functions (glibc's `sin`).
        let mask: u64 = match cw & CONTROLS {
            0x000 => (1 << 40) - 1,
            0x200 => (1 << 11) - 1,
            _ => return None,
        };
        let unit = mask + 1;
        // Bit 0 stands for all that is below: half a unit is above it.
        let (tail, half) = (r.hi & mask | u64::from(r.lo != 0), unit >> 1);
        let up = u64::from(tail > half) | u64::from(tail == half) & u64::from(r.hi & unit != 0);
        (r.hi & !mask, unit, up, tail != 0)
    };
    let (sig, carry) = kept.overflowing_add(up * unit);
    let flags = u16::from(inexact) * PE | up as u16 * C1;
    Some((F80 { sig: sig | u64::from(carry) << 63, se: sign | (exp + i32::from(carry)) as u16 }, flags))
}

fn exponent(a: F80) -> i32 {
    a.biased_exp() - BIAS
}

/// a + b, or a - b with `negate_b`.
#[inline(always)]
pub fn add(cw: u16, a: F80, b: F80, negate_b: bool) -> Option<Rounded> {
    let b = F80 { sig: b.sig, se: b.se ^ u16::from(negate_b) << 15 };
    if !(a.is_normal() && b.is_normal()) {
        // Sums begin at zero often enough.
        return match (cw & CONTROLS == PLAIN, a.is_zero(), b.is_zero()) {
            (true, true, _) if b.is_normal() => Some((b, 0)),
            (true, _, true) if a.is_normal() => Some((a, 0)),
            _ => None,
        };
    }
    let sign = a.se & 0x8000;
    if (a.se ^ b.se) & 0x8000 == 0 {
        return round(cw, sign, wide::add(exponent(a), a.sig, exponent(b), b.sig));
    }
    let (negative, r) = wide::sub(exponent(a), a.sig, exponent(b), b.sig);
    if r.hi == 0 {
        return (cw & ROUNDING == 0).then_some((F80::ZERO, 0));
    }
    round(cw, sign ^ u16::from(negative) << 15, r)
}

/// a * b.
#[inline(always)]
pub fn mul(cw: u16, a: F80, b: F80) -> Option<Rounded> {
    let sign = (a.se ^ b.se) & 0x8000;
    if !(a.is_normal() && b.is_normal()) {
        let usual = |x: F80| x.is_zero() || x.is_normal();
        return (usual(a) && usual(b)).then_some((F80 { sig: 0, se: sign }, 0));
    }
    round(cw, sign, wide::mul(exponent(a), a.sig, exponent(b), b.sig))
}

/// a / b.
#[inline(always)]
pub fn div(cw: u16, a: F80, b: F80) -> Option<Rounded> {
    if !(a.is_normal() && b.is_normal()) {
        return None;
    }
    round(cw, (a.se ^ b.se) & 0x8000, wide::div(exponent(a), a.sig, exponent(b), b.sig))
}

/// A binary32 that is normal or zero.
#[inline(always)]
pub fn from_single(bits: u32) -> Option<F80> {
    let (sign, exp) = ((bits >> 16) as u16 & 0x8000, bits >> 23 & 0xFF);
    if exp.wrapping_sub(1) < 0xFE {
        return Some(F80 { sig: u64::from(bits) << 40 | TOP, se: sign | (exp + 16383 - 127) as u16 });
    }
    (bits << 1 == 0).then_some(F80 { sig: 0, se: sign })
}

/// A binary64 that is normal or zero.
#[inline(always)]
pub fn from_double(bits: u64) -> Option<F80> {
    let (sign, exp) = ((bits >> 48) as u16 & 0x8000, (bits >> 52) as u32 & 0x7FF);
    if exp.wrapping_sub(1) < 0x7FE {
        return Some(F80 { sig: bits << 11 | TOP, se: sign | (exp + 16383 - 1023) as u16 });
    }
    (bits << 1 == 0).then_some(F80 { sig: 0, se: sign })
}

/// A binary64 from a number that is and stays normal, or zero, and the flags.
#[inline(always)]
pub fn to_double(cw: u16, a: F80) -> Option<(u64, u16)> {
    if cw & ROUNDING != 0 {
        return None;
    }
    let sign = u64::from(a.se & 0x8000) << 48;
    let exp = (u32::from(a.se & 0x7FFF)).wrapping_sub(16383 - 1023);
    // A carry out of the significand becomes one more in the exponent by itself.
    if a.sig >> 63 == 1 && exp.wrapping_sub(1) < 0x7FD {
        let (rest, odd) = (a.sig & 0x7FF, a.sig >> 11 & 1);
        let up = u64::from(rest + odd > 0x400);
        let bits = (sign | u64::from(exp) << 52 | a.sig << 1 >> 12) + up;
        return Some((bits, u16::from(rest != 0) * PE | up as u16 * C1));
    }
    a.is_zero().then_some((sign, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fpu::convert::Format;
    use crate::fpu::f80::Env;

    /// Numbers near each other, with few and with many bits, and some that are not ordinary.
    fn number(next: &mut impl FnMut() -> u64) -> F80 {
        let (kind, sig, se) = (next(), next(), next());
        let sign = (se & 0x8000) as u16;
        let near = (16383 - 70 + se % 140) as u16;
        match kind % 16 {
            0 => F80 { sig: 0, se: sign },
            1 => F80 { sig, se: se as u16 },
            2 => F80 { sig: sig | TOP, se: se as u16 },
            3 => F80 { sig: sig | TOP, se: sign | 1 + (se % 3) as u16 },
            4 => F80 { sig: sig | TOP, se: sign | 0x7FFC + (se % 3) as u16 },
            5 | 6 => F80 { sig: sig << 40 | TOP, se: sign | near },
            7 | 8 => F80 { sig: sig << 11 | TOP, se: sign | near },
            9 => F80 { sig: TOP, se: sign | near },
            10 => F80 { sig: sig << 11 | TOP | 0x400, se: sign | near },
            11 => F80 { sig: !0 << (sig % 64), se: sign | near },
            _ => F80 { sig: sig | TOP, se: sign | near },
        }
    }

    #[test]
    fn the_usual_case_says_what_the_operation_in_full_says() {
        let mut state = 0x0123_4567_89AB_CDEFu64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 5
        };
        let mut answered = [0u32; 7];
        for _ in 0..300_000 {
            let (a, b) = (number(&mut next), number(&mut next));
            let cw = 0x3F | [0x300, 0x200, 0, 0x100, 0x700, 0xB00, 0xF00, 0x300][next() as usize % 8];
            let full = |f: &dyn Fn(&mut Env) -> F80| {
                let mut env = Env::new(cw);
                let result = f(&mut env);
                (result, env.flags)
            };
            let mut check = |n: usize, fast: Option<Rounded>, full: Rounded| {
                answered[n] += u32::from(fast.is_some());
                assert!(fast.is_none_or(|fast| fast == full), "{n} {cw:x} {a:x?} {b:x?}: {fast:x?} {full:x?}");
            };
            check(0, add(cw, a, b, false), full(&|env| env.add(a, b, false)));
            check(1, add(cw, a, b, true), full(&|env| env.add(a, b, true)));
            check(2, mul(cw, a, b), full(&|env| env.mul(a, b)));
            check(3, div(cw, a, b), full(&|env| env.div(a, b)));
            let bits = a.sig ^ u64::from(b.se) << 48;
            let exact = |value: Option<F80>| value.map(|value| (value, 0));
            check(4, exact(from_single(bits as u32)), full(&|env| F80::from_f32(bits as u32, env)));
            check(5, exact(from_double(bits)), full(&|env| F80::from_f64(bits, env)));
            let mut env = Env::new(cw);
            let double = (a.to_format(Format::DOUBLE, &mut env), env.flags);
            let fast = to_double(cw, a);
            answered[6] += u32::from(fast.is_some());
            assert!(fast.is_none_or(|fast| fast == double), "{cw:x} {a:x?}: {fast:x?} {double:x?}");
        }
        assert!(answered.iter().all(|&n| n > 50_000), "{answered:?}");
    }
}
