//! SSE and SSE2 in regions: moves, logic, integer arithmetic and rearranging as wasm SIMD, and the binary64 arithmetic of
//! compiled code. XMM registers stay in the CPU's fields. MMX, binary32 and what is rare is interpreted.
//!
//! Arithmetic is the host's where that is exact and shows in no flag: everything masked, to nearest, the inexact flag
//! raised already, operands and result normal or zero. Otherwise the interpreter executes the instruction.

use super::emit::{Emitter, at, local, wasm};
use super::region::Insn;
use crate::cpu::op::{Op, REG_FORM};
use crate::cpu::simd::table::{IMMEDIATE_SOURCE, MMX_FORM, SimdOp};
use crate::cpu::state::{Cpu, cr0, cr4};
use std::mem::offset_of;
use wasm_encoder::InstructionSink;

/// MXCSR but for the flags other than PE: all exceptions masked, to nearest, nothing flushed, PE raised.
const PLAIN: i32 = 0x1fa0;
const PLAIN_MASK: i32 = 0xffe0;

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
        Mova | Movu | Movd | Movq | MovLow64 | MovHigh64 | Pshufd | Pshufhw | Pshuflw | Shufps | Shufpd | Addsd
        | Mulsd | Subsd | Divsd => true,
        MovssLoad | StoreA | StoreU | Store64 | StoreHigh64 | Store32 => memory,
        MovdToGpr | MovLow32 | Movhlps | Pmovmskb | Movmskps | Movmskpd | Pslldq | Psrldq => !memory,
        Psllw | Pslld | Psllq | Psrlw | Psrld | Psrlq | Psraw | Psrad => op.imm & IMMEDIATE_SOURCE != 0,
        _ => binary(simd).is_some(),
    }
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
    fn xmm(&self, r: u8) -> u32 {
        self.cpu(offset_of!(Cpu, xmm)) + 16 * u32::from(r & 15)
    }

    /// Leaves unless SSE can be used.
    fn sse_guard(&mut self) {
        if self.unit.sse {
            return;
        }
        let [c0, c4] = [offset_of!(Cpu, cr0), offset_of!(Cpu, cr4)].map(|offset| at(self.cpu(offset)));
        wasm!(self;
            i32_const(0) i32_load(c0) i32_const((cr0::EM | cr0::TS) as i32) i32_and()
            i32_const(0) i32_load(c4) i32_const(cr4::OSFXSR as i32) i32_and() i32_eqz() i32_or());
        self.open_if();
        self.fault();
        self.close();
        self.unit.sse = true;
    }

    /// `fast` may branch to label 0 to have the interpreter do it.
    fn or_interpret(&mut self, insn: &Insn, fast: impl FnOnce(&mut Self)) {
        self.open();
        self.open();
        fast(self);
        wasm!(self; br(1));
        self.close();
        let unit = self.unit;
        self.interpret(insn);
        self.unit = unit;
        self.close();
    }

    /// `fast` finds the offset in the memory block on the stack.
    fn simd_memory(&mut self, insn: &Insn, width: u32, write: bool, fast: impl FnOnce(&mut Self)) {
        let aligned = width == 16 && SimdOp::of(insn.op.imm).is_some_and(|simd| simd.info().aligned);
        self.linear(&insn.op, width, write);
        self.or_interpret(insn, |e| {
            if aligned {
                wasm!(e; local_get(local::LIN) i32_const(15) i32_and() br_if(0));
            }
            e.look_up(width, write);
            wasm!(e; br_if(0));
            e.block_offset();
            fast(e);
        });
    }

    /// Emits a SIMD instruction that [`translated`] names.
    pub(super) fn simd(&mut self, insn: &Insn) {
        use SimdOp::*;
        let op = &insn.op;
        let Some(simd) = SimdOp::of(op.imm) else { return };
        self.sse_guard();
        let ram = at(self.layout.ram);
        let (a, b) = (self.xmm(op.a), self.xmm(op.b));
        match simd {
            StoreA | StoreU | Store64 | StoreHigh64 | Store32 => {
                self.simd_memory(insn, simd.info().width.into(), true, |e| match simd {
                    StoreA | StoreU => wasm!(e; i32_const(0) v128_load(at(a)) v128_store(ram)),
                    Store32 => wasm!(e; i32_const(0) i32_load(at(a)) i32_store(ram)),
                    Store64 => wasm!(e; i32_const(0) i64_load(at(a)) i64_store(ram)),
                    _ => wasm!(e; i32_const(0) i64_load(at(a + 8)) i64_store(ram)),
                });
            }
            Addsd | Mulsd | Subsd | Divsd => {
                if op.base == REG_FORM {
                    self.or_interpret(insn, |e| {
                        wasm!(e; i32_const(0) i64_load(at(b)));
                        e.double(simd, a);
                    });
                } else {
                    self.simd_memory(insn, 8, false, |e| {
                        wasm!(e; i64_load(ram));
                        e.double(simd, a);
                    });
                }
            }
            MovdToGpr => {
                wasm!(self; i32_const(0) i32_load(at(b)));
                self.set(op.a);
            }
            Pmovmskb | Movmskps | Movmskpd => {
                wasm!(self; i32_const(0) v128_load(at(b)));
                match simd {
                    Pmovmskb => wasm!(self; i8x16_bitmask()),
                    Movmskps => wasm!(self; i32x4_bitmask()),
                    _ => wasm!(self; i64x2_bitmask()),
                }
                self.set(op.a);
            }
            Movd if op.base == REG_FORM => {
                wasm!(self; i32_const(0) v128_const(0));
                self.get(op.b);
                wasm!(self; i32x4_replace_lane(0) v128_store(at(a)));
            }
            MovLow32 => wasm!(self; i32_const(0) i32_const(0) i32_load(at(b)) i32_store(at(a))),
            Movhlps => wasm!(self; i32_const(0) i32_const(0) i64_load(at(b + 8)) i64_store(at(a))),
            MovLow64 | MovHigh64 => {
                let to = at(if simd == MovHigh64 { a + 8 } else { a });
                if op.base == REG_FORM {
                    wasm!(self; i32_const(0) i32_const(0) i64_load(at(b)) i64_store(to));
                } else {
                    self.simd_memory(insn, 8, false, |e| {
                        wasm!(e; i64_load(ram) local_set(local::W) i32_const(0) local_get(local::W) i64_store(to));
                    });
                }
            }
            _ => self.vector(insn, simd),
        }
    }

    /// What computes a whole register from the second operand, and perhaps the old value.
    fn vector(&mut self, insn: &Insn, simd: SimdOp) {
        use SimdOp::*;
        let op = &insn.op;
        let ram = at(self.layout.ram);
        let a = at(self.xmm(op.a));
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
            wasm!(self; i32_const(0) i32_const(0) v128_load(a));
            self.shift_vector(simd, op.imm as u8);
            return wasm!(self; v128_store(a));
        }
        let b = at(self.xmm(op.b));
        if simd == Movq {
            wasm!(self; i32_const(0) v128_load64_zero(b));
        } else {
            wasm!(self; i32_const(0) v128_load(b));
        }
        wasm!(self; local_set(local::V));
        self.compute_vector(op, simd);
    }

    /// Computes and stores with the second operand in V.
    fn compute_vector(&mut self, op: &Op, simd: SimdOp) {
        let a = at(self.xmm(op.a));
        wasm!(self; i32_const(0));
        if let Some(lanes) = lanes(simd, op.imm as u8) {
            wasm!(self; i32_const(0) v128_load(a) local_get(local::V) i8x16_shuffle(lanes));
        } else if let Some(operation) = binary(simd) {
            wasm!(self; i32_const(0) v128_load(a) local_get(local::V));
            operation(&mut InstructionSink::new(&mut self.out));
        } else {
            wasm!(self; local_get(local::V));
        }
        wasm!(self; v128_store(a));
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

    /// Pushes whether the number in a local is normal.
    fn normal(&mut self, from: u32) {
        wasm!(self; local_get(from) i64_const(52) i64_shr_u() i64_const(0x7ff) i64_and()
            i64_const(1) i64_sub() i64_const(0x7fe) i64_lt_u());
    }

    /// Pushes whether it is a zero.
    fn zero_number(&mut self, from: u32) {
        wasm!(self; local_get(from) i64_const(1) i64_shl() i64_eqz());
    }

    /// Binary64 arithmetic of the low element of the register at `a` with the number on the stack; to label 0 where the
    /// host's is not enough.
    fn double(&mut self, simd: SimdOp, a: u32) {
        use SimdOp::*;
        let mxcsr = at(self.cpu(offset_of!(Cpu, mxcsr)));
        let (x, y, result) = (local::E, local::W, local::R);
        wasm!(self; local_set(y) i32_const(0) i64_load(at(a)) local_set(x)
            i32_const(0) i32_load(mxcsr) i32_const(PLAIN_MASK) i32_and() i32_const(PLAIN) i32_ne() br_if(0));
        self.normal(x);
        self.zero_number(x);
        wasm!(self; i32_or() i32_eqz() br_if(0));
        self.normal(y);
        if simd != Divsd {
            self.zero_number(y);
            wasm!(self; i32_or());
        }
        wasm!(self; i32_eqz() br_if(0) local_get(x) f64_reinterpret_i64() local_get(y) f64_reinterpret_i64());
        match simd {
            Addsd => wasm!(self; f64_add()),
            Subsd => wasm!(self; f64_sub()),
            Mulsd => wasm!(self; f64_mul()),
            _ => wasm!(self; f64_div()),
        }
        wasm!(self; i64_reinterpret_f64() local_set(result));
        self.normal(result);
        // A zero is exact as a sum, and as a product of a zero.
        if matches!(simd, Addsd | Subsd) {
            self.zero_number(result);
        } else {
            self.zero_number(x);
            if simd == Mulsd {
                self.zero_number(y);
                wasm!(self; i32_or());
            }
        }
        wasm!(self; i32_or() i32_eqz() br_if(0) i32_const(0) local_get(result) i64_store(at(a)));
    }
}
