//! The x87 unit: register stack, status and control words, and the instructions' semantics.
//! Spec: Intel SDM vol. 1 chapter 8, vol. 2 (instruction pages).
//!
//! The CPU decodes, reads and writes memory, and asks [`X87::pending_exception`] before each waiting
//! instruction; everything else happens here. An instruction with an unmasked exception leaves its
//! operands as the manual says and sets ES.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::f80::{C1, Class, DE, Env, F80, IE, ZE};
use super::fast;
use super::misc::Quotient;

pub mod direct;
mod exec;
mod image;

pub use exec::StoreValue;
use exec::widened;
pub use image::ImageMode;

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
const EXCEPTIONS: u16 = 0x3F;
const TOP_FIELD: u16 = 0x3800;

/// The basic operations with their reversed forms, as const parameters: each gets its own copy of
/// the code around it.
mod kind {
    pub const ADD: u8 = 0;
    pub const MUL: u8 = 1;
    pub const SUB: u8 = 2;
    pub const SUBR: u8 = 3;
    pub const DIV: u8 = 4;
    pub const DIVR: u8 = 5;
}

#[inline(always)]
fn apply<const KIND: u8>(env: &mut Env, a: F80, b: F80) -> F80 {
    match KIND {
        kind::ADD => env.add(a, b, false),
        kind::MUL => env.mul(a, b),
        kind::SUB => env.add(a, b, true),
        kind::SUBR => env.add(b, a, true),
        kind::DIV => env.div(a, b),
        _ => env.div(b, a),
    }
}

#[inline(always)]
fn usual<const KIND: u8>(cw: u16, a: F80, b: F80) -> Option<fast::Rounded> {
    match KIND {
        kind::ADD => fast::add(cw, a, b, false),
        kind::MUL => fast::mul(cw, a, b),
        kind::SUB => fast::add(cw, a, b, true),
        kind::SUBR => fast::add(cw, b, a, true),
        kind::DIV => fast::div(cw, a, b),
        _ => fast::div(cw, b, a),
    }
}

/// The state of the unit: plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct X87 {
    /// Physical registers R0..R7.
    ///
    /// Significands and exponents apart: a pair stored in two pieces and loaded in one stalls the
    /// host's store forwarding, which doubles the cost of every operation.
    sigs: [u64; 8],
    ses: [u16; 8],
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

/// Where fields are in [`X87`], for code that reads and writes them itself: control and status word, TOP, and the
/// last instruction's offset, code segment, opcode, operand's offset and segment.
pub mod field {
    #![allow(missing_docs, reason = "named after the fields")]
    use super::X87;
    use std::mem::offset_of;
    pub const CW: usize = offset_of!(X87, cw);
    pub const SW: usize = offset_of!(X87, sw);
    pub const TOP: usize = offset_of!(X87, top);
    pub const FIP: usize = offset_of!(X87, fip);
    pub const FCS: usize = offset_of!(X87, fcs);
    pub const FOP: usize = offset_of!(X87, fop);
    pub const FDP: usize = offset_of!(X87, fdp);
    pub const FDS: usize = offset_of!(X87, fds);
}

impl X87 {
    /// After a snapshot was put in: TOP is a register's number.
    pub fn restored(&mut self) {
        self.top &= 7;
    }

    /// The state after RESET (SDM vol. 3 table 9-1); software runs FNINIT before use.
    pub fn new() -> X87 {
        X87 { sigs: [0; 8], ses: [0; 8], top: 0, empty: 0, cw: 0x40, sw: 0, fip: 0, fcs: 0, fdp: 0, fds: 0, fop: 0 }
    }

