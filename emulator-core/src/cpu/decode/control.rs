//! Lowering of stack, branch, string, I/O and system instructions.

use super::super::op::{Kind, Op, SEG_FLAT, StringOp, System};
use super::{Lower, memory_width, opcode, reg};
use iced_x86::OpKind;

impl Lower<'_> {
    pub(super) fn stack_segment(&mut self) {
        self.op.seg = if self.flat() { SEG_FLAT } else { 2 };
    }

    pub(super) fn push(&mut self) -> Option<Op> {
        use Kind::*;
        let width = self.operand_size();
        let fast = width == 4 && self.stack32();
        if self.is_reg(0) && reg::segment(self.insn.op0_register()).is_some() {
            self.op.a = reg::segment(self.insn.op0_register()).unwrap_or(0);
            return self.system_width(System::PushSeg, width);
        }
        if self.is_reg(0) || self.is_mem(0) {
            if fast && self.is_reg(0) {
                self.op.a = self.reg(0);
                self.stack_segment();
                return self.kind(Push32R);
            }
            if fast && self.flat() {
                self.memory();
                return self.kind(Push32M);
            }
            self.either(0);
            return self.kind_imm(PushE, width);
        }
        self.op.imm = self.imm(0);
        if fast {
            self.stack_segment();
            return self.kind(Push32I);
        }
        self.op.a = width as u8;
        self.kind(PushI)
    }

    pub(super) fn pop(&mut self) -> Option<Op> {
        let width = self.operand_size();
        if self.is_reg(0) && reg::segment(self.insn.op0_register()).is_some() {
            self.op.a = reg::segment(self.insn.op0_register()).unwrap_or(0);
            return self.system_width(System::PopSeg, width);
        }
        if width == 4 && self.stack32() && self.is_reg(0) {
            self.op.a = self.reg(0);
            self.stack_segment();
            return self.kind(Kind::Pop32R);
        }
        self.either(0);
        self.kind_imm(Kind::PopE, width)
    }

    /// Displacement of a near branch from the end of the instruction.
    pub(super) fn branch(&self) -> u32 {
        let next = self.insn.next_ip32();
        match self.insn.op0_kind() {
            OpKind::NearBranch16 => i32::from(self.insn.near_branch16().wrapping_sub(next as u16) as i16) as u32,
            _ => self.insn.near_branch32().wrapping_sub(next),
        }
    }

    pub(super) fn branch_width(&self) -> u8 {
        if self.insn.op0_kind() == OpKind::NearBranch16 { 2 } else { 4 }
    }

    pub(super) fn jcc(&mut self) -> Option<Op> {
        let (first, second) = opcode(self.bytes);
        self.op.a = if first == 0x0f { second & 15 } else { first & 15 };
        self.op.disp = self.branch();
        self.op.b = self.branch_width();
        let fast = self.flat() && self.op.b == 4;
        self.kind(if fast { Kind::Jcc } else { Kind::JccNear })
    }

    pub(super) fn jmp(&mut self) -> Option<Op> {
        use Kind::*;
        match self.insn.op0_kind() {
            OpKind::NearBranch16 | OpKind::NearBranch32 => {
                self.op.disp = self.branch();
                self.op.b = self.branch_width();
                let fast = self.flat() && self.op.b == 4;
                self.kind(if fast { Jmp } else { JmpNear })
            }
            OpKind::FarBranch16 | OpKind::FarBranch32 => self.far_immediate(System::JmpFarImm),
            _ => self.indirect(JmpR32, JmpM32, JmpNearE, System::JmpFarMem),
        }
    }

    pub(super) fn call(&mut self) -> Option<Op> {
        use Kind::*;
        match self.insn.op0_kind() {
            OpKind::NearBranch16 | OpKind::NearBranch32 => {
                self.op.disp = self.branch();
                self.op.b = self.branch_width();
                let fast = self.flat() && self.stack32() && self.op.b == 4;
                self.kind(if fast { CallRel32 } else { CallNear })
            }
            OpKind::FarBranch16 | OpKind::FarBranch32 => self.far_immediate(System::CallFarImm),
            _ => self.indirect(CallR32, CallM32, CallNearE, System::CallFarMem),
        }
    }

    /// `imm`: system code | width << 8 | selector << 16; `disp`: offset.
    pub(super) fn far_immediate(&mut self, code: System) -> Option<Op> {
        let wide = self.insn.op0_kind() == OpKind::FarBranch32;
        self.op.disp = if wide { self.insn.far_branch32() } else { self.insn.far_branch16().into() };
        self.op.imm = u32::from(self.insn.far_branch_selector()) << 16 | if wide { 4 } else { 2 } << 8;
        self.system(code)
    }

    pub(super) fn indirect(&mut self, reg: Kind, mem: Kind, other: Kind, far: System) -> Option<Op> {
        // FF /3 and /5 are far; their memory operand is a 16:16 or 16:32 pointer.
        let (_, modrm) = opcode(self.bytes);
        if matches!(modrm >> 3 & 7, 3 | 5) {
            self.memory();
            let width = memory_width(self.insn.memory_size()) - 2;
            return self.system_width(far, width);
        }
        let width = self.width(0);
        if width == 4 && self.flat() && self.stack32() {
            if self.is_reg(0) {
                self.op.a = self.reg(0);
                return self.kind(reg);
            }
            self.memory();
            return self.kind(mem);
        }
        self.either(0);
        self.kind_imm(other, width)
    }

    pub(super) fn ret_near(&mut self) -> Option<Op> {
        let pop = if self.insn.op_count() > 0 { self.imm(0) & 0xffff } else { 0 };
        let wide = matches!(self.insn.code(), iced_x86::Code::Retnd | iced_x86::Code::Retnd_imm16);
        self.op.imm = pop;
        if wide && self.flat() && self.stack32() {
            return self.kind(if pop == 0 { Kind::Ret32 } else { Kind::RetImm32 });
        }
        self.op.b = if wide { 4 } else { 2 };
        self.kind(Kind::RetNear)
    }

    pub(super) fn loop_cx(&mut self, operation: u8, addr16: bool) -> Option<Op> {
        self.op.a = operation;
        self.op.b = if addr16 { 2 } else { 4 };
        self.op.disp = self.branch();
        self.op.imm = self.branch_width().into();
        self.kind(Kind::LoopCx)
    }

    pub(super) fn loop_addr16(&self) -> bool {
        use iced_x86::Code::*;
        matches!(
            self.insn.code(),
            Loopne_rel8_16_CX
                | Loopne_rel8_32_CX
                | Loope_rel8_16_CX
                | Loope_rel8_32_CX
                | Loop_rel8_16_CX
                | Loop_rel8_32_CX
        )
    }

    pub(super) fn string(&mut self, operation: StringOp, width: u32) -> Option<Op> {
        let i = self.insn;
        let addr16 = (0..i.op_count())
            .any(|n| matches!(i.op_kind(n), OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI));
        self.segment(addr16);
        let rep = if i.has_repne_prefix() {
            2
        } else if i.has_rep_prefix() {
            1
        } else {
            0
        };
        let imm = operation as u32 | width << 8 | rep << 16;
        if matches!(operation, StringOp::Ins | StringOp::Outs) {
            // `a` carries the operation for the system path, which checks I/O permission.
            self.op.imm = imm;
            return self.kind(Kind::StringRep);
        }
        self.kind_imm(if rep != 0 { Kind::StringRep } else { Kind::StringOnce }, imm)
    }

    pub(super) fn io(&mut self, out: bool) -> Option<Op> {
        let (data, port) = if out { (1, 0) } else { (0, 1) };
        self.op.a = self.width(data) as u8;
        if self.is_reg(port) {
            return self.system(if out { System::OutDx } else { System::InDx });
        }
        self.op.b = self.imm(port) as u8;
        self.system(if out { System::Out } else { System::In })
    }

    /// A system op with one register-or-memory operand.
    pub(super) fn system_e(&mut self, code: System) -> Option<Op> {
        let width = self.width(0);
        self.either(0);
        self.system_width(code, width)
    }
}
