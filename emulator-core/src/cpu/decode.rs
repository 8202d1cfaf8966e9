//! Bytes to [`Op`]s: iced-x86 decodes, this module lowers and fuses.
//!
//! Lowering depends only on the bytes and on the mode bits ([`super::state::mode`]), so a decoded page serves
//! every linear address that maps it.

use super::float::FOP_BITS;
use super::op::{ALU8, ALU16, ALU32, Form, Kind, Op, REG_FORM, SEG_ADDR16, SEG_FLAT, StringOp, System, Unary};
use super::simd::{self, decode::Rm};
use super::state::{CpuModel, RDI, ZERO_REG, mode};
use crate::fpu::X87Op;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Before the processors that gave F3 0F BC and BD a meaning of their own (TZCNT, LZCNT) they are BSF and BSR,
/// and F3 0F 09 is WBINVD.
const OPTIONS: u32 = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD | DecoderOptions::NO_WBNOINVD;

/// Longest instruction (SDM vol. 2, 2.3.11).
pub const MAX_LEN: usize = 15;
/// Most ops in a block.
const MAX_OPS: usize = 48;

/// A decoded run of ops that ends with a transfer, at the end of the page or before a system instruction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of code covered.
    pub bytes: u32,
    /// Instructions in it.
    pub instructions: u32,
}

/// Why nothing could be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The first instruction goes on behind the given bytes.
    NeedMoreBytes,
}

/// Decodes a block from `bytes` (from its first byte to the end of the page), appending to `out`.
///
/// # Errors
/// When not even one instruction is complete.
pub fn decode_block(bytes: &[u8], mode_bits: u32, model: CpuModel, out: &mut Vec<Op>) -> Result<Decoded, DecodeError> {
    let first = out.len();
    let mut done = Decoded::default();
    while out.len() - first < MAX_OPS {
        let rest = &bytes[done.bytes as usize..];
        let Some(mut op) = decode_one(rest, mode_bits, model) else {
            break;
        };
        if matches!(op.kind, Kind::X87Reg | Kind::X87Load | Kind::X87Store | Kind::X87Env) {
            op.imm |= done.bytes << FOP_BITS;
        }
        let alone = matches!(op.kind, Kind::Alone | Kind::StringRep);
        if alone && out.len() > first {
            break;
        }
        done.bytes += u32::from(op.len);
        done.instructions += 1;
        let fused = out.len().checked_sub(1).filter(|&i| i >= first).and_then(|i| super::fuse::pair(&out[i], &op));
        match fused {
            Some(pair) => {
                out.pop();
                out.push(pair);
            }
            None => {
                let op = super::fuse::known_flags(&out[first..], op);
                out.push(op);
            }
        }
        if op.ends_block() {
            break;
        }
    }
    super::quiet::drop_dead_flags(&mut out[first..]);
    if out.len() == first { Err(DecodeError::NeedMoreBytes) } else { Ok(done) }
}

/// Decodes one instruction; `None` when it is longer than `bytes`.
#[must_use]
pub fn decode_one(bytes: &[u8], mode_bits: u32, model: CpuModel) -> Option<Op> {
    let code32 = mode_bits & mode::CODE32 != 0;
    let window = &bytes[..bytes.len().min(MAX_LEN)];
    let mut decoder = Decoder::with_ip(if code32 { 32 } else { 16 }, window, 0, OPTIONS);
    let insn = decoder.decode();
    if insn.is_invalid() {
        if decoder.last_error() == DecoderError::NoMoreBytes {
            if bytes.len() < MAX_LEN {
                return None;
            }
            return Some(system(System::GpTooLong, 1));
        }
        return Some(system(System::Ud, 1));
    }
    let mut lower = Lower { insn: &insn, bytes: window, mode: mode_bits, model, op: blank(insn.len() as u8) };
    let op = lower.lower().unwrap_or_else(|| system(System::Ud, insn.len() as u8));
    Some(op)
}

fn blank(len: u8) -> Op {
    Op { kind: Kind::Nop, len, seg: SEG_FLAT, a: 0, b: 0, base: ZERO_REG as u8, index: ZERO_REG as u8, disp: 0, imm: 0 }
}

