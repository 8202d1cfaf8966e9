//! Binary64 arithmetic of regions on the low elements of XMM registers: the host's, where that is exact and shows in
//! no flag that is not raised already.
//!
//! That is so while all exceptions are masked, rounding is to nearest and nothing is flushed to zero, for operands that
//! are normal or zero and results that are normal or exactly zero. PE is sticky: once it is raised nothing more is to
//! be seen of inexact results; before that, each result is checked to be exact. Whatever is otherwise the interpreter
//! executes, and goes on doing so until the block's end.

use super::emit::{Emitter, at, local, wasm};
use super::region::Insn;
use crate::cpu::op::{Op, REG_FORM};
use crate::cpu::simd::table::SimdOp;
use crate::cpu::state::Cpu;
use std::mem::offset_of;

/// What the local says of MXCSR: not looked at, or no arithmetic of the host's.
const UNKNOWN: i32 = 0;
/// All is as wanted, and PE is raised.
const INEXACT: i32 = 2;
/// MXCSR but for the exception flags, and what it must be: masked, to nearest, nothing flushed.
const CONTROL: i32 = 0xffc0;
const PLAIN: i32 = 0x1f80;
/// Bit number of PE.
const PE: i32 = 5;
/// Bits of a binary64 significand, and its hidden one.
const SIGNIFICAND: i64 = 53;
const HIDDEN: i64 = 1 << 52;
/// Twice the bits of the smallest normal number, and how far it is to those of infinity.
const SMALLEST: i64 = 1 << 53;
const NORMALS: i64 = 0x7fe << 53;

/// Whether this module has code for an operation on numbers.
#[must_use]
pub fn translated(simd: SimdOp) -> bool {
    use SimdOp::*;
    packed(simd) || matches!(simd, Addsd | Mulsd | Subsd | Divsd | Sqrtsd | Comisd | Ucomisd | Cvtsi2sd | Cvttsd2si)
}

/// Whether an operation works on both elements.
fn packed(simd: SimdOp) -> bool {
    matches!(simd, SimdOp::Addpd | SimdOp::Mulpd | SimdOp::Subpd | SimdOp::Divpd)
}

/// Whether an operation writes status flags.
#[must_use]
pub fn compares(simd: SimdOp) -> bool {
    matches!(simd, SimdOp::Comisd | SimdOp::Ucomisd)
}

