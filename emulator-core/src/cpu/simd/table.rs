//! The table of SIMD operations: operand classes, memory operand and effects, one row for each.
//!
//! The decoder, the interpreter and the translator all go by it. An operation that exists for MMX and for
//! SSE registers is one row with operands of class [`Class::Vector`]; [`MMX_FORM`] in the op tells which.

/// Bits 23:8 of a SIMD op's `imm`: the [`SimdOp`]. Bits 7:0 are the instruction's immediate.
pub const OP_SHIFT: u32 = 8;
/// Bit of `imm`: the second operand is the immediate (shifts by a constant).
pub const IMMEDIATE_SOURCE: u32 = 1 << 30;
/// Bit of `imm`: operands of class [`Class::Vector`] are MMX registers (and 8 bytes in memory, unaligned).
pub const MMX_FORM: u32 = 1 << 31;

/// What an operand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// None: the operation works on control state only.
    State,
    /// XMM, or MMX by [`MMX_FORM`].
    Vector,
    /// XMM register.
    Xmm,
    /// MMX register.
    Mmx,
    /// 32-bit general register.
    Gpr,
    /// The status flags.
    Flags,
    /// Memory (stores).
    Memory,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// First operand: the destination.
    pub dst: Class,
    /// Second operand when it is a register.
    pub src: Class,
    /// Bytes of the memory operand; 0 when there is no memory form.
    pub width: u8,
    /// The SSE form's memory operand must be aligned to 16 bytes.
    pub aligned: bool,
    /// The MMX form reads only 4 bytes of memory.
    pub low_half: bool,
    /// The result depends on the old destination.
    pub reads_dst: bool,
    /// Computed by [`float`](super::float) under MXCSR; may raise SIMD floating-point exceptions.
    pub float: bool,
}

impl Info {
    /// Bytes of the memory operand in this form.
    #[must_use]
    pub const fn memory_width(&self, mmx_form: bool) -> u32 {
        if !mmx_form || self.width <= 8 {
            self.width as u32
        } else if self.low_half {
            4
        } else {
            8
        }
    }

    /// Whether an XMM register or MXCSR is involved: needs CR4.OSFXSR.
    #[must_use]
    pub const fn uses_sse(&self, mmx_form: bool) -> bool {
        matches!(self.dst, Class::Xmm)
            || matches!(self.src, Class::Xmm)
            || (!mmx_form && (matches!(self.dst, Class::Vector) || matches!(self.src, Class::Vector)))
    }

    /// Whether an MMX register is involved: the x87 unit changes to MMX mode, pending x87 errors come first.
    /// CVTPI2PS and CVTPI2PD with a `memory` operand leave the unit alone (as measured on an Intel host).
    #[must_use]
    pub const fn uses_mmx(&self, mmx_form: bool, memory: bool) -> bool {
        mmx_form || matches!(self.dst, Class::Mmx) || (matches!(self.src, Class::Mmx) && !memory)
    }
}

/// Letters of the last column: Aligned, Reads its destination, floating-point Exceptions, Low half in memory.
mod effect {
    pub const A: u8 = 1;
    pub const R: u8 = 2;
    pub const E: u8 = 4;
    pub const L: u8 = 8;
}