fn system(code: System, len: u8) -> Op {
    Op { kind: Kind::Alone, imm: code as u32, ..blank(len) }
}

/// The opcode bytes behind the prefixes: (first, second).
fn opcode(bytes: &[u8]) -> (u8, u8) {
    let mut i = 0;
    while let Some(0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3) = bytes.get(i) {
        i += 1;
    }
    let at = |n: usize| bytes.get(n).copied().unwrap_or(0);
    (at(i), at(i + 1))
}

/// Registers by class, from the order of iced's enumeration.
mod reg {
    use iced_x86::Register;

    fn index(r: Register, first: Register, count: u32) -> Option<u8> {
        let n = (r as u32).wrapping_sub(first as u32);
        (n < count).then_some(n as u8)
    }

    /// A byte register as [`Op`](super::Op) counts them: 20h marks AH, CH, DH, BH.
    pub fn gpr8(r: Register) -> Option<u8> {
        index(r, Register::AL, 20).map(|n| match n {
            0..4 => n,
            4..8 => 0x20 | (n - 4),
            _ => n - 4,
        })
    }
    pub fn gpr16(r: Register) -> Option<u8> {
        index(r, Register::AX, 16)
    }
    pub fn gpr32(r: Register) -> Option<u8> {
        index(r, Register::EAX, 16)
    }
    pub fn segment(r: Register) -> Option<u8> {
        index(r, Register::ES, 6)
    }
    pub fn control(r: Register) -> Option<u8> {
        index(r, Register::CR0, 16)
    }
    pub fn debug(r: Register) -> Option<u8> {
        index(r, Register::DR0, 16)
    }
    /// The number of a general register of any width.
    pub fn number(r: Register) -> u8 {
        gpr8(r).or(gpr16(r)).or(gpr32(r)).unwrap_or(0)
    }
    /// Bytes of a general or segment register.
    pub fn width(r: Register) -> u32 {
        if gpr8(r).is_some() {
            1
        } else if gpr16(r).is_some() || segment(r).is_some() {
            2
        } else {
            4
        }
    }
}

/// Bytes of an integer or far-pointer memory operand.
fn memory_width(size: iced_x86::MemorySize) -> u32 {
    use iced_x86::MemorySize::*;
    match size {
        UInt8 | Int8 => 1,
        UInt16 | Int16 | WordOffset => 2,
        SegPtr32 => 6,
        UInt64 | Int64 => 8,
        _ => 4,
    }
}

struct Lower<'a> {
    insn: &'a Instruction,
    bytes: &'a [u8],
    mode: u32,
    model: CpuModel,
    op: Op,
}

