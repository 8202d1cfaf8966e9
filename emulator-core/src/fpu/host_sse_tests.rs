//! Compares the SSE helpers with the SSE unit of the machine the tests run on: results and MXCSR,
//! for every rounding mode, DAZ and FTZ, with sticky flags clear and set.
#![allow(unsafe_code, reason = "runs SSE instructions of the host as the oracle")]

use crate::host_cpu::is_intel;
use std::arch::asm;

use super::approx::{rcp_f32, rsqrt_f32};
use super::host_tests::Rng;
use super::ieee::*;

/// a op b on the host, in xmm0 and xmm1 and rax: (result, new MXCSR).
type Host = fn(u64, u64, u32) -> (u64, u32);
type Ours = fn(u64, u64, &mut SseEnv) -> u64;

macro_rules! host {
    ($($text:literal),+) => {
        |a, b, mxcsr| {
            let (mut r, mut csr, saved) = (a, mxcsr, 0x1F80u32);
            // SAFETY: all exceptions are masked in `mxcsr`; the block restores the default MXCSR and
            // touches only the named registers and locals.
            unsafe {
                asm!("ldmxcsr [{csr}]", "movq xmm0, rax", "movq xmm1, {b}", $($text,)+ "stmxcsr [{csr}]",
                    "ldmxcsr [{saved}]",
                    csr = in(reg) &raw mut csr, saved = in(reg) &raw const saved, b = in(reg) b,
                    inout("rax") r, out("rcx") _, out("xmm0") _, out("xmm1") _);
            }
            (r, csr)
        }
    };
}

impl Rng {
    fn f64_bits(&mut self) -> u64 {
        let r = self.next();
        let exp = match self.below(12) {
            0 => 0,
            1 => 0x7FF,
            2 => 1 + self.below(3),
            3 => 0x7FE - self.below(3),
            4 => self.below(0x800),
            5 => 1023 - 126 - self.below(26),
            6 => 1023 + 120 + self.below(10),
            7 => 1023 + self.below(66),
            8 => 512 + self.below(2),
            _ => 1023 + 4 - self.below(8),
        };
        r & 1 << 63 | exp << 52 | self.sig() >> self.below(12) & 0xF_FFFF_FFFF_FFFF
    }

    fn f32_bits(&mut self) -> u64 {
        let r = self.next();
        let exp = match self.below(10) {
            0 => 0,
            1 => 0xFF,
            2 => 1 + self.below(3),
            3 => 0xFE - self.below(3),
            4 => self.below(0x100),
            5 => 127 + self.below(66),
            6 => 63 + self.below(2),
            _ => 127 + 4 - self.below(8),
        };
        r & 0x8000_0000 | exp << 23 | self.sig() >> self.below(42) & 0x7F_FFFF
    }

    fn mxcsr(&mut self) -> u32 {
        let r = self.next() as u32;
        let modes = if self.below(2) == 0 { r & 0xE040 } else { 0 };
        let sticky = [0, 0x20, r >> 16 & 0x3F][self.below(3) as usize];
        0x1F80 | modes | sticky
    }
}

#[derive(Clone, Copy)]
enum Input {
    Double,
    Single,
    Integer,
}

