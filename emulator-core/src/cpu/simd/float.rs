//! Floating-point operations and conversions on 128-bit values (SDM vol. 2), on top of
//! [`crate::fpu::ieee`]. Pure functions but for the exceptions that they note in the [`SseEnv`].

use super::integer::{dwords, from_dwords, from_quads, quads, with_low32, with_low64};
use super::table::SimdOp;
use crate::fpu::approx::{rcp_f32, rsqrt_f32};
use crate::fpu::ieee::*;

/// One binary32 element. `b` is the source.
fn single(op: SimdOp, a: u32, b: u32, imm: u8, env: &mut SseEnv) -> u32 {
    use SimdOp::*;
    match op {
        Addps | Addss => add_f32(a, b, env),
        Mulps | Mulss => mul_f32(a, b, env),
        Subps | Subss => sub_f32(a, b, env),
        Minps | Minss => min_f32(a, b, env),
        Divps | Divss => div_f32(a, b, env),
        Maxps | Maxss => max_f32(a, b, env),
        Sqrtps | Sqrtss => sqrt_f32(b, env),
        Rcpps | Rcpss => rcp_f32(b),
        Rsqrtps | Rsqrtss => rsqrt_f32(b),
        _ => u32::from(cmp_f32(a, b, imm & 7, env)).wrapping_neg(),
    }
}

/// One binary64 element; `op` is one of the scalar or packed double operations.
#[must_use]
#[inline]
pub fn double(op: SimdOp, a: u64, b: u64, imm: u8, env: &mut SseEnv) -> u64 {
    use SimdOp::*;
    match op {
        Addpd | Addsd => add_f64(a, b, env),
        Mulpd | Mulsd => mul_f64(a, b, env),
        Subpd | Subsd => sub_f64(a, b, env),
        Minpd | Minsd => min_f64(a, b, env),
        Divpd | Divsd => div_f64(a, b, env),
        Maxpd | Maxsd => max_f64(a, b, env),
        Sqrtpd | Sqrtsd => sqrt_f64(b, env),
        _ => u64::from(cmp_f64(a, b, imm & 7, env)).wrapping_neg(),
    }
}

/// The four elements of a packed single operation.
#[inline(never)]
fn packed_single(op: SimdOp, a: u128, b: u128, imm: u8, env: &mut SseEnv) -> u128 {
    let (a, b) = (dwords(a), dwords(b));
    let mut r = [0; 4];
    for (r, (a, b)) in r.iter_mut().zip(a.into_iter().zip(b)) {
        *r = single(op, a, b, imm, env);
    }
    from_dwords(r)
}

#[inline(never)]
fn packed_double(op: SimdOp, a: u128, b: u128, imm: u8, env: &mut SseEnv) -> u128 {
    let ([a0, a1], [b0, b1]) = (quads(a), quads(b));
    from_quads([double(op, a0, b0, imm, env), double(op, a1, b1, imm, env)])
}

/// The result of an operation on floating-point values: `a` the old destination, `b` the source (a general
/// register, MMX register or short memory operand zero-extended). Flags are at their places in EFLAGS.
#[must_use]
pub fn compute(op: SimdOp, a: u128, b: u128, imm: u8, env: &mut SseEnv) -> u128 {
    use SimdOp::*;
    match op {
        Addsd | Mulsd | Subsd | Minsd | Divsd | Maxsd | Sqrtsd | Cmpsd => {
            with_low64(a, double(op, a as u64, b as u64, imm, env))
        }
        Addss | Mulss | Subss | Minss | Divss | Maxss | Sqrtss | Cmpss | Rcpss | Rsqrtss => {
            with_low32(a, single(op, a as u32, b as u32, imm, env))
        }
        Addps | Mulps | Subps | Minps | Divps | Maxps | Sqrtps | Cmpps | Rcpps | Rsqrtps => {
            packed_single(op, a, b, imm, env)
        }
        Addpd | Mulpd | Subpd | Minpd | Divpd | Maxpd | Sqrtpd | Cmppd => packed_double(op, a, b, imm, env),
        Comiss => comi_f32(a as u32, b as u32, env).into(),
        Ucomiss => ucomi_f32(a as u32, b as u32, env).into(),
        Comisd => comi_f64(a as u64, b as u64, env).into(),
        Ucomisd => ucomi_f64(a as u64, b as u64, env).into(),
        Addsubps | Addsubpd | Haddps | Haddpd | Hsubps | Hsubpd | Dpps | Dppd => horizontal(op, a, b, imm, env),
        Roundps => from_dwords(dwords(b).map(|v| round_f32(v, imm, env))),
        Roundpd => from_quads(quads(b).map(|v| round_f64(v, imm, env))),
        Roundss => with_low32(a, round_f32(b as u32, imm, env)),
        Roundsd => with_low64(a, round_f64(b as u64, imm, env)),
        _ => convert(op, a, b, env),
    }
}

