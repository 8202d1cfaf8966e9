//! Every SIMD instruction against the CPU that the tests run on, over the whole 0F opcode space: whatever
//! decodes as [`Kind::Simd`] is executed natively and by us on the same state, which must end the same.
#![allow(unsafe_code, reason = "builds and calls machine code: the host CPU is the oracle")]

use crate::host_cpu::is_intel;
use std::arch::asm;
use std::fmt::Write as _;

use super::super::table::{Class, SimdOp};
use super::{AT, Lab, decode};
use crate::cpu::flags::STATUS;
use crate::cpu::op::{Kind, Op, REG_FORM};
use crate::cpu::state::CpuModel;

/// General registers of the test; 4 and 5 are the host's stack and frame.
const GPRS: [usize; 6] = [0, 1, 2, 3, 6, 7];
const MXCSR: u32 = 0x1f80;

/// What an instruction starts from and leaves behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(16))]
struct State {
    xmm: [u128; 8],
    memory: [u128; 2],
    mm: [u64; 8],
    gpr: [u64; 8],
    flags: u64,
    mxcsr: u32,
    saved: u32,
    env: [u32; 7],
}

macro_rules! offset {
    ($field:ident) => {
        std::mem::offset_of!(State, $field) as u32
    };
}

/// Bytes of executable memory.
const CODE: usize = 8192;

/// Memory for machine code: two routines around one instruction. The first loads MMX registers before it and
/// stores them after; the second has the x87 unit start from FNINIT and stores its environment.
struct Page(*mut u8);

impl Page {
    fn new() -> Page {
        let mut at = 9usize;
        // SAFETY: mmap(NULL, CODE, PROT_READ|WRITE|EXEC, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0).
        unsafe {
            asm!("syscall", inout("rax") at, in("rdi") 0, in("rsi") CODE, in("rdx") 7, in("r10") 0x22,
                in("r8") -1isize, in("r9") 0, out("rcx") _, out("r11") _);
        }
        assert!(at < usize::MAX - 4095, "mmap failed");
        Page(at as *mut u8)
    }

    fn entry(&self, mmx: bool) -> *mut u8 {
        self.0.wrapping_add(if mmx { 0 } else { CODE / 2 })
    }