fn run(cases: &[(&str, Ours, Host)], input: Input, mask: u64) {
    let mut failures = Vec::new();
    for (n, (name, ours, host)) in cases.iter().enumerate() {
        // Every vendor has its own approximations; `approx` has Intel's.
        if !is_intel() && (name.starts_with("rcp") || name.starts_with("rsqrt")) {
            continue;
        }
        let mut rng = Rng(0xC0FF_EE00_1234_5678 ^ (n as u64) << 32);
        let mut bad = 0;
        for i in 0..60_000 {
            let mut operand = || match input {
                Input::Double => rng.f64_bits(),
                Input::Single => rng.f32_bits(),
                Input::Integer => rng.sig(),
            };
            let a = operand();
            let b = if i % 16 == 0 { a } else { operand() };
            let mxcsr = rng.mxcsr();
            let mut env = SseEnv::new(mxcsr);
            let result = ours(a, b, &mut env) & mask;
            let (expected, csr) = host(a, b, mxcsr);
            if result != expected & mask || env.finish() != Ok(csr) {
                bad += 1;
                if bad <= 4 {
                    failures.push(format!(
                        "{name} {a:x} {b:x} mxcsr {mxcsr:x}: ours {result:x} {:x?}, host {:x} {csr:x}",
                        env.finish(),
                        expected & mask
                    ));
                }
            }
        }
        if bad != 0 {
            failures.push(format!("{name}: {bad} differ"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

macro_rules! ps {
    ($f:expr) => {
        |a, b, env| $f(a as u32, b as u32, env).into()
    };
}

macro_rules! mask_of {
    ($cond:expr) => {
        if $cond { u64::MAX } else { 0 }
    };
}

/// Flags after COMI: the SDM says OF, SF and AF are cleared.
macro_rules! flags_host {
    ($text:literal) => {
        host!($text, "pushfq", "pop rax", "and rax, 0x8D5")
    };
}

#[test]
fn double_precision_matches_the_host() {
    run(
        &[
            ("addsd", |a, b, e| add_f64(a, b, e), host!("addsd xmm0, xmm1", "movq rax, xmm0")),
            ("subsd", |a, b, e| sub_f64(a, b, e), host!("subsd xmm0, xmm1", "movq rax, xmm0")),
            ("mulsd", |a, b, e| mul_f64(a, b, e), host!("mulsd xmm0, xmm1", "movq rax, xmm0")),
            ("divsd", |a, b, e| div_f64(a, b, e), host!("divsd xmm0, xmm1", "movq rax, xmm0")),
            ("sqrtsd", |a, _, e| sqrt_f64(a, e), host!("sqrtsd xmm0, xmm0", "movq rax, xmm0")),
            ("minsd", |a, b, e| min_f64(a, b, e), host!("minsd xmm0, xmm1", "movq rax, xmm0")),
            ("maxsd", |a, b, e| max_f64(a, b, e), host!("maxsd xmm0, xmm1", "movq rax, xmm0")),
            ("cmpsd 0", |a, b, e| mask_of!(cmp_f64(a, b, 0, e)), host!("cmpsd xmm0, xmm1, 0", "movq rax, xmm0")),
            ("cmpsd 1", |a, b, e| mask_of!(cmp_f64(a, b, 1, e)), host!("cmpsd xmm0, xmm1, 1", "movq rax, xmm0")),
            ("cmpsd 2", |a, b, e| mask_of!(cmp_f64(a, b, 2, e)), host!("cmpsd xmm0, xmm1, 2", "movq rax, xmm0")),
            ("cmpsd 3", |a, b, e| mask_of!(cmp_f64(a, b, 3, e)), host!("cmpsd xmm0, xmm1, 3", "movq rax, xmm0")),
            ("cmpsd 4", |a, b, e| mask_of!(cmp_f64(a, b, 4, e)), host!("cmpsd xmm0, xmm1, 4", "movq rax, xmm0")),
            ("cmpsd 5", |a, b, e| mask_of!(cmp_f64(a, b, 5, e)), host!("cmpsd xmm0, xmm1, 5", "movq rax, xmm0")),
            ("cmpsd 6", |a, b, e| mask_of!(cmp_f64(a, b, 6, e)), host!("cmpsd xmm0, xmm1, 6", "movq rax, xmm0")),
            ("cmpsd 7", |a, b, e| mask_of!(cmp_f64(a, b, 7, e)), host!("cmpsd xmm0, xmm1, 7", "movq rax, xmm0")),
            ("comisd", |a, b, e| comi_f64(a, b, e).into(), flags_host!("comisd xmm0, xmm1")),
            ("ucomisd", |a, b, e| ucomi_f64(a, b, e).into(), flags_host!("ucomisd xmm0, xmm1")),
            ("cvtsd2si 32", |a, _, e| f64_to_i32(a, false, e) as u32 as u64, host!("cvtsd2si eax, xmm0")),
            ("cvttsd2si 32", |a, _, e| f64_to_i32(a, true, e) as u32 as u64, host!("cvttsd2si eax, xmm0")),
            ("cvtsd2si 64", |a, _, e| f64_to_i64(a, false, e) as u64, host!("cvtsd2si rax, xmm0")),
            ("cvttsd2si 64", |a, _, e| f64_to_i64(a, true, e) as u64, host!("cvttsd2si rax, xmm0")),
            (
                "cvtsd2ss",
                |a, _, e| f64_to_f32(a, e).into(),
                host!("xorps xmm1, xmm1", "cvtsd2ss xmm1, xmm0", "movd eax, xmm1"),
            ),
            ("roundsd 0", |a, _, e| round_f64(a, 0, e), host!("roundsd xmm0, xmm0, 0", "movq rax, xmm0")),
            ("roundsd 4", |a, _, e| round_f64(a, 4, e), host!("roundsd xmm0, xmm0, 4", "movq rax, xmm0")),
            ("roundsd 10", |a, _, e| round_f64(a, 10, e), host!("roundsd xmm0, xmm0, 10", "movq rax, xmm0")),
        ],
        Input::Double,
        u64::MAX,
    );
}

#[test]
fn single_precision_matches_the_host() {
    run(
        &[
            ("addss", ps!(add_f32), host!("addss xmm0, xmm1", "movd eax, xmm0")),
            ("subss", ps!(sub_f32), host!("subss xmm0, xmm1", "movd eax, xmm0")),
            ("mulss", ps!(mul_f32), host!("mulss xmm0, xmm1", "movd eax, xmm0")),
            ("divss", ps!(div_f32), host!("divss xmm0, xmm1", "movd eax, xmm0")),
            ("sqrtss", |a, _, e| sqrt_f32(a as u32, e).into(), host!("sqrtss xmm0, xmm0", "movd eax, xmm0")),
            ("minss", ps!(min_f32), host!("minss xmm0, xmm1", "movd eax, xmm0")),
            ("maxss", ps!(max_f32), host!("maxss xmm0, xmm1", "movd eax, xmm0")),
            (
                "cmpss 1",
                |a, b, e| mask_of!(cmp_f32(a as u32, b as u32, 1, e)),
                host!("cmpss xmm0, xmm1, 1", "movd eax, xmm0"),
            ),
            (
                "cmpss 6",
                |a, b, e| mask_of!(cmp_f32(a as u32, b as u32, 6, e)),
                host!("cmpss xmm0, xmm1, 6", "movd eax, xmm0"),
            ),
            ("comiss", ps!(comi_f32), flags_host!("comiss xmm0, xmm1")),
            ("ucomiss", ps!(ucomi_f32), flags_host!("ucomiss xmm0, xmm1")),
            ("rcpss", |a, _, _| rcp_f32(a as u32).into(), host!("rcpss xmm0, xmm0", "movd eax, xmm0")),
            ("rsqrtss", |a, _, _| rsqrt_f32(a as u32).into(), host!("rsqrtss xmm0, xmm0", "movd eax, xmm0")),
            ("cvtss2si", |a, _, e| f32_to_i32(a as u32, false, e) as u32 as u64, host!("cvtss2si eax, xmm0")),
            ("cvttss2si", |a, _, e| f32_to_i32(a as u32, true, e) as u32 as u64, host!("cvttss2si eax, xmm0")),
            ("roundss 3", |a, _, e| round_f32(a as u32, 3, e).into(), host!("roundss xmm0, xmm0, 3", "movd eax, xmm0")),
        ],
        Input::Single,
        u32::MAX.into(),
    );
    run(
        &[
            ("cvtss2sd", |a, _, e| f32_to_f64(a as u32, e), host!("cvtss2sd xmm0, xmm0", "movq rax, xmm0")),
            ("cvtss2si 64", |a, _, e| f32_to_i64(a as u32, false, e) as u64, host!("cvtss2si rax, xmm0")),
        ],
        Input::Single,
        u64::MAX,
    );
}

#[test]
fn integer_conversions_match_the_host() {
    run(
        &[
            ("cvtsi2sd 64", |a, _, e| f64_from_i64(a as i64, e), host!("cvtsi2sd xmm0, rax", "movq rax, xmm0")),
            ("cvtsi2sd 32", |a, _, e| f64_from_i32(a as i32, e), host!("cvtsi2sd xmm0, eax", "movq rax, xmm0")),
            ("cvtsi2ss 64", |a, _, e| f32_from_i64(a as i64, e).into(), host!("cvtsi2ss xmm0, rax", "movd eax, xmm0")),
            ("cvtsi2ss 32", |a, _, e| f32_from_i32(a as i32, e).into(), host!("cvtsi2ss xmm0, eax", "movd eax, xmm0")),
        ],
        Input::Integer,
        u64::MAX,
    );
}
