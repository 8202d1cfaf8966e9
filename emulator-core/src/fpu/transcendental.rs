//! The transcendental instructions and the constants of the x87, in 128-bit fixed point.
//!
//! Every function is worked out to about 2^-110 and then rounded once, so results are correctly
//! rounded but for about one in 2^40 of them (the documented bound is 1 ulp). The trigonometric
//! functions reduce their argument with the 66-bit pi of the hardware (SDM vol. 1 section 8.3.8).
//! Special cases: SDM vol. 2, the tables on the instructions' pages.

use super::f80::{BIAS, Class, Env, F80, PE, UE, ZE};
use super::tables::{ATAN, COS, EXP, EXP2, LOG_C, LOG_FIRST, LOG_L, ODD, SIN};
use super::wide::{self, Unrounded, div_128_64, mul64};

/// A positive number `sig / 2^127 * 2^exp`, normalised unless zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wide {
    exp: i32,
    sig: u128,
}

/// log2(10).
pub const LOG2_10: Wide = Wide { exp: 1, sig: 0xD49A784B_CD1B8AFE_492BF6FF_4DAFDB4D };
/// log2(e).
pub const LOG2_E: Wide = Wide { exp: 0, sig: 0xB8AA3B29_5C17F0BB_BE87FED0_691D3E89 };
/// pi.
pub const PI: Wide = Wide { exp: 1, sig: 0xC90FDAA2_2168C234_C4C6628B_80DC1CD1 };
/// log10(2).
pub const LOG10_2: Wide = Wide { exp: -2, sig: 0x9A209A84_FBCFF798_8F8959AC_0B7C9178 };
/// ln(2).
pub const LN_2: Wide = Wide { exp: -1, sig: 0xB17217F7_D1CF79AB_C9E3B398_03F2F6AF };

/// pi/2 as the hardware has it: 66 bits, 65 of them fraction.
const HALF_PI_66: u128 = 0x3_243F_6A88_85A3_08D3;
/// floor(2^128 / HALF_PI_66).
const HALF_PI_66_RECIPROCAL: u64 = (u128::MAX / HALF_PI_66) as u64;
/// pi in Q126.
const PI_Q126: u128 = PI.sig;
const ONE_Q127: u128 = 1 << 127;

/// The top 128 bits of a 256-bit product, at most 3 too small.
#[inline]
fn mulhi(a: u128, b: u128) -> u128 {
    let (a1, a0, b1, b0) = ((a >> 64) as u64, a as u64, (b >> 64) as u64, b as u64);
    let (hi, lo) = mul64(a1, b1);
    let (mid1, mid2) = (mul64(a1, b0).0, mul64(a0, b1).0);
    (u128::from(hi) << 64 | u128::from(lo)) + u128::from(mid1) + u128::from(mid2)
}

/// Right shift that yields 0 where the operator would not be defined.
#[inline]
fn shr(a: u128, n: i32) -> u128 {
    if n < 128 { a >> n.max(0) } else { 0 }
}

impl Wide {
    #[inline]
    fn normalized(exp: i32, sig: u128) -> Wide {
        let n = sig.leading_zeros();
        if n == 128 {
            return Wide { exp: i32::MIN / 2, sig: 0 };
        }
        Wide { exp: exp - n as i32, sig: sig << n }
    }

    /// The magnitude of a finite non-zero value.
    fn of(a: F80) -> Wide {
        let (_, exp, sig) = a.unpack();
        Wide { exp, sig: u128::from(sig) << 64 }
    }

    fn mul(self, other: Wide) -> Wide {
        Wide::normalized(self.exp + other.exp + 1, mulhi(self.sig, other.sig))
    }

    fn div(self, other: Wide) -> Wide {
        Wide::normalized(self.exp - other.exp, mulhi(self.sig, reciprocal(other.sig)))
    }

    /// Fixed point with `bits` fraction bits; the value must fit.
    fn fixed(self, bits: i32) -> u128 {
        shr(self.sig, 127 - bits - self.exp)
    }

