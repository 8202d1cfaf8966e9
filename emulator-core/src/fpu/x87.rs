//! The x87 unit: register stack, status and control words, and the instructions' semantics.
//! Spec: Intel SDM vol. 1 chapter 8, vol. 2 (instruction pages).
//!
//! The CPU decodes, reads and writes memory, and asks [`X87::pending_exception`] before each waiting
//! instruction; everything else happens here. An instruction with an unmasked exception leaves its
//! operands as the manual says and sets ES.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::convert::Format;
use super::f80::{C1, Class, DE, Env, F80, IE, Round, ZE};
use super::misc::Quotient;
use super::op::X87Op;
use super::transcendental as tr;

/// Stack fault.
pub const SF: u16 = 0x40;
/// Exception summary.
pub const ES: u16 = 0x80;
/// Condition code C0.
pub const C0: u16 = 0x100;
/// Condition code C2.
pub const C2: u16 = 0x400;
/// Condition code C3.
pub const C3: u16 = 0x4000;
/// Busy: a copy of ES since the 387.
pub const BUSY: u16 = 0x8000;
pub(super) const EXCEPTIONS: u16 = 0x3F;
pub(super) const TOP_FIELD: u16 = 0x3800;

/// The five basic operations with their reversed forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arith {
    Add,
    Mul,
    Sub,
    Subr,
    Div,
    Divr,
}

impl Arith {
    #[inline(always)]
    fn apply(self, env: &mut Env, a: F80, b: F80) -> F80 {
        match self {
            Arith::Add => env.add(a, b, false),
            Arith::Mul => env.mul(a, b),
            Arith::Sub => env.add(a, b, true),
            Arith::Subr => env.add(b, a, true),
            Arith::Div => env.div(a, b),
            Arith::Divr => env.div(b, a),
        }
    }
}

/// A memory store worked out but not done: write `bytes` if `write`, then hand it to
/// [`X87::commit_store`]. Dropping it leaves no trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct StoreValue {
    /// The value, little-endian in its low `len` bytes.
    pub bytes: u128,
    /// Operand size in bytes: 2, 4, 8 or 10.
    pub len: u8,
    /// False when an unmasked exception keeps memory as it is; the store is still to be committed.
    pub write: bool,
    flags: u16,
    pop: bool,
}

/// The state of the unit: plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct X87 {
    /// Physical registers R0..R7.
    pub(super) regs: [F80; 8],
    /// TOP of stack, 0..8.
    pub(super) top: u8,
    /// One bit per physical register: empty.
    pub(super) empty: u8,
    pub(super) cw: u16,
    /// The status word without TOP.
    pub(super) sw: u16,
    /// Last non-control instruction's offset.
    pub fip: u64,
    /// Its code segment.
    pub fcs: u16,
    /// Its memory operand's offset.
    pub fdp: u64,
    /// Its memory operand's segment.
    pub fds: u16,
    /// Its opcode: the low three bits of the first byte, then the second byte.
    pub fop: u16,
}

impl Default for X87 {
    fn default() -> Self {
        X87::new()
    }
}

impl X87 {
    /// The state after RESET (SDM vol. 3 table 9-1); software runs FNINIT before use.
    pub fn new() -> X87 {
        X87 {
            regs: [F80::ZERO; 8],
            top: 0,
            empty: 0,
            cw: 0x40,
            sw: 0,
            fip: 0,
            fcs: 0,
            fdp: 0,
            fds: 0,
            fop: 0,
        }
    }

    /// FNINIT.
    pub fn init(&mut self) {
        *self = X87 {
            regs: self.regs,
            empty: 0xFF,
            cw: 0x37F,
            ..X87::new()
        };
    }

    /// Whether an unmasked exception waits to be reported (#MF, or IRQ 13 with CR0.NE clear).
    #[inline(always)]
    pub fn pending_exception(&self) -> bool {
        self.sw & ES != 0
    }

    /// Records the address and opcode of a non-control instruction.
    #[inline(always)]
    pub fn set_instruction(&mut self, fip: u64, fcs: u16, fop: u16) {
        self.fip = fip;
        self.fcs = fcs;
        self.fop = fop & 0x7FF;
    }

    /// Records the address of a non-control instruction's memory operand.
    #[inline(always)]
    pub fn set_data(&mut self, fdp: u64, fds: u16) {
        self.fdp = fdp;
        self.fds = fds;
    }

