//! The x87 double-extended format: values, classes, rounding and the basic arithmetic.
//! Spec: Intel SDM vol. 1 chapters 4.8 and 8; behaviour checked bit by bit against an Intel host.

use serde::{Deserialize, Serialize};

use super::wide::{self, Unrounded};

/// Invalid operation.
pub const IE: u16 = 0x01;
/// Denormal operand.
pub const DE: u16 = 0x02;
/// Division by zero.
pub const ZE: u16 = 0x04;
/// Overflow.
pub const OE: u16 = 0x08;
/// Underflow.
pub const UE: u16 = 0x10;
/// Precision (inexact result).
pub const PE: u16 = 0x20;
/// Condition code C1: the last inexact result was rounded up in magnitude.
pub const C1: u16 = 0x200;

/// Exponent bias of the double-extended format.
pub const BIAS: i32 = 16383;
/// Exponent adjustment of an over- or underflowed result when the exception is unmasked.
const WRAP: i32 = 24576;
const TOP: u64 = 1 << 63;

/// A double-extended value exactly as a register holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct F80 {
    /// Significand with its explicit integer bit.
    pub sig: u64,
    /// Sign (bit 15) and biased exponent.
    pub se: u16,
}

/// What an encoding stands for (SDM vol. 1 table 4-3 and section 8.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Plus or minus zero.
    Zero,
    /// Denormal or pseudo-denormal.
    Denormal,
    /// Normal number.
    Normal,
    /// Infinity.
    Infinity,
    /// Quiet NaN.
    Quiet,
    /// Signalling NaN.
    Signalling,
    /// Unnormal, pseudo-infinity or pseudo-NaN: an invalid operand since the 387.
    Unsupported,
}

/// Rounding mode, encoded as in the control word and in MXCSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// To nearest, ties to even.
    Nearest,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
    /// Towards zero.
    Zero,
}

impl Round {
    /// Decodes the two-bit field.
    #[inline]
    pub fn from_bits(bits: u16) -> Round {
        match bits & 3 {
            0 => Round::Nearest,
            1 => Round::Down,
            2 => Round::Up,
            _ => Round::Zero,
        }
    }

    /// Whether a magnitude with the given discarded part (`hi:lo` against `half`, half in the same
    /// scale as `hi` when `lo` is the tail) moves up.
    #[inline]
    pub fn increments(self, negative: bool, odd: bool, tail: Tail) -> bool {
        match self {
            Round::Nearest => tail == Tail::Above || (tail == Tail::Half && odd),
            Round::Down => negative && tail != Tail::Exact,
            Round::Up => !negative && tail != Tail::Exact,
            Round::Zero => false,
        }
    }
}

/// The discarded part of a result, against half a unit in the last place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Nothing was discarded.
    Exact,
    /// Less than half.
    Below,
    /// Exactly half.
    Half,
    /// More than half.
    Above,
}

impl Tail {
    /// Classifies the bits of `hi` under `mask` followed by `lo`.
    #[inline]
    pub fn of(hi: u64, lo: u64, mask: u64) -> Tail {
        let (rest, low, half) = if mask == 0 { (lo, 0, TOP) } else { (hi & mask, lo, (mask >> 1) + 1) };
        if rest | low == 0 {
            Tail::Exact
        } else if rest < half {
            Tail::Below
        } else if rest == half && low == 0 {
            Tail::Half
        } else {
            Tail::Above
        }
    }
}

/// What an operation needs of the control word, and the exceptions it raised.
#[derive(Debug, Clone, Copy)]
pub struct Env {
    cw: u16,
    /// Raised exception flags and C1, at their places in the status word.
    pub flags: u16,
}

impl Env {
    /// Control word masks, precision and rounding in force.
    #[inline]
    pub fn new(cw: u16) -> Env {
        Env { cw, flags: 0 }
    }

    /// The same with full precision: only the five basic operations obey precision control.
    #[inline]
    pub fn extended(cw: u16) -> Env {
        Env { cw: cw | 0x300, flags: 0 }
    }