    /// Rounds an inexact result.
    fn round(self, sign: bool, env: &mut Env) -> F80 {
        env.round_pack(sign, Unrounded { exp: self.exp, hi: (self.sig >> 64) as u64, lo: self.sig as u64 | 1 })
    }
}

/// 2^255 / d for a normalised d, to about 120 bits: a 64-bit quotient and one Newton step.
fn reciprocal(d: u128) -> u128 {
    let (q, _) = div_128_64((1 << 63) - 1, u64::MAX, (d >> 64) as u64);
    let y = u128::from(q) << 64;
    let t = mulhi(d, y);
    if t > ONE_Q127 { y - mulhi(y, (t - ONE_Q127) << 1) } else { y.saturating_add(mulhi(y, (ONE_Q127 - t) << 1)) }
}

/// z (c0 - z (c1 - z (c2 - ...))), all Q128.
#[inline]
fn alternating(z: u128, c: &[u128]) -> u128 {
    mulhi(z, c.iter().rev().fold(0, |acc, c| c - mulhi(z, acc)))
}

/// z (c0 + z (c1 + z (c2 + ...))), all Q128.
#[inline]
fn ascending(z: u128, c: &[u128]) -> u128 {
    mulhi(z, c.iter().rev().fold(0, |acc, c| c + mulhi(z, acc)))
}

/// The square of a number below 1, Q128.
fn square_q128(a: Wide) -> u128 {
    shr(mulhi(a.sig, a.sig), -2 - 2 * a.exp)
}

/// A constant in the current rounding; no exception.
pub fn constant(value: &Wide, env: &mut Env) -> F80 {
    env.extend();
    let result = value.round(false, env);
    env.flags = 0;
    result
}

/// A reduced trigonometric argument: x = quadrant * pi/2 +- rest, rest in 0..=pi/4.
struct Reduced {
    quadrant: u32,
    negative: bool,
    rest: Wide,
}

fn reduce(a: F80) -> Reduced {
    let (_, exp, sig) = a.unpack();
    if exp < -2 {
        return Reduced { quadrant: 0, negative: false, rest: Wide { exp, sig: u128::from(sig) << 64 } };
    }
    // Q65, exact; below 2^63 it fits in 128 bits.
    let x = u128::from(sig) << (exp + 2);
    let mut k = u128::from(mul64((x >> 64) as u64, HALF_PI_66_RECIPROCAL).0);
    let mut rest = x - k * HALF_PI_66;
    while rest >= HALF_PI_66 {
        rest -= HALF_PI_66;
        k += 1;
    }
    let negative = rest > HALF_PI_66 / 2;
    if negative {
        rest = HALF_PI_66 - rest;
        k += 1;
    }
    Reduced { quadrant: k as u32 & 3, negative, rest: Wide::normalized(62, rest) }
}

/// Sine of 0..=pi/4; just below the argument where the difference is too small to see.
fn sin_kernel(r: Wide) -> Wide {
    let s = alternating(square_q128(r), &SIN) >> 1;
    Wide::normalized(r.exp + 1, mulhi(r.sig, ONE_Q127 - s.max(2)))
}

/// Cosine of 0..=pi/4; just below 1 likewise.
fn cos_kernel(r: Wide) -> Wide {
    let s = alternating(square_q128(r), &COS) >> 1;
    Wide::normalized(0, ONE_Q127 - s.max(2))
}

impl Reduced {
    fn sin(&self) -> (bool, Wide) {
        match self.quadrant & 1 {
            0 => (self.negative ^ (self.quadrant & 2 != 0), sin_kernel(self.rest)),
            _ => (self.quadrant & 2 != 0, cos_kernel(self.rest)),
        }
    }

    fn cos(&self) -> (bool, Wide) {
        match self.quadrant & 1 {
            0 => (self.quadrant & 2 != 0, cos_kernel(self.rest)),
            _ => (!self.negative ^ (self.quadrant & 2 != 0), sin_kernel(self.rest)),
        }
    }
}