    /// The control word.
    #[inline]
    pub fn control(&self) -> u16 {
        self.cw
    }

    /// The status word with TOP.
    #[inline]
    pub fn status(&self) -> u16 {
        self.sw | u16::from(self.top) << 11
    }

    /// FLDCW.
    pub fn set_control(&mut self, value: u16) {
        self.cw = value & 0x1F3F | 0x40;
        self.update_summary();
    }

    pub(super) fn update_summary(&mut self) {
        self.sw &= !(ES | BUSY);
        if self.sw & !self.cw & EXCEPTIONS != 0 {
            self.sw |= ES | BUSY;
        }
    }

    #[inline(always)]
    fn phys(&self, i: u8) -> usize {
        usize::from(self.top.wrapping_add(i) & 7)
    }

    /// ST(i) whatever its tag.
    #[inline(always)]
    pub fn st(&self, i: u8) -> F80 {
        self.regs[self.phys(i)]
    }

    #[inline(always)]
    fn is_empty(&self, i: u8) -> bool {
        self.empty >> self.phys(i) & 1 != 0
    }

    #[inline(always)]
    fn set_st(&mut self, i: u8, value: F80) {
        let p = self.phys(i);
        self.regs[p] = value;
        self.empty &= !(1 << p);
    }

    #[inline(always)]
    fn pop(&mut self) {
        self.empty |= 1 << self.top;
        self.top = (self.top + 1) & 7;
    }

    #[inline(always)]
    fn push(&mut self, value: F80) {
        self.top = self.top.wrapping_sub(1) & 7;
        self.set_st(0, value);
    }

    /// Takes over an operation's flags; false when an unmasked exception forbids the result.
    #[inline(always)]
    fn finish(&mut self, flags: u16) -> bool {
        if flags & !self.cw & EXCEPTIONS == 0 {
            self.sw = self.sw & !C1 | flags;
            return true;
        }
        self.finish_unmasked(flags)
    }

    #[cold]
    fn finish_unmasked(&mut self, flags: u16) -> bool {
        const BEFORE: u16 = IE | DE | ZE;
        let stopped = flags & !self.cw & BEFORE != 0;
        // An exception found before the operation keeps those of its result from being seen.
        let flags = if stopped && flags & SF == 0 {
            flags & BEFORE
        } else {
            flags
        };
        self.sw = self.sw & !C1 | flags | ES | BUSY;
        !stopped
    }

    /// Stack underflow: true when masked, and the caller writes indefinites.
    #[cold]
    fn underflow(&mut self) -> bool {
        self.finish(IE | SF)
    }

    /// Stack overflow, likewise.
    #[cold]
    fn overflow(&mut self) -> bool {
        self.finish(IE | SF | C1)
    }

    fn set_codes(&mut self, codes: u16) {
        self.sw = self.sw & !(C0 | C2 | C3) | codes;
    }

    #[inline]
    fn arith(&mut self, kind: Arith, sti: u8, to_sti: bool, pop: bool) {
        let dst = if to_sti { sti } else { 0 };
        if self.is_empty(0) || self.is_empty(sti) {
            if self.underflow() {
                self.set_st(dst, F80::INDEFINITE);
                if pop {
                    self.pop();
                }
            }
            return;
        }
        let (a, b) = if to_sti {
            (self.st(sti), self.st(0))
        } else {
            (self.st(0), self.st(sti))
        };
        let mut env = Env::new(self.cw);
        let result = kind.apply(&mut env, a, b);
        if self.finish(env.flags) {
            self.set_st(dst, result);
            if pop {
                self.pop();
            }
        }
    }

    #[inline]
    fn arith_mem(&mut self, kind: Arith, operand: impl FnOnce(&mut Env) -> F80) {
        if self.is_empty(0) {
            if self.underflow() {
                self.set_st(0, F80::INDEFINITE);
            }
            return;
        }
        let mut env = Env::new(self.cw);
        let (a, b) = (self.st(0), operand(&mut env));
        // A signalling NaN in memory was quieted by widening; it ranks as signalling all the same.
        let loaded = std::mem::take(&mut env.flags);
        let result = kind.apply(&mut env, a, if loaded & IE != 0 { unquieted(b) } else { b });
        // A denormal in memory counts only where a denormal register would.
        if loaded & DE != 0 && env.flags & (IE | ZE) == 0 && !is_nan(a) {
            env.raise(DE);
        }
        if self.finish(env.flags) {
            self.set_st(0, result);
        }
    }

