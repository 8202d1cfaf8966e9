//! Functions of each module for the record of the last computation, from which flags are told: one writes it, one tells CF.

use super::emit::{IN_MEMORY, at, wasm};
use super::{Layout, call};
use crate::cpu::flags::LazyOp;
use crate::cpu::state::Cpu;
use std::mem::offset_of;
use wasm_encoder::BlockType;

/// A function that is written.
struct Out {
    out: Vec<u8>,
}

/// The function of each module that writes flags from locals into the CPU's record:
/// `(kind, result, a, b)`; nothing when they are there already.
#[must_use]
pub fn spill_function(layout: &Layout) -> Vec<u8> {
    let mut f = Out { out: vec![0] };
    let field = |offset: usize| at(layout.cpu + offset as u32);
    wasm!(f;
        local_get(0) i32_const(IN_MEMORY) i32_eq() if_(BlockType::Empty) return_() end()
        i32_const(0) local_get(0) i32_store8(field(offset_of!(Cpu, lazy.op)))
        i32_const(0) local_get(1) i64_extend_i32_u() i64_store(field(offset_of!(Cpu, lazy.res)))
        i32_const(0)
        local_get(2) i64_extend_i32_u()
        // Shifts keep their count, products their upper half, ADC and SBB their second operand above the first.
        local_get(3) i64_extend_i32_u() i64_const(32) i64_shl() i64_const(0)
        local_get(0) i32_const(LazyOp::Shl32 as i32) i32_sub()
        i32_const(LazyOp::Sbb32 as i32 - LazyOp::Shl32 as i32) i32_le_u()
        select() i64_or()
        i64_store(field(offset_of!(Cpu, lazy.src)))
        end()
    );
    f.out
}

/// The function of each module that tells CF, as 0 or 1: `(kind, result, a, b)` as above. INC and DEC keep it, so code
/// asks for it where control flow meets; the commonest records are answered here.
#[must_use]
pub fn carry_function(layout: &Layout) -> Vec<u8> {
    let mut f = Out { out: vec![0] };
    let field = |offset: usize| at(layout.cpu + offset as u32);
    let is = |kind: LazyOp| kind as i32;
    wasm!(f;
        local_get(0) i32_const(IN_MEMORY) i32_eq() if_(BlockType::Empty)
            i32_const(0) i32_load8_u(field(offset_of!(Cpu, lazy.op))) local_set(0)
            i32_const(0) i32_load(field(offset_of!(Cpu, lazy.res))) local_set(1)
            i32_const(0) i32_load(field(offset_of!(Cpu, lazy.src))) local_tee(2)
            // The record of a subtraction has no second operand.
            local_get(1) i32_sub() local_set(3)
            local_get(0) i32_const(is(LazyOp::Sub32)) i32_ne()
            local_get(0) i32_const(is(LazyOp::Add32)) i32_ne() i32_and()
            local_get(0) i32_const(is(LazyOp::Logic8)) i32_sub()
            i32_const(is(LazyOp::Dec32) - is(LazyOp::Logic8)) i32_gt_u() i32_and()
            local_get(0) i32_const(is(LazyOp::Eager)) i32_ne() i32_and()
            if_(BlockType::Empty) i32_const(2) call(call::CONDITION) return_() end()
        end()
        local_get(0) i32_const(is(LazyOp::Sub32)) i32_eq() if_(BlockType::Empty)
            local_get(2) local_get(3) i32_lt_u() return_() end()
        local_get(0) i32_const(is(LazyOp::Add32)) i32_eq() if_(BlockType::Empty)
            local_get(1) local_get(2) i32_lt_u() return_() end()
        local_get(0) i32_const(is(LazyOp::Logic8)) i32_sub()
        i32_const(is(LazyOp::Dec32) - is(LazyOp::Logic8)) i32_le_u()
        local_get(0) i32_const(is(LazyOp::Eager)) i32_eq() i32_or()
        if_(BlockType::Empty) local_get(2) i32_const(1) i32_and() return_() end()
        local_get(0) i32_const(is(LazyOp::Adc32)) i32_eq() if_(BlockType::Empty)
            local_get(2) local_get(3) i32_and() local_get(2) local_get(3) i32_or()
            local_get(1) i32_const(-1) i32_xor() i32_and() i32_or() i32_const(31) i32_shr_u() return_() end()
        local_get(0) local_get(1) local_get(2) local_get(3) call(call::SPILL)
        i32_const(2) call(call::CONDITION)
        end()
    );
    f.out
}
