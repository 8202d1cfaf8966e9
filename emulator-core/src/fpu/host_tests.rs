//! Compares the unit with the x87 of the machine the tests run on: the whole state (registers, tags,
//! status and control words) before and after each instruction, on boundary-biased random operands.
#![allow(unsafe_code, reason = "runs x87 instructions of the host as the oracle")]

use crate::host_cpu::is_intel;
use std::arch::asm;

use super::f80::{C1, F80};
use super::op::X87Op;
use super::x87::{C0, C2, C3, X87};
use super::{ImageMode, X87Op::*};

const MODE: ImageMode = ImageMode { operand32: true, protected: true };

/// xorshift64*: deterministic test operands.
pub(super) struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    /// A significand with long runs of equal bits, or few bits, or random.
    pub fn sig(&mut self) -> u64 {
        let r = self.next();
        match self.below(10) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => u64::MAX << self.below(64),
            4 => u64::MAX >> self.below(64),
            5 => (r & 3) << self.below(63) | 1 << 63,
            6 => r << 11,
            7 => r << 40,
            8 => (r & 0xFFF).wrapping_sub(0x800),
            _ => r,
        }
    }

    /// An 80-bit value: mostly valid, of every class, exponents near each other and near the ends.
    pub fn f80(&mut self) -> F80 {
        let sign = (self.next() >> 63) as u16;
        let sig = self.sig();
        let exp = match self.below(16) {
            0 => 0,
            1 => 0x7FFF,
            2 => 1,
            3 => 0x7FFE,
            4 => self.below(130),
            5 => 0x7FFE - self.below(130),
            6 => self.below(0x8000),
            7 => 0x3FFF + 63 - self.below(4),
            8 => 0x3FFF + self.below(70),
            9 => 0x3FFF - self.below(1080),
            10 => 0x3FFF - 126 - self.below(30),
            11 => 0x3FFF + 120 + self.below(10),
            12 => 0x3FFF - 1022 - self.below(60),
            13 => 0x3FFF + 1020 + self.below(6),
            _ => 0x3FFF + 8 - self.below(16),
        } as u16;
        let sig = match self.below(40) {
            0 => sig & !(1 << 63),
            _ if exp == 0 => sig,
            _ => sig | 1 << 63,
        };
        F80 { sig, se: sign << 15 | exp }
    }

    /// A control word: random masks now and then, every rounding and precision.
    pub fn cw(&mut self) -> u16 {
        let masks = if self.below(3) == 0 { self.below(64) as u16 } else { 0x3F };
        let rc = (self.below(8).saturating_sub(4) as u16) << 10;
        let pc = [3, 3, 2, 0][self.below(4) as usize] << 8;
        0x40 | masks | rc | pc
    }

    /// A state with `depth` or so registers in use.
    pub fn state(&mut self) -> X87 {
        let mut x = X87::new();
        x.init();
        x.empty = match self.below(8) {
            0 => self.next() as u8,
            _ => 0xFF >> self.below(7) & 0x1F,
        };
        let mut empty = 0u8;
        x.top = self.below(8) as u8;
        for i in 0..8 {
            let p = (x.top + i) & 7;
            x.set_register(usize::from(p), self.f80());
            empty |= (x.empty >> (7 - i) & 1) << p;
        }
        x.empty = empty;
        x.cw = self.cw();
        x.sw = (self.next() as u16) & (C0 | C1 | C2 | C3);
        x
    }
}

