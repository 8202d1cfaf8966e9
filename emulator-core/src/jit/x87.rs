//! x87 instructions in regions: the common ones call a function of the unit each ([`direct`]), with operands from the
//! TLB's fast path; what is rare is interpreted.
//!
//! A guard at a block's first one leaves when the unit is switched off or an exception is pending; an instruction behind
//! which one becomes pending leaves at the next. The pointers to the last instruction and its operand are written where
//! something can look at them, not by each instruction.

use super::emit::{Emitter, at, local, wasm};
use super::region::Insn;
use super::{call, flow, leave};
use crate::cpu::flags::{CF, LazyOp, PF, ZF};
use crate::cpu::op::{Kind, Op, SEG_ADDR16, SEG_FLAT};
use crate::cpu::segment::Segment;
use crate::cpu::state::{Cpu, RAX, cr0};
use crate::fpu::X87Op;
use crate::fpu::x87::{ES, direct, field};
use std::mem::{offset_of, size_of};

/// What is known of the unit while a block is emitted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unit {
    /// It can be used and nothing is pending.
    usable: bool,
    /// SSE can be used.
    pub(super) sse: bool,
    /// MXCSR was looked at.
    pub(super) control: bool,
    /// A bit for each XMM register whose low element is normal or zero.
    pub(super) clean: u8,
    /// Likewise for both elements.
    pub(super) both_clean: u8,
    /// An instruction of the unit follows in the block.
    more: bool,
    /// The last instruction, if its pointers are still to be written: its offset in the page and opcode.
    last: Option<(u16, u16)>,
    /// The segment of the last memory operand, likewise; its offset is in a local.
    operand: Option<u8>,
}

/// The number and form (0 to 6: ST(0), ST(i), popping, m32, m64, and integers) of an arithmetic operation.
fn arithmetic(x: X87Op) -> Option<(u32, u32)> {
    let n = (x as u32).checked_sub(X87Op::FaddReg as u32)?;
    (n < 42).then_some((n / 7, n % 7))
}

fn operation(op: &Op) -> Option<X87Op> {
    X87Op::ALL.get(usize::from(op.a)).copied()
}

/// Whether the translator has its own code for an x87 instruction.
#[must_use]
pub fn translated(op: &Op) -> bool {
    use X87Op::*;
    if op.kind == Kind::Fwait {
        return true;
    }
    let Some(x) = operation(op) else { return false };
    match op.kind {
        Kind::X87Reg => x != Fcmov,
        Kind::X87Load => {
            matches!(x, FldM32 | FldM64 | FildI16 | FildI32 | FildI64 | Fldcw | FcomM32 | FcomM64 | FcompM32 | FcompM64)
                || arithmetic(x).is_some_and(|(_, form)| form < 5)
        }
        Kind::X87Store => !matches!(x, FstpM80 | Fbstp | FistpI64 | FisttpI16 | FisttpI32 | FisttpI64),
        _ => false,
    }
}

/// Whether an instruction writes the status flags.
#[must_use]
pub fn writes_flags(op: &Op) -> bool {
    use X87Op::*;
    op.kind == Kind::X87Reg && matches!(operation(op), Some(Fcomi | Fcomip | Fucomi | Fucomip))
}

fn of_the_unit(op: &Op) -> bool {
    use Kind::*;
    matches!(op.kind, X87Reg | X87Load | X87Store | X87Env | Fwait | Simd)
}