    /// Gives the operation full precision whatever the precision control says.
    #[inline]
    pub fn extend(&mut self) {
        self.cw |= 0x300;
    }

    /// Rounding control.
    #[inline]
    pub fn round(&self) -> Round {
        Round::from_bits(self.cw >> 10)
    }

    #[inline]
    fn precision_mask(&self) -> u64 {
        match self.cw >> 8 & 3 {
            0 => (1 << 40) - 1,
            2 => (1 << 11) - 1,
            _ => 0,
        }
    }

    /// Whether all of `exceptions` are masked.
    #[inline]
    pub fn masked(&self, exceptions: u16) -> bool {
        self.cw & exceptions == exceptions
    }

    /// Raises flags.
    #[inline]
    pub fn raise(&mut self, flags: u16) {
        self.flags |= flags;
    }

    /// Raises the invalid exception; its masked response is the real indefinite.
    #[cold]
    pub fn invalid(&mut self) -> F80 {
        self.flags |= IE;
        F80::INDEFINITE
    }

    /// Rounds to the precision in force and packs.
    #[inline(always)]
    pub fn round_pack(&mut self, sign: bool, r: Unrounded) -> F80 {
        let exp = r.exp + BIAS;
        // Far from both ends of the exponent range, and to nearest: the usual case.
        if exp > 0 && exp < 0x7FFE && self.rounds_plainly() {
            // Branch-free: the data decides, at random.
            let up = (u64::from(r.lo > TOP) | u64::from(r.lo == TOP) & r.hi) & 1;
            self.flags |= (u16::from(r.lo != 0) * PE) | (up as u16 * C1);
            let (sig, carry) = r.hi.overflowing_add(up);
            return F80::pack(sign, exp + i32::from(carry), sig | u64::from(carry) << 63);
        }
        self.round_pack_slow(sign, r)
    }

    /// Rounds `hi` at `mask`; returns the significand, whether it carried out, and inexactness.
    fn round_sig(&mut self, sign: bool, hi: u64, lo: u64, mask: u64) -> (u64, bool, bool) {
        let tail = Tail::of(hi, lo, mask);
        let kept = hi & !mask;
        self.flags &= !C1;
        if !self.round().increments(sign, hi & (mask + 1) != 0, tail) {
            return (kept, false, tail != Tail::Exact);
        }
        self.flags |= C1;
        let (sig, carry) = kept.overflowing_add(mask + 1);
        (if carry { TOP } else { sig }, carry, true)
    }

    #[cold]
    fn round_pack_slow(&mut self, sign: bool, r: Unrounded) -> F80 {
        let mask = self.precision_mask();
        let mut exp = r.exp + BIAS;
        let (sig, carry, inexact) = self.round_sig(sign, r.hi, r.lo, mask);
        if exp < 1 {
            let tiny = exp < 0 || !carry;
            if tiny && !self.masked(UE) {
                self.flags |= UE;
                exp += WRAP + i32::from(carry);
                if exp < 1 {
                    // Beyond the reach of the adjustment (FSCALE only).
                    self.flags = self.flags & !C1 | PE;
                    return F80::zero(sign);
                }
                self.raise_inexact(inexact);
                return F80::pack(sign, exp, sig);
            }
            let (hi, lo) = wide::shift_right_jam(r.hi, r.lo, (1 - exp) as u32);
            let (sig, _, inexact) = self.round_sig(sign, hi, lo, mask);
            if inexact && tiny {
                self.flags |= UE;
            }
            self.raise_inexact(inexact);
            return F80::pack(sign, i32::from(sig >> 63 == 1), sig);
        }
        exp += i32::from(carry);
        if exp < 0x7FFF {
            self.raise_inexact(inexact);
            return F80::pack(sign, exp, sig);
        }
        self.flags |= OE;
        if !self.masked(OE) {
            if exp - WRAP >= 0x7FFF {
                // Beyond the reach of the adjustment (FSCALE only).
                self.flags |= C1 | PE;
                return F80::infinity(sign);
            }
            self.raise_inexact(inexact);
            return F80::pack(sign, exp - WRAP, sig);
        }
        self.flags |= PE;
        let to_infinity = match self.round() {
            Round::Nearest => true,
            Round::Down => sign,
            Round::Up => !sign,
            Round::Zero => false,
        };
        if to_infinity {
            self.flags |= C1;
            F80::infinity(sign)
        } else {
            self.flags &= !C1;
            F80::pack(sign, 0x7FFE, !mask)
        }
    }

