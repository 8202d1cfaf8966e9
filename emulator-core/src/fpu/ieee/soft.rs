//! The integer paths of binary32 and binary64 arithmetic: every operand, mode and exception.

use std::cmp::Ordering;

use super::{DAZ, FTZ, SseEnv};
use crate::fpu::convert::Format;
use crate::fpu::f80::{DE, IE, OE, PE, Round, Tail, UE, ZE};
use crate::fpu::wide::{self, Unrounded};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zero,
    Finite,
    Infinity,
    Quiet,
    Signalling,
}

/// An operand taken apart; `exp` unbiased and `sig` normalised to 64 bits if finite.
#[derive(Debug, Clone, Copy)]
struct Parts {
    bits: u64,
    sign: bool,
    kind: Kind,
    denormal: bool,
    exp: i32,
    sig: u64,
}

impl Parts {
    #[inline]
    fn of(bits: u64, f: Format, env: &SseEnv) -> Parts {
        let sign = bits >> (f.frac_bits + f.exp_bits) & 1 == 1;
        let exp = (bits >> f.frac_bits) as i32 & f.max_exp();
        let frac = bits & f.frac_mask();
        let mut p = Parts { bits, sign, kind: Kind::Finite, denormal: false, exp: exp - f.bias(), sig: 0 };
        if exp == 0 {
            if frac == 0 || env.mxcsr & DAZ != 0 {
                p.kind = Kind::Zero;
                p.bits = f.pack(sign, 0, 0);
                return p;
            }
            p.denormal = true;
            let n = frac.leading_zeros();
            p.sig = frac << n;
            p.exp = 1 - f.bias() - (n as i32 - (63 - f.frac_bits as i32));
        } else if exp == f.max_exp() {
            p.kind = if frac == 0 {
                Kind::Infinity
            } else if frac >> (f.frac_bits - 1) == 1 {
                Kind::Quiet
            } else {
                Kind::Signalling
            };
        } else {
            p.sig = 1 << 63 | frac << (63 - f.frac_bits);
        }
        p
    }

    fn is_nan(&self) -> bool {
        matches!(self.kind, Kind::Quiet | Kind::Signalling)
    }

    fn quieted(&self, f: Format) -> u64 {
        self.bits | 1 << (f.frac_bits - 1)
    }
}

fn infinity(sign: bool, f: Format) -> u64 {
    f.pack(sign, f.max_exp(), 0)
}

#[cold]
fn invalid(f: Format, env: &mut SseEnv) -> u64 {
    env.raise(IE);
    f.pack(true, f.max_exp(), 1 << (f.frac_bits - 1))
}

/// The NaN result of two operands: the first that is one, quieted (SDM vol. 1 table 4-7).
fn nan_result(a: &Parts, b: &Parts, f: Format, env: &mut SseEnv) -> Option<u64> {
    if a.kind == Kind::Signalling || b.kind == Kind::Signalling {
        env.raise(IE);
    }
    if a.is_nan() {
        Some(a.quieted(f))
    } else if b.is_nan() {
        Some(b.quieted(f))
    } else {
        None
    }
}

fn note_denormals(a: &Parts, b: &Parts, env: &mut SseEnv) {
    if a.denormal || b.denormal {
        env.raise(DE);
    }
}

/// Rounds and packs a magnitude.
fn round_pack(sign: bool, r: Unrounded, f: Format, env: &mut SseEnv) -> u64 {
    let drop = 63 - f.frac_bits;
    let mask = (1u64 << drop) - 1;
    let mode = env.round();
    let round = |hi: u64, lo: u64| {
        let tail = Tail::of(hi, lo, mask);
        let up = mode.increments(sign, hi & (mask + 1) != 0, tail);
        ((hi >> drop) + u64::from(up), tail != Tail::Exact)
    };
    let (kept, inexact) = round(r.hi, r.lo);
    let carry = (kept >> (f.frac_bits + 1)) as i32;
    let exp = r.exp + f.bias();
    if exp < 1 {
        let tiny = exp + carry < 1;
        if tiny && env.masked(UE) && env.mxcsr & FTZ != 0 {
            env.raise(UE | PE);
            return f.pack(sign, 0, 0);
        }
        if tiny && !env.masked(UE) {
            // Reported with the inexactness of the unbounded result; the destination keeps its value.
            env.raise(if inexact { UE | PE } else { UE });
            return f.pack(sign, 0, 0);
        }
        let (hi, lo) = wide::shift_right_jam(r.hi, r.lo, (1 - exp) as u32);
        let (kept, inexact) = round(hi, lo);
        env.raise(if tiny && inexact { UE } else { 0 });
        env.raise(if inexact { PE } else { 0 });
        // A result that rounded up to normal carries into the exponent field by itself.
        return f.pack(sign, 0, 0) | kept;
    }
    if exp + carry >= f.max_exp() {
        env.raise(if env.masked(OE) || inexact { OE | PE } else { OE });
        let to_infinity = match mode {
            Round::Nearest => true,
            Round::Down => sign,
            Round::Up => !sign,
            Round::Zero => false,
        };
        return infinity(sign, f) - u64::from(!to_infinity);
    }
    env.raise(if inexact { PE } else { 0 });
    // Without its top bit the significand is the fraction; a carry leaves it zero.
    f.pack(sign, exp + carry, kept & f.frac_mask())
}