    /// One-operand operations on ST(0).
    #[inline]
    fn unary(&mut self, f: impl FnOnce(&mut Env, F80) -> F80) {
        if self.is_empty(0) {
            if self.underflow() {
                self.set_st(0, F80::INDEFINITE);
            }
            return;
        }
        let mut env = Env::new(self.cw);
        let result = f(&mut env, self.st(0));
        if self.finish(env.flags) {
            self.set_st(0, result);
        }
    }

    /// Two-operand operations f(ST(0), ST(1)); the result replaces ST(1) after a pop, or ST(0).
    fn binary(&mut self, pop: bool, f: impl FnOnce(&mut Env, F80, F80) -> F80) {
        let dst = u8::from(pop);
        let result = if self.is_empty(0) || self.is_empty(1) {
            if !self.underflow() {
                return;
            }
            F80::INDEFINITE
        } else {
            let mut env = Env::extended(self.cw);
            let result = f(&mut env, self.st(0), self.st(1));
            if !self.finish(env.flags) {
                return;
            }
            result
        };
        self.set_st(dst, result);
        if pop {
            self.pop();
        }
    }

    /// Compares ST(0) with `other` (`None`: an empty register), which raised `loaded` when widened.
    fn compare(&mut self, other: Option<F80>, loaded: u16, quiet: bool, pops: u8) {
        let (order, ok) = match other {
            Some(b) if !self.is_empty(0) => {
                let mut env = Env::new(self.cw);
                let order = env.compare(self.st(0), b, quiet);
                env.raise(if order.is_some() { loaded & DE } else { 0 });
                (order, self.finish(env.flags))
            }
            _ => (None, self.underflow()),
        };
        self.set_codes(match order {
            Some(Ordering::Greater) => 0,
            Some(Ordering::Less) => C0,
            Some(Ordering::Equal) => C3,
            None => C0 | C2 | C3,
        });
        if ok {
            (0..pops).for_each(|_| self.pop());
        }
    }

    fn compare_st(&mut self, sti: u8, quiet: bool, pops: u8) {
        let other = (!self.is_empty(sti)).then(|| self.st(sti));
        self.compare(other, 0, quiet, pops);
    }

    fn compare_mem(&mut self, operand: impl FnOnce(&mut Env) -> F80, pops: u8) {
        let mut env = Env::new(self.cw);
        let b = operand(&mut env);
        self.compare(
            Some(if env.flags & IE != 0 { unquieted(b) } else { b }),
            env.flags,
            false,
            pops,
        );
    }

    /// FCOMI family: ZF, PF and CF at their places in EFLAGS, also with an unmasked exception
    /// (measured).
    fn compare_flags(&mut self, sti: u8, quiet: bool, pop: bool) -> u16 {
        const CF: u16 = 0x01;
        const PF: u16 = 0x04;
        const ZF: u16 = 0x40;
        let (order, ok) = if self.is_empty(0) || self.is_empty(sti) {
            (None, self.underflow())
        } else {
            let mut env = Env::new(self.cw);
            let order = env.compare(self.st(0), self.st(sti), quiet);
            // Only a stack fault touches C1 (measured).
            let c1 = self.sw & C1;
            let ok = self.finish(env.flags);
            self.sw |= c1;
            (order, ok)
        };
        if ok && pop {
            self.pop();
        }
        match order {
            Some(Ordering::Greater) => 0,
            Some(Ordering::Less) => CF,
            Some(Ordering::Equal) => ZF,
            None => CF | PF | ZF,
        }
    }

    fn fxam(&mut self) {
        let a = self.st(0);
        let class = if self.is_empty(0) {
            C3 | C0
        } else {
            match a.class() {
                Class::Unsupported => 0,
                Class::Quiet | Class::Signalling => C0,
                Class::Normal => C2,
                Class::Infinity => C2 | C0,
                Class::Zero => C3,
                Class::Denormal => C3 | C2,
            }
        };
        self.sw &= !C1;
        self.set_codes(class | if a.sign() { C1 } else { 0 });
    }

    /// Pushes unless the stack is full.
    #[inline]
    fn load(&mut self, f: impl FnOnce(&mut Env) -> F80) {
        if !self.is_empty(7) {
            if self.overflow() {
                self.push(F80::INDEFINITE);
            }
            return;
        }
        let mut env = Env::new(self.cw);
        let value = f(&mut env);
        // A denormal is pushed even with its exception unmasked (measured; only FLD m32/m64 raise).
        if self.finish(env.flags) || env.flags & IE == 0 {
            self.push(value);
        }
    }