    #[inline]
    fn raise_inexact(&mut self, inexact: bool) {
        if inexact {
            self.flags |= PE;
        }
    }

    /// The result when an operand is a NaN or an unsupported encoding, else `None`
    /// (SDM vol. 1 table 4-7).
    #[inline]
    pub fn nan_operand(&mut self, a: F80, b: F80) -> Option<F80> {
        let (ca, cb) = (a.class(), b.class());
        if ca == Class::Unsupported || cb == Class::Unsupported {
            return Some(self.invalid());
        }
        let nan = |c: Class| matches!(c, Class::Quiet | Class::Signalling);
        if !nan(ca) && !nan(cb) {
            return None;
        }
        if ca == Class::Signalling || cb == Class::Signalling {
            self.flags |= IE;
        }
        let pick_a = match (ca, cb) {
            (Class::Signalling, Class::Quiet) => false,
            (Class::Quiet, Class::Signalling) => true,
            _ if !nan(cb) => true,
            _ if !nan(ca) => false,
            // Larger significand; the positive one on a tie.
            _ => a.sig > b.sig || (a.sig == b.sig && a.se < b.se),
        };
        Some(if pick_a { a } else { b }.quieted())
    }

    /// Same for one operand.
    #[inline]
    pub fn nan_operand1(&mut self, a: F80) -> Option<F80> {
        match a.class() {
            Class::Unsupported => Some(self.invalid()),
            Class::Quiet => Some(a),
            Class::Signalling => {
                self.flags |= IE;
                Some(a.quieted())
            }
            _ => None,
        }
    }

    /// Raises DE for a denormal operand.
    #[inline]
    pub fn note_denormal(&mut self, a: F80) {
        if a.class() == Class::Denormal {
            self.flags |= DE;
        }
    }

    /// a + b, or a - b with `negate_b`.
    #[inline(always)]
    pub fn add(&mut self, a: F80, b: F80, negate_b: bool) -> F80 {
        if !(a.is_normal() && b.is_normal()) {
            // Sums begin at zero, and products are zero, often enough in ordinary programs.
            if self.rounds_plainly() {
                if a.is_zero() && b.is_normal() {
                    return F80 { sig: b.sig, se: b.se ^ u16::from(negate_b) << 15 };
                }
                if b.is_zero() && a.is_normal() {
                    return a;
                }
            }
            return self.add_special(a, b, negate_b);
        }
        self.add_finite(a, b, negate_b)
    }

    /// Rounding to nearest with full precision: the usual case.
    #[inline(always)]
    fn rounds_plainly(&self) -> bool {
        self.cw & 0xF00 == 0x300
    }

    #[inline(always)]
    fn add_finite(&mut self, a: F80, b: F80, negate_b: bool) -> F80 {
        let (sa, ea, ma) = a.unpack();
        let (sb, eb, mb) = b.unpack();
        if sa == (sb ^ negate_b) {
            return self.round_pack(sa, wide::add(ea, ma, eb, mb));
        }
        let (negative, r) = wide::sub(ea, ma, eb, mb);
        if r.hi == 0 {
            return F80::zero(self.round() == Round::Down);
        }
        self.round_pack(sa ^ negative, r)
    }

