//! The x87 instructions by operand kind: register forms, memory loads and two-phase memory stores.
//! Spec: Intel SDM vol. 2 (instruction pages).

use super::{EXCEPTIONS, SF, X87, kind};
use crate::fpu::convert::Format;
use crate::fpu::f80::{C1, Env, F80, IE, PE, Round};
use crate::fpu::op::X87Op;
use crate::fpu::transcendental as tr;

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

impl X87 {
    /// A register-form instruction. `sti` is i of ST(i); `condition` is the FCMOV's. Returns what
    /// FNSTSW AX and the FCOMI family (ZF, PF, CF in place; OF, SF and AF become 0) give to the CPU.
    pub fn exec_reg(&mut self, op: X87Op, sti: u8, condition: bool) -> Option<u16> {
        use X87Op::*;
        match op {
            FaddReg => self.arith_shared::<{ kind::ADD }>(sti, false, false),
            FaddTo => self.arith_shared::<{ kind::ADD }>(sti, true, false),
            FaddPop => self.arith_shared::<{ kind::ADD }>(sti, true, true),
            FmulReg => self.arith_shared::<{ kind::MUL }>(sti, false, false),
            FmulTo => self.arith_shared::<{ kind::MUL }>(sti, true, false),
            FmulPop => self.arith_shared::<{ kind::MUL }>(sti, true, true),
            FsubReg => self.arith_shared::<{ kind::SUB }>(sti, false, false),
            FsubTo => self.arith_shared::<{ kind::SUB }>(sti, true, false),
            FsubPop => self.arith_shared::<{ kind::SUB }>(sti, true, true),
            FsubrReg => self.arith_shared::<{ kind::SUBR }>(sti, false, false),
            FsubrTo => self.arith_shared::<{ kind::SUBR }>(sti, true, false),
            FsubrPop => self.arith_shared::<{ kind::SUBR }>(sti, true, true),
            FdivReg => self.arith_shared::<{ kind::DIV }>(sti, false, false),
            FdivTo => self.arith_shared::<{ kind::DIV }>(sti, true, false),
            FdivPop => self.arith_shared::<{ kind::DIV }>(sti, true, true),
            FdivrReg => self.arith_shared::<{ kind::DIVR }>(sti, false, false),
            FdivrTo => self.arith_shared::<{ kind::DIVR }>(sti, true, false),
            FdivrPop => self.arith_shared::<{ kind::DIVR }>(sti, true, true),
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
        let m32 = || widened(|env| F80::from_f32(lo as u32, env));
        let m64 = || widened(|env| F80::from_f64(lo, env));
        let i16 = || (F80::from_i64(i64::from(lo as i16)), 0);
        let i32 = || (F80::from_i64(i64::from(lo as i32)), 0);
        match op {
            FldM32 => self.load(|env| F80::from_f32(lo as u32, env)),
            FldM64 => self.load(|env| F80::from_f64(lo, env)),
            FldM80 => self.load(|_| F80 { sig: lo, se: hi }),
            FildI16 => self.load(|_| i16().0),
            FildI32 => self.load(|_| i32().0),
            FildI64 => self.load(|_| F80::from_i64(lo as i64)),
            Fbld => self.load(|_| F80::from_bcd(u128::from(hi) << 64 | u128::from(lo))),
            Fldcw => self.set_control(lo as u16),
            FcomM32 => self.compare_mem(m32(), 0),
            FcomM64 => self.compare_mem(m64(), 0),
            FcomI16 => self.compare_mem(i16(), 0),
            FcomI32 => self.compare_mem(i32(), 0),
            FcompM32 => self.compare_mem(m32(), 1),
            FcompM64 => self.compare_mem(m64(), 1),
            FcompI16 => self.compare_mem(i16(), 1),
            FcompI32 => self.compare_mem(i32(), 1),
            FaddM32 => self.arith_mem::<{ kind::ADD }>(m32()),
            FaddM64 => self.arith_mem::<{ kind::ADD }>(m64()),
            FaddI16 => self.arith_mem::<{ kind::ADD }>(i16()),
            FaddI32 => self.arith_mem::<{ kind::ADD }>(i32()),
            FmulM32 => self.arith_mem::<{ kind::MUL }>(m32()),
            FmulM64 => self.arith_mem::<{ kind::MUL }>(m64()),
            FmulI16 => self.arith_mem::<{ kind::MUL }>(i16()),
            FmulI32 => self.arith_mem::<{ kind::MUL }>(i32()),
            FsubM32 => self.arith_mem::<{ kind::SUB }>(m32()),
            FsubM64 => self.arith_mem::<{ kind::SUB }>(m64()),
            FsubI16 => self.arith_mem::<{ kind::SUB }>(i16()),
            FsubI32 => self.arith_mem::<{ kind::SUB }>(i32()),
            FsubrM32 => self.arith_mem::<{ kind::SUBR }>(m32()),
            FsubrM64 => self.arith_mem::<{ kind::SUBR }>(m64()),
            FsubrI16 => self.arith_mem::<{ kind::SUBR }>(i16()),
            FsubrI32 => self.arith_mem::<{ kind::SUBR }>(i32()),
            FdivM32 => self.arith_mem::<{ kind::DIV }>(m32()),
            FdivM64 => self.arith_mem::<{ kind::DIV }>(m64()),
            FdivI16 => self.arith_mem::<{ kind::DIV }>(i16()),
            FdivI32 => self.arith_mem::<{ kind::DIV }>(i32()),
            FdivrM32 => self.arith_mem::<{ kind::DIVR }>(m32()),
            FdivrM64 => self.arith_mem::<{ kind::DIVR }>(m64()),
            FdivrI16 => self.arith_mem::<{ kind::DIVR }>(i16()),
            FdivrI32 => self.arith_mem::<{ kind::DIVR }>(i32()),
            _ => {}
        }
    }

    /// Works out what a store writes; nothing changes until [`X87::commit_store`].
    pub fn prepare_store(&self, op: X87Op) -> StoreValue {
        use X87Op::*;
        let plain = |value: u16| StoreValue { bytes: u128::from(value), len: 2, write: true, flags: 0, pop: false };
        let a = self.st(0);
        let mut env = Env::new(self.cw);
        let round = env.round();
        let int = |env: &mut Env, bits: u32, round: Round| a.to_int(bits, round, env) as u64 as u128;
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
        let write = env.flags & !self.cw & (EXCEPTIONS & !PE) == 0;
        let bytes = bytes & ((1u128 << (8 * u32::from(len))) - 1);
        StoreValue { bytes, len, write, flags: env.flags, pop: pop && write }
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
}

/// A memory operand as a register value, and what widening it raised. A signalling NaN keeps
/// ranking as one.
#[inline(always)]
pub(super) fn widened(load: impl FnOnce(&mut Env) -> F80) -> (F80, u16) {
    let mut env = Env::new(0);
    let value = load(&mut env);
    let quiet_bit = if env.flags & IE != 0 { 1 << 62 } else { 0 };
    let sig = value.sig & !quiet_bit;
    (F80 { sig, se: value.se }, env.flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fpu::f80::ZE;

    #[test]
    fn a_store_leaves_no_trace_until_committed() {
        let mut x = X87::new();
        x.init();
        let _ = x.exec_reg(X87Op::Fldpi, 0, false);
        let before = x.clone();
        let store = x.prepare_store(X87Op::FstpM32);
        assert_eq!(x, before);
        assert_eq!((store.bytes, store.len, store.write), (0x4049_0FDB, 4, true));
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