pub(super) fn add_slow(a: u64, b: u64, negate_b: bool, f: Format, env: &mut SseEnv) -> u64 {
    let (a, b) = (Parts::of(a, f, env), Parts::of(b, f, env));
    if let Some(nan) = nan_result(&a, &b, f, env) {
        return nan;
    }
    let b_sign = b.sign ^ negate_b;
    if a.kind == Kind::Infinity && b.kind == Kind::Infinity && a.sign != b_sign {
        return invalid(f, env);
    }
    note_denormals(&a, &b, env);
    match (a.kind, b.kind) {
        (Kind::Infinity, _) => return a.bits,
        (_, Kind::Infinity) => return infinity(b_sign, f),
        (Kind::Zero, Kind::Zero) => {
            let sign = if a.sign == b_sign { a.sign } else { env.round() == Round::Down };
            return f.pack(sign, 0, 0);
        }
        (Kind::Zero, _) => {
            return round_pack(b_sign, Unrounded { exp: b.exp, hi: b.sig, lo: 0 }, f, env);
        }
        (_, Kind::Zero) => {
            return round_pack(a.sign, Unrounded { exp: a.exp, hi: a.sig, lo: 0 }, f, env);
        }
        _ => {}
    }
    if a.sign == b_sign {
        return round_pack(a.sign, wide::add(a.exp, a.sig, b.exp, b.sig), f, env);
    }
    let (negative, r) = wide::sub(a.exp, a.sig, b.exp, b.sig);
    if r.hi == 0 {
        return f.pack(env.round() == Round::Down, 0, 0);
    }
    round_pack(a.sign ^ negative, r, f, env)
}

pub(super) fn mul_slow(a: u64, b: u64, f: Format, env: &mut SseEnv) -> u64 {
    let (a, b) = (Parts::of(a, f, env), Parts::of(b, f, env));
    if let Some(nan) = nan_result(&a, &b, f, env) {
        return nan;
    }
    let sign = a.sign ^ b.sign;
    if let (Kind::Infinity, Kind::Zero) | (Kind::Zero, Kind::Infinity) = (a.kind, b.kind) {
        return invalid(f, env);
    }
    note_denormals(&a, &b, env);
    match (a.kind, b.kind) {
        (Kind::Infinity, _) | (_, Kind::Infinity) => infinity(sign, f),
        (Kind::Zero, _) | (_, Kind::Zero) => f.pack(sign, 0, 0),
        _ => round_pack(sign, wide::mul(a.exp, a.sig, b.exp, b.sig), f, env),
    }
}

pub(super) fn div_slow(a: u64, b: u64, f: Format, env: &mut SseEnv) -> u64 {
    let (a, b) = (Parts::of(a, f, env), Parts::of(b, f, env));
    if let Some(nan) = nan_result(&a, &b, f, env) {
        return nan;
    }
    let sign = a.sign ^ b.sign;
    match (a.kind, b.kind) {
        (Kind::Infinity, Kind::Infinity) | (Kind::Zero, Kind::Zero) => return invalid(f, env),
        (Kind::Finite, Kind::Zero) => {
            env.raise(ZE);
            return infinity(sign, f);
        }
        _ => note_denormals(&a, &b, env),
    }
    match (a.kind, b.kind) {
        (Kind::Infinity, _) => infinity(sign, f),
        (Kind::Zero, _) | (_, Kind::Infinity) => f.pack(sign, 0, 0),
        _ => round_pack(sign, wide::div(a.exp, a.sig, b.exp, b.sig), f, env),
    }
}

pub(super) fn sqrt_slow(a: u64, f: Format, env: &mut SseEnv) -> u64 {
    let a = Parts::of(a, f, env);
    if a.kind == Kind::Signalling {
        env.raise(IE);
    }
    match a.kind {
        Kind::Quiet | Kind::Signalling => a.quieted(f),
        Kind::Zero => a.bits,
        _ if a.sign => invalid(f, env),
        Kind::Infinity => a.bits,
        Kind::Finite => {
            env.raise(if a.denormal { DE } else { 0 });
            round_pack(false, wide::sqrt(a.exp, a.sig), f, env)
        }
    }
}

/// The order of two operands; `None` is unordered. With `quiet` only signalling NaNs are invalid.
#[inline]
pub(super) fn order(a: u64, b: u64, quiet: bool, f: Format, env: &mut SseEnv) -> Option<Ordering> {
    let (a, b) = (Parts::of(a, f, env), Parts::of(b, f, env));
    if a.is_nan() || b.is_nan() {
        if !quiet || a.kind == Kind::Signalling || b.kind == Kind::Signalling {
            env.raise(IE);
        }
        return None;
    }
    note_denormals(&a, &b, env);
    let key = |p: &Parts| {
        let mag = (p.bits & !f.pack(true, 0, 0)) as i64;
        if p.sign { -mag } else { mag }
    };
    Some(key(&a).cmp(&key(&b)))
}