    #[cold]
    fn add_special(&mut self, a: F80, b: F80, negate_b: bool) -> F80 {
        if let Some(nan) = self.nan_operand(a, b) {
            return nan;
        }
        let (sa, sb) = (a.sign(), b.sign() ^ negate_b);
        match (a.class(), b.class()) {
            (Class::Infinity, Class::Infinity) if sa != sb => return self.invalid(),
            (Class::Infinity, _) => {
                self.note_denormal(b);
                return a;
            }
            (_, Class::Infinity) => {
                self.note_denormal(a);
                return F80::infinity(sb);
            }
            (Class::Zero, Class::Zero) => {
                return if sa == sb { F80::zero(sa) } else { F80::zero(self.round() == Round::Down) };
            }
            _ => {}
        }
        self.note_denormal(a);
        self.note_denormal(b);
        if a.class() == Class::Zero {
            return self.repack(sb, b);
        }
        if b.class() == Class::Zero {
            return self.repack(sa, a);
        }
        self.add_finite(a, b, negate_b)
    }

    /// A finite non-zero operand as a result: rounded to the precision in force.
    fn repack(&mut self, sign: bool, a: F80) -> F80 {
        let (_, exp, hi) = a.unpack();
        self.round_pack(sign, Unrounded { exp, hi, lo: 0 })
    }

    /// a * b.
    #[inline(always)]
    pub fn mul(&mut self, a: F80, b: F80) -> F80 {
        if !(a.is_normal() && b.is_normal()) {
            if (a.is_zero() || a.is_normal()) && (b.is_zero() || b.is_normal()) {
                return F80::zero(a.sign() ^ b.sign());
            }
            if let Some(result) = self.mul_special(a, b) {
                return result;
            }
        }
        let (sa, ea, ma) = a.unpack();
        let (sb, eb, mb) = b.unpack();
        self.round_pack(sa ^ sb, wide::mul(ea, ma, eb, mb))
    }

    #[cold]
    fn mul_special(&mut self, a: F80, b: F80) -> Option<F80> {
        if let Some(nan) = self.nan_operand(a, b) {
            return Some(nan);
        }
        let sign = a.sign() ^ b.sign();
        match (a.class(), b.class()) {
            (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => Some(self.invalid()),
            (ca, cb) => {
                self.note_denormal(a);
                self.note_denormal(b);
                if ca == Class::Infinity || cb == Class::Infinity {
                    Some(F80::infinity(sign))
                } else if ca == Class::Zero || cb == Class::Zero {
                    Some(F80::zero(sign))
                } else {
                    None
                }
            }
        }
    }

    /// a / b.
    #[inline(always)]
    pub fn div(&mut self, a: F80, b: F80) -> F80 {
        if !(a.is_normal() && b.is_normal())
            && let Some(result) = self.div_special(a, b)
        {
            return result;
        }
        let (sa, ea, ma) = a.unpack();
        let (sb, eb, mb) = b.unpack();
        self.round_pack(sa ^ sb, wide::div(ea, ma, eb, mb))
    }

    #[cold]
    fn div_special(&mut self, a: F80, b: F80) -> Option<F80> {
        if let Some(nan) = self.nan_operand(a, b) {
            return Some(nan);
        }
        let sign = a.sign() ^ b.sign();
        match (a.class(), b.class()) {
            (Class::Infinity, Class::Infinity) | (Class::Zero, Class::Zero) => Some(self.invalid()),
            (Class::Infinity, _) => {
                self.note_denormal(b);
                Some(F80::infinity(sign))
            }
            (_, Class::Infinity) => {
                self.note_denormal(a);
                Some(F80::zero(sign))
            }
            (_, Class::Zero) => {
                self.raise(ZE);
                Some(F80::infinity(sign))
            }
            (ca, _) => {
                self.note_denormal(a);
                self.note_denormal(b);
                (ca == Class::Zero).then(|| F80::zero(sign))
            }
        }
    }

    /// Square root.
    pub fn sqrt(&mut self, a: F80) -> F80 {
        if let Some(nan) = self.nan_operand1(a) {
            return nan;
        }
        if a.class() == Class::Zero {
            return a;
        }
        if a.sign() {
            return self.invalid();
        }
        if a.class() == Class::Infinity {
            return a;
        }
        self.note_denormal(a);
        let (_, exp, sig) = a.unpack();
        self.round_pack(false, wide::sqrt(exp, sig))
    }
}

impl F80 {
    /// +0.
    pub const ZERO: F80 = F80 { sig: 0, se: 0 };
    /// +1.
    pub const ONE: F80 = F80 { sig: TOP, se: 0x3FFF };
    /// The real indefinite: the quiet NaN of the masked invalid response.
    pub const INDEFINITE: F80 = F80 { sig: 0xC000_0000_0000_0000, se: 0xFFFF };

