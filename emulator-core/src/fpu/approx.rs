//! The SSE reciprocal approximations. Spec: Intel SDM vol. 2 "RCPPS", "RSQRTPS".

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
