//! Conversions between the double-extended format and the memory formats: single, double, the
//! integers and packed BCD. Spec: Intel SDM vol. 1 sections 4.2, 4.7 and 8.5, vol. 2 "FIST", "FBSTP".

use super::f80::{BIAS, C1, Class, DE, Env, F80, IE, OE, PE, Round, Tail, UE};
use super::wide;

/// Layout of an IEEE interchange format of at most 64 bits.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Fraction bits (without the implied one).
    pub frac_bits: u32,
    /// Exponent bits.
    pub exp_bits: u32,
}

impl Format {
    /// Binary32.
    pub const SINGLE: Format = Format { frac_bits: 23, exp_bits: 8 };
    /// Binary64.
    pub const DOUBLE: Format = Format { frac_bits: 52, exp_bits: 11 };

    /// The exponent field of infinities and NaNs.
    #[inline]
    pub const fn max_exp(self) -> i32 {
        (1 << self.exp_bits) - 1
    }

    /// Exponent bias.
    #[inline]
    pub const fn bias(self) -> i32 {
        self.max_exp() >> 1
    }

    /// Packs sign, exponent field and fraction.
    #[inline]
    pub const fn pack(self, sign: bool, exp: i32, frac: u64) -> u64 {
        (sign as u64) << (self.frac_bits + self.exp_bits) | (exp as u64) << self.frac_bits | frac
    }

    /// The fraction field's mask.
    #[inline]
    pub const fn frac_mask(self) -> u64 {
        (1 << self.frac_bits) - 1
    }
}

impl F80 {
    /// Widens binary32 or binary64; exact, but denormals and signalling NaNs raise.
    #[inline]
    pub fn from_format(bits: u64, f: Format, env: &mut Env) -> F80 {
        let sign = bits >> (f.frac_bits + f.exp_bits) & 1 == 1;
        let exp = (bits >> f.frac_bits) as i32 & f.max_exp();
        let frac = bits & f.frac_mask();
        let sig = frac << (63 - f.frac_bits);
        if exp == 0 {
            if frac == 0 {
                return F80::zero(sign);
            }
            env.raise(DE);
            let n = sig.leading_zeros();
            return F80::pack(sign, 1 - f.bias() - n as i32 + BIAS, sig << n);
        }
        if exp == f.max_exp() {
            let nan = F80::pack(sign, 0x7FFF, sig | 1 << 63);
            if frac != 0 && nan.class() == Class::Signalling {
                env.raise(IE);
                return nan.quieted();
            }
            return nan;
        }
        F80::pack(sign, exp - f.bias() + BIAS, sig | 1 << 63)
    }

    /// Widens binary32.
    #[inline]
    pub fn from_f32(bits: u32, env: &mut Env) -> F80 {
        F80::from_format(u64::from(bits), Format::SINGLE, env)
    }

    /// Widens binary64.
    #[inline]
    pub fn from_f64(bits: u64, env: &mut Env) -> F80 {
        F80::from_format(bits, Format::DOUBLE, env)
    }

    /// From an integer; always exact.
    #[inline]
    pub fn from_i64(value: i64) -> F80 {
        if value == 0 {
            return F80::ZERO;
        }
        let mag = value.unsigned_abs();
        let n = mag.leading_zeros();
        F80::pack(value < 0, BIAS + 63 - n as i32, mag << n)
    }

    /// From packed BCD (bits above 80 ignored). Digits above 9 are undefined by the manual; they
    /// weigh what they say, as on the hardware.
    pub fn from_bcd(bits: u128) -> F80 {
        let mag = (0..18).rev().fold(0u64, |acc, i| acc * 10 + (bits >> (4 * i) & 15) as u64);
        let value = F80::from_i64(mag as i64);
        if bits >> 79 & 1 == 1 { value.negated() } else { value }
    }

    /// Narrows to binary32 or binary64 as FST does. With over- or underflow unmasked the result
    /// is not to be stored.
    #[inline]
    pub fn to_format(self, f: Format, env: &mut Env) -> u64 {
        // A normal number that stays one, to nearest: the usual case. A carry out of the significand becomes one more
        // in the exponent by itself.
        let exp = self.biased_exp() - BIAS + f.bias();
        if self.sig >> 63 == 1 && exp > 0 && exp < f.max_exp() - 1 && env.round() == Round::Nearest {
            let drop = 63 - f.frac_bits;
            let (rest, half) = (self.sig & ((1 << drop) - 1), 1 << (drop - 1));
            let up = u64::from(rest > half) | u64::from(rest == half) & (self.sig >> drop) & 1;
            env.raise(u16::from(rest != 0) * PE | up as u16 * C1);
            let frac = (self.sig >> drop) & f.frac_mask();
            return f.pack(self.sign(), exp, frac) + up;
        }
        self.to_format_slow(f, env)
    }

