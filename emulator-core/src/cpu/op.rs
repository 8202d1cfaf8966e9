//! Decoded instructions. The interpreter executes [`Op`]s and the translator compiles them.
//!
//! An `Op` is 16 bytes. What the fields mean depends on the kind; the common shape is
//! `a` = register operand, `b` = second register, `base + (index << scale) + disp` = memory operand,
//! `imm` = immediate (sign-extended to the operand width) or branch displacement.

/// `seg` of an operand whose segment is flat and whose address is 32-bit: no check, base 0.
pub const SEG_FLAT: u8 = 6;
/// Bit of `seg`: 16-bit address arithmetic.
pub const SEG_ADDR16: u8 = 8;
/// `base` of an operand that is the register `b` and not memory (for kinds that take either).
pub const REG_FORM: u8 = 0x80;

/// One decoded instruction, or a fused compare-and-branch pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Op {
    /// What to do.
    pub kind: Kind,
    /// Bytes of code (both instructions of a fused pair).
    pub len: u8,
    /// Segment register of the memory operand, [`SEG_FLAT`], and [`SEG_ADDR16`].
    pub seg: u8,
    /// First (destination) register.
    pub a: u8,
    /// Second register, or the condition of a fused pair with a memory operand.
    pub b: u8,
    /// Base register ([`ZERO_REG`](super::state::ZERO_REG) for none) or [`REG_FORM`].
    pub base: u8,
    /// Index register in bits 4:0, scale in bits 6:5.
    pub index: u8,
    /// Displacement.
    pub disp: u32,
    /// Immediate.
    pub imm: u32,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Operation kinds.
        ///
        /// Suffixes: `RR` register, register; `RI` register, immediate; `RM` register, memory;
        /// `MR` memory, register; `MI` memory, immediate; `E` register or memory ([`REG_FORM`]).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        #[allow(missing_docs, reason = "mnemonic, width and operand form")]
        pub enum Kind { $($(#[$doc])* $name),* }
    };
}

kinds! {
    Nop,
    // 32-bit arithmetic, in the order of the opcode's operation field.
    Add32RR, Add32RI, Add32RM, Add32MR, Add32MI,
    Or32RR, Or32RI, Or32RM, Or32MR, Or32MI,
    Adc32RR, Adc32RI, Adc32RM, Adc32MR, Adc32MI,
    Sbb32RR, Sbb32RI, Sbb32RM, Sbb32MR, Sbb32MI,
    And32RR, And32RI, And32RM, And32MR, And32MI,
    Sub32RR, Sub32RI, Sub32RM, Sub32MR, Sub32MI,
    Xor32RR, Xor32RI, Xor32RM, Xor32MR, Xor32MI,
    Cmp32RR, Cmp32RI, Cmp32RM, Cmp32MR, Cmp32MI,
    Test32RR, Test32RI, Test32MR, Test32MI,
    // 8-bit arithmetic.
    Add8RR, Add8RI, Add8RM, Add8MR, Add8MI,
    Or8RR, Or8RI, Or8RM, Or8MR, Or8MI,
    Adc8RR, Adc8RI, Adc8RM, Adc8MR, Adc8MI,
    Sbb8RR, Sbb8RI, Sbb8RM, Sbb8MR, Sbb8MI,
    And8RR, And8RI, And8RM, And8MR, And8MI,
    Sub8RR, Sub8RI, Sub8RM, Sub8MR, Sub8MI,
    Xor8RR, Xor8RI, Xor8RM, Xor8MR, Xor8MI,
    Cmp8RR, Cmp8RI, Cmp8RM, Cmp8MR, Cmp8MI,
    Test8RR, Test8RI, Test8MR, Test8MI,
    /// 16-bit arithmetic; the operation (0-7 as in the opcode, 8 TEST) is in `imm` for the
    /// RR form and in `b` for the others.
    Alu16RR, Alu16RI, Alu16RM, Alu16MR, Alu16MI,
    // Moves.
    Mov32RR, Mov32RI, Mov32RM, Mov32MR, Mov32MI,
    /// The commonest memory operand: flat segment, base register and displacement.
    Mov32RB, Mov32BR,
    // Arithmetic whose flags nothing can observe (the rest becomes LEA or MOV).
    Sub32RRQuiet, And32RRQuiet, And32RIQuiet, Or32RRQuiet, Or32RIQuiet, Xor32RRQuiet, Xor32RIQuiet,
    Shl32RIQuiet, Shr32RIQuiet, Sar32RIQuiet, Imul32RRQuiet,
    Mov16RR, Mov16RI, Mov16RM, Mov16MR, Mov16MI,
    Mov8RR, Mov8RI, Mov8RM, Mov8MR, Mov8MI,
    Movzx32From8R, Movzx32From8M, Movzx32From16R, Movzx32From16M,
    Movsx32From8R, Movsx32From8M, Movsx32From16R, Movsx32From16M,
    /// 16-bit destination; `imm` 0 zero-extends, 1 sign-extends.
    Movx16From8E,
    Lea32, Lea16,
    Xchg32RR, Xchg32RM, Xchg16E, Xchg8E,
    Cmov32RR, Cmov32RM, Cmov16E,
    SetccR, SetccM,
    Bswap32,
    // Stack (32-bit operands, 32-bit stack pointer).
    Push32R, Push32I, Push32M, Pop32R,
    Leave32,
    // Unary.
    Inc32R, Dec32R, Inc32M, Dec32M, Neg32R, Not32R,
    /// INC, DEC, NOT, NEG of any width: `imm` is [`Unary`] | width << 8.
    UnaryE,
    // Shifts by a constant (1-31) or CL.
    Shl32RI, Shr32RI, Sar32RI,
    Rol32RI, Ror32RI,
    Shl32RC, Shr32RC, Sar32RC,
    /// SHL, SHR or SAR of an 8- or 16-bit register `b` by a constant (1-31): `imm` as for the next.
    ShiftRI,
    /// Any shift or rotate: `imm` is count | CL flag << 8 | operation << 12 | width << 16.
    ShiftE,
    Shld32RRI, Shrd32RRI,
    /// SHLD/SHRD: `imm` is count | CL flag << 8 | right << 12 | width << 16; `a` the filling register.
    DoubleShiftE,
    // Multiply and divide.
    Imul32RR, Imul32RM, Imul32RRI, Imul32RMI,
    /// 16-bit IMUL with two or three operands.
    Imul16E, Imul16EI,
    Mul32R, Imul32R, Div32R, Idiv32R,
    /// One-operand MUL, IMUL, DIV, IDIV of any width: `imm` is operation (4-7) | width << 8.
    MulDivE,
    Cdq, Cwde, Cbw, Cwd,
    // Bits.
    Bt32RR, Bt32RI,
    /// BT, BTS, BTR, BTC: `imm` is bit | register flag << 8 | operation << 12 | width << 16; `a` the bit register.
    BitE,
    Bsf32R, Bsr32R,
    /// BSF/BSR: `imm` is reverse | width << 8.
    BitScanE,
    /// CMPXCHG: `imm` = width. XADD likewise.
    CmpxchgE, XaddE, Cmpxchg8bM,
    /// POPCNT, CRC32: `imm` is the source's width.
    PopcntE, Crc32E,
    // Flags and BCD.
    Sahf, Lahf, Clc, Stc, Cmc, Cld, Std, Salc,
    Daa, Das, Aaa, Aas, Aam, Aad,
    Xlat,
    // Stack operations of other widths: `imm` = width.
    PushE, PopE, PushI, Pusha, Popa, Enter, Leave,
    /// BOUND: `imm` = width.
    Bound,
    /// String instruction without REP: see [`StringOp`].
    StringOnce,

    // x87, MMX and SSE: out of line.
    X87Reg, X87Load, X87Store, X87Env,
    Fwait,
    Simd,

    // Two instructions in one op, in program order. Where the second accesses memory, `seg` is the first one's length.
    /// `a` from [`base` + `disp`], then `b` from [`index` + `imm`].
    LoadLoad32,
    /// `a` from [`base` + `disp`], then LEA `b`: base register in `seg`, `index`, displacement in `imm`.
    LoadLea32,
    /// `a` from `b`, then `index` from [`base` + `disp`].
    MovLoad32,
    /// `a` += `b`, then `index` from [`base` + `disp`].
    AddLoad32,
    /// `a` += `b`, then `index` to [`base` + `disp`].
    AddStore32,
    /// `a` to [`base` + `disp`], then `b` from [`index` + `imm`].
    StoreLoad32,
    /// `a` to [`base` + `disp`], then `b` from `index`.
    StoreMov32,
    /// `a` from `b`, then `base` from `index`.
    MovMov32,
    /// `a` and `b` to a flat stack, or from it.
    PushPush32, PopPop32,

    // From here on an op ends its block.
    Jmp, Jcc,
    /// Conditional jumps whose flags are known to come from a 32-bit result, subtraction or logical operation.
    JccResult32,
    JccSub32,
    JccLogic32,
    CallRel32, JmpR32, JmpM32, CallR32, CallM32, Ret32, RetImm32,
    // Fused pairs: displacement in `disp` (register forms) or `imm` (memory forms).
    CmpJcc32RR, CmpJcc32RI, CmpJcc32RM, CmpJcc32MR, CmpJcc32MI8,
    TestJcc32RR, TestJcc32RI, TestJcc8RR, TestJcc8RI, TestJcc8MI,
    CmpJcc8RR, CmpJcc8RI, CmpJcc8MI,
    DecJcc32R,
    /// LOOPcc and JCXZ: `a` is 0 LOOPNE, 1 LOOPE, 2 LOOP, 3 JCXZ; `b` the address width.
    LoopCx,
    /// Near transfers with a 16-bit operand or stack: `imm` = target displacement, see the interpreter.
    JmpNear, JccNear, CallNear, JmpNearE, CallNearE, RetNear,
    /// REP-prefixed string instruction, alone in its block.
    StringRep,

    /// Executed alone outside the fast loop: `imm` low half is a [`System`] code.
    Alone,
}

/// Operation of [`Kind::UnaryE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "mnemonics")]
pub enum Unary {
    Inc,
    Dec,
    Not,
    Neg,
}

/// Operation of a string instruction: `imm` is this | width << 8 | rep << 16 (0 none, 1 REP/REPE, 2 REPNE),
/// `seg` the source segment and address width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "mnemonics")]
pub enum StringOp {
    Movs,
    Cmps,
    Stos,
    Lods,
    Scas,
    Ins,
    Outs,
}

macro_rules! system_ops {
    ($($name:ident),* $(,)?) => {
        /// Instructions that run alone, outside the fast loop.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "mnemonics")]
        pub enum System { $($name),* }
        impl System {
            /// All, in code order.
            pub const ALL: &'static [System] = &[$(System::$name),*];
        }
    };
}

system_ops! {
    Ud, GpTooLong,
    MovFromSeg, MovToSeg, PushSeg, PopSeg, LoadFar,
    JmpFarImm, CallFarImm, JmpFarMem, CallFarMem, RetFar,
    Int, Int1, Int3, Into, Iret,
    Pushf, Popf, Cli, Sti, Hlt,
    In, Out, InDx, OutDx,
    Lgdt, Lidt, Sgdt, Sidt, Lldt, Ltr, Sldt, Str,
    Lar, Lsl, Verr, Verw, Arpl, Lmsw, Smsw, Clts,
    MovToCr, MovFromCr, MovToDr, MovFromDr,
    Invlpg, Wbinvd, Invd, Cpuid, Rdtsc, Rdpmc, Rdmsr, Wrmsr, Sysenter, Sysexit, Rsm,
}

/// The five operand forms of an arithmetic operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "see Kind")]
pub enum Form {
    RR,
    RI,
    RM,
    MR,
    MI,
}

/// Kinds of 32-bit arithmetic by operation field and form.
pub const ALU32: [[Kind; 5]; 8] = {
    use Kind::*;
    [
        [Add32RR, Add32RI, Add32RM, Add32MR, Add32MI],
        [Or32RR, Or32RI, Or32RM, Or32MR, Or32MI],
        [Adc32RR, Adc32RI, Adc32RM, Adc32MR, Adc32MI],
        [Sbb32RR, Sbb32RI, Sbb32RM, Sbb32MR, Sbb32MI],
        [And32RR, And32RI, And32RM, And32MR, And32MI],
        [Sub32RR, Sub32RI, Sub32RM, Sub32MR, Sub32MI],
        [Xor32RR, Xor32RI, Xor32RM, Xor32MR, Xor32MI],
        [Cmp32RR, Cmp32RI, Cmp32RM, Cmp32MR, Cmp32MI],
    ]
};

/// Kinds of 8-bit arithmetic by operation field and form.
pub const ALU8: [[Kind; 5]; 8] = {
    use Kind::*;
    [
        [Add8RR, Add8RI, Add8RM, Add8MR, Add8MI],
        [Or8RR, Or8RI, Or8RM, Or8MR, Or8MI],
        [Adc8RR, Adc8RI, Adc8RM, Adc8MR, Adc8MI],
        [Sbb8RR, Sbb8RI, Sbb8RM, Sbb8MR, Sbb8MI],
        [And8RR, And8RI, And8RM, And8MR, And8MI],
        [Sub8RR, Sub8RI, Sub8RM, Sub8MR, Sub8MI],
        [Xor8RR, Xor8RI, Xor8RM, Xor8MR, Xor8MI],
        [Cmp8RR, Cmp8RI, Cmp8RM, Cmp8MR, Cmp8MI],
    ]
};

/// Kinds of 16-bit arithmetic by form.
pub const ALU16: [Kind; 5] = [Kind::Alu16RR, Kind::Alu16RI, Kind::Alu16RM, Kind::Alu16MR, Kind::Alu16MI];

impl Op {
    /// Retired instructions that this op stands for.
    #[inline(always)]
    #[must_use]
    pub fn instructions(&self) -> u32 {
        1 + u32::from(self.is_fused())
    }

    /// Whether it is a fused pair.
    #[inline(always)]
    #[must_use]
    pub fn is_fused(&self) -> bool {
        let within = |first: Kind, last: Kind| (first as u16..=last as u16).contains(&(self.kind as u16));
        within(Kind::CmpJcc32RR, Kind::DecJcc32R) || within(Kind::LoadLoad32, Kind::PopPop32)
    }

    /// Whether it ends a block.
    #[must_use]
    pub fn ends_block(&self) -> bool {
        self.kind as u16 >= Kind::Jmp as u16
    }

    /// The [`System`] code of a [`Kind::Alone`] op.
    #[must_use]
    pub fn system(&self) -> System {
        System::ALL.get((self.imm & 0xff) as usize).copied().unwrap_or(System::Ud)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_op_is_sixteen_bytes() {
        assert_eq!(std::mem::size_of::<Op>(), 16);
    }
}