/// The common front of the trigonometric functions.
enum TrigArg {
    /// NaN or invalid: the result.
    Special(F80),
    /// A zero.
    Zero,
    /// 2^63 or more in magnitude: C2.
    OutOfRange,
    /// Below 2^-68: the operand itself stands for sine and tangent, 1 for the cosine, inexact in
    /// every rounding mode (measured).
    Tiny,
    Finite(Reduced),
}

fn trig_argument(env: &mut Env, a: F80) -> TrigArg {
    if let Some(nan) = env.nan_operand1(a) {
        return TrigArg::Special(nan);
    }
    match a.class() {
        Class::Infinity => TrigArg::Special(env.invalid()),
        Class::Zero => TrigArg::Zero,
        _ if a.biased_exp() >= BIAS + 63 => TrigArg::OutOfRange,
        _ if a.biased_exp() < BIAS - 68 => {
            env.note_denormal(a);
            env.raise(PE);
            TrigArg::Tiny
        }
        _ => TrigArg::Finite(reduce(a)),
    }
}

/// A finite non-zero operand as a result.
fn operand(env: &mut Env, a: F80) -> F80 {
    let (sign, exp, hi) = a.unpack();
    let result = env.round_pack(sign, Unrounded { exp, hi, lo: 0 });
    if a.biased_exp() == 0 && a.sig >> 63 == 0 {
        env.raise(UE);
    }
    result
}

/// FSIN; `None` out of range.
pub fn fsin(env: &mut Env, a: F80) -> Option<F80> {
    Some(match trig_argument(env, a) {
        TrigArg::Special(result) => result,
        TrigArg::Zero => a,
        TrigArg::OutOfRange => return None,
        TrigArg::Tiny => operand(env, a),
        TrigArg::Finite(r) => {
            let (sign, value) = r.sin();
            value.round(sign ^ a.sign(), env)
        }
    })
}

/// FCOS; `None` out of range.
pub fn fcos(env: &mut Env, a: F80) -> Option<F80> {
    Some(match trig_argument(env, a) {
        TrigArg::Special(result) => result,
        TrigArg::Zero | TrigArg::Tiny => F80::ONE,
        TrigArg::OutOfRange => return None,
        TrigArg::Finite(r) => {
            let (sign, value) = r.cos();
            value.round(sign, env)
        }
    })
}

/// FSINCOS: (sine, cosine); `None` out of range.
pub fn fsincos(env: &mut Env, a: F80) -> Option<(F80, F80)> {
    Some(match trig_argument(env, a) {
        TrigArg::Special(result) => (result, result),
        TrigArg::Zero => (a, F80::ONE),
        TrigArg::Tiny => (operand(env, a), F80::ONE),
        TrigArg::OutOfRange => return None,
        TrigArg::Finite(r) => {
            let ((ss, sin), (cs, cos)) = (r.sin(), r.cos());
            let sin = sin.round(ss ^ a.sign(), env);
            (sin, cos.round(cs, env))
        }
    })
}

/// FPTAN: (tangent, 1); `None` out of range.
pub fn fptan(env: &mut Env, a: F80) -> Option<(F80, F80)> {
    Some(match trig_argument(env, a) {
        TrigArg::Special(result) => (result, result),
        TrigArg::Zero => (a, F80::ONE),
        TrigArg::Tiny => (operand(env, a), F80::ONE),
        TrigArg::OutOfRange => return None,
        TrigArg::Finite(r) => {
            let ((ss, sin), (cs, cos)) = (r.sin(), r.cos());
            (sin.div(cos).round(ss ^ cs ^ a.sign(), env), F80::ONE)
        }
    })
}