/// Sums and differences of neighbours, and dot products, which stop at the step that raises an unmasked exception
/// (seen on hardware).
#[inline(never)]
fn horizontal(op: SimdOp, a: u128, b: u128, imm: u8, env: &mut SseEnv) -> u128 {
    use SimdOp::*;
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (dwords(a), dwords(b));
    let ([x0, x1], [y0, y1]) = (quads(a), quads(b));
    match op {
        Addsubps => {
            from_dwords([sub_f32(a0, b0, env), add_f32(a1, b1, env), sub_f32(a2, b2, env), add_f32(a3, b3, env)])
        }
        Addsubpd => from_quads([sub_f64(x0, y0, env), add_f64(x1, y1, env)]),
        Haddps => from_dwords([add_f32(a0, a1, env), add_f32(a2, a3, env), add_f32(b0, b1, env), add_f32(b2, b3, env)]),
        Haddpd => from_quads([add_f64(x0, x1, env), add_f64(y0, y1, env)]),
        Hsubps => from_dwords([sub_f32(a0, a1, env), sub_f32(a2, a3, env), sub_f32(b0, b1, env), sub_f32(b2, b3, env)]),
        Hsubpd => from_quads([sub_f64(x0, x1, env), sub_f64(y0, y1, env)]),
        Dpps => {
            let pairs = [(a0, b0), (a1, b1), (a2, b2), (a3, b3)];
            let mut products = [0; 4];
            for (n, (product, (x, y))) in products.iter_mut().zip(pairs).enumerate() {
                if imm >> (4 + n) & 1 != 0 {
                    *product = mul_f32(x, y, env);
                }
            }
            if env.stopped() {
                return a;
            }
            let [p0, p1, p2, p3] = products;
            let (low, high) = (add_f32(p0, p1, env), add_f32(p2, p3, env));
            if env.stopped() {
                return a;
            }
            let sum = add_f32(low, high, env);
            let mut aside = *env;
            from_dwords(std::array::from_fn(|n| match imm >> n & 1 != 0 {
                // Where several are NaN, each element takes the first, beginning with its own product (seen on Intel's
                // processors; AMD's have the same in all elements).
                true if f32::from_bits(sum).is_nan() => {
                    let near = add_f32(products[n], products[n ^ 1], &mut aside);
                    let far = add_f32(products[n ^ 2], products[n ^ 3], &mut aside);
                    add_f32(near, far, &mut aside)
                }
                true => sum,
                false => 0,
            }))
        }
        // Dppd.
        _ => {
            let p0 = if imm & 0x10 != 0 { mul_f64(x0, y0, env) } else { 0 };
            let p1 = if imm & 0x20 != 0 { mul_f64(x1, y1, env) } else { 0 };
            if env.stopped() {
                return a;
            }
            let sum = add_f64(p0, p1, env);
            from_quads(std::array::from_fn(|n| if imm >> n & 1 != 0 { sum } else { 0 }))
        }
    }
}

/// The low two elements to or from the four of a vector.
fn low_pair<T: Copy + Into<u128>>(low: T, high: T, shift: u32) -> u128 {
    low.into() | high.into() << shift
}

fn convert(op: SimdOp, a: u128, b: u128, env: &mut SseEnv) -> u128 {
    use SimdOp::*;
    let [b0, b1, ..] = dwords(b);
    let [q0, q1] = quads(b);
    match op {
        Cvtsi2sd => with_low64(a, f64_from_i32(b0 as i32, env)),
        Cvtsi2ss => with_low32(a, f32_from_i32(b0 as i32, env)),
        Cvtsd2si | Cvttsd2si => (f64_to_i32(q0, op == Cvttsd2si, env) as u32).into(),
        Cvtss2si | Cvttss2si => (f32_to_i32(b0, op == Cvttss2si, env) as u32).into(),
        Cvtss2sd => with_low64(a, f32_to_f64(b0, env)),
        Cvtsd2ss => with_low32(a, f64_to_f32(q0, env)),
        Cvtpi2ps => {
            let (low, high) = (f32_from_i32(b0 as i32, env), f32_from_i32(b1 as i32, env));
            with_low64(a, low_pair(low, high, 32) as u64)
        }
        Cvtpi2pd | Cvtdq2pd => low_pair(f64_from_i32(b0 as i32, env), f64_from_i32(b1 as i32, env), 64),
        Cvtps2pd => low_pair(f32_to_f64(b0, env), f32_to_f64(b1, env), 64),
        Cvtpd2ps => low_pair(f64_to_f32(q0, env), f64_to_f32(q1, env), 32),
        Cvtps2pi | Cvttps2pi => {
            let truncate = op == Cvttps2pi;
            let (low, high) = (f32_to_i32(b0, truncate, env), f32_to_i32(b1, truncate, env));
            low_pair(low as u32, high as u32, 32)
        }
        Cvtpd2pi | Cvttpd2pi | Cvtpd2dq | Cvttpd2dq => {
            let truncate = matches!(op, Cvttpd2pi | Cvttpd2dq);
            let (low, high) = (f64_to_i32(q0, truncate, env), f64_to_i32(q1, truncate, env));
            low_pair(low as u32, high as u32, 32)
        }
        Cvtdq2ps => {
            let mut r = dwords(b);
            for v in &mut r {
                *v = f32_from_i32(*v as i32, env);
            }
            from_dwords(r)
        }
        // Cvtps2dq, Cvttps2dq.
        _ => {
            let mut r = dwords(b);
            for v in &mut r {
                *v = f32_to_i32(*v, op == Cvttps2dq, env) as u32;
            }
            from_dwords(r)
        }
    }
}
