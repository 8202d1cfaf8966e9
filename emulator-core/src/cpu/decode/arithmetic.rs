//! Lowering of moves, arithmetic, shifts and bit instructions.

use super::super::op::{ALU8, ALU16, ALU32, Form, Kind, Op, REG_FORM, SEG_FLAT, System, Unary};
use super::super::state::ZERO_REG;
use super::{Lower, reg};
use iced_x86::{OpKind, Register};

impl Lower<'_> {
    /// Operand `n` is a register or memory, for kinds that take either.
    pub(super) fn either(&mut self, n: u32) {
        if self.is_reg(n) {
            self.op.base = REG_FORM;
            self.op.b = self.reg(n);
        } else {
            self.memory();
        }
    }

    /// The five-form arithmetic shape; `None` for another operand combination.
    pub(super) fn form(&mut self) -> Option<Form> {
        match (self.insn.op0_kind(), self.insn.op1_kind()) {
            (OpKind::Register, OpKind::Register) => {
                (self.op.a, self.op.b) = (self.reg(0), self.reg(1));
                Some(Form::RR)
            }
            (OpKind::Register, OpKind::Memory) => {
                self.op.a = self.reg(0);
                self.memory();
                Some(Form::RM)
            }
            (OpKind::Memory, OpKind::Register) => {
                self.op.a = self.reg(1);
                self.memory();
                Some(Form::MR)
            }
            (OpKind::Register, _) => {
                (self.op.a, self.op.imm) = (self.reg(0), self.imm(1));
                Some(Form::RI)
            }
            (OpKind::Memory, _) => {
                self.op.imm = self.imm(1);
                self.memory();
                Some(Form::MI)
            }
            _ => None,
        }
    }

    pub(super) fn alu(&mut self, operation: u8) -> Option<Op> {
        let width = self.width(0);
        let form = self.form()?;
        match width {
            1 => self.kind(ALU8[usize::from(operation)][form as usize]),
            4 => self.kind(ALU32[usize::from(operation)][form as usize]),
            _ => self.alu16(form, operation),
        }
    }

    pub(super) fn alu16(&mut self, form: Form, operation: u8) -> Option<Op> {
        if form == Form::RR {
            self.op.imm = operation.into();
        } else {
            self.op.b = operation;
        }
        self.kind(ALU16[form as usize])
    }

    pub(super) fn test(&mut self) -> Option<Op> {
        use Kind::*;
        let width = self.width(0);
        let form = match self.form()? {
            Form::RM => Form::MR,
            f => f,
        };
        match (width, form) {
            (1, Form::RR) => self.kind(Test8RR),
            (1, Form::RI) => self.kind(Test8RI),
            (1, Form::MR) => self.kind(Test8MR),
            (1, _) => self.kind(Test8MI),
            (4, Form::RR) => self.kind(Test32RR),
            (4, Form::RI) => self.kind(Test32RI),
            (4, Form::MR) => self.kind(Test32MR),
            (4, _) => self.kind(Test32MI),
            (_, form) => self.alu16(form, 8),
        }
    }

    pub(super) fn mov(&mut self) -> Option<Op> {
        use Kind::*;
        for (n, to) in [(0, true), (1, false)] {
            if !self.is_reg(n) {
                continue;
            }
            let r = self.insn.op_register(n);
            let (code, number) = if let Some(number) = reg::segment(r) {
                (if to { System::MovToSeg } else { System::MovFromSeg }, number)
            } else if let Some(number) = reg::control(r) {
                (if to { System::MovToCr } else { System::MovFromCr }, number)
            } else if let Some(number) = reg::debug(r) {
                (if to { System::MovToDr } else { System::MovFromDr }, number)
            } else if (Register::TR0 as u32..=Register::TR7 as u32).contains(&(r as u32)) {
                return None;
            } else {
                continue;
            };
            self.op.a = number;
            self.either(1 - n);
            let width = self.width(1 - n);
            return self.system_width(code, width);
        }
        let width = self.width(0);
        let table = match width {
            1 => [Mov8RR, Mov8RI, Mov8RM, Mov8MR, Mov8MI],
            4 => [Mov32RR, Mov32RI, Mov32RM, Mov32MR, Mov32MI],
            _ => [Mov16RR, Mov16RI, Mov16RM, Mov16MR, Mov16MI],
        };
        let form = self.form()?;
        // The commonest memory operands have forms of their own.
        let plain = self.op.seg == SEG_FLAT && self.op.index == ZERO_REG as u8 && width == 4;
        self.kind(match form {
            Form::RM if plain => Mov32RB,
            Form::MR if plain => Mov32BR,
            form => table[form as usize],
        })
    }

    pub(super) fn extend(&mut self, signed: bool) -> Option<Op> {
        use Kind::*;
        self.op.a = self.reg(0);
        let (dst, src) = (self.width(0), self.width(1));
        let from_reg = self.is_reg(1);
        if dst == 4 {
            if from_reg {
                self.op.b = self.reg(1);
            } else {
                self.memory();
            }
            return self.kind(match (signed, src, from_reg) {
                (false, 1, true) => Movzx32From8R,
                (false, 1, false) => Movzx32From8M,
                (false, _, true) => Movzx32From16R,
                (false, _, false) => Movzx32From16M,
                (true, 1, true) => Movsx32From8R,
                (true, 1, false) => Movsx32From8M,
                (true, _, true) => Movsx32From16R,
                (true, _, false) => Movsx32From16M,
            });
        }
        if src == 2 {
            let form = self.form()?;
            return self.kind(if form == Form::RR { Mov16RR } else { Mov16RM });
        }
        self.either(1);
        self.kind_imm(Movx16From8E, u32::from(signed))
    }

    pub(super) fn unary(&mut self, operation: Unary) -> Option<Op> {
        use Kind::*;
        let width = self.width(0);
        if width == 4 {
            if self.is_reg(0) {
                self.op.a = self.reg(0);
                return self.kind(match operation {
                    Unary::Inc => Inc32R,
                    Unary::Dec => Dec32R,
                    Unary::Not => Not32R,
                    Unary::Neg => Neg32R,
                });
            }
            if let Unary::Inc | Unary::Dec = operation {
                self.memory();
                return self.kind(if operation == Unary::Inc { Inc32M } else { Dec32M });
            }
        }
        self.either(0);
        self.kind_imm(UnaryE, operation as u32 | width << 8)
    }

    /// Operation numbers as in the opcode's reg field: 0 ROL … 7 SAR.
    pub(super) fn shift(&mut self, operation: u32) -> Option<Op> {
        use Kind::*;
        let width = self.width(0);
        let by_cl = self.is_reg(1);
        let count = if by_cl { 0 } else { self.imm(1) & 31 };
        if width == 4 && self.is_reg(0) && (by_cl || count != 0) {
            let kind = match (operation, by_cl) {
                (0, false) => Some(Rol32RI),
                (1, false) => Some(Ror32RI),
                (4 | 6, false) => Some(Shl32RI),
                (5, false) => Some(Shr32RI),
                (7, false) => Some(Sar32RI),
                (4 | 6, true) => Some(Shl32RC),
                (5, true) => Some(Shr32RC),
                (7, true) => Some(Sar32RC),
                _ => None,
            };
            if let Some(kind) = kind {
                self.op.a = self.reg(0);
                return self.kind_imm(kind, count);
            }
        }
        let simple = self.is_reg(0) && width < 4 && !by_cl && count != 0 && operation >= 4;
        self.either(0);
        self.kind_imm(
            if simple { ShiftRI } else { ShiftE },
            count | u32::from(by_cl) << 8 | operation << 12 | width << 16,
        )
    }

    pub(super) fn double_shift(&mut self, right: bool) -> Option<Op> {
        let width = self.width(0);
        let by_cl = self.is_reg(2);
        let count = if by_cl { 0 } else { self.imm(2) & 31 };
        self.op.a = self.reg(1);
        if width == 4 && self.is_reg(0) && !by_cl && count != 0 {
            self.op.b = self.op.a;
            self.op.a = self.reg(0);
            return self.kind_imm(if right { Kind::Shrd32RRI } else { Kind::Shld32RRI }, count);
        }
        self.either(0);
        self.kind_imm(Kind::DoubleShiftE, count | u32::from(by_cl) << 8 | u32::from(right) << 12 | width << 16)
    }

    /// 0 BT, 1 BTS, 2 BTR, 3 BTC.
    pub(super) fn bit(&mut self, operation: u32) -> Option<Op> {
        let width = self.width(0);
        let by_reg = self.is_reg(1);
        let bit = if by_reg {
            self.op.a = self.reg(1);
            0
        } else {
            self.imm(1) & (width * 8 - 1)
        };
        if operation == 0 && width == 4 && self.is_reg(0) {
            self.op.b = self.op.a;
            self.op.a = self.reg(0);
            return self.kind_imm(if by_reg { Kind::Bt32RR } else { Kind::Bt32RI }, bit);
        }
        self.either(0);
        self.kind_imm(Kind::BitE, bit | u32::from(by_reg) << 8 | operation << 12 | width << 16)
    }

    pub(super) fn imul(&mut self) -> Option<Op> {
        use Kind::*;
        let width = self.width(0);
        match self.insn.op_count() {
            1 => self.mul_div(5),
            2 if width == 4 => {
                self.op.a = self.reg(0);
                if self.is_reg(1) {
                    self.op.b = self.reg(1);
                    return self.kind(Imul32RR);
                }
                self.memory();
                self.kind(Imul32RM)
            }
            2 => {
                self.op.a = self.reg(0);
                self.either(1);
                self.kind(Imul16E)
            }
            _ => {
                self.op.a = self.reg(0);
                self.op.imm = self.imm(2);
                if width == 4 {
                    if self.is_reg(1) {
                        self.op.b = self.reg(1);
                        return self.kind(Imul32RRI);
                    }
                    self.memory();
                    return self.kind(Imul32RMI);
                }
                self.either(1);
                self.kind(Imul16EI)
            }
        }
    }

    /// 4 MUL, 5 IMUL, 6 DIV, 7 IDIV.
    pub(super) fn mul_div(&mut self, operation: u32) -> Option<Op> {
        use Kind::*;
        let width = self.width(0);
        if width == 4 && self.is_reg(0) {
            self.op.a = self.reg(0);
            return self.kind(match operation {
                4 => Mul32R,
                5 => Imul32R,
                6 => Div32R,
                _ => Idiv32R,
            });
        }
        self.either(0);
        self.kind_imm(MulDivE, operation | width << 8)
    }

    pub(super) fn xchg(&mut self) -> Option<Op> {
        let width = self.width(0);
        let mem = if self.is_mem(0) {
            Some(1)
        } else if self.is_mem(1) {
            Some(0)
        } else {
            None
        };
        match mem {
            Some(reg) => {
                self.op.a = self.reg(reg);
                self.memory();
            }
            None => {
                self.op.a = self.reg(0);
                self.op.b = self.reg(1);
                if width != 4 {
                    self.op.base = REG_FORM;
                }
            }
        }
        self.kind(match (width, mem.is_some()) {
            (4, false) => Kind::Xchg32RR,
            (4, true) => Kind::Xchg32RM,
            (2, _) => Kind::Xchg16E,
            _ => Kind::Xchg8E,
        })
    }

    pub(super) fn bit_scan(&mut self, reverse: bool) -> Option<Op> {
        let width = self.width(0);
        self.op.a = self.reg(0);
        if width == 4 && self.is_reg(1) {
            self.op.b = self.reg(1);
            return self.kind(if reverse { Kind::Bsr32R } else { Kind::Bsf32R });
        }
        self.either(1);
        self.kind_imm(Kind::BitScanE, u32::from(reverse) | width << 8)
    }

    /// CMPXCHG and XADD: `a` is the register operand, `imm` the width.
    pub(super) fn locked(&mut self, kind: Kind) -> Option<Op> {
        let width = self.width(0);
        self.op.a = self.reg(1);
        self.either(0);
        self.kind_imm(kind, width)
    }
}