    /// Builds the routines around `insn`.
    fn prepare(&self, insn: &[u8]) {
        for mmx in [true, false] {
            let code = Page::routine(insn, mmx);
            assert!(code.len() <= CODE / 2);
            // SAFETY: half of the memory that `new` made, which nothing else refers to.
            unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), self.entry(mmx), code.len()) };
        }
    }

    /// Runs one of the routines on `state`.
    fn run(&self, state: &mut State, mmx: bool) {
        // SAFETY: the code touches registers named in `routine`, the stack below the return address and
        // `state` (its memory operand included), and unmasks no exception.
        unsafe {
            asm!("call {f}", f = in(reg) self.entry(mmx), in("rdi") state, clobber_abi("sysv64"));
        }
    }

    fn routine(insn: &[u8], mmx: bool) -> Vec<u8> {
        let mut code = vec![0x53, 0x49, 0x89, 0xf8]; // push rbx; mov r8, rdi
        // An instruction `opcode [r8 + field]` with `reg` in ModRM.
        let access = |code: &mut Vec<u8>, opcode: &[u8], reg: usize, at: u32| {
            code.extend(opcode);
            code.push(0x80 | (reg as u8) << 3);
            code.extend(at.to_le_bytes());
        };
        access(&mut code, &[0x41, 0x0f, 0xae], 3, offset!(saved));
        access(&mut code, &[0x41, 0x0f, 0xae], 2, offset!(mxcsr));
        if !mmx {
            code.extend([0xdb, 0xe3]); // fninit
        }
        for n in 0..8 {
            access(&mut code, &[0x41, 0x0f, 0x28], n, offset!(xmm) + 16 * n as u32);
            if mmx {
                access(&mut code, &[0x41, 0x0f, 0x6f], n, offset!(mm) + 8 * n as u32);
            }
        }
        for n in GPRS {
            access(&mut code, &[0x49, 0x8b], n, offset!(gpr) + 8 * n as u32);
        }
        code.extend(insn);
        for n in GPRS {
            access(&mut code, &[0x49, 0x89], n, offset!(gpr) + 8 * n as u32);
        }
        code.extend([0x9c, 0x41, 0x59]); // pushfq; pop r9
        access(&mut code, &[0x4d, 0x89], 1, offset!(flags));
        for n in 0..8 {
            access(&mut code, &[0x41, 0x0f, 0x29], n, offset!(xmm) + 16 * n as u32);
        }
        access(&mut code, &[0x41, 0x0f, 0xae], 3, offset!(mxcsr));
        if mmx {
            for n in 0..8 {
                access(&mut code, &[0x41, 0x0f, 0x7f], n, offset!(mm) + 8 * n as u32);
            }
        } else {
            access(&mut code, &[0x41, 0xd9], 6, offset!(env)); // fnstenv
        }
        access(&mut code, &[0x41, 0x0f, 0xae], 2, offset!(saved));
        code.extend([0x0f, 0x77, 0x5b, 0xc3]); // emms; pop rbx; ret
        code
    }
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 32) % n
    }

    fn byte(&mut self) -> u8 {
        const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0x81, 0xff, 0xfe, 0x10];
        if self.below(2) == 0 { EDGES[self.below(8) as usize] } else { self.next() as u8 }
    }

    fn word(&mut self) -> u16 {
        const EDGES: [u16; 8] = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x00ff, 0xff7f];
        if self.below(2) == 0 { EDGES[self.below(8) as usize] } else { self.next() as u16 }
    }

    fn single(&mut self) -> u32 {
        let exp = match self.below(8) {
            0 => 0,
            1 => 0xff,
            2 => 1 + self.below(3),
            3 => 0xfe - self.below(3),
            4 => self.below(0x100),
            5 => 127 + self.below(34),
            _ => 127 + 3 - self.below(6),
        } as u32;
        let fraction = self.next() as u32 & 0x7f_ffff;
        let fraction = match self.below(4) {
            0 => 0,
            1 => fraction & 0x7f_0000,
            _ => fraction,
        };
        (self.next() as u32 & 0x8000_0000) | exp << 23 | fraction
    }

    fn double(&mut self) -> u64 {
        let exp = match self.below(8) {
            0 => 0,
            1 => 0x7ff,
            2 => 1 + self.below(3),
            3 => 0x7fe - self.below(3),
            4 => self.below(0x800),
            5 => 1023 + self.below(34),
            6 => 1023 + 120 + self.below(10),
            _ => 1023 + 3 - self.below(6),
        };
        let fraction = self.next() & 0xf_ffff_ffff_ffff;
        let fraction = match self.below(4) {
            0 => 0,
            1 => fraction & 0xf_ffff_0000_0000,
            _ => fraction,
        };
        self.next() & 1 << 63 | exp << 52 | fraction
    }

    fn vector(&mut self) -> u128 {
        let mut quad = || match self.below(5) {
            0 => (0..8).fold(0, |v, _| v << 8 | u64::from(self.byte())),
            1 => (0..4).fold(0, |v, _| v << 16 | u64::from(self.word())),
            2 => u64::from(self.single()) << 32 | u64::from(self.single()),
            3 => self.double(),
            // Shift counts.
            _ => self.below(70),
        };
        u128::from(quad()) << 64 | u128::from(quad())
    }

    fn state(&mut self) -> State {
        let modes = if self.below(2) == 0 { 0xe040 } else { 0 };
        let sticky = if self.below(2) == 0 { 0x3f } else { 0 };
        State {
            xmm: std::array::from_fn(|_| self.vector()),
            memory: std::array::from_fn(|_| self.vector()),
            mm: std::array::from_fn(|_| self.vector() as u64),
            gpr: std::array::from_fn(|_| (self.vector() as u32).into()),
            flags: 0,
            mxcsr: MXCSR | self.next() as u32 & (modes | sticky),
            saved: 0,
            env: [0; 7],
        }
    }
}

