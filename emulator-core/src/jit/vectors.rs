//! XMM registers in regions: in locals where a loop works on them, else in the CPU's fields.
//!
//! Locals are loaded where the function begins and written back where it is left, and around instructions that the
//! interpreter executes.

use super::emit::{Emitter, at, wasm};
use super::flow;
use super::memory::in_loop;
use super::region::Region;
use crate::cpu::op::{Kind, Op, REG_FORM};
use crate::cpu::simd::table::{Class, SimdOp};
use crate::cpu::state::Cpu;
use std::mem::offset_of;

/// Which registers are in locals, and where.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vectors {
    /// A bit for each register that has a local.
    used: u8,
    /// Those that translated code writes.
    written: u8,
    /// The first local.
    first: u32,
}

/// The registers that translated code of an instruction uses, and the one that it writes.
fn registers(op: &Op) -> (u8, u8) {
    let Some(info) = SimdOp::of(op.imm).filter(|_| op.kind == Kind::Simd).map(SimdOp::info) else { return (0, 0) };
    let vector = |class| matches!(class, Class::Vector | Class::Xmm);
    let bit = |r: u8| 1u8 << (r & 7);
    let written = if vector(info.dst) { bit(op.a) } else { 0 };
    // A store's register and a comparison's first operand are `a` too.
    let first = if vector(info.dst) || matches!(info.dst, Class::Memory | Class::Flags) { bit(op.a) } else { 0 };
    let second = if vector(info.src) && op.base == REG_FORM { bit(op.b) } else { 0 };
    (first | second, written)
}

impl Vectors {
    /// The registers of the region's loops; their locals begin at `first`.
    pub fn choose(region: &Region, first: u32) -> Self {
        let simd = |op: &Op| op.kind == Kind::Simd && flow::translated(op);
        let loops = |n: usize| region.blocks[n].insns.iter().any(|insn| simd(&insn.op)) && in_loop(region, n);
        if !(0..region.blocks.len()).any(loops) {
            return Self { first, ..Self::default() };
        }
        let all = region.blocks.iter().flat_map(|block| &block.insns).filter(|insn| simd(&insn.op));
        let (used, written) =
            all.map(|insn| registers(&insn.op)).fold((0, 0), |(u, w), (used, written)| (u | used, w | written));
        Self { used, written, first }
    }

    /// How many locals they take.
    pub fn locals(&self) -> u32 {
        self.used.count_ones()
    }

    fn local(&self, r: u8) -> Option<u32> {
        let below = (1u8 << (r & 7)) - 1;
        (self.used >> (r & 7) & 1 != 0).then(|| self.first + (self.used & below).count_ones())
    }

    fn each(self, mask: u8) -> impl Iterator<Item = (u8, u32)> {
        (0..8).filter(move |r| mask >> r & 1 != 0).filter_map(move |r| Some((r, self.local(r)?)))
    }
}

