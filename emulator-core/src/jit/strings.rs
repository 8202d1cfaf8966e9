//! String instructions without REP, and the direction flag.

use super::emit::{Emitter, at, local, wasm};
use crate::cpu::flags::DF;
use crate::cpu::op::{Kind, Op, SEG_FLAT, StringOp};
use crate::cpu::state::{Cpu, RAX, RDI, RSI};
use std::mem::offset_of;

/// What a string instruction does with memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uses {
    /// It reads what ESI points to.
    pub source: bool,
    /// It reads (`false`) or writes (`true`) what EDI points to.
    pub destination: Option<bool>,
}

impl Uses {
    /// Of the instruction, if it is one without REP that this module has code for: through the flat segments.
    #[must_use]
    pub fn of(op: &Op) -> Option<Self> {
        let is = |string: StringOp| op.imm & 0xff == string as u32;
        let uses = |source: bool, destination: Option<bool>| Some(Self { source, destination });
        match op.kind {
            Kind::StringOnce if op.seg != SEG_FLAT => None,
            Kind::StringOnce if is(StringOp::Movs) => uses(true, Some(true)),
            Kind::StringOnce if is(StringOp::Lods) => uses(true, None),
            Kind::StringOnce if is(StringOp::Stos) => uses(false, Some(true)),
            Kind::StringOnce if is(StringOp::Cmps) => uses(true, Some(false)),
            Kind::StringOnce if is(StringOp::Scas) => uses(false, Some(false)),
            _ => None,
        }
    }

    /// It compares: CMPS and SCAS.
    #[must_use]
    pub fn compares(self) -> bool {
        self.destination == Some(false)
    }
}

/// Bytes of a string instruction's element.
#[must_use]
pub fn width(op: &Op) -> u32 {
    op.imm >> 8 & 0xff
}

impl Emitter<'_> {
    /// Emits an instruction that [`Uses::of`] knows.
    pub(super) fn string_once(&mut self, op: &Op, uses: Uses) {
        let width = width(op);
        let [esi, edi] = [RSI, RDI].map(|r| local::R0 + r as u32);
        if uses.source {
            self.at_register(RSI);
            self.load(width, local::T0);
        } else {
            self.get_sized(RAX as u8, width);
            wasm!(self; local_set(local::T0));
        }
        match uses.destination {
            Some(true) => {
                self.at_register(RDI);
                self.store(width, local::T0);
            }
            Some(false) => {
                self.at_register(RDI);
                self.load(width, local::T1);
                self.record_difference(width);
            }
            None => self.set_sized(RAX as u8, width, local::T0),
        }
        let flags = at(self.cpu(offset_of!(Cpu, system_flags)));
        wasm!(self; i32_const(-(width as i32)) i32_const(width as i32)
            i32_const(0) i32_load(flags) i32_const(DF as i32) i32_and() select() local_set(local::T1));
        let moved = [(uses.source, esi), (uses.destination.is_some(), edi)];
        for index in moved.into_iter().filter_map(|(used, r)| used.then_some(r)) {
            wasm!(self; local_get(index) local_get(local::T1) i32_add() local_set(index));
        }
    }

    /// CLD.
    pub(super) fn clear_direction(&mut self) {
        let flags = at(self.cpu(offset_of!(Cpu, system_flags)));
        wasm!(self; i32_const(0) i32_const(0) i32_load(flags) i32_const(!(DF as i32)) i32_and() i32_store(flags));
    }
}