/// Arc tangent of |y/x|, for finite non-zero operands, as (is it of x/y instead, value).
fn atan_ratio(y: F80, x: F80) -> (bool, Wide) {
    let (_, mut ey, mut sy) = y.unpack();
    let (_, mut ex, mut sx) = x.unpack();
    let swapped = (ey, sy) > (ex, sx);
    if swapped {
        (ey, sy, ex, sx) = (ex, sx, ey, sy);
    }
    let wide = |exp, sig: u64| Wide { exp, sig: u128::from(sig) << 64 };
    let d = ex - ey;
    // i/32 near the ratio: atan t = atan(i/32) + atan((t - i/32) / (1 + t i/32)).
    let i = if d > 6 { 0 } else { (((sy >> 26) / (sx >> 32)) >> d).div_ceil(2) };
    if i == 0 {
        let z = wide(ey, sy).div(wide(ex, sx));
        return (swapped, atan_kernel(z));
    }
    let (a, b) = (u128::from(sy) << (40 - d), u128::from(sx) << 40);
    let (num, den) = (32 * a as i128 - i as i128 * b as i128, 32 * b + u128::from(i) * a);
    let z = Wide::normalized(0, num.unsigned_abs()).div(Wide::normalized(0, den));
    let rest = atan_kernel(z).fixed(126);
    let table = ATAN[(i as usize).min(32)];
    let sum = if num < 0 { table - rest } else { table + rest };
    (swapped, Wide::normalized(1, sum))
}

/// Arc tangent of 0..1/32.
fn atan_kernel(z: Wide) -> Wide {
    if z.sig == 0 {
        return z;
    }
    let s = alternating(square_q128(z), &ODD) >> 1;
    Wide::normalized(z.exp + 1, mulhi(z.sig, ONE_Q127 - s.max(2)))
}

/// FPATAN: atan(y/x) in the right quadrant.
pub fn fpatan(env: &mut Env, y: F80, x: F80) -> F80 {
    if let Some(nan) = env.nan_operand(y, x) {
        return nan;
    }
    env.note_denormal(y);
    env.note_denormal(x);
    let sign = y.sign();
    let pi = |quarters: u128| Wide::normalized(1, (PI_Q126 >> 2) * quarters);
    let value = match (y.class(), x.class()) {
        (Class::Infinity, Class::Infinity) => pi(if x.sign() { 3 } else { 1 }),
        (Class::Infinity, _) => pi(2),
        (Class::Zero, _) | (_, Class::Infinity) if !x.sign() => return F80::zero(sign),
        (Class::Zero, _) | (_, Class::Infinity) => PI,
        (_, Class::Zero) => pi(2),
        _ => {
            let (swapped, atan) = atan_ratio(y, x);
            match (swapped, x.sign()) {
                (false, false) => exact_ratio(y, x).unwrap_or(atan),
                (false, true) => Wide::normalized(1, PI_Q126 - atan.fixed(126)),
                (true, false) => Wide::normalized(1, PI_Q126 / 2 - atan.fixed(126)),
                (true, true) => Wide::normalized(1, PI_Q126 / 2 + atan.fixed(126)),
            }
        }
    };
    value.round(sign, env)
}

/// y/x just below itself where the arc tangent can't be told from it: the quotient's last bits
/// then decide the rounding, and those of [`Wide::div`] are not exact.
fn exact_ratio(y: F80, x: F80) -> Option<Wide> {
    let ((_, ey, sy), (_, ex, sx)) = (y.unpack(), x.unpack());
    if ex - ey < 64 {
        return None;
    }
    let q = wide::div(ey, sy, ex, sx);
    let sig = (u128::from(q.hi) << 64 | u128::from(q.lo)) - 1;
    Some(Wide::normalized(q.exp, sig))
}

/// e^u - 1 for |u| < 1/64, with the sign of u.
fn expm1_kernel(u: Wide, negative: bool) -> Wide {
    let t = u.fixed(128);
    let factor = if negative { ONE_Q127 - (alternating(t, &EXP) >> 1) } else { ONE_Q127 + (ascending(t, &EXP) >> 1) };
    Wide::normalized(u.exp + 1, mulhi(u.sig, factor))
}