    fn load_sti(&mut self, sti: u8) {
        if self.is_empty(sti) {
            if self.underflow() {
                self.push(F80::INDEFINITE);
            }
            return;
        }
        let value = self.st(sti);
        self.load(|_| value);
    }

    fn store_sti(&mut self, sti: u8, pop: bool) {
        let value = if self.is_empty(0) {
            if !self.underflow() {
                return;
            }
            F80::INDEFINITE
        } else {
            self.sw &= !C1;
            self.st(0)
        };
        self.set_st(sti, value);
        if pop {
            self.pop();
        }
    }

    fn fxch(&mut self, sti: u8) {
        let (e0, ei) = (self.is_empty(0), self.is_empty(sti));
        if e0 || ei {
            if !self.underflow() {
                return;
            }
        } else {
            self.sw &= !C1;
        }
        let a = if e0 { F80::INDEFINITE } else { self.st(0) };
        let b = if ei { F80::INDEFINITE } else { self.st(sti) };
        self.set_st(0, b);
        self.set_st(sti, a);
    }

    fn fcmov(&mut self, sti: u8, condition: bool) {
        if self.is_empty(0) || self.is_empty(sti) {
            if self.underflow() {
                self.set_st(0, F80::INDEFINITE);
            }
            return;
        }
        if condition {
            self.set_st(0, self.st(sti));
        }
    }

    fn remainder(&mut self, nearest: bool) {
        let mut quotient = Quotient::None;
        self.binary(false, |env, a, b| {
            let (r, q) = env.remainder(a, b, nearest);
            // With the operation stopped there is no quotient either.
            if env.masked(env.flags & (IE | DE | ZE)) {
                quotient = q;
            }
            r
        });
        self.sw &= !C2;
        match quotient {
            Quotient::Complete(q) => {
                let bit = |n: u32, code: u16| if q >> n & 1 == 1 { code } else { 0 };
                self.sw &= !C1;
                self.set_codes(bit(2, C0) | bit(1, C3) | bit(0, C1));
            }
            Quotient::Partial => {
                self.sw &= !C1;
                self.set_codes(C2);
            }
            Quotient::None => {}
        }
    }

    /// FXTRACT, FSINCOS, FPTAN: (new ST(1), new ST(0)) from ST(0), or `None` out of range.
    fn split(&mut self, f: impl FnOnce(&mut Env, F80) -> Option<(F80, F80)>, trig: bool) {
        if trig {
            self.sw &= !C2;
        }
        if self.is_empty(0) || !self.is_empty(7) {
            let ok = if self.is_empty(0) {
                self.underflow()
            } else {
                self.overflow()
            };
            if ok {
                self.set_st(0, F80::INDEFINITE);
                self.push(F80::INDEFINITE);
            }
            return;
        }
        let mut env = Env::extended(self.cw);
        match f(&mut env, self.st(0)) {
            None => {
                self.sw = self.sw & !C1 | C2;
            }
            Some((under, over)) => {
                if self.finish(env.flags) {
                    self.set_st(0, under);
                    self.push(over);
                }
            }
        }
    }

    fn trig(&mut self, f: impl FnOnce(&mut Env, F80) -> Option<F80>) {
        let mut out_of_range = false;
        self.unary(|env, a| {
            env.extend();
            f(env, a).unwrap_or_else(|| {
                out_of_range = true;
                a
            })
        });
        self.sw &= !C2;
        if out_of_range {
            self.sw |= C2;
        }
    }