/// The second operand for NaNs and equal values; a denormal under DAZ is a zero.
#[inline]
pub(super) fn min_max(a: u64, b: u64, first: bool, f: Format, env: &SseEnv) -> u64 {
    let chosen = if first { a } else { b };
    if env.mxcsr & DAZ == 0 { chosen } else { Parts::of(chosen, f, env).bits }
}

/// Whether a CMPPS predicate is one of those to which a quiet NaN is no exception.
#[inline]
pub(super) fn quiet_predicate(code: u8) -> bool {
    matches!(code & 3, 0 | 3)
}

/// CMPPS and friends: the eight SSE predicates.
#[inline]
pub(super) fn predicate(order: Option<Ordering>, code: u8) -> bool {
    let base = match code & 3 {
        0 => order == Some(Ordering::Equal),
        1 => order == Some(Ordering::Less),
        2 => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        _ => order.is_none(),
    };
    base ^ (code & 4 != 0)
}

/// COMIS and UCOMIS: ZF, PF and CF at their places in EFLAGS.
#[inline]
pub(super) fn comi(order: Option<Ordering>) -> u32 {
    match order {
        Some(Ordering::Greater) => 0,
        Some(Ordering::Less) => 0x01,
        Some(Ordering::Equal) => 0x40,
        None => 0x45,
    }
}

/// To a signed integer of `bits` (32 or 64).
pub(super) fn to_int(a: u64, bits: u32, mode: Round, f: Format, env: &mut SseEnv) -> i64 {
    let p = Parts::of(a, f, env);
    let indefinite = i64::MIN >> (64 - bits);
    match p.kind {
        Kind::Zero => return 0,
        Kind::Finite if p.exp < 64 => {
            let (hi, lo) = wide::shift_right_jam(p.sig, 0, (63 - p.exp) as u32);
            let tail = Tail::of(hi, lo, 0);
            let up = mode.increments(p.sign, hi & 1 == 1, tail);
            let limit = 1u64 << (bits - 1);
            if let Some(mag) = hi.checked_add(u64::from(up)).filter(|m| *m < limit || (*m == limit && p.sign)) {
                env.raise(if tail == Tail::Exact { 0 } else { PE });
                return if p.sign { (mag as i64).wrapping_neg() } else { mag as i64 };
            }
        }
        _ => {}
    }
    env.raise(IE);
    indefinite
}

pub(super) fn from_int(value: i64, f: Format, env: &mut SseEnv) -> u64 {
    if value == 0 {
        return 0;
    }
    let mag = value.unsigned_abs();
    let n = mag.leading_zeros();
    round_pack(value < 0, Unrounded { exp: 63 - n as i32, hi: mag << n, lo: 0 }, f, env)
}

pub(super) fn convert(a: u64, from: Format, to: Format, env: &mut SseEnv) -> u64 {
    let p = Parts::of(a, from, env);
    match p.kind {
        Kind::Zero => to.pack(p.sign, 0, 0),
        Kind::Infinity => infinity(p.sign, to),
        Kind::Quiet | Kind::Signalling => {
            if p.kind == Kind::Signalling {
                env.raise(IE);
            }
            let frac = p.quieted(from) & from.frac_mask();
            let frac = if to.frac_bits < from.frac_bits {
                frac >> (from.frac_bits - to.frac_bits)
            } else {
                frac << (to.frac_bits - from.frac_bits)
            };
            to.pack(p.sign, to.max_exp(), frac)
        }
        Kind::Finite => {
            env.raise(if p.denormal { DE } else { 0 });
            round_pack(p.sign, Unrounded { exp: p.exp, hi: p.sig, lo: 0 }, to, env)
        }
    }
}

/// ROUNDPS and friends (SSE4.1).
pub(super) fn round_int(a: u64, mode: Round, quiet: bool, f: Format, env: &mut SseEnv) -> u64 {
    let p = Parts::of(a, f, env);
    match p.kind {
        Kind::Signalling => {
            env.raise(IE);
            p.quieted(f)
        }
        Kind::Finite if p.exp < f.frac_bits as i32 => {
            let (hi, lo) = wide::shift_right_jam(p.sig, 0, (63 - p.exp) as u32);
            let tail = Tail::of(hi, lo, 0);
            if tail != Tail::Exact && !quiet {
                env.raise(PE);
            }
            let mag = hi + u64::from(mode.increments(p.sign, hi & 1 == 1, tail));
            if mag == 0 {
                return f.pack(p.sign, 0, 0);
            }
            let n = mag.leading_zeros();
            let frac = mag << n >> (63 - f.frac_bits) & f.frac_mask();
            f.pack(p.sign, 63 - n as i32 + f.bias(), frac)
        }
        _ => p.bits,
    }
}