/// Our result for the same start; EDI is where the memory operand is.
fn ours(lab: &mut Lab, op: &Op, start: &State, memory: bool) -> State {
    let cpu = &mut lab.cpu;
    cpu.xmm[..8].copy_from_slice(&start.xmm);
    for n in 0..8 {
        cpu.x87.mmx_write(n, start.mm[usize::from(n)]);
    }
    for n in GPRS {
        cpu.set_reg32(n, start.gpr[n] as u32);
    }
    cpu.mxcsr = start.mxcsr;
    cpu.x87.init();
    cpu.set_status(0);
    if memory {
        cpu.set_reg32(7, AT);
        for (n, v) in start.memory.iter().enumerate() {
            lab.bus.0.block().write_u128(AT + 16 * n as u32, *v);
        }
    }
    let mut end = *start;
    lab.cpu.exec_simd(&mut lab.bus, op).expect("no fault");
    let cpu = &lab.cpu;
    end.xmm.copy_from_slice(&cpu.xmm[..8]);
    for n in 0..8 {
        end.mm[usize::from(n)] = cpu.x87.mmx_read(n);
    }
    for n in GPRS {
        end.gpr[n] = cpu.reg32(n).into();
    }
    end.mxcsr = cpu.mxcsr;
    end.flags = cpu.lazy.flags().into();
    end.env[2] = u32::from(cpu.x87.tag_word() != 0xffff);
    if memory {
        end.gpr[7] = start.gpr[7];
        for (n, v) in end.memory.iter_mut().enumerate() {
            *v = lab.bus.0.block().read_u128(AT + 16 * n as u32);
        }
    }
    end
}

/// Compares `rounds` runs of an instruction; the first difference as text.
fn compare(page: &Page, lab: &mut Lab, rng: &mut Rng, bytes: &[u8], op: &Op, rounds: u32) -> Option<String> {
    let simd = SimdOp::of(op.imm)?;
    let memory = op.base != REG_FORM;
    page.prepare(bytes);
    for round in 0..rounds {
        let start = rng.state();
        // Now and then how the instruction leaves the x87 tags instead of what it computes in MMX.
        let mmx = round % 8 != 0;
        let mut host = start;
        if memory {
            host.gpr[7] = (&raw mut host.memory).addr() as u64;
        }
        page.run(&mut host, mmx);
        let mut our = ours(lab, op, &start, memory);
        host.env = [0, 0, u32::from(host.env[2] & 0xffff != 0xffff), 0, 0, 0, 0];
        host.saved = 0;
        if memory {
            host.gpr[7] = start.gpr[7];
        }
        if mmx {
            (our.env, host.env) = ([0; 7], [0; 7]);
        } else {
            (our.mm, host.mm) = ([0; 8], [0; 8]);
            // Registers were not loaded: results that depend on them say nothing.
            if simd.info().uses_mmx(op.imm & super::super::MMX_FORM != 0, memory) {
                (our.xmm, our.gpr, our.memory, our.mxcsr) = (host.xmm, host.gpr, host.memory, host.mxcsr);
            }
        }
        host.flags &= u64::from(STATUS);
        if simd.info().dst != Class::Flags {
            (our.flags, host.flags) = (0, 0);
        }
        if our != host {
            return Some(format!("{simd:?} {bytes:x?}\n start {start:x?}\n ours {our:x?}\n host {host:x?}\n"));
        }
    }
    None
}