    /// A register-form instruction. `sti` is i of ST(i); `condition` is the FCMOV's. Returns what
    /// FNSTSW AX and the FCOMI family (ZF, PF, CF in place; OF, SF and AF become 0) give to the CPU.
    pub fn exec_reg(&mut self, op: X87Op, sti: u8, condition: bool) -> Option<u16> {
        use X87Op::*;
        match op {
            FaddReg => self.arith(Arith::Add, sti, false, false),
            FaddTo => self.arith(Arith::Add, sti, true, false),
            FaddPop => self.arith(Arith::Add, sti, true, true),
            FmulReg => self.arith(Arith::Mul, sti, false, false),
            FmulTo => self.arith(Arith::Mul, sti, true, false),
            FmulPop => self.arith(Arith::Mul, sti, true, true),
            FsubReg => self.arith(Arith::Sub, sti, false, false),
            FsubTo => self.arith(Arith::Sub, sti, true, false),
            FsubPop => self.arith(Arith::Sub, sti, true, true),
            FsubrReg => self.arith(Arith::Subr, sti, false, false),
            FsubrTo => self.arith(Arith::Subr, sti, true, false),
            FsubrPop => self.arith(Arith::Subr, sti, true, true),
            FdivReg => self.arith(Arith::Div, sti, false, false),
            FdivTo => self.arith(Arith::Div, sti, true, false),
            FdivPop => self.arith(Arith::Div, sti, true, true),
            FdivrReg => self.arith(Arith::Divr, sti, false, false),
            FdivrTo => self.arith(Arith::Divr, sti, true, false),
            FdivrPop => self.arith(Arith::Divr, sti, true, true),
            FldSti => self.load_sti(sti),
            FstSti => self.store_sti(sti, false),
            FstpSti => self.store_sti(sti, true),
            Fstpnce => {
                if !self.is_empty(0) {
                    self.set_st(sti, self.st(0));
                }
                self.sw &= !C1;
                self.pop();
            }
            Fxch => self.fxch(sti),
            Fcmov => self.fcmov(sti, condition),
            Fchs => self.unary(|_, a| a.negated()),
            Fabs => self.unary(|_, a| a.abs()),
            Fld1 => self.load(|_| F80::ONE),
            Fldz => self.load(|_| F80::ZERO),
            Fldl2t => self.load(|env| tr::constant(&tr::LOG2_10, env)),
            Fldl2e => self.load(|env| tr::constant(&tr::LOG2_E, env)),
            Fldpi => self.load(|env| tr::constant(&tr::PI, env)),
            Fldlg2 => self.load(|env| tr::constant(&tr::LOG10_2, env)),
            Fldln2 => self.load(|env| tr::constant(&tr::LN_2, env)),
            FcomReg => self.compare_st(sti, false, 0),
            FcompReg => self.compare_st(sti, false, 1),
            Fcompp => self.compare_st(1, false, 2),
            Fucom => self.compare_st(sti, true, 0),
            Fucomp => self.compare_st(sti, true, 1),
            Fucompp => self.compare_st(1, true, 2),
            Fcomi => return Some(self.compare_flags(sti, false, false)),
            Fcomip => return Some(self.compare_flags(sti, false, true)),
            Fucomi => return Some(self.compare_flags(sti, true, false)),
            Fucomip => return Some(self.compare_flags(sti, true, true)),
            Ftst => self.compare(Some(F80::ZERO), 0, false, 0),
            Fxam => self.fxam(),
            Fsqrt => self.unary(Env::sqrt),
            Frndint => self.unary(Env::round_to_int),
            Fscale => self.binary(false, Env::scale),
            Fprem => self.remainder(false),
            Fprem1 => self.remainder(true),
            Fxtract => self.split(
                |env, a| {
                    let (exp, sig) = env.extract(a);
                    Some((exp, sig))
                },
                false,
            ),
            F2xm1 => self.unary(|env, a| {
                env.extend();
                tr::f2xm1(env, a)
            }),
            Fyl2x => self.binary(true, |env, x, y| tr::fyl2x(env, y, x)),
            Fyl2xp1 => self.binary(true, |env, x, y| tr::fyl2xp1(env, y, x)),
            Fpatan => self.binary(true, |env, x, y| tr::fpatan(env, y, x)),
            Fsin => self.trig(tr::fsin),
            Fcos => self.trig(tr::fcos),
            Fsincos => self.split(tr::fsincos, true),
            Fptan => self.split(tr::fptan, true),
            Fincstp => {
                self.top = (self.top + 1) & 7;
                self.sw &= !C1;
            }
            Fdecstp => {
                self.top = self.top.wrapping_sub(1) & 7;
                self.sw &= !C1;
            }
            Ffree => {
                self.sw &= !C1;
                self.empty |= 1 << self.phys(sti);
            }
            Ffreep => {
                self.sw &= !C1;
                self.empty |= 1 << self.phys(sti);
                self.pop();
            }
            Fninit => self.init(),
            Fnclex => self.sw &= 0x7F00,
            FnstswAx => return Some(self.status()),
            _ => {}
        }
        None
    }

