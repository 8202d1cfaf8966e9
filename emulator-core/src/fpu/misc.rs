//! The exact and special x87 operations: comparison, FRNDINT, FSCALE, FXTRACT, FPREM, FPREM1.
//! Spec: Intel SDM vol. 2, the instructions' pages.

use std::cmp::Ordering;

use super::f80::{BIAS, C1, Class, Env, F80, IE, PE, Tail, ZE};
use super::wide::{self, Unrounded};

/// What FPREM and FPREM1 leave besides the remainder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quotient {
    /// The reduction is complete: the low bits of the quotient.
    Complete(u64),
    /// The exponents are still far apart (C2).
    Partial,
    /// There was no quotient (NaN or invalid).
    None,
}

impl Env {
    /// Compares; `None` is unordered. A quiet NaN is invalid only to the ordered comparisons.
    #[inline]
    pub fn compare(&mut self, a: F80, b: F80, quiet: bool) -> Option<Ordering> {
        let usual = |x: F80| x.is_normal() || x.is_zero();
        if usual(a) && usual(b) {
            let order = match (a.sign(), b.sign()) {
                _ if a.is_zero() && b.is_zero() => Ordering::Equal,
                (false, true) => Ordering::Greater,
                (true, false) => Ordering::Less,
                (negative, _) => {
                    let order = (a.se, a.sig).cmp(&(b.se, b.sig));
                    if negative { order.reverse() } else { order }
                }
            };
            return Some(order);
        }
        self.compare_special(a, b, quiet)
    }

    fn compare_special(&mut self, a: F80, b: F80, quiet: bool) -> Option<Ordering> {
        let (ca, cb) = (a.class(), b.class());
        let either = |c: Class| ca == c || cb == c;
        if either(Class::Unsupported) || either(Class::Signalling) {
            self.raise(IE);
            return None;
        }
        if either(Class::Quiet) {
            self.raise(if quiet { 0 } else { IE });
            return None;
        }
        self.note_denormal(a);
        self.note_denormal(b);
        // Sign and magnitude as a number line; both zeros are one point on it.
        let key = |x: F80| {
            let exp = if x.sig >> 63 == 1 && x.biased_exp() == 0 { 1 } else { x.biased_exp() };
            let mag = i128::from(exp) << 64 | i128::from(x.sig);
            if x.sign() { -mag } else { mag }
        };
        Some(key(a).cmp(&key(b)))
    }

    /// Rounds to an integral value.
    pub fn round_to_int(&mut self, a: F80) -> F80 {
        if let Some(nan) = self.nan_operand1(a) {
            return nan;
        }
        if matches!(a.class(), Class::Zero | Class::Infinity) {
            return a;
        }
        self.note_denormal(a);
        let (sign, exp, sig) = a.unpack();
        if exp >= 63 {
            return a;
        }
        let (hi, lo) = wide::shift_right_jam(sig, 0, (63 - exp) as u32);
        let tail = Tail::of(hi, lo, 0);
        if tail == Tail::Exact {
            return a;
        }
        let up = self.round().increments(sign, hi & 1 == 1, tail);
        self.raise(PE | if up { C1 } else { 0 });
        let value = hi + u64::from(up);
        if value == 0 {
            return F80::zero(sign);
        }
        let n = value.leading_zeros();
        F80::pack(sign, BIAS + 63 - n as i32, value << n)
    }

    /// a * 2^trunc(b).
    pub fn scale(&mut self, a: F80, b: F80) -> F80 {
        if let Some(nan) = self.nan_operand(a, b) {
            return nan;
        }
        let (ca, cb) = (a.class(), b.class());
        if cb == Class::Infinity {
            return match (ca, b.sign()) {
                (Class::Zero, false) | (Class::Infinity, true) => self.invalid(),
                (_, false) => {
                    self.note_denormal(a);
                    F80::infinity(a.sign())
                }
                (_, true) => {
                    self.note_denormal(a);
                    F80::zero(a.sign())
                }
            };
        }
        self.note_denormal(a);
        self.note_denormal(b);
        if matches!(ca, Class::Zero | Class::Infinity) {
            return a;
        }
        if cb == Class::Zero {
            return self.unchanged(a);
        }
        let (negative, distance, sig) = b.unpack();
        // 2^16 is beyond every exponent distance and every bias adjustment.
        let magnitude = match distance {
            i32::MIN..=-1 => 0,
            0..=15 => (sig >> (63 - distance)) as i32,
            _ => 1 << 16,
        };
        let shift = if negative { -magnitude } else { magnitude };
        let (sign, exp, hi) = a.unpack();
        self.round_pack(sign, Unrounded { exp: exp + shift, hi, lo: 0 })
    }