macro_rules! simd_ops {
    ($($(#[$doc:meta])* $name:ident: $dst:ident $src:ident $width:literal $($effect:ident)*;)*) => {
        /// SIMD operations.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        #[allow(missing_docs, reason = "mnemonics")]
        pub enum SimdOp { $($(#[$doc])* $name),* }

        impl SimdOp {
            /// All, in code order.
            pub const ALL: &'static [SimdOp] = &[$(SimdOp::$name),*];
            const INFO: &'static [Info] = &[$({
                const EFFECTS: u8 = 0 $(| effect::$effect)*;
                Info {
                    dst: Class::$dst,
                    src: Class::$src,
                    width: $width,
                    aligned: EFFECTS & effect::A != 0,
                    low_half: EFFECTS & effect::L != 0,
                    reads_dst: EFFECTS & effect::R != 0,
                    float: EFFECTS & effect::E != 0,
                }
            }),*];
        }
    };
}

simd_ops! {
    // Moves; the names that have several memory widths are those of the SSE2 integer moves.
    Mova: Vector Vector 16 A;
    Movu: Xmm Xmm 16;
    Movd: Vector Gpr 4;
    MovdToGpr: Gpr Vector 0;
    MovssLoad: Xmm Xmm 4;
    /// Zero-extending, also MOVSD from memory.
    Movq: Xmm Xmm 8;
    /// Between registers: bits 31:0.
    MovLow32: Xmm Xmm 0 R;
    /// Bits 63:0: MOVSD between registers, MOVLPS and MOVLPD from memory.
    MovLow64: Xmm Xmm 8 R;
    /// Bits 127:64 from bits 63:0: MOVLHPS, MOVHPS, MOVHPD.
    MovHigh64: Xmm Xmm 8 R;
    Movhlps: Xmm Xmm 0 R;
    Movq2dq: Xmm Mmx 0;
    Movdq2q: Mmx Xmm 0;
    StoreA: Memory Vector 16 A;
    StoreU: Memory Xmm 16;
    Store64: Memory Vector 8;
    StoreHigh64: Memory Xmm 8;
    Store32: Memory Vector 4;
    /// MASKMOVQ, MASKMOVDQU: `a` the data, `b` the mask.
    MaskMov: Memory Vector 16;

    // Integer arithmetic.
    Paddb: Vector Vector 16 A R;
    Paddw: Vector Vector 16 A R;
    Paddd: Vector Vector 16 A R;
    Paddq: Vector Vector 16 A R;
    Paddsb: Vector Vector 16 A R;
    Paddsw: Vector Vector 16 A R;
    Paddusb: Vector Vector 16 A R;
    Paddusw: Vector Vector 16 A R;
    Psubb: Vector Vector 16 A R;
    Psubw: Vector Vector 16 A R;
    Psubd: Vector Vector 16 A R;
    Psubq: Vector Vector 16 A R;
    Psubsb: Vector Vector 16 A R;
    Psubsw: Vector Vector 16 A R;
    Psubusb: Vector Vector 16 A R;
    Psubusw: Vector Vector 16 A R;
    Pmullw: Vector Vector 16 A R;
    Pmulhw: Vector Vector 16 A R;
    Pmulhuw: Vector Vector 16 A R;
    Pmuludq: Vector Vector 16 A R;
    Pmaddwd: Vector Vector 16 A R;
    Psadbw: Vector Vector 16 A R;
    Pavgb: Vector Vector 16 A R;
    Pavgw: Vector Vector 16 A R;
    Pminub: Vector Vector 16 A R;
    Pmaxub: Vector Vector 16 A R;
    Pminsw: Vector Vector 16 A R;
    Pmaxsw: Vector Vector 16 A R;
    Pcmpeqb: Vector Vector 16 A R;
    Pcmpeqw: Vector Vector 16 A R;
    Pcmpeqd: Vector Vector 16 A R;
    Pcmpgtb: Vector Vector 16 A R;
    Pcmpgtw: Vector Vector 16 A R;
    Pcmpgtd: Vector Vector 16 A R;
    // Logic, also ANDPS and the like.
    Pand: Vector Vector 16 A R;
    Pandn: Vector Vector 16 A R;
    Por: Vector Vector 16 A R;
    Pxor: Vector Vector 16 A R;
    // Shifts.
    Psllw: Vector Vector 16 A R;
    Pslld: Vector Vector 16 A R;
    Psllq: Vector Vector 16 A R;
    Psrlw: Vector Vector 16 A R;
    Psrld: Vector Vector 16 A R;
    Psrlq: Vector Vector 16 A R;
    Psraw: Vector Vector 16 A R;
    Psrad: Vector Vector 16 A R;
    Pslldq: Xmm Xmm 0 R;
    Psrldq: Xmm Xmm 0 R;
    // Rearranging, also UNPCKLPS and the like.
    Packsswb: Vector Vector 16 A R;
    Packssdw: Vector Vector 16 A R;
    Packuswb: Vector Vector 16 A R;
    Punpcklbw: Vector Vector 16 A R L;
    Punpcklwd: Vector Vector 16 A R L;
    Punpckldq: Vector Vector 16 A R L;
    Punpcklqdq: Xmm Xmm 16 A R;
    Punpckhbw: Vector Vector 16 A R;
    Punpckhwd: Vector Vector 16 A R;
    Punpckhdq: Vector Vector 16 A R;
    Punpckhqdq: Xmm Xmm 16 A R;
    Pshufd: Xmm Xmm 16 A;
    Pshufhw: Xmm Xmm 16 A;
    /// Also PSHUFW.
    Pshuflw: Vector Vector 16 A;
    Shufps: Xmm Xmm 16 A R;
    Shufpd: Xmm Xmm 16 A R;
    Pinsrw: Vector Gpr 2 R;
    Pextrw: Gpr Vector 0;
    Pmovmskb: Gpr Vector 0;
    Movmskps: Gpr Xmm 0;
    Movmskpd: Gpr Xmm 0;

    // Floating point.
    Addps: Xmm Xmm 16 A R E;
    Mulps: Xmm Xmm 16 A R E;
    Subps: Xmm Xmm 16 A R E;
    Minps: Xmm Xmm 16 A R E;
    Divps: Xmm Xmm 16 A R E;
    Maxps: Xmm Xmm 16 A R E;
    Sqrtps: Xmm Xmm 16 A E;
    Cmpps: Xmm Xmm 16 A R E;
    Rcpps: Xmm Xmm 16 A E;
    Rsqrtps: Xmm Xmm 16 A E;
    Addss: Xmm Xmm 4 R E;
    Mulss: Xmm Xmm 4 R E;
    Subss: Xmm Xmm 4 R E;
    Minss: Xmm Xmm 4 R E;
    Divss: Xmm Xmm 4 R E;
    Maxss: Xmm Xmm 4 R E;
    Sqrtss: Xmm Xmm 4 R E;
    Cmpss: Xmm Xmm 4 R E;
    Rcpss: Xmm Xmm 4 R E;
    Rsqrtss: Xmm Xmm 4 R E;
    Addpd: Xmm Xmm 16 A R E;
    Mulpd: Xmm Xmm 16 A R E;
    Subpd: Xmm Xmm 16 A R E;
    Minpd: Xmm Xmm 16 A R E;
    Divpd: Xmm Xmm 16 A R E;
    Maxpd: Xmm Xmm 16 A R E;
    Sqrtpd: Xmm Xmm 16 A E;
    Cmppd: Xmm Xmm 16 A R E;
    Addsd: Xmm Xmm 8 R E;
    Mulsd: Xmm Xmm 8 R E;
    Subsd: Xmm Xmm 8 R E;
    Minsd: Xmm Xmm 8 R E;
    Divsd: Xmm Xmm 8 R E;
    Maxsd: Xmm Xmm 8 R E;
    Sqrtsd: Xmm Xmm 8 R E;
    Cmpsd: Xmm Xmm 8 R E;
    Comiss: Flags Xmm 4 R E;
    Ucomiss: Flags Xmm 4 R E;
    Comisd: Flags Xmm 8 R E;
    Ucomisd: Flags Xmm 8 R E;

    // Conversions.
    Cvtpi2ps: Xmm Mmx 8 R E;
    Cvtpi2pd: Xmm Mmx 8 E;
    Cvtsi2ss: Xmm Gpr 4 R E;
    Cvtsi2sd: Xmm Gpr 4 R E;
    Cvtps2pi: Mmx Xmm 8 E;
    Cvttps2pi: Mmx Xmm 8 E;
    Cvtpd2pi: Mmx Xmm 16 A E;
    Cvttpd2pi: Mmx Xmm 16 A E;
    Cvtss2si: Gpr Xmm 4 E;
    Cvttss2si: Gpr Xmm 4 E;
    Cvtsd2si: Gpr Xmm 8 E;
    Cvttsd2si: Gpr Xmm 8 E;
    Cvtps2pd: Xmm Xmm 8 E;
    Cvtpd2ps: Xmm Xmm 16 A E;
    Cvtss2sd: Xmm Xmm 4 R E;
    Cvtsd2ss: Xmm Xmm 8 R E;
    Cvtdq2ps: Xmm Xmm 16 A E;
    Cvtps2dq: Xmm Xmm 16 A E;
    Cvttps2dq: Xmm Xmm 16 A E;
    Cvtdq2pd: Xmm Xmm 8 E;
    Cvtpd2dq: Xmm Xmm 16 A E;
    Cvttpd2dq: Xmm Xmm 16 A E;

    // State.
    Emms: State State 0;
    Ldmxcsr: State State 4;
    Stmxcsr: State State 4;
    Fxsave: State State 16;
    Fxrstor: State State 16;
    Clflush: State State 1;

    // SSE3.
    Movddup: Xmm Xmm 8;
    Movshdup: Xmm Xmm 16 A;
    Movsldup: Xmm Xmm 16 A;
    Lddqu: Xmm Xmm 16;
    Addsubps: Xmm Xmm 16 A R E;
    Addsubpd: Xmm Xmm 16 A R E;
    Haddps: Xmm Xmm 16 A R E;
    Haddpd: Xmm Xmm 16 A R E;
    Hsubps: Xmm Xmm 16 A R E;
    Hsubpd: Xmm Xmm 16 A R E;

    // SSSE3.
    Pshufb: Vector Vector 16 A R;
    Phaddw: Vector Vector 16 A R;
    Phaddd: Vector Vector 16 A R;
    Phaddsw: Vector Vector 16 A R;
    Phsubw: Vector Vector 16 A R;
    Phsubd: Vector Vector 16 A R;
    Phsubsw: Vector Vector 16 A R;
    Pmaddubsw: Vector Vector 16 A R;
    Pmulhrsw: Vector Vector 16 A R;
    Psignb: Vector Vector 16 A R;
    Psignw: Vector Vector 16 A R;
    Psignd: Vector Vector 16 A R;
    Pabsb: Vector Vector 16 A;
    Pabsw: Vector Vector 16 A;
    Pabsd: Vector Vector 16 A;
    Palignr: Vector Vector 16 A R;

    // SSE4.1.
    Pmovsxbw: Xmm Xmm 8;
    Pmovsxbd: Xmm Xmm 4;
    Pmovsxbq: Xmm Xmm 2;
    Pmovsxwd: Xmm Xmm 8;
    Pmovsxwq: Xmm Xmm 4;
    Pmovsxdq: Xmm Xmm 8;
    Pmovzxbw: Xmm Xmm 8;
    Pmovzxbd: Xmm Xmm 4;
    Pmovzxbq: Xmm Xmm 2;
    Pmovzxwd: Xmm Xmm 8;
    Pmovzxwq: Xmm Xmm 4;
    Pmovzxdq: Xmm Xmm 8;
    Pmuldq: Xmm Xmm 16 A R;
    Pmulld: Xmm Xmm 16 A R;
    Pcmpeqq: Xmm Xmm 16 A R;
    /// From memory only.
    Movntdqa: Xmm Xmm 16 A;
    Packusdw: Xmm Xmm 16 A R;
    Pminsb: Xmm Xmm 16 A R;
    Pminsd: Xmm Xmm 16 A R;
    Pminuw: Xmm Xmm 16 A R;
    Pminud: Xmm Xmm 16 A R;
    Pmaxsb: Xmm Xmm 16 A R;
    Pmaxsd: Xmm Xmm 16 A R;
    Pmaxuw: Xmm Xmm 16 A R;
    Pmaxud: Xmm Xmm 16 A R;
    Phminposuw: Xmm Xmm 16 A;
    Mpsadbw: Xmm Xmm 16 A R;
    Pblendw: Xmm Xmm 16 A R;
    Blendps: Xmm Xmm 16 A R;
    Blendpd: Xmm Xmm 16 A R;
    Pinsrb: Xmm Gpr 1 R;
    Pinsrd: Xmm Gpr 4 R;
    Insertps: Xmm Xmm 4 R;
    Pextrb: Gpr Xmm 0;
    /// Also EXTRACTPS.
    Pextrd: Gpr Xmm 0;
    /// PEXTRB and the like to memory.
    StoreElement8: Memory Xmm 1;
    StoreElement16: Memory Xmm 2;
    StoreElement32: Memory Xmm 4;
    Ptest: Flags Xmm 16 A R;
    Roundps: Xmm Xmm 16 A E;
    Roundpd: Xmm Xmm 16 A E;
    Roundss: Xmm Xmm 4 R E;
    Roundsd: Xmm Xmm 8 R E;
    Dpps: Xmm Xmm 16 A R E;
    Dppd: Xmm Xmm 16 A R E;
    // SSE4.2.
    Pcmpgtq: Xmm Xmm 16 A R;

    // With operands that the instruction does not name: see `Cpu::simd_implicit`. From here on.
    Pblendvb: Xmm Xmm 16 A R;
    Blendvps: Xmm Xmm 16 A R;
    Blendvpd: Xmm Xmm 16 A R;
    Pcmpestrm: Xmm Xmm 16 R;
    Pcmpestri: Xmm Xmm 16 R;
    Pcmpistrm: Xmm Xmm 16 R;
    Pcmpistri: Xmm Xmm 16 R;
}

impl SimdOp {
    /// The operation of a SIMD op's `imm`.
    #[inline]
    #[must_use]
    pub fn of(imm: u32) -> Option<SimdOp> {
        SimdOp::ALL.get((imm >> OP_SHIFT & 0xffff) as usize).copied()
    }

    /// Its row.
    #[inline]
    #[must_use]
    pub fn info(self) -> &'static Info {
        &SimdOp::INFO[self as usize]
    }

    /// Whether it has operands that the instruction does not name: XMM0, ECX, EAX and EDX, the flags.
    #[inline]
    #[must_use]
    pub const fn is_implicit(self) -> bool {
        self as u16 >= SimdOp::Pblendvb as u16
    }

    /// Whether it compares strings: the general registers and flags that it uses are not named.
    #[inline]
    #[must_use]
    pub const fn compares_strings(self) -> bool {
        matches!(self, SimdOp::Pcmpestrm | SimdOp::Pcmpestri | SimdOp::Pcmpistrm | SimdOp::Pcmpistri)
    }

    /// Whether this is binary64 arithmetic on the low element.
    #[inline]
    #[must_use]
    pub const fn is_scalar_double(self) -> bool {
        matches!(
            self,
            SimdOp::Addsd
                | SimdOp::Mulsd
                | SimdOp::Subsd
                | SimdOp::Minsd
                | SimdOp::Divsd
                | SimdOp::Maxsd
                | SimdOp::Sqrtsd
                | SimdOp::Cmpsd
        )
    }
}