    /// A memory-operand instruction whose operand the CPU has read: its low 64 bits in `lo`, the
    /// rest of an 80-bit one in `hi`.
    pub fn exec_load(&mut self, op: X87Op, lo: u64, hi: u16) {
        use X87Op::*;
        let m32 = |env: &mut Env| F80::from_f32(lo as u32, env);
        let m64 = |env: &mut Env| F80::from_f64(lo, env);
        let i16 = |_: &mut Env| F80::from_i64(i64::from(lo as i16));
        let i32 = |_: &mut Env| F80::from_i64(i64::from(lo as i32));
        match op {
            FldM32 => self.load(m32),
            FldM64 => self.load(m64),
            FldM80 => self.load(|_| F80 { sig: lo, se: hi }),
            FildI16 => self.load(i16),
            FildI32 => self.load(i32),
            FildI64 => self.load(|_| F80::from_i64(lo as i64)),
            Fbld => self.load(|_| F80::from_bcd(u128::from(hi) << 64 | u128::from(lo))),
            Fldcw => self.set_control(lo as u16),
            FcomM32 => self.compare_mem(m32, 0),
            FcomM64 => self.compare_mem(m64, 0),
            FcomI16 => self.compare_mem(i16, 0),
            FcomI32 => self.compare_mem(i32, 0),
            FcompM32 => self.compare_mem(m32, 1),
            FcompM64 => self.compare_mem(m64, 1),
            FcompI16 => self.compare_mem(i16, 1),
            FcompI32 => self.compare_mem(i32, 1),
            FaddM32 => self.arith_mem(Arith::Add, m32),
            FaddM64 => self.arith_mem(Arith::Add, m64),
            FaddI16 => self.arith_mem(Arith::Add, i16),
            FaddI32 => self.arith_mem(Arith::Add, i32),
            FmulM32 => self.arith_mem(Arith::Mul, m32),
            FmulM64 => self.arith_mem(Arith::Mul, m64),
            FmulI16 => self.arith_mem(Arith::Mul, i16),
            FmulI32 => self.arith_mem(Arith::Mul, i32),
            FsubM32 => self.arith_mem(Arith::Sub, m32),
            FsubM64 => self.arith_mem(Arith::Sub, m64),
            FsubI16 => self.arith_mem(Arith::Sub, i16),
            FsubI32 => self.arith_mem(Arith::Sub, i32),
            FsubrM32 => self.arith_mem(Arith::Subr, m32),
            FsubrM64 => self.arith_mem(Arith::Subr, m64),
            FsubrI16 => self.arith_mem(Arith::Subr, i16),
            FsubrI32 => self.arith_mem(Arith::Subr, i32),
            FdivM32 => self.arith_mem(Arith::Div, m32),
            FdivM64 => self.arith_mem(Arith::Div, m64),
            FdivI16 => self.arith_mem(Arith::Div, i16),
            FdivI32 => self.arith_mem(Arith::Div, i32),
            FdivrM32 => self.arith_mem(Arith::Divr, m32),
            FdivrM64 => self.arith_mem(Arith::Divr, m64),
            FdivrI16 => self.arith_mem(Arith::Divr, i16),
            FdivrI32 => self.arith_mem(Arith::Divr, i32),
            _ => {}
        }
    }

