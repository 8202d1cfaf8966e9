//! Integer kernels shared by the x87 and SSE arithmetic: wide multiplication and division, and the
//! four basic operations and square root on normalised (exponent, 64-bit significand) pairs.
//!
//! A magnitude is `sig / 2^63 * 2^exp` with the top bit of `sig` set; results carry a second word
//! `lo` with the bits below the 64-bit significand (only "zero, below half, half, above half"
//! is meaningful in it).

/// A positive unrounded result: `(hi:lo) / 2^127 * 2^exp`, top bit of `hi` set unless the value is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unrounded {
    /// Unbiased exponent.
    pub exp: i32,
    /// The leading 64 bits.
    pub hi: u64,
    /// What follows, with everything shifted out jammed into the lowest bit.
    pub lo: u64,
}

/// Full 64 x 64 product as (high, low). wasm has no widening multiply and calls a library routine
/// for `u128`, so it gets the four 32-bit products inline.
#[inline(always)]
pub fn mul64(a: u64, b: u64) -> (u64, u64) {
    if cfg!(target_arch = "wasm32") {
        mul64_by_halves(a, b)
    } else {
        let p = u128::from(a) * u128::from(b);
        ((p >> 64) as u64, p as u64)
    }
}

#[inline(always)]
fn mul64_by_halves(a: u64, b: u64) -> (u64, u64) {
    const M: u64 = 0xFFFF_FFFF;
    let (a1, a0, b1, b0) = (a >> 32, a & M, b >> 32, b & M);
    let low = a0 * b0;
    let mid = a1 * b0 + (low >> 32);
    let mid2 = a0 * b1 + (mid & M);
    (a1 * b1 + (mid >> 32) + (mid2 >> 32), (mid2 << 32) | (low & M))
}

/// `(hi:lo) / d` as (quotient, remainder), for `hi < d` and a normalised `d` (top bit set):
/// Knuth's algorithm D with 32-bit digits, so it costs two 64-bit divisions.
#[inline]
pub fn div_128_64(hi: u64, lo: u64, d: u64) -> (u64, u64) {
    const B: u64 = 1 << 32;
    let (d1, d0) = (d >> 32, d & (B - 1));
    let digit = |n2: u64, n0: u64| -> (u64, u64) {
        let (mut q, mut r) = (n2 / d1, n2 % d1);
        while q >= B || q * d0 > (r << 32 | n0) {
            q -= 1;
            r += d1;
            if r >= B {
                break;
            }
        }
        (q, (n2 << 32 | n0).wrapping_sub(q.wrapping_mul(d)))
    };
    let (q1, r1) = digit(hi, lo >> 32);
    let (q0, r0) = digit(r1, lo & (B - 1));
    (q1 << 32 | q0, r0)
}

/// `hi:lo >> n`, with every bit shifted out or'ed into the lowest bit.
#[inline]
pub fn shift_right_jam(hi: u64, lo: u64, n: u32) -> (u64, u64) {
    match n {
        0 => (hi, lo),
        1..=63 => {
            let lost = lo << (64 - n) != 0;
            (hi >> n, hi << (64 - n) | lo >> n | u64::from(lost))
        }
        64 => (0, hi | u64::from(lo != 0)),
        65..=127 => {
            let lost = lo != 0 || hi << (128 - n) != 0;
            (0, hi >> (n - 64) | u64::from(lost))
        }
        _ => (0, u64::from(hi | lo != 0)),
    }
}

/// `sig` as the high word of a pair, shifted right with jamming; for the alignment of addends.
#[inline(always)]
fn align(sig: u64, n: u32) -> (u64, u64) {
    match n {
        0..=63 => (sig >> n, sig << 1 << (63 - n)),
        64 => (0, sig),
        // One bit may still come back when a difference is normalised.
        65 => (0, sig >> 1 | sig & 1),
        _ => (0, 1),
    }
}

/// Shifts left until the top bit is set.
#[inline]
pub fn normalize(exp: i32, hi: u64, lo: u64) -> Unrounded {
    if hi == 0 {
        if lo == 0 {
            return Unrounded { exp: 0, hi: 0, lo: 0 };
        }
        let n = lo.leading_zeros();
        return Unrounded { exp: exp - 64 - n as i32, hi: lo << n, lo: 0 };
    }
    let n = hi.leading_zeros();
    Unrounded { exp: exp - n as i32, hi: hi << n | lo >> 1 >> (63 - n), lo: lo << n }
}

