//! SSE and SSE2 in regions: moves, logic, integer arithmetic and rearranging as wasm SIMD; [`double`] has the binary64
//! arithmetic. MMX, binary32 and what is rare is interpreted.

use super::call;
use super::double;
use super::emit::{Emitter, at, local, wasm};
use super::region::Insn;
use crate::cpu::op::{Op, REG_FORM};
use crate::cpu::simd::table::{IMMEDIATE_SOURCE, MMX_FORM, SimdOp};
use crate::cpu::state::{Cpu, cr0, cr4};
use std::mem::offset_of;
use wasm_encoder::InstructionSink;

/// Whether the translator has its own code for a SIMD instruction.
#[must_use]
pub fn translated(op: &Op) -> bool {
    use SimdOp::*;
    let Some(simd) = SimdOp::of(op.imm) else { return false };
    let memory = op.base != REG_FORM;
    if op.imm & MMX_FORM != 0 {
        return false;
    }
    match simd {
        Mova | Movu | Movd | Movq | MovLow64 | MovHigh64 | Pshufd | Pshufhw | Pshuflw | Shufps | Shufpd | Cvtdq2pd => {
            true
        }
        MovssLoad | StoreA | StoreU | Store64 | StoreHigh64 | Store32 => memory,
        MovdToGpr | MovLow32 | Movhlps | Pmovmskb | Movmskps | Movmskpd | Pslldq | Psrldq => !memory,
        Psllw | Pslld | Psllq | Psrlw | Psrld | Psrlq | Psraw | Psrad => op.imm & IMMEDIATE_SOURCE != 0,
        _ => double::translated(simd) || binary(simd).is_some(),
    }
}

/// Whether the translator's code for a SIMD instruction writes the status flags.
#[must_use]
pub fn writes_flags(op: &Op) -> bool {
    translated(op) && SimdOp::of(op.imm).is_some_and(double::compares)
}

/// Operations that are one instruction of wasm.
fn binary(simd: SimdOp) -> Option<fn(&mut InstructionSink<'_>)> {
    use SimdOp::*;
    macro_rules! one {
        ($name:ident) => {{
            fn emit(sink: &mut InstructionSink<'_>) {
                let _ = sink.$name();
            }
            emit
        }};
    }
    macro_rules! shuffle {
        ($lanes:expr) => {{
            fn emit(sink: &mut InstructionSink<'_>) {
                let _ = sink.i8x16_shuffle($lanes);
            }
            emit
        }};
    }
    Some(match simd {
        Paddb => one!(i8x16_add),
        Paddw => one!(i16x8_add),
        Paddd => one!(i32x4_add),
        Paddq => one!(i64x2_add),
        Paddsb => one!(i8x16_add_sat_s),
        Paddsw => one!(i16x8_add_sat_s),
        Paddusb => one!(i8x16_add_sat_u),
        Paddusw => one!(i16x8_add_sat_u),
        Psubb => one!(i8x16_sub),
        Psubw => one!(i16x8_sub),
        Psubd => one!(i32x4_sub),
        Psubq => one!(i64x2_sub),
        Psubsb => one!(i8x16_sub_sat_s),
        Psubsw => one!(i16x8_sub_sat_s),
        Psubusb => one!(i8x16_sub_sat_u),
        Psubusw => one!(i16x8_sub_sat_u),
        Pmullw => one!(i16x8_mul),
        Pmaddwd => one!(i32x4_dot_i16x8_s),
        Pavgb => one!(i8x16_avgr_u),
        Pavgw => one!(i16x8_avgr_u),
        Pminub => one!(i8x16_min_u),
        Pmaxub => one!(i8x16_max_u),
        Pminsw => one!(i16x8_min_s),
        Pmaxsw => one!(i16x8_max_s),
        Pcmpeqb => one!(i8x16_eq),
        Pcmpeqw => one!(i16x8_eq),
        Pcmpeqd => one!(i32x4_eq),
        Pcmpgtb => one!(i8x16_gt_s),
        Pcmpgtw => one!(i16x8_gt_s),
        Pcmpgtd => one!(i32x4_gt_s),
        Pand => one!(v128_and),
        Por => one!(v128_or),
        Pxor => one!(v128_xor),
        Packsswb => one!(i8x16_narrow_i16x8_s),
        Packssdw => one!(i16x8_narrow_i32x4_s),
        Packuswb => one!(i8x16_narrow_i16x8_u),
        Punpcklbw => shuffle!([0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23]),
        Punpckhbw => shuffle!([8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31]),
        Punpcklwd => shuffle!([0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23]),
        Punpckhwd => shuffle!([8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31]),
        Punpckldq => shuffle!([0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23]),
        Punpckhdq => shuffle!([8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31]),
        Punpcklqdq => shuffle!([0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]),
        Punpckhqdq => shuffle!([8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31]),
        // The other way round: not a, and b.
        Pandn => |sink| {
            let _ = sink.local_set(local::V).v128_not().local_get(local::V).v128_and();
        },
        _ => return None,
    })
}