    /// Works out what a store writes; nothing changes until [`X87::commit_store`].
    pub fn prepare_store(&self, op: X87Op) -> StoreValue {
        use X87Op::*;
        let plain = |value: u16| StoreValue {
            bytes: u128::from(value),
            len: 2,
            write: true,
            flags: 0,
            pop: false,
        };
        let a = self.st(0);
        let mut env = Env::new(self.cw);
        let round = env.round();
        let int =
            |env: &mut Env, bits: u32, round: Round| a.to_int(bits, round, env) as u64 as u128;
        let (len, pop) = match op {
            Fnstcw => return plain(self.cw),
            FnstswM16 => return plain(self.status()),
            FstM32 => (4, false),
            FstpM32 => (4, true),
            FstM64 => (8, false),
            FstpM64 => (8, true),
            FistI16 => (2, false),
            FistpI16 | FisttpI16 => (2, true),
            FistI32 => (4, false),
            FistpI32 | FisttpI32 => (4, true),
            FistpI64 | FisttpI64 => (8, true),
            _ => (10, true),
        };
        let bytes = if self.is_empty(0) {
            env.raise(IE | SF);
            let mut indefinite = Env::new(self.cw);
            let a = F80::INDEFINITE;
            match op {
                FstM32 | FstpM32 => u128::from(a.to_format(Format::SINGLE, &mut indefinite)),
                FstM64 | FstpM64 => u128::from(a.to_format(Format::DOUBLE, &mut indefinite)),
                FstpM80 => a.to_bits(),
                Fbstp => a.to_bcd(&mut indefinite),
                _ => a.to_int(u32::from(len) * 8, round, &mut indefinite) as u64 as u128,
            }
        } else {
            match op {
                FstM32 | FstpM32 => u128::from(a.to_format(Format::SINGLE, &mut env)),
                FstM64 | FstpM64 => u128::from(a.to_format(Format::DOUBLE, &mut env)),
                FistI16 | FistpI16 => int(&mut env, 16, round),
                FistI32 | FistpI32 => int(&mut env, 32, round),
                FistpI64 => int(&mut env, 64, round),
                FisttpI16 => int(&mut env, 16, Round::Zero),
                FisttpI32 => int(&mut env, 32, Round::Zero),
                FisttpI64 => int(&mut env, 64, Round::Zero),
                Fbstp => a.to_bcd(&mut env),
                _ => a.to_bits(),
            }
        };
        // Memory is written unless anything but inexactness is unmasked.
        let write = env.flags & !self.cw & (EXCEPTIONS & !super::f80::PE) == 0;
        let bytes = bytes & ((1u128 << (8 * u32::from(len))) - 1);
        StoreValue {
            bytes,
            len,
            write,
            flags: env.flags,
            pop: pop && write,
        }
    }

    /// Completes a store after its bytes are in memory.
    #[inline]
    pub fn commit_store(&mut self, op: X87Op, store: StoreValue) {
        if matches!(op, X87Op::Fnstcw | X87Op::FnstswM16) {
            return;
        }
        self.finish(store.flags);
        if store.pop {
            self.pop();
        }
    }

    /// Every MMX instruction but EMMS: all registers valid, TOP 0.
    #[inline(always)]
    pub fn mmx_enter(&mut self) {
        self.top = 0;
        self.empty = 0;
    }

    /// MMn.
    #[inline(always)]
    pub fn mmx_read(&self, n: u8) -> u64 {
        self.regs[usize::from(n & 7)].sig
    }

    /// Writes MMn; sign and exponent become all ones.
    #[inline(always)]
    pub fn mmx_write(&mut self, n: u8, value: u64) {
        self.regs[usize::from(n & 7)] = F80 {
            sig: value,
            se: 0xFFFF,
        };
    }

    /// EMMS.
    #[inline]
    pub fn emms(&mut self) {
        self.top = 0;
        self.empty = 0xFF;
    }
}

fn is_nan(a: F80) -> bool {
    matches!(
        a.class(),
        Class::Quiet | Class::Signalling | Class::Unsupported
    )
}

/// The signalling form of a NaN widened from memory.
fn unquieted(a: F80) -> F80 {
    F80 {
        sig: a.sig & !(1 << 62),
        se: a.se,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_leaves_no_trace_until_committed() {
        let mut x = X87::new();
        x.init();
        let _ = x.exec_reg(X87Op::Fldpi, 0, false);
        let before = x.clone();
        let store = x.prepare_store(X87Op::FstpM32);
        assert_eq!(x, before);
        assert_eq!(
            (store.bytes, store.len, store.write),
            (0x4049_0FDB, 4, true)
        );
        x.commit_store(X87Op::FstpM32, store);
        assert_eq!((x.status(), x.tag_word()), (0x0220, 0xFFFF));
    }

    #[test]
    fn an_unmasked_exception_is_pending_until_cleared() {
        let mut x = X87::new();
        x.init();
        x.set_control(0x37B);
        let _ = x.exec_reg(X87Op::Fldz, 0, false);
        let _ = x.exec_reg(X87Op::Fld1, 0, false);
        let _ = x.exec_reg(X87Op::FdivReg, 1, false);
        assert!(x.pending_exception());
        assert_eq!(x.st(0), F80::ONE, "the operand stays for the handler");
        let _ = x.exec_reg(X87Op::Fnclex, 0, false);
        assert!(!x.pending_exception());
        x.sw |= ZE;
        x.set_control(0x37F);
        assert!(!x.pending_exception());
        x.set_control(0x37B);
        assert!(x.pending_exception(), "unmasking a flag raised before");
    }
}
