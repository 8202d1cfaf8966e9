//! x87 instructions one function each, without operand decoding: what translated code calls
//! ([`crate::jit`]). They answer whether an unmasked exception is pending behind them.
//!
//! They are the same operations that the interpreter goes through; only who finds them differs.

use super::{ES, X87, kind, widened};
use crate::fpu::F80;
use crate::fpu::convert::Format;
use crate::fpu::f80::{C1, Env};
use crate::fpu::fast;
use crate::fpu::op::X87Op;

/// `(unit, n, m) -> pending`, `(unit, operand, m) -> pending` and `(unit, m) -> value to be stored`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// Registers only.
    Registers,
    /// An operand from memory.
    Operand,
    /// A value for memory.
    Value,
}

/// A function: its name, its signature and its address (on wasm: its slot of the function table).
pub type Function = (&'static str, Signature, usize);

/// Of [`functions`]: arithmetic on registers, by [`kind`]; with a binary32, a binary64 operand.
pub const ARITHMETIC: [u32; 3] = [0, 6, 12];
/// Push of a binary32, a binary64, an integer.
pub const LOAD_SINGLE: u32 = 18;
/// See [`LOAD_SINGLE`].
pub const LOAD_DOUBLE: u32 = 19;
/// See [`LOAD_SINGLE`].
pub const LOAD_INTEGER: u32 = 20;
/// FLD ST(n).
pub const LOAD_REGISTER: u32 = 21;
/// FST ST(n), popping if m.
pub const STORE_REGISTER: u32 = 22;
/// FXCH ST(n).
pub const EXCHANGE: u32 = 23;
/// Comparison with ST(n): bit 2 of m says quietly, the others how often to pop.
pub const COMPARE: u32 = 24;
/// Comparison with a binary32, popping if m.
pub const COMPARE_SINGLE: u32 = 25;
/// Comparison with a binary64, popping if m.
pub const COMPARE_DOUBLE: u32 = 26;
/// Comparison with ST(n) for the flags, which come with bit 31: pending. Bit 0 of m: pop, bit 2: quietly.
pub const COMPARE_FLAGS: u32 = 27;
/// FLDCW.
pub const CONTROL: u32 = 28;
/// Any other register form: the operation's number and n.
pub const REGISTER: u32 = 29;
/// FST of a binary32, popping if m; [`NO_VALUE`] when it must be interpreted.
pub const STORE_SINGLE: u32 = 30;
/// FST of a binary64 likewise.
pub const STORE_DOUBLE: u32 = 31;
/// FIST: m has the size in bytes, and bit 4 to pop.
pub const STORE_INTEGER: u32 = 32;

/// The answer of a store that the interpreter must do: a pattern that no store yields as its value.
pub const NO_VALUE: u64 = 0x7FF0_0000_0000_0001;

/// The functions, in the order of the numbers above.
#[must_use]
pub fn functions() -> [Function; 33] {
    use Signature::{Operand, Registers, Value};
    type R = extern "C" fn(&mut X87, u32, u32) -> u32;
    type O = extern "C" fn(&mut X87, u64, u32) -> u32;
    type V = extern "C" fn(&mut X87, u32) -> u64;
    let r = |name, f: R| (name, Registers, f as usize);
    let o = |name, f: O| (name, Operand, f as usize);
    let v = |name, f: V| (name, Value, f as usize);
    [
        r("fadd", arithmetic::<{ kind::ADD }>),
        r("fmul", arithmetic::<{ kind::MUL }>),
        r("fsub", arithmetic::<{ kind::SUB }>),
        r("fsubr", arithmetic::<{ kind::SUBR }>),
        r("fdiv", arithmetic::<{ kind::DIV }>),
        r("fdivr", arithmetic::<{ kind::DIVR }>),
        o("fadd32", single::<{ kind::ADD }>),
        o("fmul32", single::<{ kind::MUL }>),
        o("fsub32", single::<{ kind::SUB }>),
        o("fsubr32", single::<{ kind::SUBR }>),
        o("fdiv32", single::<{ kind::DIV }>),
        o("fdivr32", single::<{ kind::DIVR }>),
        o("fadd64", double::<{ kind::ADD }>),
        o("fmul64", double::<{ kind::MUL }>),
        o("fsub64", double::<{ kind::SUB }>),
        o("fsubr64", double::<{ kind::SUBR }>),
        o("fdiv64", double::<{ kind::DIV }>),
        o("fdivr64", double::<{ kind::DIVR }>),
        o("fld32", load_single),
        o("fld64", load_double),
        o("fild", load_integer),
        r("fld", load_register),
        r("fst", store_register),
        r("fxch", exchange),
        r("fcom", compare),
        o("fcom32", compare_single),
        o("fcom64", compare_double),
        r("fcomi", compare_flags),
        r("fldcw", control),
        r("x87", register),
        v("fst32", store_single),
        v("fst64", store_double),
        v("fist", store_integer),
    ]
}

fn pending(unit: &X87) -> u32 {
    (unit.sw & ES).into()
}

extern "C" fn arithmetic<const KIND: u8>(unit: &mut X87, sti: u32, how: u32) -> u32 {
    unit.arith::<KIND>(sti as u8, how & 1 != 0, how & 2 != 0);
    pending(unit)
}

extern "C" fn single<const KIND: u8>(unit: &mut X87, bits: u64, _: u32) -> u32 {
    if !unit.arith_usual::<KIND>(fast::from_single(bits as u32)) {
        unit.arith_mem::<KIND>(widened(|env| F80::from_f32(bits as u32, env)));
    }
    pending(unit)
}

extern "C" fn double<const KIND: u8>(unit: &mut X87, bits: u64, _: u32) -> u32 {
    if !unit.arith_usual::<KIND>(fast::from_double(bits)) {
        unit.arith_mem::<KIND>(widened(|env| F80::from_f64(bits, env)));
    }
    pending(unit)
}

extern "C" fn load_single(unit: &mut X87, bits: u64, _: u32) -> u32 {
    if !unit.load_usual(fast::from_single(bits as u32)) {
        load_in_full(unit, |env| F80::from_f32(bits as u32, env));
    }
    pending(unit)
}

extern "C" fn load_double(unit: &mut X87, bits: u64, _: u32) -> u32 {
    if !unit.load_usual(fast::from_double(bits)) {
        load_in_full(unit, |env| F80::from_f64(bits, env));
    }
    pending(unit)
}

extern "C" fn load_integer(unit: &mut X87, value: u64, _: u32) -> u32 {
    unit.load(|_| F80::from_i64(value as i64));
    pending(unit)
}

extern "C" fn load_register(unit: &mut X87, sti: u32, _: u32) -> u32 {
    let value = (!unit.is_empty(sti as u8)).then(|| unit.st(sti as u8));
    if !unit.load_usual(value) {
        unit.load_sti(sti as u8);
    }
    pending(unit)
}

extern "C" fn store_register(unit: &mut X87, sti: u32, pop: u32) -> u32 {
    unit.store_sti(sti as u8, pop != 0);
    pending(unit)
}

extern "C" fn exchange(unit: &mut X87, sti: u32, _: u32) -> u32 {
    unit.fxch(sti as u8);
    pending(unit)
}

extern "C" fn compare(unit: &mut X87, sti: u32, how: u32) -> u32 {
    unit.compare_st(sti as u8, how & 4 != 0, how as u8 & 3);
    pending(unit)
}

extern "C" fn compare_single(unit: &mut X87, bits: u64, pops: u32) -> u32 {
    unit.compare_mem(widened(|env| F80::from_f32(bits as u32, env)), pops as u8);
    pending(unit)
}

extern "C" fn compare_double(unit: &mut X87, bits: u64, pops: u32) -> u32 {
    unit.compare_mem(widened(|env| F80::from_f64(bits, env)), pops as u8);
    pending(unit)
}

extern "C" fn compare_flags(unit: &mut X87, sti: u32, how: u32) -> u32 {
    let flags = unit.compare_flags(sti as u8, how & 4 != 0, how & 1 != 0);
    u32::from(flags) | pending(unit) << 24
}

extern "C" fn control(unit: &mut X87, value: u32, _: u32) -> u32 {
    unit.set_control(value as u16);
    pending(unit)
}

extern "C" fn register(unit: &mut X87, number: u32, sti: u32) -> u32 {
    if let Some(op) = X87Op::ALL.get(number as usize) {
        let _ = unit.exec_reg(*op, sti as u8, false);
    }
    pending(unit)
}

#[cold]
#[inline(never)]
fn load_in_full(unit: &mut X87, widen: impl FnOnce(&mut Env) -> F80) {
    unit.load(widen);
}

/// Narrows ST(0) and completes the store, unless it is empty or raises an unmasked exception.
#[inline(always)]
fn store(unit: &mut X87, pop: bool, narrow: impl FnOnce(F80, &mut Env) -> u64) -> u64 {
    let mut env = Env::new(unit.cw);
    if unit.is_empty(0) {
        return NO_VALUE;
    }
    let value = narrow(unit.st(0), &mut env);
    if value == NO_VALUE || env.flags & !unit.cw & super::EXCEPTIONS != 0 {
        return NO_VALUE;
    }
    unit.finish(env.flags);
    if pop {
        unit.pop();
    }
    value
}

extern "C" fn store_single(unit: &mut X87, pop: u32) -> u64 {
    store(unit, pop != 0, |a, env| a.to_format(Format::SINGLE, env))
}

extern "C" fn store_double(unit: &mut X87, pop: u32) -> u64 {
    if !unit.is_empty(0)
        && let Some((bits, flags)) = fast::to_double(unit.cw, unit.st(0))
        && flags & !unit.cw & super::EXCEPTIONS == 0
    {
        unit.sw = unit.sw & !C1 | flags;
        if pop != 0 {
            unit.pop();
        }
        return bits;
    }
    store(unit, pop != 0, |a, env| a.to_format(Format::DOUBLE, env))
}

extern "C" fn store_integer(unit: &mut X87, how: u32) -> u64 {
    store(unit, how & 16 != 0, |a, env| a.to_int((how & 15) * 8, env.round(), env) as u64)
}