/// F2XM1: 2^a - 1 for |a| <= 1; outside the result is undefined and, as
/// measured, the operand.
pub fn f2xm1(env: &mut Env, a: F80) -> F80 {
    if let Some(nan) = env.nan_operand1(a) {
        return nan;
    }
    let sign = a.sign();
    match a.class() {
        Class::Zero => return a,
        Class::Infinity => return if sign { F80::ONE.negated() } else { a },
        _ => env.note_denormal(a),
    }
    let x = Wide::of(a);
    if x.exp > 0 || (x.exp == 0 && x.sig > ONE_Q127) {
        env.raise(PE);
        return a;
    }
    if x.exp == 0 {
        env.raise(PE);
        return if sign { F80 { sig: 1 << 63, se: 0xBFFE } } else { F80::ONE };
    }
    if x.exp < -6 {
        return expm1_kernel(x.mul(LN_2), sign).round(sign, env);
    }
    // x = i/32 + f, |f| <= 1/64, all with the sign of x.
    let q = x.fixed(127);
    let i = (q + (1 << 121)) >> 122;
    let f = q as i128 - (i << 122) as i128;
    let e = expm1_kernel(Wide::normalized(0, f.unsigned_abs()).mul(LN_2), sign ^ (f < 0)).fixed(128);
    let base = if sign { EXP2[32 - i as usize] >> 1 } else { EXP2[i as usize] };
    let delta = mulhi(base, e);
    let power = if sign ^ (f < 0) { base - delta } else { base + delta };
    Wide::normalized(1, power.abs_diff(1 << 126)).round(sign, env)
}

/// A base-2 logarithm.
struct Log2 {
    sign: bool,
    value: Wide,
    exact: bool,
}

/// log2(1 + z), |z| < 1/32, z not 0; the result has the sign of z.
fn log2_1p_kernel(z: Wide, negative: bool) -> Wide {
    // log(1+z) = 2 atanh(z / (2+z)).
    let q = z.fixed(126);
    let two_plus = if negative { (1 << 127) - q } else { (1 << 127) + q };
    let s = z.div(Wide::normalized(1, two_plus));
    let p = ONE_Q127 + (ascending(square_q128(s), &ODD) >> 1);
    let atanh = Wide::normalized(s.exp + 1, mulhi(s.sig, p));
    let log = atanh.mul(LOG2_E);
    Wide { exp: log.exp + 1, sig: log.sig }
}

/// log2(m * 2^e) for m in 1..2 with 118 fraction bits, of which the lowest few may be lost.
fn log2(mut e: i32, mut m: u128) -> Log2 {
    const ONE: u128 = 1 << 118;
    if m == ONE {
        let value = Wide::normalized(127, u128::from(e.unsigned_abs()));
        return Log2 { sign: e < 0, value, exact: true };
    }
    // m > sqrt 2, near enough.
    if m >> 96 > 0x5A827A {
        m >>= 1;
        e += 1;
    }
    let near_one = m.abs_diff(ONE) < 1 << 112;
    if near_one {
        let log = log2_1p_kernel(Wide::normalized(9, m.abs_diff(ONE)), m < ONE);
        if e == 0 {
            return Log2 { sign: m < ONE, value: log, exact: false };
        }
        return log_sum(e, 0, log, m < ONE);
    }
    let k = ((m >> 112) as usize).saturating_sub(LOG_FIRST).min(LOG_C.len() - 1);
    let mc = m * u128::from(LOG_C[k]);
    let one = ONE << 7;
    if mc == one {
        return log_sum(e, LOG_L[k], Wide { exp: -200, sig: 0 }, false);
    }
    let log = log2_1p_kernel(Wide::normalized(2, mc.abs_diff(one)), mc < one);
    log_sum(e, LOG_L[k], log, mc < one)
}