/// Runs one instruction on the host: state in, state out.
macro_rules! host {
    ($image:expr, $mem:expr, $($text:literal),+) => {{
        let image: *mut u8 = $image;
        let mem: *mut u8 = $mem;
        // SAFETY: loads a well-formed state without pending exceptions, runs one instruction whose
        // only memory operand is the 16 bytes at `mem`, and FNSAVE leaves the unit initialised
        // without waiting, so no exception reaches the process.
        unsafe {
            asm!("frstor [{i}]", $($text,)+ "fnsave [{i}]", "fninit",
                i = in(reg) image, m = in(reg) mem, out("rax") _,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
        }
    }};
}

type HostFn = fn(*mut u8, *mut u8);

macro_rules! cases {
    ($($op:ident $sti:literal $text:literal;)*) => {
        &[$(($op, $sti, |i, m| { let _ = m; host!(i, m, $text, "/* {m} */") }),)*]
    };
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Reg,
    Load(u32),
    Store,
}

fn show(x: &X87) -> String {
    let regs: Vec<String> = (0..8).map(|i| format!("{:04x}:{:016x}", x.st(i).se, x.st(i).sig)).collect();
    format!("cw {:04x} sw {:04x} tags {:04x} {}", x.control(), x.status(), x.tag_word(), regs.join(" "))
}

/// Memory operands that hit boundaries of each format.
fn memory(rng: &mut Rng, bytes: u32) -> u128 {
    let r = rng.next();
    match bytes {
        2 | 4 | 8 if rng.below(3) == 0 => u128::from(rng.sig()),
        4 => {
            let exp = [0, 1, 0xFE, 0xFF, 127 + rng.below(20), rng.below(256)][rng.below(6) as usize];
            u128::from(r & 0x8000_0000 | exp << 23 | (rng.sig() >> rng.below(41)) & 0x7F_FFFF)
        }
        8 => {
            let exp = [0, 1, 0x7FE, 0x7FF, 1023 + rng.below(40), rng.below(2048)][rng.below(6) as usize];
            u128::from(r & 1 << 63 | exp << 52 | (rng.sig() >> rng.below(12)) & 0xF_FFFF_FFFF_FFFF)
        }
        _ => rng.f80().to_bits(),
    }
}

/// Runs `rounds` random states through each case; `near` gives the tolerated ulp error of results.
fn run(cases: &[(X87Op, u8, HostFn)], kind: Kind, rounds: u32, ulps: Option<u64>) {
    let mut failures = Vec::new();
    let (mut total, mut identical) = (0u64, 0u64);
    for (op, sti, host) in cases {
        let mut rng = Rng(0x1234_5678_9ABC_DEF1 ^ (*op as u64) << 40);
        let mut bad = 0;
        for _ in 0..rounds {
            let mut ours = rng.state();
            let before = ours.clone();
            let mut image = ours.state_image(MODE);
            let mut mem = match kind {
                Kind::Load(bytes) => memory(&mut rng, bytes),
                _ => 0xA5A5_A5A5_A5A5_A5A5_A5A5_A5A5_A5A5_A5A5,
            };
            let input = mem;
            let mut expected = ours.clone();
            host(image.as_mut_ptr(), (&raw mut mem).cast());
            expected.load_state(&image, MODE);
            let mut out = input;
            match kind {
                Kind::Reg => {
                    let _ = ours.exec_reg(*op, *sti, true);
                }
                Kind::Load(_) => ours.exec_load(*op, mem as u64, (mem >> 64) as u16),
                Kind::Store => {
                    let store = ours.prepare_store(*op);
                    if store.write {
                        let mask = (1u128 << (8 * u32::from(store.len))) - 1;
                        out = out & !mask | store.bytes;
                    }
                    ours.commit_store(*op, store);
                }
            }
            (expected.fip, expected.fcs, expected.fdp, expected.fds, expected.fop) = (0, 0, 0, 0, 0);
            total += 1;
            let same = ours == expected && out == mem;
            identical += u64::from(same);
            if same || ulps.is_some_and(|n| close(&ours, &expected, n)) {
                continue;
            }
            bad += 1;
            if bad <= 4 {
                failures.push(format!(
                    "{op:?} st{sti} mem {input:020x}\n before {}\n ours   {} mem {out:020x}\n host   {} mem {mem:020x}",
                    show(&before),
                    show(&ours),
                    show(&expected)
                ));
            }
        }
        if bad != 0 {
            failures.push(format!("{op:?}: {bad} of {rounds} differ"));
        }
    }
    if ulps.is_some() {
        println!("{identical} of {total} bit-identical");
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Status word: underflow.
const UNDERFLOW: u16 = 0x10;

/// Equal but for C1 and, in registers, `ulps` units in the last place. Another vendor's processor may see an underflow
/// where Intel's gives the operand back.
fn close(a: &X87, b: &X87, ulps: u64) -> bool {
    let line = |x: F80| {
        let mag = i128::from(x.biased_exp()) << 63 | i128::from(x.sig & !(1 << 63));
        if x.sign() { -mag } else { mag }
    };
    if !is_intel() && b.sw & !a.sw & UNDERFLOW != 0 {
        return true;
    }
    a.sw & !C1 == b.sw & !C1
        && (a.top, a.empty, a.cw) == (b.top, b.empty, b.cw)
        && (0..8).all(|i| {
            let (x, y) = (a.register(i), b.register(i));
            x == y || (x.sign() == y.sign() && line(x).abs_diff(line(y)) <= u128::from(ulps))
        })
}

#[test]
fn basic_arithmetic_matches_the_host() {
    let cases: &[(X87Op, u8, HostFn)] = cases! {
        FaddReg 1 "fadd st(0), st(1)";
        FsubReg 2 "fsub st(0), st(2)";
        FsubrReg 3 "fsubr st(0), st(3)";
        FmulReg 1 "fmul st(0), st(1)";
        FdivReg 1 "fdiv st(0), st(1)";
        FdivrReg 2 "fdivr st(0), st(2)";
        Fsqrt 0 "fsqrt";
    };
    run(cases, Kind::Reg, 60_000, None);
    let cases: &[(X87Op, u8, HostFn)] = cases! {
        FaddTo 1 "fadd st(1), st(0)";
        FsubTo 2 ".byte 0xdc, 0xea";
        FsubrTo 3 ".byte 0xdc, 0xe3";
        FmulTo 4 "fmul st(4), st(0)";
        FdivTo 1 ".byte 0xdc, 0xf9";
        FdivrTo 2 ".byte 0xdc, 0xf2";
        FaddPop 1 ".byte 0xde, 0xc1";
        FsubPop 2 ".byte 0xde, 0xea";
        FsubrPop 3 ".byte 0xde, 0xe3";
        FmulPop 4 ".byte 0xde, 0xcc";
        FdivPop 1 ".byte 0xde, 0xf9";
        FdivrPop 2 ".byte 0xde, 0xf2";
    };
    run(cases, Kind::Reg, 6_000, None);
}

#[test]
fn memory_arithmetic_and_loads_match_the_host() {
    let m32: &[(X87Op, u8, HostFn)] = cases! {
        FaddM32 0 "fadd dword ptr [{m}]";
        FmulM32 0 "fmul dword ptr [{m}]";
        FsubM32 0 "fsub dword ptr [{m}]";
        FsubrM32 0 "fsubr dword ptr [{m}]";
        FdivM32 0 "fdiv dword ptr [{m}]";
        FdivrM32 0 "fdivr dword ptr [{m}]";
        FcomM32 0 "fcom dword ptr [{m}]";
        FcompM32 0 "fcomp dword ptr [{m}]";
        FldM32 0 "fld dword ptr [{m}]";
        FaddI32 0 "fiadd dword ptr [{m}]";
        FmulI32 0 "fimul dword ptr [{m}]";
        FsubI32 0 "fisub dword ptr [{m}]";
        FsubrI32 0 "fisubr dword ptr [{m}]";
        FdivI32 0 "fidiv dword ptr [{m}]";
        FdivrI32 0 "fidivr dword ptr [{m}]";
        FcomI32 0 "ficom dword ptr [{m}]";
        FcompI32 0 "ficomp dword ptr [{m}]";
        FildI32 0 "fild dword ptr [{m}]";
    };
    run(m32, Kind::Load(4), 10_000, None);
    let m64: &[(X87Op, u8, HostFn)] = cases! {
        FaddM64 0 "fadd qword ptr [{m}]";
        FmulM64 0 "fmul qword ptr [{m}]";
        FsubM64 0 "fsub qword ptr [{m}]";
        FsubrM64 0 "fsubr qword ptr [{m}]";
        FdivM64 0 "fdiv qword ptr [{m}]";
        FdivrM64 0 "fdivr qword ptr [{m}]";
        FcomM64 0 "fcom qword ptr [{m}]";
        FcompM64 0 "fcomp qword ptr [{m}]";
        FldM64 0 "fld qword ptr [{m}]";
        FildI64 0 "fild qword ptr [{m}]";
    };
    run(m64, Kind::Load(8), 10_000, None);
    let m16: &[(X87Op, u8, HostFn)] = cases! {
        FaddI16 0 "fiadd word ptr [{m}]";
        FmulI16 0 "fimul word ptr [{m}]";
        FsubI16 0 "fisub word ptr [{m}]";
        FsubrI16 0 "fisubr word ptr [{m}]";
        FdivI16 0 "fidiv word ptr [{m}]";
        FdivrI16 0 "fidivr word ptr [{m}]";
        FcomI16 0 "ficom word ptr [{m}]";
        FcompI16 0 "ficomp word ptr [{m}]";
        FildI16 0 "fild word ptr [{m}]";
    };
    run(m16, Kind::Load(2), 4_000, None);
    let m80: &[(X87Op, u8, HostFn)] = cases! {
        FldM80 0 "fld tbyte ptr [{m}]";
        Fbld 0 "fbld tbyte ptr [{m}]";
    };
    run(m80, Kind::Load(10), 10_000, None);
}

#[test]
fn stores_match_the_host() {
    let cases: &[(X87Op, u8, HostFn)] = cases! {
        FstM32 0 "fst dword ptr [{m}]";
        FstpM32 0 "fstp dword ptr [{m}]";
        FstM64 0 "fst qword ptr [{m}]";
        FstpM64 0 "fstp qword ptr [{m}]";
        FstpM80 0 "fstp tbyte ptr [{m}]";
        FistI16 0 "fist word ptr [{m}]";
        FistI32 0 "fist dword ptr [{m}]";
        FistpI16 0 "fistp word ptr [{m}]";
        FistpI32 0 "fistp dword ptr [{m}]";
        FistpI64 0 "fistp qword ptr [{m}]";
        FisttpI16 0 "fisttp word ptr [{m}]";
        FisttpI32 0 "fisttp dword ptr [{m}]";
        FisttpI64 0 "fisttp qword ptr [{m}]";
        Fbstp 0 "fbstp tbyte ptr [{m}]";
        FnstswM16 0 "fnstsw word ptr [{m}]";
        Fnstcw 0 "fnstcw word ptr [{m}]";
    };
    run(cases, Kind::Store, 30_000, None);
}

#[test]
fn compares_and_exact_operations_match_the_host() {
    let cases: &[(X87Op, u8, HostFn)] = cases! {
        FcomReg 1 "fcom st(1)";
        FcompReg 2 "fcomp st(2)";
        Fcompp 0 "fcompp";
        Fucom 1 "fucom st(1)";
        Fucomp 1 "fucomp st(1)";
        Fucompp 0 "fucompp";
        Ftst 0 "ftst";
        Fxam 0 "fxam";
        Frndint 0 "frndint";
        Fscale 0 "fscale";
        Fprem 0 "fprem";
        Fprem1 0 "fprem1";
        Fxtract 0 "fxtract";
    };
    run(cases, Kind::Reg, 30_000, None);
}

#[test]
fn stack_and_control_instructions_match_the_host() {
    let cases: &[(X87Op, u8, HostFn)] = cases! {
        FldSti 0 "fld st(0)";
        FldSti 6 "fld st(6)";
        FstSti 3 "fst st(3)";
        FstpSti 2 "fstp st(2)";
        FstpSti 0 "fstp st(0)";
        Fstpnce 2 ".byte 0xd9, 0xda";
        Fxch 1 "fxch st(1)";
        Fxch 0 "fxch st(0)";
        Fxch 5 "fxch st(5)";
        Fchs 0 "fchs";
        Fabs 0 "fabs";
        Fld1 0 "fld1";
        Fldz 0 "fldz";
        Fldpi 0 "fldpi";
        Fldl2t 0 "fldl2t";
        Fldl2e 0 "fldl2e";
        Fldlg2 0 "fldlg2";
        Fldln2 0 "fldln2";
        Fincstp 0 "fincstp";
        Fdecstp 0 "fdecstp";
        Ffree 2 "ffree st(2)";
        Ffreep 1 ".byte 0xdf, 0xc1";
        Fninit 0 "fninit";
        Fnclex 0 "fnclex";
        Fnop 0 "fnop";
        Fnobs 0 ".byte 0xdb, 0xe0";
    };
    run(cases, Kind::Reg, 2_000, None);
}

#[test]
fn transcendentals_are_within_one_ulp_of_the_host() {
    let cases: &[(X87Op, u8, HostFn)] = cases! {
        Fsin 0 "fsin";
        Fcos 0 "fcos";
        Fsincos 0 "fsincos";
        Fptan 0 "fptan";
        Fpatan 0 "fpatan";
        F2xm1 0 "f2xm1";
        Fyl2x 0 "fyl2x";
        Fyl2xp1 0 "fyl2xp1";
    };
    run(cases, Kind::Reg, 40_000, Some(1));
}

#[test]
fn compares_to_eflags_match_the_host() {
    type Case = (X87Op, fn(*mut u8, *mut u8));
    // All of CF, ZF, PF and AF are set beforehand.
    macro_rules! flags {
        ($text:literal) => {
            |i, m| {
                host!(i, m, "mov eax, -1", "add eax, 1", $text, "pushfq", "pop rax", "and eax, 0x8D5", "mov [{m}], rax")
            }
        };
    }
    let cases: &[Case] = &[
        (Fcomi, flags!("fcomi st(0), st(1)")),
        (Fcomip, flags!(".byte 0xdf, 0xf1")),
        (Fucomi, flags!("fucomi st(0), st(1)")),
        (Fucomip, flags!(".byte 0xdf, 0xe9")),
    ];
    for (op, host) in cases {
        let mut rng = Rng(0x5EED ^ (*op as u64) << 40);
        for _ in 0..20_000 {
            let mut ours = rng.state();
            let before = show(&ours);
            let (mut image, mut flags) = (ours.state_image(MODE), 0u64);
            let mut expected = ours.clone();
            host(image.as_mut_ptr(), (&raw mut flags).cast());
            expected.load_state(&image, MODE);
            expected.fip = 0;
            expected.fop = 0;
            let result = ours.exec_reg(*op, 1, false);
            // AF, SF and OF are cleared.
            assert_eq!((show(&ours), result.map(u64::from)), (show(&expected), Some(flags)), "{op:?} {before}");
        }
    }
}

#[test]
fn conditional_moves_match_the_host() {
    let cases: &[(bool, HostFn)] = &[
        (true, |i, m| host!(i, m, "stc", "fcmovb st(0), st(1)", "/* {m} */")),
        (false, |i, m| host!(i, m, "clc", "fcmovb st(0), st(1)", "/* {m} */")),
    ];
    for (condition, host) in cases {
        let mut rng = Rng(0xC0DE);
        for _ in 0..5_000 {
            let mut ours = rng.state();
            let before = show(&ours);
            let mut image = ours.state_image(MODE);
            let mut expected = ours.clone();
            host(image.as_mut_ptr(), image.as_mut_ptr());
            expected.load_state(&image, MODE);
            let _ = ours.exec_reg(Fcmov, 1, *condition);
            assert_eq!(show(&ours), show(&expected), "{before}");
        }
    }
}

/// A 64-byte aligned buffer, large enough for every image.
#[repr(align(64))]
struct Buffer([u8; 512]);

#[test]
fn images_match_the_host() {
    const MODE16: ImageMode = ImageMode { operand32: false, protected: true };
    let mut rng = Rng(0x1111_2222_3333_4444);
    for _ in 0..5_000 {
        let mut ours = rng.state();
        // Flags pending, masked or not; FRSTOR must not be followed by a waiting instruction.
        ours.sw |= rng.next() as u16 & 0x7F;
        ours.update_summary();
        ours.fip = rng.next() & 0xFFFF_FFFF;
        ours.fdp = rng.next() & 0xFFFF_FFFF;
        ours.fop = rng.next() as u16 & 0x7FF;
        let mut image = ours.state_image(MODE);
        let mut mem = Buffer([0; 512]);
        host!(image.as_mut_ptr(), mem.0.as_mut_ptr(), "fnstenv [{m}]");
        assert_eq!(mem.0[..28], ours.env_image(MODE)[..28], "{}", show(&ours));
        let mut after = ours.clone();
        after.load_state(&image, MODE);
        let mut masked = ours.clone();
        masked.mask_all();
        assert_eq!(show(&masked), show(&after));

        let mut image = ours.state_image(MODE);
        host!(image.as_mut_ptr(), mem.0.as_mut_ptr(), ".byte 0x66", "fnstenv [{m}]");
        assert_eq!(mem.0[..14], ours.env_image(MODE16)[..14], "{}", show(&ours));

        let mut image = ours.state_image(MODE);
        host!(image.as_mut_ptr(), mem.0.as_mut_ptr(), ".byte 0x66", "fnsave [{m}]");
        assert_eq!(mem.0[..94], ours.state_image(MODE16)[..94], "{}", show(&ours));

        let mut image = ours.state_image(MODE);
        host!(image.as_mut_ptr(), mem.0.as_mut_ptr(), "fxsave [{m}]");
        let fx = ours.fxsave(false);
        // AMD's processors save the last opcode and pointers only with an exception pending (APM volume 2, 11.4.4.3).
        let head = if is_intel() { 24 } else { 6 };
        assert_eq!((&mem.0[..head], &mem.0[32..160]), (&fx[..head], &fx[32..160]), "{}", show(&ours));

        // And back: FXRSTOR of a random image leaves what FNSAVE shows.
        rng.next();
        let mut fx = fx;
        fx[4] = rng.next() as u8;
        (fx[0], fx[1]) = (0x40 | rng.next() as u8 & 0x3F, rng.next() as u8 & 0x0F);
        (fx[2], fx[3]) = (rng.next() as u8, rng.next() as u8);
        mem.0[..160].copy_from_slice(&fx);
        mem.0[24..28].copy_from_slice(&0x1F80u32.to_le_bytes());
        let mut image = X87::new().state_image(MODE);
        image[0] = 0x7F;
        host!(image.as_mut_ptr(), mem.0.as_mut_ptr(), "fxrstor [{m}]");
        let (mut expected, mut restored) = (X87::new(), X87::new());
        expected.load_state(&image, MODE);
        restored.fxrstor(&fx, false);
        assert_eq!(show(&restored), show(&expected));
        if is_intel() {
            assert_eq!((restored.fip, restored.fdp), (expected.fip, expected.fdp));
        }
    }
}

#[test]
fn mmx_aliases_the_registers_as_on_the_host() {
    let mut rng = Rng(0xABCD);
    for _ in 0..2_000 {
        let mut ours = rng.state();
        let value = rng.next();
        let (mut image, mut mem) = (ours.state_image(MODE), value);
        let mut expected = ours.clone();
        host!(image.as_mut_ptr(), (&raw mut mem).cast(), "movq mm3, [{m}]", "movq [{m}], mm5");
        expected.load_state(&image, MODE);
        ours.mmx_enter();
        ours.mmx_write(3, value);
        assert_eq!((show(&ours), ours.mmx_read(5)), (show(&expected), mem));

        let mut image = ours.state_image(MODE);
        let mut unused = 0u64;
        host!(image.as_mut_ptr(), (&raw mut unused).cast(), "emms", "/* {m} */");
        expected.load_state(&image, MODE);
        ours.emms();
        assert_eq!(show(&ours), show(&expected));
    }
}