impl Lower<'_> {
    fn is_reg(&self, n: u32) -> bool {
        self.insn.op_kind(n) == OpKind::Register
    }

    fn is_mem(&self, n: u32) -> bool {
        self.insn.op_kind(n) == OpKind::Memory
    }

    fn reg(&self, n: u32) -> u8 {
        reg::number(self.insn.op_register(n))
    }

    fn imm(&self, n: u32) -> u32 {
        self.insn.immediate(n) as u32
    }

    /// Operand width in bytes.
    fn width(&self, n: u32) -> u32 {
        if self.is_reg(n) { reg::width(self.insn.op_register(n)) } else { memory_width(self.insn.memory_size()) }
    }

    fn stack32(&self) -> bool {
        self.mode & mode::STACK32 != 0
    }

    fn flat(&self) -> bool {
        self.mode & mode::FLAT != 0
    }

    /// Takes over the memory operand.
    fn memory(&mut self) {
        let i = self.insn;
        let (base, index) = (i.memory_base(), i.memory_index());
        let num = |r: Register| {
            if r == Register::None { ZERO_REG as u8 } else { reg::number(r) }
        };
        self.op.base = num(base);
        self.op.index = num(index) | (i.memory_index_scale().trailing_zeros() as u8) << 5;
        let addr16 = reg::gpr16(base).is_some()
            || reg::gpr16(index).is_some()
            || (base == Register::None && index == Register::None && i.memory_displ_size() == 2);
        self.op.disp = i.memory_displacement64() as u32;
        self.segment(addr16);
    }

    /// Sets `seg` from the instruction's effective segment.
    fn segment(&mut self, addr16: bool) {
        let seg = self.insn.memory_segment();
        let n = reg::segment(seg).unwrap_or(3);
        let flat = self.flat() && matches!(n, 0 | 2 | 3) && !addr16;
        self.op.seg = if flat { SEG_FLAT } else { n | if addr16 { SEG_ADDR16 } else { 0 } };
    }

    /// Operand `n` is a register or memory, for kinds that take either.
    fn either(&mut self, n: u32) {
        if self.is_reg(n) {
            self.op.base = REG_FORM;
            self.op.b = self.reg(n);
        } else {
            self.memory();
        }
    }

    /// The five-form arithmetic shape; `None` for another operand combination.
    fn form(&mut self) -> Option<Form> {
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

    fn kind(&mut self, kind: Kind) -> Option<Op> {
        self.op.kind = kind;
        Some(self.op)
    }

    fn kind_imm(&mut self, kind: Kind, imm: u32) -> Option<Op> {
        self.op.imm = imm;
        self.kind(kind)
    }

    fn system(&mut self, code: System) -> Option<Op> {
        self.op.kind = Kind::Alone;
        self.op.imm = (self.op.imm & !0xff) | code as u32;
        Some(self.op)
    }

    /// A system op with a width in `imm` bits 15:8.
    fn system_width(&mut self, code: System, width: u32) -> Option<Op> {
        self.op.imm = width << 8;
        self.system(code)
    }

    fn alu(&mut self, operation: u8) -> Option<Op> {
        let width = self.width(0);
        let form = self.form()?;
        match width {
            1 => self.kind(ALU8[usize::from(operation)][form as usize]),
            4 => self.kind(ALU32[usize::from(operation)][form as usize]),
            _ => self.alu16(form, operation),
        }
    }

    fn alu16(&mut self, form: Form, operation: u8) -> Option<Op> {
        if form == Form::RR {
            self.op.imm = operation.into();
        } else {
            self.op.b = operation;
        }
        self.kind(ALU16[form as usize])
    }

    fn test(&mut self) -> Option<Op> {
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

    fn mov(&mut self) -> Option<Op> {
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

    fn extend(&mut self, signed: bool) -> Option<Op> {
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

    fn unary(&mut self, operation: Unary) -> Option<Op> {
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
    fn shift(&mut self, operation: u32) -> Option<Op> {
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
        self.either(0);
        self.kind_imm(ShiftE, count | u32::from(by_cl) << 8 | operation << 12 | width << 16)
    }

    fn double_shift(&mut self, right: bool) -> Option<Op> {
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
    fn bit(&mut self, operation: u32) -> Option<Op> {
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

    fn imul(&mut self) -> Option<Op> {
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
    fn mul_div(&mut self, operation: u32) -> Option<Op> {
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

    fn stack_segment(&mut self) {
        self.op.seg = if self.flat() { SEG_FLAT } else { 2 };
    }

    fn push(&mut self) -> Option<Op> {
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

    fn pop(&mut self) -> Option<Op> {
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
    fn branch(&self) -> u32 {
        let next = self.insn.next_ip32();
        match self.insn.op0_kind() {
            OpKind::NearBranch16 => i32::from(self.insn.near_branch16().wrapping_sub(next as u16) as i16) as u32,
            _ => self.insn.near_branch32().wrapping_sub(next),
        }
    }

    fn branch_width(&self) -> u8 {
        if self.insn.op0_kind() == OpKind::NearBranch16 { 2 } else { 4 }
    }

    fn jcc(&mut self) -> Option<Op> {
        let (first, second) = opcode(self.bytes);
        self.op.a = if first == 0x0f { second & 15 } else { first & 15 };
        self.op.disp = self.branch();
        self.op.b = self.branch_width();
        let fast = self.flat() && self.op.b == 4;
        self.kind(if fast { Kind::Jcc } else { Kind::JccNear })
    }

    fn jmp(&mut self) -> Option<Op> {
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

    fn call(&mut self) -> Option<Op> {
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
    fn far_immediate(&mut self, code: System) -> Option<Op> {
        let wide = self.insn.op0_kind() == OpKind::FarBranch32;
        self.op.disp = if wide { self.insn.far_branch32() } else { self.insn.far_branch16().into() };
        self.op.imm = u32::from(self.insn.far_branch_selector()) << 16 | if wide { 4 } else { 2 } << 8;
        self.system(code)
    }

    fn indirect(&mut self, reg: Kind, mem: Kind, other: Kind, far: System) -> Option<Op> {
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

    fn ret_near(&mut self) -> Option<Op> {
        let pop = if self.insn.op_count() > 0 { self.imm(0) & 0xffff } else { 0 };
        let wide = matches!(self.insn.code(), iced_x86::Code::Retnd | iced_x86::Code::Retnd_imm16);
        self.op.imm = pop;
        if wide && self.flat() && self.stack32() {
            return self.kind(if pop == 0 { Kind::Ret32 } else { Kind::RetImm32 });
        }
        self.op.b = if wide { 4 } else { 2 };
        self.kind(Kind::RetNear)
    }

    fn loop_cx(&mut self, operation: u8, addr16: bool) -> Option<Op> {
        self.op.a = operation;
        self.op.b = if addr16 { 2 } else { 4 };
        self.op.disp = self.branch();
        self.op.imm = self.branch_width().into();
        self.kind(Kind::LoopCx)
    }

    fn string(&mut self, operation: StringOp, width: u32) -> Option<Op> {
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

    fn io(&mut self, out: bool) -> Option<Op> {
        let (data, port) = if out { (1, 0) } else { (0, 1) };
        self.op.a = self.width(data) as u8;
        if self.is_reg(port) {
            return self.system(if out { System::OutDx } else { System::InDx });
        }
        self.op.b = self.imm(port) as u8;
        self.system(if out { System::Out } else { System::In })
    }

    /// A system op with one register-or-memory operand.
    fn system_e(&mut self, code: System) -> Option<Op> {
        let width = self.width(0);
        self.either(0);
        self.system_width(code, width)
    }

    /// Operand size of the instruction (prefix and code size), in bytes.
    fn operand_size(&self) -> u32 {
        let mut has66 = false;
        for b in self.bytes {
            match b {
                0x66 => has66 = true,
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x67 | 0xf0 | 0xf2 | 0xf3 => {}
                _ => break,
            }
        }
        if (self.mode & mode::CODE32 != 0) != has66 { 4 } else { 2 }
    }

    fn lower(&mut self) -> Option<Op> {
        use Mnemonic as M;
        let (first, second) = opcode(self.bytes);
        if (0xd8..=0xdf).contains(&first) {
            return self.x87();
        }
        match self.insn.mnemonic() {
            M::Add => self.alu(0),
            M::Or => self.alu(1),
            M::Adc => self.alu(2),
            M::Sbb => self.alu(3),
            M::And => self.alu(4),
            M::Sub => self.alu(5),
            M::Xor => self.alu(6),
            M::Cmp => self.alu(7),
            M::Test => self.test(),
            M::Mov => self.mov(),
            M::Movzx => self.extend(false),
            M::Movsx => self.extend(true),
            M::Lea => {
                self.op.a = self.reg(0);
                self.memory();
                let width = self.width(0);
                // Address arithmetic only: no segment, but keep the address width.
                self.op.seg = if self.op.seg & SEG_ADDR16 != 0 && self.op.seg != SEG_FLAT {
                    SEG_FLAT | SEG_ADDR16
                } else {
                    SEG_FLAT
                };
                self.kind(if width == 4 { Kind::Lea32 } else { Kind::Lea16 })
            }
            M::Xchg => self.xchg(),
            M::Nop | M::Pause | M::Endbr32 | M::Endbr64 | M::Reservednop => self.kind(Kind::Nop),
            M::Prefetchnta | M::Prefetcht0 | M::Prefetcht1 | M::Prefetcht2 | M::Sfence | M::Lfence | M::Mfence
                if self.sse() =>
            {
                self.kind(Kind::Nop)
            }
            M::Cbw => self.kind(Kind::Cbw),
            M::Cwde => self.kind(Kind::Cwde),
            M::Cwd => self.kind(Kind::Cwd),
            M::Cdq => self.kind(Kind::Cdq),
            M::Inc => self.unary(Unary::Inc),
            M::Dec => self.unary(Unary::Dec),
            M::Not => self.unary(Unary::Not),
            M::Neg => self.unary(Unary::Neg),
            M::Rol => self.shift(0),
            M::Ror => self.shift(1),
            M::Rcl => self.shift(2),
            M::Rcr => self.shift(3),
            M::Shl | M::Sal => self.shift(4),
            M::Shr => self.shift(5),
            M::Sar => self.shift(7),
            M::Shld => self.double_shift(false),
            M::Shrd => self.double_shift(true),
            M::Bt => self.bit(0),
            M::Bts => self.bit(1),
            M::Btr => self.bit(2),
            M::Btc => self.bit(3),
            M::Bsf => self.bit_scan(false),
            M::Bsr => self.bit_scan(true),
            M::Imul => self.imul(),
            M::Mul => self.mul_div(4),
            M::Div => self.mul_div(6),
            M::Idiv => self.mul_div(7),
            M::Bswap if self.width(0) == 4 => {
                self.op.a = self.reg(0);
                self.kind(Kind::Bswap32)
            }
            M::Bswap => {
                // 16-bit BSWAP is undefined; processors clear the register.
                (self.op.a, self.op.imm) = (self.reg(0), 0);
                self.kind(Kind::Mov16RI)
            }
            M::Cmpxchg => self.locked(Kind::CmpxchgE),
            M::Xadd => self.locked(Kind::XaddE),
            M::Cmpxchg8b if self.model != CpuModel::I486 => {
                self.memory();
                self.kind(Kind::Cmpxchg8bM)
            }
            M::Sahf => self.kind(Kind::Sahf),
            M::Lahf => self.kind(Kind::Lahf),
            M::Clc => self.kind(Kind::Clc),
            M::Stc => self.kind(Kind::Stc),
            M::Cmc => self.kind(Kind::Cmc),
            M::Cld => self.kind(Kind::Cld),
            M::Std => self.kind(Kind::Std),
            M::Salc => self.kind(Kind::Salc),
            M::Daa => self.kind(Kind::Daa),
            M::Das => self.kind(Kind::Das),
            M::Aaa => self.kind(Kind::Aaa),
            M::Aas => self.kind(Kind::Aas),
            M::Aam => {
                let imm = self.imm(0) & 0xff;
                self.kind_imm(Kind::Aam, imm)
            }
            M::Aad => {
                let imm = self.imm(0) & 0xff;
                self.kind_imm(Kind::Aad, imm)
            }
            M::Xlatb => {
                let addr16 = self.insn.memory_base() == Register::BX;
                self.segment(addr16);
                self.kind(Kind::Xlat)
            }
            M::Push => self.push(),
            M::Pop => self.pop(),
            M::Pusha | M::Pushad => {
                let width = self.operand_size();
                self.kind_imm(Kind::Pusha, width)
            }
            M::Popa | M::Popad => {
                let width = self.operand_size();
                self.kind_imm(Kind::Popa, width)
            }
            M::Pushf | M::Pushfd => {
                let width = self.operand_size();
                self.system_width(System::Pushf, width)
            }
            M::Popf | M::Popfd => {
                let width = self.operand_size();
                self.system_width(System::Popf, width)
            }
            M::Enter => {
                // `disp`: frame size, `imm`: nesting level | width << 8.
                self.op.disp = self.imm(0) & 0xffff;
                let level = u32::from(self.insn.immediate8_2nd()) & 31;
                let width = self.operand_size();
                self.kind_imm(Kind::Enter, level | width << 8)
            }
            M::Leave => {
                let width = self.operand_size();
                if width == 4 && self.stack32() {
                    self.stack_segment();
                    return self.kind(Kind::Leave32);
                }
                self.kind_imm(Kind::Leave, width)
            }
            M::Bound => {
                self.op.a = self.reg(0);
                self.memory();
                let width = self.operand_size();
                self.kind_imm(Kind::Bound, width)
            }
            M::Jmp => self.jmp(),
            M::Call => self.call(),
            M::Ret => self.ret_near(),
            M::Retf => {
                let pop = if self.insn.op_count() > 0 { self.imm(0) & 0xffff } else { 0 };
                self.op.imm = pop << 16 | self.operand_size() << 8;
                self.system(System::RetFar)
            }
            M::Loopne => self.loop_cx(0, self.loop_addr16()),
            M::Loope => self.loop_cx(1, self.loop_addr16()),
            M::Loop => self.loop_cx(2, self.loop_addr16()),
            M::Jcxz => self.loop_cx(3, true),
            M::Jecxz => self.loop_cx(3, false),
            M::Movsb => self.string(StringOp::Movs, 1),
            M::Movsw => self.string(StringOp::Movs, 2),
            M::Movsd if first == 0xa5 => self.string(StringOp::Movs, 4),
            M::Cmpsb => self.string(StringOp::Cmps, 1),
            M::Cmpsw => self.string(StringOp::Cmps, 2),
            M::Cmpsd if first == 0xa7 => self.string(StringOp::Cmps, 4),
            M::Stosb => self.string(StringOp::Stos, 1),
            M::Stosw => self.string(StringOp::Stos, 2),
            M::Stosd => self.string(StringOp::Stos, 4),
            M::Lodsb => self.string(StringOp::Lods, 1),
            M::Lodsw => self.string(StringOp::Lods, 2),
            M::Lodsd => self.string(StringOp::Lods, 4),
            M::Scasb => self.string(StringOp::Scas, 1),
            M::Scasw => self.string(StringOp::Scas, 2),
            M::Scasd => self.string(StringOp::Scas, 4),
            M::Insb => self.string(StringOp::Ins, 1),
            M::Insw => self.string(StringOp::Ins, 2),
            M::Insd => self.string(StringOp::Ins, 4),
            M::Outsb => self.string(StringOp::Outs, 1),
            M::Outsw => self.string(StringOp::Outs, 2),
            M::Outsd => self.string(StringOp::Outs, 4),
            M::Lds | M::Les | M::Lss | M::Lfs | M::Lgs => {
                let seg = match self.insn.mnemonic() {
                    M::Les => 0,
                    M::Lss => 2,
                    M::Lds => 3,
                    M::Lfs => 4,
                    _ => 5,
                };
                self.op.a = self.reg(0);
                self.op.b = seg;
                self.memory();
                let width = self.operand_size();
                self.system_width(System::LoadFar, width)
            }
            M::Int => {
                self.op.a = self.insn.immediate8();
                self.system(System::Int)
            }
            M::Int1 => self.system(System::Int1),
            M::Int3 => self.system(System::Int3),
            M::Into => self.system(System::Into),
            M::Iret | M::Iretd => {
                let width = self.operand_size();
                self.system_width(System::Iret, width)
            }
            M::Cli => self.system(System::Cli),
            M::Sti => self.system(System::Sti),
            M::Hlt => self.system(System::Hlt),
            M::In => self.io(false),
            M::Out => self.io(true),
            M::Lgdt | M::Lidt | M::Sgdt | M::Sidt => {
                let code = match self.insn.mnemonic() {
                    M::Lgdt => System::Lgdt,
                    M::Lidt => System::Lidt,
                    M::Sgdt => System::Sgdt,
                    _ => System::Sidt,
                };
                self.memory();
                let width = self.operand_size();
                self.system_width(code, width)
            }
            M::Lldt => self.system_e(System::Lldt),
            M::Ltr => self.system_e(System::Ltr),
            M::Sldt => self.system_e(System::Sldt),
            M::Str => self.system_e(System::Str),
            M::Verr => self.system_e(System::Verr),
            M::Verw => self.system_e(System::Verw),
            M::Lmsw => self.system_e(System::Lmsw),
            M::Smsw => self.system_e(System::Smsw),
            M::Invlpg => {
                self.memory();
                self.system(System::Invlpg)
            }
            M::Lar | M::Lsl => {
                self.op.a = self.reg(0);
                self.either(1);
                let width = self.operand_size();
                self.system_width(if self.insn.mnemonic() == M::Lar { System::Lar } else { System::Lsl }, width)
            }
            M::Arpl => {
                self.op.a = self.reg(1);
                self.either(0);
                self.system(System::Arpl)
            }
            M::Clts => self.system(System::Clts),
            M::Wbinvd => self.system(System::Wbinvd),
            M::Invd => self.system(System::Invd),
            M::Cpuid => self.system(System::Cpuid),
            M::Rdtsc if self.model != CpuModel::I486 => self.system(System::Rdtsc),
            M::Rdpmc if self.model >= CpuModel::PentiumIII => self.system(System::Rdpmc),
            M::Rdmsr if self.model != CpuModel::I486 => self.system(System::Rdmsr),
            M::Wrmsr if self.model != CpuModel::I486 => self.system(System::Wrmsr),
            M::Sysenter if self.model >= CpuModel::PentiumIII => self.system(System::Sysenter),
            M::Sysexit if self.model >= CpuModel::PentiumIII => self.system(System::Sysexit),
            M::Rsm => self.system(System::Rsm),
            M::Wait => self.kind(Kind::Fwait),
            _ => self.by_opcode(first, second),
        }
    }

    /// Families with a condition in the opcode, and SIMD.
    fn by_opcode(&mut self, first: u8, second: u8) -> Option<Op> {
        if first >> 4 == 7 || (first, second >> 4) == (0x0f, 8) {
            return self.jcc();
        }
        let cond = second & 15;
        match (first, second >> 4) {
            (0x0f, 4) if self.model >= CpuModel::PentiumIII => {
                let width = self.width(0);
                self.op.a = self.reg(0);
                self.op.imm = cond.into();
                if width == 4 {
                    if self.is_reg(1) {
                        self.op.b = self.reg(1);
                        return self.kind(Kind::Cmov32RR);
                    }
                    self.memory();
                    return self.kind(Kind::Cmov32RM);
                }
                self.either(1);
                self.kind(Kind::Cmov16E)
            }
            (0x0f, 9) => {
                self.op.b = cond;
                if self.is_reg(0) {
                    self.op.a = self.reg(0);
                    return self.kind(Kind::SetccR);
                }
                self.memory();
                self.kind(Kind::SetccM)
            }
            (0x0f, _) => self.simd(),
            _ => None,
        }
    }

    fn sse(&self) -> bool {
        self.model >= CpuModel::PentiumIII
    }

    fn loop_addr16(&self) -> bool {
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

    fn xchg(&mut self) -> Option<Op> {
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

    fn bit_scan(&mut self, reverse: bool) -> Option<Op> {
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
    fn locked(&mut self, kind: Kind) -> Option<Op> {
        let width = self.width(0);
        self.op.a = self.reg(1);
        self.either(0);
        self.kind_imm(kind, width)
    }

    /// `a` the operation, `b` the stack register or operand size, `imm` FOP (see [`float`](super::float)).
    fn x87(&mut self) -> Option<Op> {
        let decoded = crate::fpu::decode(self.insn)?;
        let (first, modrm) = opcode(self.bytes);
        if decoded.op == X87Op::Fcmov {
            if self.model < CpuModel::PentiumIII {
                return None;
            }
            // DA C0+8n: B, E, BE, U; DB the same negated.
            self.op.index = modrm >> 3 & 3 | (first & 1) << 2;
        }
        let (kind, size) = super::float::shape(decoded.operand);
        self.op.a = decoded.op as u8;
        self.op.b = decoded.sti;
        if kind != Kind::X87Reg {
            self.memory();
            self.op.b = size;
        }
        self.kind_imm(kind, u32::from(first & 7) << 8 | u32::from(modrm))
    }

    /// MMX and SSE: [`super::simd`] knows the opcodes, the memory operand is lowered here.
    fn simd(&mut self) -> Option<Op> {
        if self.insn.mnemonic() == Mnemonic::Movnti {
            if self.model.features() & super::system::feature::SSE2 == 0 {
                return None;
            }
            self.op.a = self.reg(1);
            self.memory();
            return self.kind(Kind::Mov32MR);
        }
        let decoded = simd::decode::decode(self.insn, self.bytes, self.model)?;
        self.op.a = decoded.a;
        match decoded.rm {
            Rm::Register(number) => (self.op.base, self.op.b) = (REG_FORM, number),
            Rm::Memory => self.memory(),
            Rm::MaskedDi { mask, addr16 } => {
                self.op.b = mask;
                self.op.base = RDI as u8;
                self.segment(addr16);
            }
        }
        self.kind_imm(Kind::Simd, decoded.imm)
    }
}