impl Emitter<'_> {
    fn unit_field(&self, offset: usize) -> u32 {
        self.cpu(offset_of!(Cpu, x87)) + offset as u32
    }

    /// Before each instruction of a block; `rest` begins with it.
    pub(super) fn x87_before(&mut self, rest: &[Insn]) {
        let op = &rest[0].op;
        self.unit.more = rest[1..].iter().any(|insn| of_the_unit(&insn.op));
        let own = of_the_unit(op) && flow::translated(op);
        if !own && flow::observes(op) {
            self.x87_settle();
        }
    }

    /// From here on the unit's pointers are in its fields.
    pub(super) fn x87_settle(&mut self) {
        self.x87_pointers();
        (self.unit.last, self.unit.operand) = (None, None);
    }

    /// A block begins, or an instruction that may have changed anything in the unit was interpreted.
    pub(super) fn x87_forget(&mut self) {
        (self.unit.usable, self.unit.sse, self.unit.control) = (false, false, false);
        (self.unit.clean, self.unit.both_clean) = (0, 0);
    }

    /// Writes the pointers that are not written yet.
    pub(super) fn x87_pointers(&mut self) {
        let selector = |seg: u8| {
            self.cpu(offset_of!(Cpu, seg) + offset_of!(Segment, selector))
                + u32::from(seg) * size_of::<Segment>() as u32
        };
        let (code, data) = (at(selector(1)), self.unit.operand.map(|seg| at(selector(seg))));
        let [fip, fcs, fop, fdp, fds] =
            [field::FIP, field::FCS, field::FOP, field::FDP, field::FDS].map(|offset| at(self.unit_field(offset)));
        if let Some((place, opcode)) = self.unit.last {
            wasm!(self;
                i32_const(0) local_get(local::VBASE) i32_const(place.into()) i32_add() i64_extend_i32_u() i64_store(fip)
                i32_const(0) i32_const(0) i32_load16_u(code) i32_store16(fcs)
                i32_const(0) i32_const((opcode & 0x7ff).into()) i32_store16(fop));
        }
        if let Some(selector) = data {
            wasm!(self;
                i32_const(0) local_get(local::FDP) i64_extend_i32_u() i64_store(fdp)
                i32_const(0) i32_const(0) i32_load16_u(selector) i32_store16(fds));
        }
    }

    /// Leaves unless the unit can be used and nothing is pending.
    fn guard(&mut self) {
        if self.unit.usable {
            return;
        }
        let (control, status) = (at(self.cpu(offset_of!(Cpu, cr0))), at(self.unit_field(field::SW)));
        wasm!(self;
            i32_const(0) i32_load(control) i32_const((cr0::EM | cr0::TS) as i32) i32_and()
            i32_const(0) i32_load16_u(status) i32_const(ES.into()) i32_and() i32_or());
        self.open_seldom();
        self.fault();
        self.close();
        self.unit.usable = true;
    }

    /// Pops whether an exception is pending: then the next instruction is executed alone.
    fn pending(&mut self, insn: &Insn) {
        if !self.unit.more {
            wasm!(self; drop());
            return;
        }
        self.open_seldom();
        self.exit_next(insn, leave::STEP);
        self.close();
    }

    /// Emits an x87 instruction that [`translated`] names.
    #[inline(never)]
    pub(super) fn x87(&mut self, insn: &Insn) {
        use X87Op::*;
        self.guard();
        let op = &insn.op;
        let Some(x) = operation(op).filter(|_| op.kind != Kind::Fwait) else { return };
        if x == Fninit {
            // It clears the pointers: those that are still to be written come before.
            self.x87_settle();
        }
        match op.kind {
            Kind::X87Reg => self.x87_registers(insn, x),
            Kind::X87Load => self.x87_load(insn, x),
            _ => self.x87_store(insn, x),
        }
        if op.kind == Kind::X87Reg && x != FnstswAx && !x.is_control() {
            self.unit.last = Some((insn.at, op.imm as u16));
        }
        if matches!(x, FnstswAx | Fnstcw | FnstswM16) {
            return;
        }
        wasm!(self; local_get(local::T1));
        self.pending(insn);
    }

    fn unit(&mut self) {
        let unit = self.unit_field(0);
        wasm!(self; i32_const(unit as i32));
    }

    fn status_word(&mut self) {
        let (status, top) = (at(self.unit_field(field::SW)), at(self.unit_field(field::TOP)));
        wasm!(self; i32_const(0) i32_load16_u(status) i32_const(0) i32_load8_u(top) i32_const(11) i32_shl() i32_or());
    }

    /// Leaves in T1 whether an exception is pending.
    fn x87_registers(&mut self, insn: &Insn, x: X87Op) {
        use X87Op::*;
        let op = &insn.op;
        let sti = i32::from(op.b);
        let (function, n, m) = match x {
            FnstswAx => {
                self.status_word();
                wasm!(self; local_set(local::T0));
                return self.set_sized(RAX as u8, 2, local::T0);
            }
            FldSti => (direct::LOAD_REGISTER, sti, 0),
            FstSti => (direct::STORE_REGISTER, sti, 0),
            FstpSti => (direct::STORE_REGISTER, sti, 1),
            Fxch => (direct::EXCHANGE, sti, 0),
            FcomReg => (direct::COMPARE, sti, 0),
            FcompReg => (direct::COMPARE, sti, 1),
            Fcompp => (direct::COMPARE, 1, 2),
            Fucom => (direct::COMPARE, sti, 4),
            Fucomp => (direct::COMPARE, sti, 5),
            Fucompp => (direct::COMPARE, 1, 6),
            Fcomi => (direct::COMPARE_FLAGS, sti, 0),
            Fcomip => (direct::COMPARE_FLAGS, sti, 1),
            Fucomi => (direct::COMPARE_FLAGS, sti, 4),
            Fucomip => (direct::COMPARE_FLAGS, sti, 5),
            _ => match arithmetic(x) {
                // ST(0), ST(i), and ST(i) with a pop.
                Some((kind, form)) => (direct::ARITHMETIC[0] + kind, sti, [0, 1, 3][form as usize % 3]),
                None => (direct::REGISTER, x as i32, sti),
            },
        };
        self.unit();
        wasm!(self; i32_const(n) i32_const(m) call(call::X87 + function) local_set(local::T1));
        if function == direct::COMPARE_FLAGS {
            wasm!(self; local_get(local::T1) i32_const((ZF | PF | CF) as i32) i32_and());
            self.set_eager();
            self.state = flow::State::Known(LazyOp::Eager);
            wasm!(self; local_get(local::T1) i32_const(31) i32_shr_u() local_set(local::T1));
        }
    }

    /// An instruction with a memory operand at LIN: `fast` gets it when the TLB knows the address, with a label 0 that
    /// has the interpreter do it. T1 says at the end whether an exception is pending.
    fn x87_memory(&mut self, insn: &Insn, size: u32, write: bool, fast: impl FnOnce(&mut Self)) {
        let op = &insn.op;
        self.linear(op, size, write);
        self.open();
        self.open();
        self.reach(size, write);
        fast(self);
        wasm!(self; br(1));
        self.close();
        let unit = self.unit;
        self.interpret(insn);
        self.unit = unit;
        let status = at(self.unit_field(field::SW));
        wasm!(self; i32_const(0) i32_load16_u(status) i32_const(ES.into()) i32_and() local_set(local::T1));
        self.close();
        if operation(op).is_some_and(|x| !x.is_control()) {
            if op.seg & 7 == SEG_FLAT && op.seg & SEG_ADDR16 == 0 {
                wasm!(self; local_get(local::LIN));
            } else {
                self.offset(op);
                if op.seg & SEG_ADDR16 != 0 {
                    wasm!(self; i32_const(0xffff) i32_and());
                }
            }
            wasm!(self; local_set(local::FDP));
            self.unit.last = Some((insn.at, op.imm as u16));
            self.unit.operand = Some(if op.seg & 7 > 5 { 3 } else { op.seg & 7 });
        }
    }

    fn x87_load(&mut self, insn: &Insn, x: X87Op) {
        use X87Op::*;
        let (function, m) = match x {
            FldM32 => (direct::LOAD_SINGLE, 0),
            FldM64 => (direct::LOAD_DOUBLE, 0),
            FildI16 | FildI32 | FildI64 => (direct::LOAD_INTEGER, 0),
            Fldcw => (direct::CONTROL, 0),
            FcomM32 => (direct::COMPARE_SINGLE, 0),
            FcompM32 => (direct::COMPARE_SINGLE, 1),
            FcomM64 => (direct::COMPARE_DOUBLE, 0),
            FcompM64 => (direct::COMPARE_DOUBLE, 1),
            _ => {
                let (kind, form) = arithmetic(x).unwrap_or((0, 3));
                (direct::ARITHMETIC[form as usize - 2] + kind, 0)
            }
        };
        let ram = at(self.layout.ram);
        self.x87_memory(insn, insn.op.b.into(), false, |e| {
            e.unit();
            e.block_offset();
            match x {
                Fldcw => wasm!(e; i32_load16_u(ram)),
                FildI16 => wasm!(e; i64_load16_s(ram)),
                FildI32 => wasm!(e; i64_load32_s(ram)),
                _ if insn.op.b == 4 => wasm!(e; i64_load32_u(ram)),
                _ => wasm!(e; i64_load(ram)),
            }
            wasm!(e; i32_const(m) call(call::X87 + function) local_set(local::T1));
        });
    }

    fn x87_store(&mut self, insn: &Insn, x: X87Op) {
        use X87Op::*;
        let ram = at(self.layout.ram);
        let size = u32::from(insn.op.b);
        self.x87_memory(insn, size, true, |e| {
            let (function, m) = match x {
                Fnstcw | FnstswM16 => {
                    e.block_offset();
                    if x == Fnstcw {
                        let control = at(e.unit_field(field::CW));
                        wasm!(e; i32_const(0) i32_load16_u(control));
                    } else {
                        e.status_word();
                    }
                    return wasm!(e; i32_store16(ram));
                }
                FstM32 => (direct::STORE_SINGLE, 0),
                FstpM32 => (direct::STORE_SINGLE, 1),
                FstM64 => (direct::STORE_DOUBLE, 0),
                FstpM64 => (direct::STORE_DOUBLE, 1),
                FistI16 | FistI32 => (direct::STORE_INTEGER, size as i32),
                _ => (direct::STORE_INTEGER, 16 + size as i32),
            };
            e.unit();
            wasm!(e; i32_const(m) call(call::X87 + function) local_tee(local::W)
                i64_const(direct::NO_VALUE as i64) i64_eq());
            e.seldom_br_if(0);
            e.block_offset();
            wasm!(e; local_get(local::W));
            match size {
                2 => wasm!(e; i64_store16(ram)),
                4 => wasm!(e; i64_store32(ram)),
                _ => wasm!(e; i64_store(ram)),
            }
            wasm!(e; i32_const(0) local_set(local::T1));
        });
    }
}