impl Emitter<'_> {
    /// Emits an operation that [`translated`] names.
    pub(super) fn double(&mut self, insn: &Insn, simd: SimdOp) {
        use SimdOp::*;
        let op = &insn.op;
        if simd == Cvtsi2sd {
            // Exact.
            self.integer_operand(op);
            wasm!(self; local_get(local::T0) f64_convert_i32_s() local_set(local::Y));
            self.set_number(op.a, local::Y);
            self.unit.both_clean &= !(1 << (op.a & 7));
            self.unit.clean |= 1 << (op.a & 7);
            return;
        }
        self.look_at_control();
        if packed(simd) {
            return self.packed_double(insn, simd);
        }
        let ram = at(self.layout.ram);
        let (before, after) = (self.unit, self.clean_after(op, simd));
        if op.base == REG_FORM {
            self.or_interpret(insn, |e| {
                e.number(op.b);
                wasm!(e; local_set(local::Y));
                e.operate(op, simd);
            });
        } else {
            self.simd_memory(insn, 8, false, |e| {
                wasm!(e; f64_load(ram) local_set(local::Y));
                e.operate(op, simd);
            });
        }
        // The upper element is as it was.
        self.unit = before;
        self.unit.clean = after;
    }

    /// Registers whose low elements are known to be normal or zero behind an operation, if it was the host's; else the
    /// local says that none is.
    fn clean_after(&self, op: &Op, simd: SimdOp) -> u8 {
        let bit = |r: u8| 1u8 << (r & 7);
        let source = if op.base == REG_FORM && simd != SimdOp::Cvttsd2si { bit(op.b) } else { 0 };
        let first = if simd == SimdOp::Cvttsd2si { 0 } else { bit(op.a) };
        self.unit.clean | source | first
    }

    /// An operation on both elements.
    fn packed_double(&mut self, insn: &Insn, simd: SimdOp) {
        let op = &insn.op;
        let ram = at(self.layout.ram);
        let before = self.unit;
        if op.base == REG_FORM {
            self.or_interpret(insn, |e| {
                e.vector(op.b);
                wasm!(e; local_set(local::V));
                e.operate_packed(op, simd);
            });
        } else {
            self.simd_memory(insn, 16, false, |e| {
                wasm!(e; v128_load(ram) local_set(local::V));
                e.operate_packed(op, simd);
            });
        }
        self.unit = before;
        let bits = 1 << (op.a & 7) | if op.base == REG_FORM { 1 << (op.b & 7) } else { 0 };
        self.unit.clean |= bits;
        self.unit.both_clean |= bits;
    }

    /// Operates on register `a` and the vector in V; to label 0 where the host's arithmetic is not enough.
    fn operate_packed(&mut self, op: &Op, simd: SimdOp) {
        use SimdOp::*;
        let (x, y, z) = (local::VX, local::V, local::VZ);
        let zero = 0;
        self.vector(op.a);
        wasm!(self; local_set(x));
        for (vector, r) in [(x, Some(op.a)), (y, (op.base == REG_FORM).then_some(op.b))] {
            if r.is_some_and(|r| self.unit.both_clean >> (r & 7) & 1 != 0) {
                continue;
            }
            wasm!(self; local_get(vector) f64x2_abs() f64_const(f64::MIN_POSITIVE.into()) f64x2_splat() f64x2_lt()
                local_get(vector) v128_const(zero) f64x2_ne() v128_and() v128_any_true());
            self.seldom_br_if(0);
        }
        wasm!(self; local_get(x) local_get(y));
        match simd {
            Addpd => wasm!(self; f64x2_add()),
            Subpd => wasm!(self; f64x2_sub()),
            Mulpd => wasm!(self; f64x2_mul()),
            _ => wasm!(self; f64x2_div()),
        }
        // Only normal results and zeros that are exact.
        wasm!(self; local_tee(z) f64x2_abs() local_tee(local::VERR) f64_const(f64::MIN_POSITIVE.into()) f64x2_splat() f64x2_ge()
            local_get(local::VERR) f64_const(f64::MAX.into()) f64x2_splat() f64x2_le() v128_and()
            local_get(z) v128_const(zero) f64x2_eq());
        if matches!(simd, Mulpd | Divpd) {
            wasm!(self; local_get(x) v128_const(zero) f64x2_eq());
            if simd == Mulpd {
                wasm!(self; local_get(y) v128_const(zero) f64x2_eq() v128_or());
            }
            wasm!(self; v128_and());
        }
        wasm!(self; v128_or() i64x2_all_true() i32_eqz());
        self.seldom_br_if(0);
        wasm!(self; local_get(local::MX) i32_const(INEXACT) i32_ne());
        self.open_if();
        wasm!(self; local_get(local::MX) i32_eqz());
        self.seldom_br_if(1);
        if matches!(simd, Addpd | Subpd) {
            if simd == Subpd {
                wasm!(self; local_get(y) f64x2_neg() local_set(y));
            }
            wasm!(self; local_get(z) local_get(x) f64x2_sub() local_set(local::VERR)
                local_get(x) local_get(z) local_get(local::VERR) f64x2_sub() f64x2_sub()
                local_get(y) local_get(local::VERR) f64x2_sub() f64x2_add()
                v128_const(zero) f64x2_ne() v128_any_true());
            self.seldom_br_if(1);
        } else {
            for lane in 0..2 {
                for (vector, number) in [(x, local::X), (y, local::Y), (z, local::Z)] {
                    wasm!(self; local_get(vector) f64x2_extract_lane(lane) local_set(number));
                }
                self.inexact(if simd == Mulpd { Mulsd } else { Divsd });
                self.seldom_br_if(1);
            }
        }
        self.close();
        self.set_vector(op.a, |e| wasm!(e; local_get(z)));
    }

    /// Sets T0 to the 32-bit register or memory operand.
    fn integer_operand(&mut self, op: &Op) {
        if op.base == REG_FORM {
            self.get(op.b);
            wasm!(self; local_set(local::T0));
        } else {
            self.linear(op, 4, false);
            self.load(4, local::T0);
        }
    }

    /// Looks at MXCSR, unless it is known: once in a block, and again where an instruction was interpreted.
    fn look_at_control(&mut self) {
        if self.unit.control {
            return;
        }
        let mxcsr = at(self.cpu(offset_of!(Cpu, mxcsr)));
        wasm!(self; local_get(local::MX) i32_eqz());
        self.open_seldom();
        wasm!(self; i32_const(0) i32_load(mxcsr) local_tee(local::T0) i32_const(PE) i32_shr_u() i32_const(1) i32_and()
            i32_const(1) i32_add() i32_const(UNKNOWN)
            local_get(local::T0) i32_const(CONTROL) i32_and() i32_const(PLAIN) i32_eq() select() local_set(local::MX));
        self.close();
        self.unit.control = true;
    }

    /// Operates on register `a` and the number in Y; to label 0 where the host's arithmetic is not enough.
    fn operate(&mut self, op: &Op, simd: SimdOp) {
        use SimdOp::*;
        let (x, y, result) = (local::X, local::Y, local::Z);
        if simd == Cvttsd2si {
            return self.truncate(op);
        }
        if op.base != REG_FORM || self.unit.clean >> (op.b & 7) & 1 == 0 {
            self.not_denormal(y);
        }
        if simd != Sqrtsd {
            self.number(op.a);
            wasm!(self; local_set(x));
            if self.unit.clean >> (op.a & 7) & 1 == 0 && !(op.base == REG_FORM && op.a & 7 == op.b & 7) {
                self.not_denormal(x);
            }
        }
        match simd {
            Addsd => wasm!(self; local_get(x) local_get(y) f64_add() local_set(result)),
            Subsd => wasm!(self; local_get(x) local_get(y) f64_sub() local_set(result)),
            Mulsd => wasm!(self; local_get(x) local_get(y) f64_mul() local_set(result)),
            Divsd => wasm!(self; local_get(x) local_get(y) f64_div() local_set(result)),
            Sqrtsd => wasm!(self; local_get(y) f64_sqrt() local_set(result)),
            _ => return self.compare_numbers(),
        }
        // Only normal results and zeros that are exact.
        wasm!(self; local_get(result) i64_reinterpret_f64() i64_const(1) i64_shl() i64_const(SMALLEST) i64_sub()
            i64_const(NORMALS) i64_ge_u());
        self.open_seldom();
        wasm!(self; local_get(result) f64_const(0.0.into()) f64_ne());
        match simd {
            Mulsd => {
                wasm!(self; local_get(x) f64_const(0.0.into()) f64_ne() local_get(y) f64_const(0.0.into()) f64_ne()
                i32_and() i32_or())
            }
            Divsd => wasm!(self; local_get(x) f64_const(0.0.into()) f64_ne() i32_or()),
            _ => {}
        }
        wasm!(self; br_if(1));
        self.close();
        wasm!(self; local_get(local::MX) i32_const(INEXACT) i32_ne());
        self.open_if();
        wasm!(self; local_get(local::MX) i32_eqz());
        self.seldom_br_if(1);
        self.inexact(simd);
        self.seldom_br_if(1);
        self.close();
        self.set_number(op.a, result);
    }

    /// To label 0 if the number in a local is denormal.
    fn not_denormal(&mut self, number: u32) {
        wasm!(self; local_get(number) i64_reinterpret_f64() i64_const(1) i64_shl() i64_const(1) i64_sub()
            i64_const(SMALLEST - 1) i64_lt_u());
        self.seldom_br_if(0);
    }

    /// Pushes whether Z may be another number than the exact result.
    fn inexact(&mut self, simd: SimdOp) {
        use SimdOp::*;
        let (x, y, z) = (local::X, local::Y, local::Z);
        match simd {
            // What rounding took away from a sum is a number itself (Knuth, The Art of Computer Programming 4.2.2).
            Addsd | Subsd => {
                if simd == Subsd {
                    wasm!(self; local_get(y) f64_neg() local_set(y));
                }
                wasm!(self; local_get(z) local_get(x) f64_sub() local_set(local::ERR)
                    local_get(x) local_get(z) local_get(local::ERR) f64_sub() f64_sub()
                    local_get(y) local_get(local::ERR) f64_sub() f64_add()
                    f64_const(0.0.into()) f64_ne());
            }
            Mulsd => {
                self.long_product(x, y);
                // A zero is exact whatever the other number is.
                wasm!(self; local_get(z) f64_const(0.0.into()) f64_ne() i32_and());
            }
            // Multiplied back.
            Divsd => {
                self.long_product(y, z);
                wasm!(self; local_get(y) local_get(z) f64_mul() local_get(x) f64_ne() i32_or());
            }
            _ => {
                self.long_product(z, z);
                wasm!(self; local_get(z) local_get(z) f64_mul() local_get(y) f64_ne() i32_or());
            }
        }
    }

    /// Pushes whether the product of two numbers may have too many bits: at most as many as both significands together
    /// have up to their last ones.
    fn long_product(&mut self, x: u32, y: u32) {
        for number in [x, y] {
            wasm!(self; local_get(number) i64_reinterpret_f64() i64_const(HIDDEN) i64_or() i64_ctz());
        }
        wasm!(self; i64_add() i64_const(SIGNIFICAND) i64_lt_u());
    }

    /// Compares X and Y.
    fn compare_numbers(&mut self) {
        let (x, y) = (local::X, local::Y);
        wasm!(self; local_get(x) local_get(y) f64_sub() local_tee(local::Z) local_get(local::Z) f64_ne());
        // One is not a number, or both are infinite.
        self.seldom_br_if(0);
        wasm!(self; local_get(local::MX) i32_eqz());
        self.seldom_br_if(0);
        wasm!(self; local_get(x) local_get(y) f64_eq() i32_const(6) i32_shl()
            local_get(x) local_get(y) f64_lt() i32_or());
        self.set_eager();
    }

    /// Register `a` becomes the integer part of the number in Y.
    fn truncate(&mut self, op: &Op) {
        wasm!(self; local_get(local::Y) f64_const((-2_147_483_649.0).into()) f64_gt()
            local_get(local::Y) f64_const(2_147_483_648.0.into()) f64_lt() i32_and() i32_eqz());
        self.seldom_br_if(0);
        wasm!(self; local_get(local::Y) i32_trunc_f64_s() local_set(local::T0)
            local_get(local::MX) i32_const(INEXACT) i32_ne());
        self.open_if();
        wasm!(self; local_get(local::MX) i32_eqz());
        self.seldom_br_if(1);
        wasm!(self; local_get(local::T0) f64_convert_i32_s() local_get(local::Y) f64_ne());
        self.seldom_br_if(1);
        self.close();
        wasm!(self; local_get(local::T0));
        self.set(op.a);
    }
}