    /// FNINIT.
    pub fn init(&mut self) {
        *self = X87 { sigs: self.sigs, ses: self.ses, empty: 0xFF, cw: 0x37F, ..X87::new() };
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

    /// Physical register p, below 8.
    #[inline(always)]
    pub(super) fn register(&self, p: usize) -> F80 {
        F80 { sig: self.sigs[p], se: self.ses[p] }
    }

    #[inline(always)]
    pub(super) fn set_register(&mut self, p: usize, value: F80) {
        self.sigs[p] = value.sig;
        self.ses[p] = value.se;
    }

    /// ST(i) whatever its tag.
    #[inline(always)]
    pub fn st(&self, i: u8) -> F80 {
        self.register(self.phys(i))
    }

    #[inline(always)]
    fn is_empty(&self, i: u8) -> bool {
        self.empty >> self.phys(i) & 1 != 0
    }

    #[inline(always)]
    fn set_st(&mut self, i: u8, value: F80) {
        let p = self.phys(i);
        self.set_register(p, value);
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
        let flags = if stopped && flags & SF == 0 { flags & BEFORE } else { flags };
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

    /// An operation on ST(0) and ST(i).
    #[inline(always)]
    fn arith<const KIND: u8>(&mut self, sti: u8, to_sti: bool, pop: bool) {
        let (p, q) = (self.phys(0), self.phys(sti));
        if (self.empty >> p | self.empty >> q) & 1 == 0 {
            let (dst, src) = if to_sti { (q, p) } else { (p, q) };
            if self.usual::<KIND>(dst, self.register(src)) {
                if pop {
                    self.pop();
                }
                return;
            }
        }
        self.arith_in_full::<KIND>(sti, to_sti, pop);
    }

    /// The same in one copy, for the interpreter.
    #[inline(never)]
    fn arith_shared<const KIND: u8>(&mut self, sti: u8, to_sti: bool, pop: bool) {
        self.arith::<KIND>(sti, to_sti, pop);
    }

    /// Register p op b where that is the usual case; false when nothing was done.
    #[inline(always)]
    fn usual<const KIND: u8>(&mut self, p: usize, b: F80) -> bool {
        match usual::<KIND>(self.cw, self.register(p), b) {
            Some((result, flags)) if flags & !self.cw & EXCEPTIONS == 0 => {
                self.sw = self.sw & !C1 | flags;
                self.set_register(p, result);
                true
            }
            _ => false,
        }
    }

    #[cold]
    fn arith_in_full<const KIND: u8>(&mut self, sti: u8, to_sti: bool, pop: bool) {
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
        let (a, b) = if to_sti { (self.st(sti), self.st(0)) } else { (self.st(0), self.st(sti)) };
        let mut env = Env::new(self.cw);
        let result = apply::<KIND>(&mut env, a, b);
        if self.finish(env.flags) {
            self.set_st(dst, result);
            if pop {
                self.pop();
            }
        }
    }

    /// ST(0) op b for an ordinary b from memory; false when nothing was done.
    #[inline(always)]
    fn arith_usual<const KIND: u8>(&mut self, b: Option<F80>) -> bool {
        let p = self.phys(0);
        self.empty >> p & 1 == 0 && b.is_some_and(|b| self.usual::<KIND>(p, b))
    }

    /// ST(0) op b, b having raised `loaded` when it was widened.
    fn arith_mem<const KIND: u8>(&mut self, (b, loaded): (F80, u16)) {
        if self.is_empty(0) {
            if self.underflow() {
                self.set_st(0, F80::INDEFINITE);
            }
            return;
        }
        let mut env = Env::new(self.cw);
        let a = self.st(0);
        let result = apply::<KIND>(&mut env, a, b);
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

    fn compare_mem(&mut self, (b, loaded): (F80, u16), pops: u8) {
        self.compare(Some(b), loaded, false, pops);
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

    /// Pushes an ordinary value, if there is one and room for it.
    #[inline(always)]
    fn load_usual(&mut self, value: Option<F80>) -> bool {
        match value {
            Some(value) if self.is_empty(7) => {
                self.sw &= !C1;
                self.push(value);
                true
            }
            _ => false,
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
            let ok = if self.is_empty(0) { self.underflow() } else { self.overflow() };
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

    /// Every MMX instruction but EMMS: all registers valid, TOP 0.
    #[inline(always)]
    pub fn mmx_enter(&mut self) {
        self.top = 0;
        self.empty = 0;
    }

    /// MMn.
    #[inline(always)]
    pub fn mmx_read(&self, n: u8) -> u64 {
        self.sigs[usize::from(n & 7)]
    }

    /// Writes MMn; sign and exponent become all ones.
    #[inline(always)]
    pub fn mmx_write(&mut self, n: u8, value: u64) {
        self.sigs[usize::from(n & 7)] = value;
        self.ses[usize::from(n & 7)] = 0xFFFF;
    }

    /// EMMS.
    #[inline]
    pub fn emms(&mut self) {
        self.top = 0;
        self.empty = 0xFF;
    }
}

fn is_nan(a: F80) -> bool {
    matches!(a.class(), Class::Quiet | Class::Signalling | Class::Unsupported)
}
