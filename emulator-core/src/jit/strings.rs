//! String instructions without REP, and the direction flag.

use super::emit::{Emitter, at, local, wasm};
use crate::cpu::flags::DF;
use crate::cpu::op::{Kind, Op, SEG_FLAT, StringOp};
use crate::cpu::state::{Cpu, RAX, RDI, RSI};
use std::mem::offset_of;

/// Whether this module has code for a string instruction: moves, loads and stores through the flat segments.
#[must_use]
pub fn translated(op: &Op) -> bool {
    op.kind == Kind::StringOnce && op.seg == SEG_FLAT && moves(op).is_some()
}

/// Whether an instruction loads from ESI and stores to EDI, if it does no more.
#[must_use]
pub fn moves(op: &Op) -> Option<(bool, bool)> {
    match op.imm & 0xff {
        n if n == StringOp::Movs as u32 => Some((true, true)),
        n if n == StringOp::Lods as u32 => Some((true, false)),
        n if n == StringOp::Stos as u32 => Some((false, true)),
        _ => None,
    }
}

impl Emitter<'_> {
    /// Emits an instruction that [`translated`] names.
    pub(super) fn string_once(&mut self, op: &Op) {
        let (loads, stores) = moves(op).unwrap_or_default();
        let width = op.imm >> 8 & 0xff;
        let [esi, edi] = [RSI, RDI].map(|r| local::R0 + r as u32);
        if loads {
            self.at_register(RSI);
            self.load(width, local::T0);
        } else {
            self.get_sized(RAX as u8, width);
            wasm!(self; local_set(local::T0));
        }
        if stores {
            self.at_register(RDI);
            self.store(width, local::T0);
        } else {
            self.set_sized(RAX as u8, width, local::T0);
        }
        let flags = at(self.cpu(offset_of!(Cpu, system_flags)));
        wasm!(self; i32_const(-(width as i32)) i32_const(width as i32)
            i32_const(0) i32_load(flags) i32_const(DF as i32) i32_and() select() local_set(local::T1));
        for index in [(loads, esi), (stores, edi)].into_iter().filter_map(|(used, r)| used.then_some(r)) {
            wasm!(self; local_get(index) local_get(local::T1) i32_add() local_set(index));
        }
    }

    /// CLD.
    pub(super) fn clear_direction(&mut self) {
        let flags = at(self.cpu(offset_of!(Cpu, system_flags)));
        wasm!(self; i32_const(0) i32_const(0) i32_load(flags) i32_const(!(DF as i32)) i32_and() i32_store(flags));
    }
}
