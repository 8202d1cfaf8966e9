//! Shifts and rotates.

use super::emit::{Emitter, local, wasm};
use crate::cpu::flags::{CF, LazyOp, OF};
use crate::cpu::op::{Kind, Op, REG_FORM};

/// The record of a 32-bit shift.
pub(super) fn shift_kind(kind: Kind) -> Option<LazyOp> {
    match kind {
        Kind::Shl32RI | Kind::Shl32RC => Some(LazyOp::Shl32),
        Kind::Shr32RI | Kind::Shr32RC => Some(LazyOp::Shr32),
        Kind::Sar32RI | Kind::Sar32RC => Some(LazyOp::Sar32),
        _ => None,
    }
}

/// The record of a SHL, SHR or SAR of 32 bits in memory by a constant from 1 to 31; the interpreter does the rest of
/// [`Kind::ShiftE`].
#[must_use]
pub fn memory_shift(op: &Op) -> Option<LazyOp> {
    let (count, by_cl, operation, width) = (op.imm & 0xff, op.imm >> 8 & 1, op.imm >> 12 & 7, op.imm >> 16);
    if op.kind != Kind::ShiftE || width != 4 || by_cl != 0 || !(1..32).contains(&count) || op.base == REG_FORM {
        return None;
    }
    match operation {
        4 | 6 => Some(LazyOp::Shl32),
        5 => Some(LazyOp::Shr32),
        7 => Some(LazyOp::Sar32),
        _ => None,
    }
}

impl Emitter<'_> {
    /// A 32-bit shift of register `a` by T1, 1 to 31.
    #[inline(never)]
    pub(super) fn shift(&mut self, op: &Op) {
        let r = local::R0 + u32::from(op.a & 7);
        wasm!(self; local_get(r) local_set(local::T0));
        self.shifted(shift_kind(op.kind));
        wasm!(self; local_get(local::T2) local_set(r));
    }

    /// T2 = T0 shifted by T1, 1 to 31, and records the flags.
    fn shifted(&mut self, kind: Option<LazyOp>) {
        wasm!(self; local_get(local::T0) local_get(local::T1));
        match kind {
            Some(LazyOp::Shl32) => wasm!(self; i32_shl()),
            Some(LazyOp::Shr32) => wasm!(self; i32_shr_u()),
            _ => wasm!(self; i32_shr_s()),
        }
        wasm!(self; local_set(local::T2));
        if self.live {
            wasm!(self; local_get(local::T2) local_set(local::RES) local_get(local::T0) local_set(local::A)
                local_get(local::T1) local_set(local::B));
        }
    }

    /// A 32-bit shift in memory by a constant, which [`memory_shift`] names.
    #[inline(never)]
    pub(super) fn shift_memory(&mut self, op: &Op) {
        self.linear(op, 4, true);
        self.modify_load(4, local::T0);
        wasm!(self; i32_const((op.imm & 31) as i32) local_set(local::T1));
        self.shifted(memory_shift(op));
        self.modify_store(4, local::T2);
    }

    /// ROL and ROR by a constant: CF and OF change.
    #[inline(never)]
    pub(super) fn rotate(&mut self, op: &Op) {
        let r = local::R0 + u32::from(op.a & 7);
        let right = op.kind == Kind::Ror32RI;
        if self.live {
            self.all_flags();
            wasm!(self; i32_const(!((CF | OF) as i32)) i32_and() local_set(local::T0));
        }
        wasm!(self; local_get(r) i32_const(op.imm as i32));
        if right {
            wasm!(self; i32_rotr());
        } else {
            wasm!(self; i32_rotl());
        }
        wasm!(self; local_set(r));
        if !self.live {
            return;
        }
        // T1 = CF, and OF is CF xor the top bit (left) or the two top bits' difference (right).
        if right {
            wasm!(self; local_get(r) i32_const(31) i32_shr_u() local_set(local::T1)
                local_get(r) i32_const(30) i32_shr_u() i32_const(1) i32_and() local_get(local::T1) i32_xor());
        } else {
            wasm!(self; local_get(r) i32_const(1) i32_and() local_set(local::T1)
                local_get(r) i32_const(31) i32_shr_u() local_get(local::T1) i32_xor());
        }
        wasm!(self; i32_const(11) i32_shl() local_get(local::T1) i32_or() local_get(local::T0) i32_or());
        self.set_eager();
    }

    /// SHLD and SHRD of registers by a constant, 1 to 31.
    #[inline(never)]
    pub(super) fn shift_narrow(&mut self, op: &Op) {
        let (operation, width, count) = (op.imm >> 12 & 7, op.imm >> 16, (op.imm & 31) as i32);
        let bits = 8 * width as i32;
        self.get_sized(op.b, width);
        match (operation, width) {
            (7, 1) => wasm!(self; i32_extend8_s()),
            (7, _) => wasm!(self; i32_extend16_s()),
            _ => {}
        }
        wasm!(self; local_tee(local::T0) i32_const(count));
        match operation {
            5 => wasm!(self; i32_shr_u()),
            7 => wasm!(self; i32_shr_s()),
            _ => wasm!(self; i32_shl()),
        }
        self.cut(width);
        wasm!(self; local_set(local::T2));
        if self.live {
            // The last bit that was shifted out.
            match operation {
                5 | 7 => wasm!(self; local_get(local::T0) i32_const(count - 1) i32_shr_s() i32_const(1) i32_and()),
                _ if count <= bits => {
                    wasm!(self; local_get(local::T0) i32_const(bits - count) i32_shr_u() i32_const(1) i32_and());
                }
                _ => wasm!(self; i32_const(0)),
            }
            match operation {
                5 if count == 1 => wasm!(self; local_get(local::T0) i32_const(bits - 1) i32_shr_u()
                    i32_const(11) i32_shl() i32_or()),
                5 | 7 => {}
                _ => wasm!(self; local_tee(local::A) local_get(local::A) local_get(local::T2) i32_const(bits - 1)
                    i32_shr_u() i32_xor() i32_const(11) i32_shl() i32_or()),
            }
            wasm!(self; local_set(local::A) local_get(local::T2) local_set(local::RES));
        }
        self.set_sized(op.b, width, local::T2);
    }

    #[inline(never)]
    pub(super) fn double_shift(&mut self, op: &Op) {
        let count = op.imm as i32;
        let right = op.kind == Kind::Shrd32RRI;
        self.get(op.a);
        wasm!(self; local_set(local::T0));
        self.get(op.b);
        wasm!(self; local_set(local::T1));
        wasm!(self; local_get(local::T0) i32_const(count));
        if right {
            wasm!(self; i32_shr_u() local_get(local::T1) i32_const(32 - count) i32_shl());
        } else {
            wasm!(self; i32_shl() local_get(local::T1) i32_const(32 - count) i32_shr_u());
        }
        wasm!(self; i32_or() local_set(local::T2));
        if self.live {
            let carry = if right { count - 1 } else { 32 - count };
            wasm!(self; local_get(local::T0) i32_const(carry) i32_shr_u() i32_const(1) i32_and()
                local_get(local::T0) local_get(local::T2) i32_xor() i32_const(31) i32_shr_u() i32_const(11) i32_shl()
                i32_or() local_set(local::A) local_get(local::T2) local_set(local::RES));
        }
        self.set_sized(op.a, 4, local::T2);
    }
}
