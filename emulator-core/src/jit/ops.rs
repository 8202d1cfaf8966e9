//! What each kind of instruction becomes.

use super::emit::{Emitter, at, local, wasm};
use super::flow;
use super::region::Insn;
use super::shifts::shift_kind;
use super::strings::Uses;
use crate::cpu::flags::{CF, IF, OF};
use crate::cpu::op::{Kind, Op, REG_FORM, System, Unary};
use crate::cpu::state::{Cpu, RAX, RBP, RCX, RDX, RSP};
use std::mem::offset_of;

/// Operation numbers as in the opcode.
const ADC: u8 = 2;
const SBB: u8 = 3;
const CMP: u8 = 7;

const EAX: u32 = local::R0 + RAX as u32;
const ECX: u32 = local::R0 + RCX as u32;
const EDX: u32 = local::R0 + RDX as u32;
const ESP: u32 = local::R0 + RSP as u32;
const EBP: u32 = local::R0 + RBP as u32;

impl Emitter<'_> {
    /// Emits one instruction.
    pub(super) fn instruction(&mut self, insn: &Insn) {
        use Kind::*;
        let op = &insn.op;
        if !flow::translated(op) {
            if op.kind == Alone && op.system() == System::Cli && self.user == 0 {
                return self.clear_interrupts();
            }
            return self.interpret(insn);
        }
        if let Some((n, form, width)) = flow::arithmetic(op) {
            return self.arithmetic(op, n, form, width);
        }
        match op.kind {
            Nop => {}
            Mov32RR => {
                self.get(op.b);
                self.set(op.a);
            }
            Mov32RI => {
                wasm!(self; i32_const(op.imm as i32));
                self.set(op.a);
            }
            Mov32RM | Mov32RB => self.load_register(op, 4),
            Mov16RM => self.load_register(op, 2),
            Mov8RM => self.load_register(op, 1),
            Mov32MR | Mov32BR => self.store_register(op, 4),
            Mov16MR => self.store_register(op, 2),
            Mov8MR => self.store_register(op, 1),
            Mov32MI => self.store_immediate(op, 4),
            Mov16MI => self.store_immediate(op, 2),
            Mov8MI => self.store_immediate(op, 1),
            Mov16RR => self.move_sized(op, 2),
            Mov8RR => self.move_sized(op, 1),
            Mov16RI => self.set_immediate(op, 2),
            Mov8RI => self.set_immediate(op, 1),
            Movzx32From8R | Movzx32From16R | Movsx32From8R | Movsx32From16R => {
                let width = if matches!(op.kind, Movzx32From8R | Movsx32From8R) { 1 } else { 2 };
                self.get_sized(op.b, width);
                self.extend(matches!(op.kind, Movsx32From8R | Movsx32From16R), width);
                self.set(op.a);
            }
            Movzx32From8M | Movzx32From16M | Movsx32From8M | Movsx32From16M => {
                let width = if matches!(op.kind, Movzx32From8M | Movsx32From8M) { 1 } else { 2 };
                self.linear(op, width, false);
                self.load(width, local::T0);
                wasm!(self; local_get(local::T0));
                self.extend(matches!(op.kind, Movsx32From8M | Movsx32From16M), width);
                self.set(op.a);
            }
            Movx16From8E => {
                self.operand(op, 1, local::T0);
                if op.imm != 0 {
                    wasm!(self; local_get(local::T0) i32_extend8_s() i32_const(0xffff) i32_and() local_set(local::T0));
                }
                self.set_sized(op.a, 2, local::T0);
            }
            Lea32 => {
                self.offset(op);
                if op.seg != crate::cpu::op::SEG_FLAT {
                    wasm!(self; i32_const(0xffff) i32_and());
                }
                self.set(op.a);
            }
            Xchg32RR => {
                self.get(op.a);
                self.get(op.b);
                self.set(op.a);
                self.set(op.b);
            }
            Xchg32RM => {
                self.linear(op, 4, true);
                self.modify_load(4, local::T0);
                wasm!(self; local_get(local::R0 + u32::from(op.a & 7)) local_set(local::T1));
                self.modify_store(4, local::T1);
                wasm!(self; local_get(local::T0));
                self.set(op.a);
            }
            Cmov32RR | Cmov32RM => {
                if op.kind == Cmov32RM {
                    self.linear(op, 4, false);
                    self.load(4, local::T0);
                    wasm!(self; local_get(local::T0));
                } else {
                    self.get(op.b);
                }
                self.get(op.a);
                self.condition(op.imm as u8);
                wasm!(self; select());
                self.set(op.a);
            }
            SetccR | SetccM => {
                self.condition(op.b);
                wasm!(self; i32_const(0) i32_ne() local_set(local::T0));
                if op.kind == SetccR {
                    self.set_sized(op.a, 1, local::T0);
                } else {
                    self.linear(op, 1, true);
                    self.store(1, local::T0);
                }
            }
            Bswap32 => {
                let r = local::R0 + u32::from(op.a & 7);
                wasm!(self;
                    local_get(r) i32_const(8) i32_rotl() i32_const(0x00ff_00ff) i32_and()
                    local_get(r) i32_const(8) i32_rotr() i32_const(0xff00_ff00_u32 as i32) i32_and()
                    i32_or() local_set(r));
            }
            Push32R => {
                self.get(op.a);
                wasm!(self; local_set(local::T0));
                self.push();
            }
            Push32I => {
                wasm!(self; i32_const(op.imm as i32) local_set(local::T0));
                self.push();
            }
            Push32M => {
                self.linear(op, 4, false);
                self.load(4, local::T0);
                self.push();
            }
            Pop32R => {
                self.at_register(RSP);
                self.load(4, local::T0);
                wasm!(self; local_get(ESP) i32_const(4) i32_add() local_set(ESP) local_get(local::T0));
                self.set(op.a);
            }
            Leave32 => {
                self.at_register(RBP);
                self.load(4, local::T0);
                wasm!(self; local_get(EBP) i32_const(4) i32_add() local_set(ESP) local_get(local::T0) local_set(EBP));
            }
            Inc32R | Dec32R => {
                self.get(op.a);
                wasm!(self; local_set(local::T0));
                self.step(4, op.kind == Inc32R);
                self.set_sized(op.a, 4, local::T2);
            }
            Inc32M | Dec32M => {
                self.linear(op, 4, true);
                self.modify_load(4, local::T0);
                self.step(4, op.kind == Inc32M);
                self.modify_store(4, local::T2);
            }
            Neg32R => {
                self.get(op.a);
                wasm!(self; local_set(local::T1) i32_const(0) local_set(local::T0));
                self.compute(5, 4);
                self.set_sized(op.a, 4, local::T2);
            }
            Not32R => {
                self.get(op.a);
                wasm!(self; i32_const(-1) i32_xor());
                self.set(op.a);
            }
            UnaryE => self.unary(op),
            Shl32RI | Shr32RI | Sar32RI => {
                wasm!(self; i32_const(op.imm as i32) local_set(local::T1));
                self.shift(op);
            }
            Shl32RC | Shr32RC | Sar32RC => {
                self.settle_kind();
                wasm!(self; local_get(ECX) i32_const(31) i32_and() local_tee(local::T1));
                self.open_if();
                self.shift(op);
                if let Some(kind) = shift_kind(op.kind).filter(|_| self.live) {
                    wasm!(self; i32_const(kind as i32) local_set(local::KIND));
                }
                self.close();
            }
            ShiftRI => self.shift_narrow(op),
            ShiftE => self.shift_memory(op),
            Rol32RI | Ror32RI => self.rotate(op),
            Shld32RRI | Shrd32RRI => self.double_shift(op),
            Imul32RR | Imul32RRI | Imul32RM | Imul32RMI => {
                if matches!(op.kind, Imul32RM | Imul32RMI) {
                    self.linear(op, 4, false);
                    self.load(4, local::T1);
                } else {
                    self.get(op.b);
                    wasm!(self; local_set(local::T1));
                }
                if matches!(op.kind, Imul32RRI | Imul32RMI) {
                    wasm!(self; i32_const(op.imm as i32));
                } else {
                    self.get(op.a);
                }
                wasm!(self; local_set(local::T0));
                if self.live {
                    self.product(true, false);
                } else {
                    wasm!(self; local_get(local::T0) local_get(local::T1) i32_mul() local_set(local::T2));
                }
                self.set_sized(op.a, 4, local::T2);
            }
            Mul32R | Imul32R => {
                self.get(op.a);
                wasm!(self; local_set(local::T1));
                self.multiply(op.kind == Imul32R);
            }
            Div32R => {
                self.get(op.a);
                wasm!(self; local_set(local::T0));
                self.divide();
            }
            MulDivE => match op.imm & 0xff {
                n @ (4 | 5) => {
                    self.operand(op, 4, local::T1);
                    self.multiply(n == 5);
                }
                _ => {
                    self.operand(op, 4, local::T0);
                    self.divide();
                }
            },
            CmpxchgE => self.compare_and_exchange(op),
            StringOnce => {
                if let Some(uses) = Uses::of(op) {
                    self.string_once(op, uses);
                }
            }
            Cld => self.clear_direction(),
            Cdq => wasm!(self; local_get(EAX) i32_const(31) i32_shr_s() local_set(EDX)),
            Cwde => wasm!(self; local_get(EAX) i32_extend16_s() local_set(EAX)),
            Cbw => {
                wasm!(self; local_get(EAX) i32_extend8_s() i32_const(0xffff) i32_and() local_set(local::T0));
                self.set_sized(0, 2, local::T0);
            }
            Bt32RR | Bt32RI => {
                self.all_flags();
                wasm!(self; i32_const(!(CF as i32)) i32_and());
                self.get(op.a);
                if op.kind == Bt32RR {
                    self.get(op.b);
                } else {
                    wasm!(self; i32_const((op.imm & 31) as i32));
                }
                wasm!(self; i32_shr_u() i32_const(1) i32_and() i32_or());
                self.set_eager();
            }
            Bsf32R | Bsr32R => self.bit_scan(op),
            Jmp => self.go(insn.target()),
            Jcc => {
                self.condition(op.a);
                self.branch(insn);
            }
            LoopCx => self.loop_cx(insn),
            CallRel32 => {
                self.push_return(insn);
                self.call(insn.target());
            }
            JmpR32 => {
                self.get(op.a);
                wasm!(self; local_set(local::RIP));
                self.go_to_rip();
            }
            JmpM32 => {
                self.linear(op, 4, false);
                self.load(4, local::RIP);
                self.go_to_rip();
            }
            CallR32 | CallM32 => {
                if op.kind == CallR32 {
                    self.get(op.a);
                    wasm!(self; local_set(local::T1));
                } else {
                    self.linear(op, 4, false);
                    self.load(4, local::T1);
                }
                self.push_return(insn);
                wasm!(self; local_get(local::T1) local_set(local::RIP));
                self.go_to_rip();
            }
            Ret32 | RetImm32 => {
                self.at_register(RSP);
                self.load(4, local::T0);
                let popped = 4i32.wrapping_add(if op.kind == RetImm32 { op.imm as i32 } else { 0 });
                wasm!(self; local_get(ESP) i32_const(popped) i32_add() local_set(ESP)
                    local_get(local::T0) local_set(local::RIP));
                self.go_to_rip();
            }
            X87Reg | X87Load | X87Store | Fwait => self.x87(insn),
            Simd => self.simd(insn),
            // `translated` names the kinds above and no others.
            _ => self.fault(),
        }
    }

    fn extend(&mut self, signed: bool, width: u32) {
        match (signed, width) {
            (true, 1) => wasm!(self; i32_extend8_s()),
            (true, _) => wasm!(self; i32_extend16_s()),
            _ => {}
        }
    }

    fn load_register(&mut self, op: &Op, width: u32) {
        self.linear(op, width, false);
        self.load(width, local::T0);
        self.set_sized(op.a, width, local::T0);
    }

    fn store_register(&mut self, op: &Op, width: u32) {
        self.linear(op, width, true);
        self.get(op.a);
        if width == 1 && op.a & 0x20 != 0 {
            wasm!(self; i32_const(8) i32_shr_u());
        }
        wasm!(self; local_set(local::T0));
        self.store(width, local::T0);
    }

    fn store_immediate(&mut self, op: &Op, width: u32) {
        self.linear(op, width, true);
        wasm!(self; i32_const(op.imm as i32) local_set(local::T0));
        self.store(width, local::T0);
    }

    fn move_sized(&mut self, op: &Op, width: u32) {
        self.get_sized(op.b, width);
        wasm!(self; local_set(local::T0));
        self.set_sized(op.a, width, local::T0);
    }

    fn set_immediate(&mut self, op: &Op, width: u32) {
        let value = op.imm & if width == 1 { 0xff } else { 0xffff };
        wasm!(self; i32_const(value as i32) local_set(local::T0));
        self.set_sized(op.a, width, local::T0);
    }

    /// Loads a register-or-memory operand, zero-extended, into a local.
    fn operand(&mut self, op: &Op, width: u32, into: u32) {
        if op.base == REG_FORM {
            self.get_sized(op.b, width);
            wasm!(self; local_set(into));
        } else {
            self.linear(op, width, false);
            self.load(width, into);
        }
    }

    // --- stack ---

    /// LIN becomes what a register holds.
    pub(super) fn at_register(&mut self, r: usize) {
        (self.class, self.direct) = (r as u8, Some(0));
        wasm!(self; local_get(local::R0 + r as u32) local_set(local::LIN));
    }

    /// Pushes T0.
    fn push(&mut self) {
        wasm!(self; local_get(ESP) i32_const(4) i32_sub() local_set(local::LIN));
        (self.class, self.direct) = (RSP as u8, Some(-4i32 as u32));
        self.store(4, local::T0);
        wasm!(self; local_get(ESP) i32_const(4) i32_sub() local_set(ESP));
    }

    /// CLI, at level 0.
    fn clear_interrupts(&mut self) {
        let (level, flags) = (at(self.cpu(offset_of!(Cpu, cpl))), at(self.cpu(offset_of!(Cpu, system_flags))));
        wasm!(self; i32_const(0) i32_load8_u(level));
        self.open_seldom();
        self.fault();
        self.close();
        wasm!(self; i32_const(0) i32_const(0) i32_load(flags) i32_const(!IF as i32) i32_and() i32_store(flags));
    }

    fn push_return(&mut self, insn: &Insn) {
        wasm!(self; local_get(local::VBASE) i32_const(insn.next() as i32) i32_add() local_set(local::T0));
        self.push();
    }

    // --- branches ---

    /// Pops a condition: to the target, or on.
    fn branch(&mut self, insn: &Insn) {
        self.open_if();
        self.go(insn.target());
        self.close();
        self.go(insn.next());
    }

    #[inline(never)]
    fn loop_cx(&mut self, insn: &Insn) {
        let op = &insn.op;
        let narrow = op.b == 2;
        if op.a == 3 {
            self.get_sized(RCX as u8, if narrow { 2 } else { 4 });
            wasm!(self; i32_eqz());
            return self.branch(insn);
        }
        wasm!(self; local_get(ECX) i32_const(1) i32_sub());
        if narrow {
            wasm!(self; i32_const(0xffff) i32_and());
        }
        wasm!(self; local_set(local::T0));
        self.set_sized(RCX as u8, if narrow { 2 } else { 4 }, local::T0);
        wasm!(self; local_get(local::T0) i32_const(0) i32_ne());
        if op.a < 2 {
            self.condition(if op.a == 0 { 5 } else { 4 });
            wasm!(self; i32_const(0) i32_ne() i32_and());
        }
        self.branch(insn);
    }

    // --- arithmetic ---

    /// A two-operand operation: number, operand form and width.
    #[inline(never)]
    fn arithmetic(&mut self, op: &Op, n: u8, form: u8, width: u32) {
        let writes = n < CMP;
        let mask = u32::MAX >> (32 - 8 * width);
        match form {
            0 | 1 => {
                self.get_sized(op.a, width);
                wasm!(self; local_set(local::T0));
                if form == 0 {
                    self.get_sized(op.b, width);
                } else {
                    wasm!(self; i32_const((op.imm & mask) as i32));
                }
                wasm!(self; local_set(local::T1));
                self.compute(n, width);
                if writes {
                    self.set_sized(op.a, width, local::T2);
                }
            }
            2 => {
                self.linear(op, width, false);
                self.load(width, local::T1);
                self.get_sized(op.a, width);
                wasm!(self; local_set(local::T0));
                self.compute(n, width);
                if writes {
                    self.set_sized(op.a, width, local::T2);
                }
            }
            _ => {
                self.linear(op, width, writes);
                if writes {
                    self.modify_load(width, local::T0);
                } else {
                    self.load(width, local::T0);
                }
                if form == 3 {
                    self.get_sized(op.a, width);
                } else {
                    wasm!(self; i32_const((op.imm & mask) as i32));
                }
                wasm!(self; local_set(local::T1));
                self.compute(n, width);
                if writes {
                    self.modify_store(width, local::T2);
                }
            }
        }
    }

    pub(super) fn cut(&mut self, width: u32) {
        match width {
            1 => wasm!(self; i32_const(0xff) i32_and()),
            2 => wasm!(self; i32_const(0xffff) i32_and()),
            _ => {}
        }
    }

    /// Records the flags of T0 - T1.
    pub(super) fn record_difference(&mut self, width: u32) {
        self.compute(7, width);
    }

    /// T2 = T0 operation T1, and records the flags.
    fn compute(&mut self, n: u8, width: u32) {
        if n == ADC || n == SBB {
            return self.with_carry(n == SBB, width);
        }
        wasm!(self; local_get(local::T0) local_get(local::T1));
        match n {
            0 => wasm!(self; i32_add()),
            1 => wasm!(self; i32_or()),
            4 | 8 => wasm!(self; i32_and()),
            6 => wasm!(self; i32_xor()),
            _ => wasm!(self; i32_sub()),
        }
        if matches!(n, 0 | 5 | 7) {
            self.cut(width);
        }
        wasm!(self; local_set(local::T2));
        if !self.live {
            return;
        }
        wasm!(self; local_get(local::T2) local_set(local::RES));
        if matches!(n, 0 | 5 | 7) {
            wasm!(self; local_get(local::T0) local_set(local::A) local_get(local::T1) local_set(local::B));
        } else {
            wasm!(self; i32_const(0) local_set(local::A));
        }
    }

    /// ADC and SBB.
    #[inline(never)]
    fn with_carry(&mut self, borrow: bool, width: u32) {
        self.carry();
        wasm!(self; local_set(local::T3) local_get(local::T0) local_get(local::T1));
        if borrow {
            wasm!(self; i32_sub() local_get(local::T3) i32_sub());
        } else {
            wasm!(self; i32_add() local_get(local::T3) i32_add());
        }
        self.cut(width);
        wasm!(self; local_set(local::T2));
        if !self.live {
            return;
        }
        if width == 4 {
            // All of them follow from the operands and the result.
            wasm!(self; local_get(local::T0) local_set(local::A) local_get(local::T1) local_set(local::B)
                local_get(local::T2) local_set(local::RES));
            return;
        }
        // CF: the sum is below an addend, or equal to it with a carry coming in; likewise for a difference.
        if borrow {
            wasm!(self;
                local_get(local::T0) local_get(local::T1) i32_lt_u()
                local_get(local::T0) local_get(local::T1) i32_eq());
        } else {
            wasm!(self;
                local_get(local::T2) local_get(local::T0) i32_lt_u()
                local_get(local::T2) local_get(local::T0) i32_eq());
        }
        wasm!(self; local_get(local::T3) i32_and() i32_or()
            local_get(local::T0) local_get(local::T1) i32_xor() local_get(local::T2) i32_xor()
            i32_const(16) i32_and() i32_or()
            local_get(local::T0) local_get(local::T2) i32_xor()
            local_get(local::T1) local_get(if borrow { local::T0 } else { local::T2 }) i32_xor() i32_and()
            i32_const(8 * width as i32 - 1) i32_shr_u() i32_const(1) i32_and() i32_const(11) i32_shl() i32_or()
            local_set(local::A)
            local_get(local::T2) local_set(local::RES));
    }

    /// T2 = T0 plus or minus one; CF is kept.
    #[inline(never)]
    fn step(&mut self, width: u32, inc: bool) {
        if self.live {
            self.carry();
            wasm!(self; local_set(local::A));
        }
        wasm!(self; local_get(local::T0) i32_const(1));
        if inc {
            wasm!(self; i32_add());
        } else {
            wasm!(self; i32_sub());
        }
        self.cut(width);
        wasm!(self; local_set(local::T2));
        if self.live {
            wasm!(self; local_get(local::T2) local_set(local::RES));
        }
    }

    #[inline(never)]
    fn unary(&mut self, op: &Op) {
        let (n, width) = (op.imm & 0xff, op.imm >> 8);
        let memory = op.base != REG_FORM;
        let negate = n == Unary::Neg as u32;
        if memory {
            self.linear(op, width, true);
            self.modify_load(width, local::T0);
        } else {
            self.get_sized(op.b, width);
            wasm!(self; local_set(local::T0));
        }
        if n == Unary::Not as u32 {
            wasm!(self; local_get(local::T0) i32_const(-1) i32_xor());
            self.cut(width);
            wasm!(self; local_set(local::T2));
        } else if negate {
            wasm!(self; local_get(local::T0) local_set(local::T1) i32_const(0) local_set(local::T0));
            self.compute(5, width);
        } else {
            self.step(width, n == Unary::Inc as u32);
        }
        if memory {
            self.modify_store(width, local::T2);
        } else {
            self.set_sized(op.b, width, local::T2);
        }
    }

    /// The flags on the stack become the record.
    pub(super) fn set_eager(&mut self) {
        wasm!(self; local_set(local::A) i32_const(0) local_set(local::RES));
    }

    /// W = T0 × T1, T2 its low half. One-operand IMUL records its flags as they are (`explicit`).
    #[inline(never)]
    fn product(&mut self, signed: bool, explicit: bool) {
        for operand in [local::T0, local::T1] {
            wasm!(self; local_get(operand));
            if signed {
                wasm!(self; i64_extend_i32_s());
            } else {
                wasm!(self; i64_extend_i32_u());
            }
        }
        wasm!(self; i64_mul() local_tee(local::W) i32_wrap_i64() local_set(local::T2));
        if !self.live {
            return;
        }
        wasm!(self; local_get(local::T2) local_set(local::RES));
        if signed && explicit {
            wasm!(self; local_get(local::W) local_get(local::T2) i64_extend_i32_s() i64_ne()
                i32_const((CF | OF) as i32) i32_mul() local_set(local::A));
        } else {
            wasm!(self; local_get(local::T2) local_set(local::A)
                local_get(local::W) i64_const(32) i64_shr_u() i32_wrap_i64() local_set(local::B));
        }
    }

    /// EDX:EAX = EAX × T1.
    fn multiply(&mut self, signed: bool) {
        wasm!(self; local_get(EAX) local_set(local::T0));
        self.product(signed, true);
        wasm!(self; local_get(local::T2) local_set(EAX)
            local_get(local::W) i64_const(32) i64_shr_u() i32_wrap_i64() local_set(EDX));
    }

    /// CMPXCHG of 32 bits in memory: what is written is the operand itself where EAX differs from it.
    #[inline(never)]
    fn compare_and_exchange(&mut self, op: &Op) {
        self.linear(op, 4, true);
        self.modify_load(4, local::T1);
        wasm!(self; local_get(EAX) local_set(local::T0));
        self.get(op.a);
        wasm!(self; local_get(local::T1) local_get(local::T0) local_get(local::T1) i32_eq() select() local_set(local::T3));
        self.modify_store(4, local::T3);
        // EAX is the operand if it was equal to it, too.
        wasm!(self; local_get(local::T1) local_set(EAX));
        self.compute(CMP, 4);
    }

    /// DIV by T0: the interpreter raises what it raises.
    #[inline(never)]
    fn divide(&mut self) {
        // The quotient fits when the dividend's upper half is below the divisor, which is then not zero.
        wasm!(self; local_get(local::T0) local_get(EDX) i32_le_u());
        self.open_seldom();
        self.fault();
        self.close();
        wasm!(self; local_get(EDX) i32_eqz());
        self.open_if();
        wasm!(self; local_get(EAX) local_get(local::T0) i32_rem_u() local_set(EDX)
            local_get(EAX) local_get(local::T0) i32_div_u() local_set(EAX) else_()
            local_get(EDX) i64_extend_i32_u() i64_const(32) i64_shl() local_get(EAX) i64_extend_i32_u() i64_or()
            local_tee(local::W) local_get(local::T0) i64_extend_i32_u() i64_rem_u() i32_wrap_i64() local_set(EDX)
            local_get(local::W) local_get(local::T0) i64_extend_i32_u() i64_div_u() i32_wrap_i64() local_set(EAX));
        self.close();
    }

    #[inline(never)]
    fn bit_scan(&mut self, op: &Op) {
        self.get(op.b);
        wasm!(self; local_set(local::T0));
        if op.kind == Kind::Bsr32R {
            wasm!(self; i32_const(31) local_get(local::T0) i32_clz() i32_sub());
        } else {
            wasm!(self; local_get(local::T0) i32_ctz());
        }
        self.get(op.a);
        wasm!(self; local_get(local::T0) select());
        self.set(op.a);
        if self.live {
            wasm!(self; local_get(local::T0) local_set(local::RES) i32_const(0) local_set(local::A));
        }
    }
}
