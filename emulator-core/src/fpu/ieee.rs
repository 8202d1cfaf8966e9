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
use super::f80::{DE, IE, OE, PE, Round, Tail, UE, ZE};
use super::wide::{self, Unrounded};

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
}

impl SseEnv {
    /// Starts an instruction.
    #[inline(always)]
    pub fn new(mxcsr: u32) -> SseEnv {
        SseEnv { mxcsr, flags: 0 }
    }

    /// The exceptions raised so far, as MXCSR bits 0-5. PE is left out by fast paths when it is
    /// masked and sticky already.
    #[inline(always)]
    pub fn raised(&self) -> u32 {
        u32::from(self.flags)
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
        if flags & before & !(self.mxcsr >> MASK_SHIFT) != 0 {
            flags & before
        } else {
            flags
        }
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
        let mut p = Parts {
            bits,
            sign,
            kind: Kind::Finite,
            denormal: false,
            exp: exp - f.bias(),
            sig: 0,
        };
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
        env.raise(if env.masked(OE) || inexact {
            OE | PE
        } else {
            OE
        });
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

fn add_slow(a: u64, b: u64, negate_b: bool, f: Format, env: &mut SseEnv) -> u64 {
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
            let sign = if a.sign == b_sign {
                a.sign
            } else {
                env.round() == Round::Down
            };
            return f.pack(sign, 0, 0);
        }
        (Kind::Zero, _) => {
            return round_pack(
                b_sign,
                Unrounded {
                    exp: b.exp,
                    hi: b.sig,
                    lo: 0,
                },
                f,
                env,
            );
        }
        (_, Kind::Zero) => {
            return round_pack(
                a.sign,
                Unrounded {
                    exp: a.exp,
                    hi: a.sig,
                    lo: 0,
                },
                f,
                env,
            );
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

fn mul_slow(a: u64, b: u64, f: Format, env: &mut SseEnv) -> u64 {
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

fn div_slow(a: u64, b: u64, f: Format, env: &mut SseEnv) -> u64 {
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

fn sqrt_slow(a: u64, f: Format, env: &mut SseEnv) -> u64 {
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
fn order(a: u64, b: u64, quiet: bool, f: Format, env: &mut SseEnv) -> Option<Ordering> {
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

#[inline]
fn min_max(a: u64, b: u64, wanted: Ordering, f: Format, env: &mut SseEnv) -> u64 {
    let order = order(a, b, false, f, env);
    // The second operand for NaNs and equal values; a denormal under DAZ is a zero.
    if order == Some(wanted) {
        Parts::of(a, f, env).bits
    } else {
        Parts::of(b, f, env).bits
    }
}

/// CMPPS and friends: the eight SSE predicates.
#[inline]
fn predicate(a: u64, b: u64, code: u8, f: Format, env: &mut SseEnv) -> bool {
    let quiet = matches!(code & 3, 0 | 3);
    let order = order(a, b, quiet, f, env);
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
fn comi(a: u64, b: u64, quiet: bool, f: Format, env: &mut SseEnv) -> u32 {
    match order(a, b, quiet, f, env) {
        Some(Ordering::Greater) => 0,
        Some(Ordering::Less) => 0x01,
        Some(Ordering::Equal) => 0x40,
        None => 0x45,
    }
}

/// To a signed integer of `bits` (32 or 64).
fn to_int(a: u64, bits: u32, mode: Round, f: Format, env: &mut SseEnv) -> i64 {
    let p = Parts::of(a, f, env);
    let indefinite = i64::MIN >> (64 - bits);
    match p.kind {
        Kind::Zero => return 0,
        Kind::Finite if p.exp < 64 => {
            let (hi, lo) = wide::shift_right_jam(p.sig, 0, (63 - p.exp) as u32);
            let tail = Tail::of(hi, lo, 0);
            let up = mode.increments(p.sign, hi & 1 == 1, tail);
            let limit = 1u64 << (bits - 1);
            if let Some(mag) = hi
                .checked_add(u64::from(up))
                .filter(|m| *m < limit || (*m == limit && p.sign))
            {
                env.raise(if tail == Tail::Exact { 0 } else { PE });
                return if p.sign {
                    (mag as i64).wrapping_neg()
                } else {
                    mag as i64
                };
            }
        }
        _ => {}
    }
    env.raise(IE);
    indefinite
}

fn from_int(value: i64, f: Format, env: &mut SseEnv) -> u64 {
    if value == 0 {
        return 0;
    }
    let mag = value.unsigned_abs();
    let n = mag.leading_zeros();
    round_pack(
        value < 0,
        Unrounded {
            exp: 63 - n as i32,
            hi: mag << n,
            lo: 0,
        },
        f,
        env,
    )
}

fn convert(a: u64, from: Format, to: Format, env: &mut SseEnv) -> u64 {
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
            round_pack(
                p.sign,
                Unrounded {
                    exp: p.exp,
                    hi: p.sig,
                    lo: 0,
                },
                to,
                env,
            )
        }
    }
}

/// ROUNDPS and friends (SSE4.1).
fn round_int(a: u64, mode: Round, quiet: bool, f: Format, env: &mut SseEnv) -> u64 {
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

/// Odd part of the significand of an ordinary non-zero binary64.
#[inline]
fn odd_part(bits: u64) -> u64 {
    let sig = bits & D.frac_mask() | 1 << D.frac_bits;
    sig >> sig.trailing_zeros()
}

macro_rules! format_ops {
    ($bits:ident, $float:ident, $f:ident,
     $add:ident $sub:ident $mul:ident $div:ident $sqrt:ident $min:ident $max:ident $cmp:ident $comi:ident
     $ucomi:ident $to_i32:ident $to_i64:ident $from_i32:ident $from_i64:ident $round:ident $ordinary:ident $safe:ident
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
            min_max(a.into(), b.into(), Ordering::Less, $f, env) as $bits
        }

        /// MAX: the larger operand, or the second for NaNs and zeros.
        #[inline]
        pub fn $max(a: $bits, b: $bits, env: &mut SseEnv) -> $bits {
            min_max(a.into(), b.into(), Ordering::Greater, $f, env) as $bits
        }

        /// CMP with one of the eight SSE predicates: whether it holds.
        #[inline]
        pub fn $cmp(a: $bits, b: $bits, code: u8, env: &mut SseEnv) -> bool {
            predicate(a.into(), b.into(), code, $f, env)
        }

        /// COMI: ZF, PF and CF at their places in EFLAGS (OF, SF and AF become 0).
        #[inline]
        pub fn $comi(a: $bits, b: $bits, env: &mut SseEnv) -> u32 {
            comi(a.into(), b.into(), false, $f, env)
        }

        /// UCOMI: the same, a quiet NaN being no exception.
        #[inline]
        pub fn $ucomi(a: $bits, b: $bits, env: &mut SseEnv) -> u32 {
            comi(a.into(), b.into(), true, $f, env)
        }

        /// To i32, rounded as MXCSR says or truncated.
        #[inline]
        pub fn $to_i32(a: $bits, truncate: bool, env: &mut SseEnv) -> i32 {
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
            let mode = if imm & 4 != 0 {
                env.round()
            } else {
                Round::from_bits(imm.into())
            };
            round_int(a.into(), mode, imm & 8 != 0, $f, env) as $bits
        }
    };
}

format_ops!(u64, f64, D,
    add_f64 sub_f64 mul_f64 div_f64 sqrt_f64 min_f64 max_f64 cmp_f64 comi_f64
    ucomi_f64 f64_to_i32 f64_to_i64 f64_from_i32 f64_from_i64 round_f64 ordinary_f64 safe_f64
    |x: f64, y: f64, r: f64| product_is(x, y, r),
    |x: f64, y: f64, r: f64| product_is(r, y, x),
    |x: f64, r: f64| product_is(r, r, x));

// The product of two singles is exact in double precision.
format_ops!(u32, f32, S,
    add_f32 sub_f32 mul_f32 div_f32 sqrt_f32 min_f32 max_f32 cmp_f32 comi_f32
    ucomi_f32 f32_to_i32 f32_to_i64 f32_from_i32 f32_from_i64 round_f32 ordinary_f32 safe_f32
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
    let (x, y, r) = (
        odd_part(x.to_bits()),
        odd_part(y.to_bits()),
        odd_part(r.to_bits()),
    );
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

/// RCPPS, RCPSS: the 12-bit approximation of 1/a exactly as Intel's hardware gives it. It is
/// 1/mid rounded to 13 bits, mid being the middle of the interval that the leading 11 fraction
/// bits name (measured for all 2^11). Denormals are zeros both ways; no exceptions.
pub fn rcp_f32(a: u32) -> u32 {
    let (sign, exp, frac) = (a & 0x8000_0000, a >> 23 & 0xFF, a & 0x7F_FFFF);
    match exp {
        0 => sign | 0x7F80_0000,
        0xFF if frac != 0 => a | 0x40_0000,
        0xFD..=0xFF => sign,
        _ => {
            let mid = 2 * (0x800 | frac >> 12) + 1;
            let q = ((1 << 26) + mid) / (2 * mid);
            sign | ((253 - exp) << 23) | (q & 0xFFF) << 11
        }
    }
}

/// RSQRTPS, RSQRTSS: the same for 1/sqrt(a), by the leading 10 fraction bits and the exponent's
/// parity.
pub fn rsqrt_f32(a: u32) -> u32 {
    let (sign, exp, frac) = (a & 0x8000_0000, a >> 23 & 0xFF, a & 0x7F_FFFF);
    match exp {
        0 => sign | 0x7F80_0000,
        0xFF if frac != 0 => a | 0x40_0000,
        _ if sign != 0 => 0xFFC0_0000,
        0xFF => 0,
        _ => {
            let odd = !exp & 1;
            let mid = u64::from(2 * (0x400 | frac >> 13) + 1) << odd;
            // round(8192 / sqrt(mid / 2048)), from the root of four times the square.
            let q = (((1u64 << 39) / mid).isqrt() as u32).div_ceil(2);
            ((379 - exp + odd) / 2) << 23 | (q & 0xFFF) << 11
        }
    }
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
        assert_eq!(
            mul(0x10, &[(TINY, HALF)]),
            Err(0x10),
            "exact but for its exponent"
        );
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
        assert_eq!(
            add_f64(SNAN, 0x7FF8_0000_0000_0002, &mut env),
            SNAN | 1 << 51
        );
        assert_eq!(env.raised(), u32::from(IE));
        let mut env = SseEnv::new(0x1F80);
        assert_eq!(add_f32(0xFFC0_0001, 0x7FC0_0002, &mut env), 0xFFC0_0001);
        assert_eq!(env.raised(), 0);
    }
}