    /// Splits into (exponent as a number, significand in 1..2).
    pub fn extract(&mut self, a: F80) -> (F80, F80) {
        if let Some(nan) = self.nan_operand1(a) {
            return (nan, nan);
        }
        match a.class() {
            Class::Zero => {
                self.raise(ZE);
                return (F80::infinity(true), a);
            }
            Class::Infinity => return (F80::infinity(false), a),
            _ => {}
        }
        self.note_denormal(a);
        let (sign, exp, sig) = a.unpack();
        (F80::from_i64(i64::from(exp)), F80::pack(sign, BIAS, sig))
    }

    /// `a`, normalised where it can be. Below the smallest normal number too there is no underflow (seen on Intel's
    /// processors).
    fn unchanged(&mut self, a: F80) -> F80 {
        let (sign, exp, sig) = a.unpack();
        if exp < 1 - BIAS { a } else { self.round_pack(sign, Unrounded { exp, hi: sig, lo: 0 }) }
    }

    /// The remainder of a / b: truncating (FPREM) or IEEE, with the quotient to nearest (FPREM1).
    pub fn remainder(&mut self, a: F80, b: F80, nearest: bool) -> (F80, Quotient) {
        if let Some(nan) = self.nan_operand(a, b) {
            return (nan, Quotient::None);
        }
        let (ca, cb) = (a.class(), b.class());
        if ca == Class::Infinity || cb == Class::Zero {
            return (self.invalid(), Quotient::None);
        }
        self.note_denormal(a);
        self.note_denormal(b);
        if ca == Class::Zero {
            return (a, Quotient::Complete(0));
        }
        let (sign, ea, sa) = a.unpack();
        if cb == Class::Infinity {
            return (self.unchanged(a), Quotient::Complete(0));
        }
        let (_, eb, sb) = b.unpack();
        let distance = ea - eb;
        if distance >= 64 {
            // One step reduces the exponent by 32 to 63, as on hardware.
            let n = (distance & 0x1F | 0x20) as u32;
            let (rest, _) = divide_shifted(sa, sb, n);
            return (self.pack_exact(sign, ea - n as i32, rest), Quotient::Partial);
        }
        if distance < -1 || (distance == -1 && !nearest) {
            // Smaller than half the divisor: unchanged.
            return (self.round_pack(sign, Unrounded { exp: ea, hi: sa, lo: 0 }), Quotient::Complete(0));
        }
        if distance == -1 {
            // |a| in (b/4, b): compare 2a with b.
            if sa <= sb {
                return (self.round_pack(sign, Unrounded { exp: ea, hi: sa, lo: 0 }), Quotient::Complete(0));
            }
            let (_, r) = wide::sub(eb, sb, ea, sa);
            return (self.round_pack(!sign, r), Quotient::Complete(1));
        }
        let (rest, q) = divide_shifted(sa, sb, distance as u32);
        if nearest {
            let above = rest > sb - rest;
            if above || (rest == sb - rest && q & 1 == 1) {
                return (self.pack_exact(!sign, eb, sb - rest), Quotient::Complete(q.wrapping_add(1)));
            }
        }
        (self.pack_exact(sign, eb, rest), Quotient::Complete(q))
    }

    /// An unnormalised exact value `sig / 2^63 * 2^exp`.
    fn pack_exact(&mut self, sign: bool, exp: i32, sig: u64) -> F80 {
        if sig == 0 {
            return F80::zero(sign);
        }
        self.round_pack(sign, wide::normalize(exp, sig, 0))
    }
}

/// (a * 2^n) mod b and the low 64 bits of the quotient, for normalised significands and n < 64.
fn divide_shifted(a: u64, b: u64, n: u32) -> (u64, u64) {
    let (first, a) = if a >= b { (1u64, a - b) } else { (0, a) };
    if n == 0 {
        return (a, first);
    }
    let (q, r) = wide::div_128_64(a >> (64 - n), a << n, b);
    (r, q.wrapping_add(first << n))
}