    fn to_format_slow(self, f: Format, env: &mut Env) -> u64 {
        let sign = self.sign();
        let infinity = f.pack(sign, f.max_exp(), 0);
        match self.class() {
            Class::Zero => return f.pack(sign, 0, 0),
            Class::Infinity => return infinity,
            Class::Unsupported => {
                env.raise(IE);
                return f.pack(true, f.max_exp(), 1 << (f.frac_bits - 1));
            }
            Class::Quiet | Class::Signalling => {
                if self.class() == Class::Signalling {
                    env.raise(IE);
                }
                let frac = self.quieted().sig >> (63 - f.frac_bits) & f.frac_mask();
                return f.pack(sign, f.max_exp(), frac);
            }
            Class::Normal | Class::Denormal => {}
        }
        let (_, exp, sig) = self.unpack();
        let mut exp = exp + f.bias();
        let mask = (1u64 << (63 - f.frac_bits)) - 1;
        let round = |env: &mut Env, hi: u64, lo: u64| -> (u64, bool) {
            let tail = Tail::of(hi, lo, mask);
            let up = env.round().increments(sign, hi & (mask + 1) != 0, tail);
            env.flags &= !C1;
            env.raise(if up { C1 } else { 0 });
            // 25 or 54 bits: a carry out of the significand stays visible.
            ((hi >> (63 - f.frac_bits)) + u64::from(up), tail != Tail::Exact)
        };
        let (mut kept, mut inexact) = round(env, sig, 0);
        let carry = kept >> (f.frac_bits + 1) == 1;
        let exact_exp = exp;
        if carry {
            kept >>= 1;
            exp += 1;
        }
        if exp < 1 || exact_exp < 1 {
            let tiny = exp < 1;
            let (hi, lo) = wide::shift_right_jam(sig, 0, (1 - exact_exp) as u32);
            (kept, inexact) = round(env, hi, lo);
            if tiny && !env.masked(UE) {
                // Nothing is stored, so nothing was rounded either.
                env.flags = UE;
                return 0;
            }
            env.raise(if tiny && inexact { UE } else { 0 });
            env.raise(if inexact { PE } else { 0 });
            // The implied bit of a result that rounded up to normal becomes exponent 1 by itself.
            return f.pack(sign, 0, 0) | kept;
        }
        if exp >= f.max_exp() {
            if !env.masked(OE) {
                env.flags = OE;
                return 0;
            }
            env.raise(OE | PE);
            let to_infinity = match env.round() {
                Round::Nearest => true,
                Round::Down => sign,
                Round::Up => !sign,
                Round::Zero => false,
            };
            env.flags &= !C1;
            if to_infinity {
                env.raise(C1);
                return infinity;
            }
            return infinity - 1;
        }
        env.raise(if inexact { PE } else { 0 });
        f.pack(sign, exp, kept & f.frac_mask())
    }

    /// The rounded magnitude of a finite value below 2^64, or `None`; raises PE and C1.
    fn to_magnitude(self, round: Round, env: &mut Env) -> Option<u64> {
        let (sign, exp, sig) = self.unpack();
        if exp > 63 {
            return None;
        }
        let (hi, lo) = wide::shift_right_jam(sig, 0, (63 - exp) as u32);
        let tail = Tail::of(hi, lo, 0);
        let up = round.increments(sign, hi & 1 == 1, tail);
        let value = hi.checked_add(u64::from(up))?;
        if tail != Tail::Exact {
            env.raise(PE | if up { C1 } else { 0 });
        }
        Some(value)
    }

    /// To a signed integer of `bits` (16, 32 or 64); out of range is invalid and gives the integer
    /// indefinite.
    pub fn to_int(self, bits: u32, round: Round, env: &mut Env) -> i64 {
        let indefinite = i64::MIN >> (64 - bits);
        let value = match self.class() {
            Class::Zero => return 0,
            Class::Normal | Class::Denormal => self.to_magnitude(round, env),
            _ => None,
        };
        let limit = 1u64 << (bits - 1);
        match value {
            Some(mag) if mag < limit => {
                if self.sign() {
                    -(mag as i64)
                } else {
                    mag as i64
                }
            }
            Some(mag) if mag == limit && self.sign() => indefinite,
            _ => {
                env.flags = IE;
                indefinite
            }
        }
    }

    /// To packed BCD; out of range is invalid and gives the packed BCD indefinite.
    pub fn to_bcd(self, env: &mut Env) -> u128 {
        const INDEFINITE: u128 = 0xFFFF_C000_0000_0000_0000;
        let sign = u128::from(self.sign()) << 79;
        let value = match self.class() {
            Class::Zero => return sign,
            Class::Normal | Class::Denormal => self.to_magnitude(env.round(), env),
            _ => None,
        };
        match value {
            Some(mut mag) if mag < 1_000_000_000_000_000_000 => {
                let mut out = sign;
                for i in 0..18 {
                    out |= u128::from(mag % 10) << (4 * i);
                    mag /= 10;
                }
                out
            }
            _ => {
                env.flags = IE;
                INDEFINITE
            }
        }
    }
}