    /// From sign, biased exponent and significand.
    #[inline]
    pub fn pack(sign: bool, exp: i32, sig: u64) -> F80 {
        F80 { sig, se: u16::from(sign) << 15 | exp as u16 }
    }

    /// Signed zero.
    #[inline]
    pub fn zero(sign: bool) -> F80 {
        F80::pack(sign, 0, 0)
    }

    /// Signed infinity.
    #[inline]
    pub fn infinity(sign: bool) -> F80 {
        F80::pack(sign, 0x7FFF, TOP)
    }

    /// The sign bit.
    #[inline]
    pub fn sign(self) -> bool {
        self.se >> 15 == 1
    }

    /// The biased exponent.
    #[inline]
    pub fn biased_exp(self) -> i32 {
        i32::from(self.se & 0x7FFF)
    }

    /// Whether this is an ordinary normal number.
    #[inline(always)]
    pub fn is_normal(self) -> bool {
        (self.se & 0x7FFF).wrapping_sub(1) < 0x7FFE && self.sig >> 63 == 1
    }

    /// Whether this is a zero of either sign.
    #[inline(always)]
    pub fn is_zero(self) -> bool {
        self.se & 0x7FFF == 0 && self.sig == 0
    }

    /// What the encoding stands for.
    #[inline]
    pub fn class(self) -> Class {
        let exp = self.se & 0x7FFF;
        if exp == 0 {
            return if self.sig == 0 { Class::Zero } else { Class::Denormal };
        }
        if self.sig >> 63 == 0 {
            return Class::Unsupported;
        }
        if exp != 0x7FFF {
            Class::Normal
        } else if self.sig << 1 == 0 {
            Class::Infinity
        } else if self.sig & 1 << 62 != 0 {
            Class::Quiet
        } else {
            Class::Signalling
        }
    }

    /// Sign, unbiased exponent and normalised significand of a finite non-zero number.
    #[inline]
    pub fn unpack(self) -> (bool, i32, u64) {
        let exp = self.biased_exp();
        if exp == 0 {
            let n = self.sig.leading_zeros() & 63;
            return (self.sign(), 1 - BIAS - n as i32, self.sig << n);
        }
        (self.sign(), exp - BIAS, self.sig)
    }

    /// A NaN with its quiet bit set.
    #[inline]
    pub fn quieted(self) -> F80 {
        F80 { sig: self.sig | 1 << 62, se: self.se }
    }

    /// Sign changed (FCHS: of anything).
    #[inline]
    pub fn negated(self) -> F80 {
        F80 { sig: self.sig, se: self.se ^ 0x8000 }
    }

    /// Sign cleared (FABS: of anything).
    #[inline]
    pub fn abs(self) -> F80 {
        F80 { sig: self.sig, se: self.se & 0x7FFF }
    }

    /// The 80 bits in memory order.
    #[inline]
    pub fn to_bits(self) -> u128 {
        u128::from(self.se) << 64 | u128::from(self.sig)
    }

    /// From the 80 bits in memory order.
    #[inline]
    pub fn from_bits(bits: u128) -> F80 {
        F80 { sig: bits as u64, se: (bits >> 64) as u16 }
    }
}