/// Sum of two magnitudes.
#[inline]
pub fn add(ea: i32, sa: u64, eb: i32, sb: u64) -> Unrounded {
    let (ea, sa, eb, sb) = if ea >= eb { (ea, sa, eb, sb) } else { (eb, sb, ea, sa) };
    let (hi, lo) = align(sb, (ea - eb) as u32);
    let (sum, carry) = sa.overflowing_add(hi);
    if carry {
        return Unrounded { exp: ea + 1, hi: sum >> 1 | 1 << 63, lo: lo >> 1 | sum << 63 | lo & 1 };
    }
    Unrounded { exp: ea, hi: sum, lo }
}

/// Difference of two magnitudes, and whether it is negative (b > a).
#[inline]
pub fn sub(ea: i32, sa: u64, eb: i32, sb: u64) -> (bool, Unrounded) {
    let swap = (ea, sa) < (eb, sb);
    let (ea, sa, eb, sb) = if swap { (eb, sb, ea, sa) } else { (ea, sa, eb, sb) };
    let (hi, lo) = align(sb, (ea - eb) as u32);
    let (lo, borrow) = 0u64.overflowing_sub(lo);
    let hi = sa.wrapping_sub(hi).wrapping_sub(u64::from(borrow));
    (swap, normalize(ea, hi, lo))
}

/// Product of two magnitudes.
#[inline]
pub fn mul(ea: i32, sa: u64, eb: i32, sb: u64) -> Unrounded {
    let (hi, lo) = mul64(sa, sb);
    let n = (hi >> 63) ^ 1;
    Unrounded { exp: ea + eb + 1 - n as i32, hi: hi << n | (lo >> 63) & n, lo: lo << n }
}

/// Quotient of two magnitudes.
#[inline]
pub fn div(ea: i32, sa: u64, eb: i32, sb: u64) -> Unrounded {
    let (exp, hi, lo) = if sa >= sb { (ea - eb, sa >> 1, sa << 63) } else { (ea - eb - 1, sa, 0) };
    let (q, r) = div_128_64(hi, lo, sb);
    // The quotient of two 64-bit significands is never exactly halfway between two of them.
    let lo = if r == 0 { 0 } else { u64::from(r > sb - r) << 63 | 1 };
    Unrounded { exp, hi: q, lo }
}

/// Integer square root by the host's binary64 one, which IEEE 754 defines to the bit: at most one off.
#[inline(always)]
fn isqrt(n: u64) -> u64 {
    let mut s = ((n as f64).sqrt() as u64).min(0xFFFF_FFFF);
    if s * s > n {
        s -= 1;
    } else if n - s * s > 2 * s {
        s += 1;
    }
    s
}

/// Square root of a magnitude (Zimmermann's Karatsuba square root, one level).
#[inline]
pub fn sqrt(exp: i32, sig: u64) -> Unrounded {
    // The radicand as 128 bits, so that the root has exactly 64.
    let (n_hi, n_lo) = if exp & 1 == 0 { (sig >> 1, sig << 63) } else { (sig, 0) };
    let s1 = isqrt(n_hi);
    let r1 = n_hi - s1 * s1;
    let a1 = n_lo >> 32;
    let num = r1 << 31 | a1 >> 1;
    let (q, u) = (num / s1, num % s1 * 2 + (a1 & 1));
    let mut s = (u128::from(s1) << 32) + u128::from(q);
    // The digit is at most 2^32. wasm calls a library routine for a product of 128 bits.
    let square = if q >> 32 == 0 { i128::from(q * q) } else { 1 << 64 };
    let mut r = ((i128::from(u)) << 32) + i128::from(n_lo & 0xFFFF_FFFF) - square;
    if r < 0 {
        r += (2 * s - 1) as i128;
        s -= 1;
    }
    let lo = if r == 0 { 0 } else { u64::from(r > s as i128) << 63 | 1 };
    Unrounded { exp: exp >> 1, hi: s as u64, lo }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_kernels_agree_with_u128() {
        let mut x = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            match x & 7 {
                0 => x | 0xFFFF_FFFF_0000_0000,
                1 => x & !0xFFFF_FFFE,
                _ => x,
            }
        };
        for _ in 0..20_000 {
            let (a, b, c) = (next(), next(), next() | 1 << 63);
            assert_eq!(mul64_by_halves(a, b), mul64(a, b));
            let n = u128::from(a % c) << 64 | u128::from(b);
            let (q, r) = div_128_64(a % c, b, c);
            assert_eq!((u128::from(q), u128::from(r)), (n / u128::from(c), n % u128::from(c)));
            let root = sqrt((a & 1) as i32, c);
            let n = u128::from(c) << if a & 1 == 0 { 63 } else { 64 };
            assert_eq!(u128::from(root.hi), n.isqrt());
            let square = (b >> 32) * (b >> 32);
            for n in [a, b, square, square.saturating_sub(1), u64::MAX] {
                assert_eq!(isqrt(n), n.isqrt());
            }
        }
    }
}