#[test]
fn every_instruction_matches_the_host() {
    let page = Page::new();
    let mut lab = Lab::new(CpuModel::Pentium4);
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut failures = String::new();
    let (mut covered, mut forms, mut failed) = (Vec::new(), 0, 0);
    for second in 0..=0xff_u8 {
        for prefix in [None, Some(0x66), Some(0xf3), Some(0xf2)] {
            for field in 0..8 {
                for memory in [false, true] {
                    let (reg, rm) = (field, [0u8, 1, 2, 3, 6, 7][rng.below(6) as usize]);
                    let modrm = if memory { 7 } else { 0xc0 | rm } | reg << 3;
                    let mut bytes: Vec<u8> = prefix.into_iter().collect();
                    bytes.extend([0x0f, second, modrm, rng.byte()]);
                    let op = decode(&bytes, CpuModel::Pentium4);
                    let Some(simd) = SimdOp::of(op.imm).filter(|_| op.kind == Kind::Simd) else {
                        continue;
                    };
                    let info = simd.info();
                    let gpr_operand = info.dst == Class::Gpr && matches!(reg, 4 | 5);
                    // MASKMOV writes through EDI: not in this harness's register form.
                    if info.dst == Class::State || simd == SimdOp::MaskMov || gpr_operand {
                        continue;
                    }
                    bytes.truncate(op.len.into());
                    covered.push(simd);
                    forms += 1;
                    // Every vendor has its own approximations; `fpu::approx` has Intel's.
                    let approximates =
                        matches!(simd, SimdOp::Rcpps | SimdOp::Rcpss | SimdOp::Rsqrtps | SimdOp::Rsqrtss);
                    if approximates && !is_intel() {
                        continue;
                    }
                    if let Some(text) = compare(&page, &mut lab, &mut rng, &bytes, &op, 60) {
                        failed += 1;
                        if failed <= 6 {
                            let _ = writeln!(failures, "{text}");
                        }
                    }
                }
            }
        }
    }
    assert!(failed == 0, "{failed} of {forms} forms differ\n{failures}");
    // The oracle crate covers what came after the Pentium 4.
    for simd in SimdOp::ALL.iter().filter(|simd| **simd as u16 <= SimdOp::Clflush as u16) {
        let expected = simd.info().dst != Class::State && *simd != SimdOp::MaskMov;
        assert_eq!(covered.contains(simd), expected, "{simd:?}");
    }
}

#[test]
fn every_immediate_matches_the_host() {
    let page = Page::new();
    let mut lab = Lab::new(CpuModel::Pentium4);
    let mut rng = Rng(0x1234_5678_9abc_def1);
    let opcodes: [(&[u8], u8); 20] = [
        (&[0x0f, 0x70], 0xca),
        (&[0x66, 0x0f, 0x70], 0xca),
        (&[0xf3, 0x0f, 0x70], 0xca),
        (&[0xf2, 0x0f, 0x70], 0xca),
        (&[0x0f, 0xc6], 0xca),
        (&[0x66, 0x0f, 0xc6], 0xca),
        (&[0x0f, 0xc2], 0xca),
        (&[0x66, 0x0f, 0xc2], 0xca),
        (&[0xf3, 0x0f, 0xc2], 0xca),
        (&[0xf2, 0x0f, 0xc2], 0xca),
        (&[0x0f, 0xc4], 0xca),
        (&[0x66, 0x0f, 0xc4], 0xca),
        (&[0x0f, 0xc5], 0xca),
        (&[0x66, 0x0f, 0xc5], 0xca),
        (&[0x66, 0x0f, 0x73], 0xda),
        (&[0x66, 0x0f, 0x73], 0xfa),
        (&[0x66, 0x0f, 0x71], 0xe2),
        (&[0x0f, 0x72], 0xe2),
        (&[0x66, 0x0f, 0x73], 0xd2),
        (&[0x0f, 0x73], 0xf2),
    ];
    for (opcode, modrm) in opcodes {
        for imm in 0..=0xff {
            let bytes = [opcode, &[modrm, imm]].concat();
            let op = decode(&bytes, CpuModel::Pentium4);
            let differs = compare(&page, &mut lab, &mut rng, &bytes, &op, 8);
            assert_eq!(differs, None);
        }
    }
}

#[test]
fn masked_stores_match_the_host() {
    let page = Page::new();
    let mut lab = Lab::new(CpuModel::Pentium4);
    let mut rng = Rng(0xfeed_5678_9abc_def1);
    for bytes in [&[0x0f, 0xf7, 0xca][..], &[0x66, 0x0f, 0xf7, 0xca]] {
        let op = decode(bytes, CpuModel::Pentium4);
        // Its memory operand is EDI, as `compare` wants it.
        assert_eq!(compare(&page, &mut lab, &mut rng, bytes, &op, 400), None);
    }
}