/// e + l (Q110) +- rest.
fn log_sum(e: i32, l: i128, rest: Wide, negative: bool) -> Log2 {
    let rest = rest.fixed(110) as i128;
    let sum = ((e as i128) << 110) + l + if negative { -rest } else { rest };
    Log2 { sign: sum < 0, value: Wide::normalized(17, sum.unsigned_abs()), exact: false }
}

/// y times a logarithm.
fn scale_log(env: &mut Env, y: F80, log: Log2) -> F80 {
    let sign = y.sign() ^ log.sign;
    let product = Wide::of(y).mul(log.value);
    if log.exact {
        // Measured: flagged inexact (and a denormal as underflow) even so.
        env.raise(PE);
        let Wide { exp, sig } = product;
        let result = env.round_pack(sign, Unrounded { exp, hi: (sig >> 64) as u64, lo: sig as u64 });
        env.raise(if result.class() == Class::Denormal { UE } else { 0 });
        return result;
    }
    product.round(sign, env)
}

/// FYL2X: y log2(x).
pub fn fyl2x(env: &mut Env, y: F80, x: F80) -> F80 {
    if let Some(nan) = env.nan_operand(y, x) {
        return nan;
    }
    let (cy, cx) = (y.class(), x.class());
    if cx == Class::Zero {
        return match cy {
            Class::Zero => env.invalid(),
            Class::Infinity => F80::infinity(!y.sign()),
            _ => {
                env.raise(ZE);
                F80::infinity(!y.sign())
            }
        };
    }
    if x.sign() {
        return env.invalid();
    }
    let below_one = x.biased_exp() < BIAS;
    let is_one = x == F80::ONE;
    match (cy, cx) {
        (Class::Zero, Class::Infinity) => return env.invalid(),
        (Class::Infinity, _) if is_one => return env.invalid(),
        _ => {
            env.note_denormal(y);
            env.note_denormal(x);
        }
    }
    if cx == Class::Infinity {
        return F80::infinity(y.sign());
    }
    match cy {
        Class::Infinity => return F80::infinity(y.sign() ^ below_one),
        Class::Zero => return F80::zero(y.sign() ^ below_one),
        _ if is_one => return F80::zero(y.sign()),
        _ => {}
    }
    let (_, e, sig) = x.unpack();
    scale_log(env, y, log2(e, u128::from(sig) << 55))
}

/// FYL2XP1: y log2(x + 1). The manual defines it for |x| < 1 - sqrt(1/2); beyond that it goes on
/// as the formula says, and for x <= -1 the result is x (measured).
pub fn fyl2xp1(env: &mut Env, y: F80, x: F80) -> F80 {
    if let Some(nan) = env.nan_operand(y, x) {
        return nan;
    }
    let (cy, cx) = (y.class(), x.class());
    let sign = y.sign() ^ x.sign();
    match (cy, cx) {
        (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => return env.invalid(),
        (_, Class::Infinity) if x.sign() => return env.invalid(),
        _ => {
            env.note_denormal(y);
            env.note_denormal(x);
        }
    }
    if cx == Class::Infinity || cy == Class::Infinity {
        return F80::infinity(sign);
    }
    if cx == Class::Zero || cy == Class::Zero {
        return F80::zero(sign);
    }
    if x.sign() && x.biased_exp() >= BIAS {
        env.raise(PE);
        return x;
    }
    let w = Wide::of(x);
    if w.exp < -6 {
        let value = log2_1p_kernel(w, x.sign());
        return scale_log(env, y, Log2 { sign: x.sign(), value, exact: false });
    }
    // 1 + x with enough fraction bits for every exponent from here on.
    let sum = if w.exp > 0 {
        Wide::normalized(w.exp + 1, (w.sig >> 1) + shr(ONE_Q127 >> 1, w.exp))
    } else {
        let q = w.fixed(126);
        Wide::normalized(1, if x.sign() { (1 << 126) - q } else { (1 << 126) + q })
    };
    scale_log(env, y, log2(sum.exp, sum.sig >> 9))
}