impl Emitter<'_> {
    fn xmm(&self, r: u8) -> u32 {
        self.cpu(offset_of!(Cpu, xmm)) + 16 * u32::from(r & 7)
    }

    /// The CPU's fields become the locals.
    pub(super) fn load_vectors(&mut self) {
        for (r, into) in self.vectors.each(self.vectors.used) {
            let from = at(self.xmm(r));
            wasm!(self; i32_const(0) v128_load(from) local_set(into));
        }
    }

    /// The locals that were written go back into the CPU's fields.
    pub(super) fn store_vectors(&mut self) {
        for (r, from) in self.vectors.each(self.vectors.written) {
            let to = at(self.xmm(r));
            wasm!(self; i32_const(0) local_get(from) v128_store(to));
        }
    }

    /// A register is written, perhaps its low half.
    fn unclean(&mut self, r: u8, low: bool) {
        self.unit.both_clean &= !(1 << (r & 7));
        if low {
            self.unit.clean &= !(1 << (r & 7));
        }
    }

    /// Pushes a register.
    pub(super) fn vector(&mut self, r: u8) {
        match self.vectors.local(r) {
            Some(from) => wasm!(self; local_get(from)),
            None => {
                let from = at(self.xmm(r));
                wasm!(self; i32_const(0) v128_load(from));
            }
        }
    }

    /// Pushes the low 64 bits of a register, zero-extended to a vector.
    pub(super) fn vector_zero_extended(&mut self, r: u8) {
        match self.vectors.local(r) {
            Some(from) => wasm!(self; v128_const(0) local_get(from) i64x2_extract_lane(0) i64x2_replace_lane(0)),
            None => {
                let from = at(self.xmm(r));
                wasm!(self; i32_const(0) v128_load64_zero(from));
            }
        }
    }

    /// Sets a register to what `value` pushes.
    pub(super) fn set_vector(&mut self, r: u8, value: impl FnOnce(&mut Self)) {
        self.unclean(r, true);
        match self.vectors.local(r) {
            Some(into) => {
                value(self);
                wasm!(self; local_set(into));
            }
            None => {
                wasm!(self; i32_const(0));
                value(self);
                let to = at(self.xmm(r));
                wasm!(self; v128_store(to));
            }
        }
    }

    /// Pushes 64 bits of a register: 0 the low, 1 the high half.
    pub(super) fn half(&mut self, r: u8, half: u8) {
        match self.vectors.local(r) {
            Some(from) => wasm!(self; local_get(from) i64x2_extract_lane(half)),
            None => {
                let from = at(self.xmm(r) + 8 * u32::from(half));
                wasm!(self; i32_const(0) i64_load(from));
            }
        }
    }

    /// Sets 64 bits of a register to what `value` pushes.
    pub(super) fn set_half(&mut self, r: u8, half: u8, value: impl FnOnce(&mut Self)) {
        self.unclean(r, half == 0);
        match self.vectors.local(r) {
            Some(into) => {
                wasm!(self; local_get(into));
                value(self);
                wasm!(self; i64x2_replace_lane(half) local_set(into));
            }
            None => {
                wasm!(self; i32_const(0));
                value(self);
                let to = at(self.xmm(r) + 8 * u32::from(half));
                wasm!(self; i64_store(to));
            }
        }
    }

    /// Pushes the low 32 bits of a register.
    pub(super) fn quarter(&mut self, r: u8) {
        match self.vectors.local(r) {
            Some(from) => wasm!(self; local_get(from) i32x4_extract_lane(0)),
            None => {
                let from = at(self.xmm(r));
                wasm!(self; i32_const(0) i32_load(from));
            }
        }
    }

    /// Sets the low 32 bits of a register to what `value` pushes.
    pub(super) fn set_quarter(&mut self, r: u8, value: impl FnOnce(&mut Self)) {
        self.unclean(r, true);
        match self.vectors.local(r) {
            Some(into) => {
                wasm!(self; local_get(into));
                value(self);
                wasm!(self; i32x4_replace_lane(0) local_set(into));
            }
            None => {
                wasm!(self; i32_const(0));
                value(self);
                let to = at(self.xmm(r));
                wasm!(self; i32_store(to));
            }
        }
    }

    /// Pushes the low half of a register as a number.
    pub(super) fn number(&mut self, r: u8) {
        match self.vectors.local(r) {
            Some(from) => wasm!(self; local_get(from) f64x2_extract_lane(0)),
            None => {
                let from = at(self.xmm(r));
                wasm!(self; i32_const(0) f64_load(from));
            }
        }
    }

    /// Sets the low half of a register to a number in a local.
    pub(super) fn set_number(&mut self, r: u8, from: u32) {
        match self.vectors.local(r) {
            Some(into) => wasm!(self; local_get(into) local_get(from) f64x2_replace_lane(0) local_set(into)),
            None => {
                let to = at(self.xmm(r));
                wasm!(self; i32_const(0) local_get(from) f64_store(to));
            }
        }
    }
}