/// The bytes that shuffles by constants choose from (first, second operand).
fn lanes(simd: SimdOp, imm: u8) -> Option<[u8; 16]> {
    use SimdOp::*;
    let field = |n: usize| imm >> (2 * n) & 3;
    Some(std::array::from_fn(|byte| {
        let byte8 = byte as u8;
        match simd {
            Pshufd => 16 + field(byte / 4) * 4 + (byte8 & 3),
            Pshuflw if byte < 8 => 16 + field(byte / 2) * 2 + (byte8 & 1),
            Pshufhw if byte >= 8 => 24 + field(byte / 2 - 4) * 2 + (byte8 & 1),
            Shufps => (byte8 & 8) * 2 + field(byte / 4) * 4 + (byte8 & 3),
            Shufpd => (byte8 & 8) * 2 + (imm >> (byte / 8) & 1) * 8 + (byte8 & 7),
            _ => 16 + byte8,
        }
    }))
    .filter(|_| matches!(simd, Pshufd | Pshuflw | Pshufhw | Shufps | Shufpd))
}

impl Emitter<'_> {
    /// Leaves unless SSE can be used.
    fn sse_guard(&mut self) {
        if self.unit.sse {
            return;
        }
        let [c0, c4] = [offset_of!(Cpu, cr0), offset_of!(Cpu, cr4)].map(|offset| at(self.cpu(offset)));
        wasm!(self;
            i32_const(0) i32_load(c0) i32_const((cr0::EM | cr0::TS) as i32) i32_and()
            i32_const(0) i32_load(c4) i32_const(cr4::OSFXSR as i32) i32_and() i32_eqz() i32_or());
        self.open_seldom();
        self.fault();
        self.close();
        self.unit.sse = true;
    }

    /// `fast` may branch to label 0 to have the interpreter do it.
    pub(super) fn or_interpret(&mut self, insn: &Insn, fast: impl FnOnce(&mut Self)) {
        self.open();
        self.open();
        fast(self);
        wasm!(self; br(1));
        self.close();
        let unit = self.unit;
        self.interpret(insn);
        self.unit = unit;
        if writes_flags(&insn.op) {
            wasm!(self; call(call::FLAGS));
            self.set_eager();
        }
        self.close();
    }

    /// `fast` finds the offset in the memory block on the stack.
    pub(super) fn simd_memory(&mut self, insn: &Insn, width: u32, write: bool, fast: impl FnOnce(&mut Self)) {
        let aligned = width == 16 && SimdOp::of(insn.op.imm).is_some_and(|simd| simd.info().aligned);
        self.linear(&insn.op, width, write);
        self.or_interpret(insn, |e| {
            if aligned {
                wasm!(e; local_get(local::LIN) i32_const(15) i32_and());
                e.seldom_br_if(0);
            }
            e.reach(width, write);
            e.block_offset();
            fast(e);
        });
    }

    /// Emits a SIMD instruction that [`translated`] names.
    #[inline(never)]
    pub(super) fn simd(&mut self, insn: &Insn) {
        use SimdOp::*;
        let op = &insn.op;
        let Some(simd) = SimdOp::of(op.imm) else { return };
        self.sse_guard();
        if double::translated(simd) {
            return self.double(insn, simd);
        }
        let ram = at(self.layout.ram);
        match simd {
            StoreA | StoreU | Store64 | StoreHigh64 | Store32 => {
                self.simd_memory(insn, simd.info().width.into(), true, |e| match simd {
                    StoreA | StoreU => {
                        e.vector(op.a);
                        wasm!(e; v128_store(ram));
                    }
                    Store32 => {
                        e.quarter(op.a);
                        wasm!(e; i32_store(ram));
                    }
                    _ => {
                        e.half(op.a, u8::from(simd == StoreHigh64));
                        wasm!(e; i64_store(ram));
                    }
                });
            }
            MovdToGpr => {
                self.quarter(op.b);
                self.set(op.a);
            }
            Pmovmskb | Movmskps | Movmskpd => {
                self.vector(op.b);
                match simd {
                    Pmovmskb => wasm!(self; i8x16_bitmask()),
                    Movmskps => wasm!(self; i32x4_bitmask()),
                    _ => wasm!(self; i64x2_bitmask()),
                }
                self.set(op.a);
            }
            Movd if op.base == REG_FORM => self.set_vector(op.a, |e| {
                wasm!(e; v128_const(0));
                e.get(op.b);
                wasm!(e; i32x4_replace_lane(0));
            }),
            MovLow32 => self.set_quarter(op.a, |e| e.quarter(op.b)),
            Movhlps => self.set_half(op.a, 0, |e| e.half(op.b, 1)),
            MovLow64 | MovHigh64 => {
                let half = u8::from(simd == MovHigh64);
                if op.base == REG_FORM {
                    self.set_half(op.a, half, |e| e.half(op.b, 0));
                } else {
                    self.simd_memory(insn, 8, false, |e| {
                        wasm!(e; i64_load(ram) local_set(local::W));
                        e.set_half(op.a, half, |e| wasm!(e; local_get(local::W)));
                    });
                }
            }
            _ => self.vector_operation(insn, simd),
        }
    }

    /// What computes a whole register from the second operand, and perhaps the old value.
    fn vector_operation(&mut self, insn: &Insn, simd: SimdOp) {
        use SimdOp::*;
        let op = &insn.op;
        let ram = at(self.layout.ram);
        if op.base != REG_FORM {
            return self.simd_memory(insn, simd.info().width.into(), false, |e| {
                match simd.info().width {
                    4 => wasm!(e; v128_load32_zero(ram)),
                    8 => wasm!(e; v128_load64_zero(ram)),
                    _ => wasm!(e; v128_load(ram)),
                }
                wasm!(e; local_set(local::V));
                e.compute_vector(op, simd);
            });
        }
        if op.imm & IMMEDIATE_SOURCE != 0 {
            return self.set_vector(op.a, |e| {
                e.vector(op.a);
                e.shift_vector(simd, op.imm as u8);
            });
        }
        let (clean, both) = (self.unit.clean >> (op.b & 7) & 1, self.unit.both_clean >> (op.b & 7) & 1);
        if simd == Movq {
            self.vector_zero_extended(op.b);
        } else {
            self.vector(op.b);
        }
        wasm!(self; local_set(local::V));
        self.compute_vector(op, simd);
        // Copies are as clean as what they are of, and a zero is.
        let same = op.a & 7 == op.b & 7 && matches!(simd, Pxor | Psubb | Psubw | Psubd | Psubq);
        if same || simd == Cvtdq2pd {
            self.unit.clean |= 1 << (op.a & 7);
            self.unit.both_clean |= 1 << (op.a & 7);
        } else if matches!(simd, Mova | Movu | Movq) {
            self.unit.clean |= clean << (op.a & 7);
            self.unit.both_clean |= (if simd == Movq { clean } else { both }) << (op.a & 7);
        }
    }

    /// Computes and stores with the second operand in V.
    fn compute_vector(&mut self, op: &Op, simd: SimdOp) {
        use SimdOp::*;
        self.set_vector(op.a, |e| {
            if let Some(lanes) = lanes(simd, op.imm as u8) {
                e.vector(op.a);
                wasm!(e; local_get(local::V) i8x16_shuffle(lanes));
            } else if simd == Cvtdq2pd {
                wasm!(e; local_get(local::V) f64x2_convert_low_i32x4_s());
            } else if let Some(operation) = binary(simd) {
                e.vector(op.a);
                wasm!(e; local_get(local::V));
                operation(&mut InstructionSink::new(&mut e.out));
            } else {
                wasm!(e; local_get(local::V));
            }
        });
    }

    /// Shifts the vector on the stack by a constant.
    fn shift_vector(&mut self, simd: SimdOp, count: u8) {
        use SimdOp::*;
        let width = match simd {
            Psllw | Psrlw | Psraw => 16,
            Pslld | Psrld | Psrad => 32,
            Psllq | Psrlq => 64,
            _ => 0,
        };
        if width == 0 {
            // Bytes; a byte of the second operand is zero.
            let count = count.min(16);
            let lane = |n: u8| if simd == Pslldq { n.checked_sub(count) } else { Some(n + count).filter(|n| *n < 16) };
            let lanes = std::array::from_fn(|n| lane(n as u8).unwrap_or(16));
            return wasm!(self; v128_const(0) i8x16_shuffle(lanes));
        }
        let count = i32::from(count);
        if count >= width && !matches!(simd, Psraw | Psrad) {
            return wasm!(self; drop() v128_const(0));
        }
        wasm!(self; i32_const(count.min(width - 1)));
        match simd {
            Psllw => wasm!(self; i16x8_shl()),
            Pslld => wasm!(self; i32x4_shl()),
            Psllq => wasm!(self; i64x2_shl()),
            Psrlw => wasm!(self; i16x8_shr_u()),
            Psrld => wasm!(self; i32x4_shr_u()),
            Psrlq => wasm!(self; i64x2_shr_u()),
            Psraw => wasm!(self; i16x8_shr_s()),
            _ => wasm!(self; i32x4_shr_s()),
        }
    }
}
