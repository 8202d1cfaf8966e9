//! The x87 operations, one per operand form, and their decoding from iced-x86 instructions.
//! Spec: Intel SDM vol. 2 appendix A.5 (escape opcodes D8-DF).

use iced_x86::{Code, Instruction, Register};

macro_rules! x87_ops {
    ($($name:ident $doc:literal $($code:ident)*;)*) => {
        /// One x87 operation form: mnemonic and operand kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum X87Op { $(#[doc = $doc] $name,)* }

        impl X87Op {
            /// Every form, indexed by its discriminant.
            pub const ALL: &'static [X87Op] = &[$(X87Op::$name,)*];

            /// The manual's notation.
            pub const fn notation(self) -> &'static str {
                match self { $(X87Op::$name => $doc,)* }
            }

            fn from_code(code: Code) -> Option<X87Op> {
                match code {
                    $($(Code::$code)|* => Some(X87Op::$name),)*
                    _ => None,
                }
            }
        }
    };
}

x87_ops! {
    FaddReg "FADD ST0, STi" Fadd_st0_sti;
    FaddTo "FADD STi, ST0" Fadd_sti_st0;
    FaddPop "FADDP STi, ST0" Faddp_sti_st0;
    FaddM32 "FADD m32" Fadd_m32fp;
    FaddM64 "FADD m64" Fadd_m64fp;
    FaddI16 "FIADD m16" Fiadd_m16int;
    FaddI32 "FIADD m32" Fiadd_m32int;
    FmulReg "FMUL ST0, STi" Fmul_st0_sti;
    FmulTo "FMUL STi, ST0" Fmul_sti_st0;
    FmulPop "FMULP STi, ST0" Fmulp_sti_st0;
    FmulM32 "FMUL m32" Fmul_m32fp;
    FmulM64 "FMUL m64" Fmul_m64fp;
    FmulI16 "FIMUL m16" Fimul_m16int;
    FmulI32 "FIMUL m32" Fimul_m32int;
    FsubReg "FSUB ST0, STi" Fsub_st0_sti;
    FsubTo "FSUB STi, ST0" Fsub_sti_st0;
    FsubPop "FSUBP STi, ST0" Fsubp_sti_st0;
    FsubM32 "FSUB m32" Fsub_m32fp;
    FsubM64 "FSUB m64" Fsub_m64fp;
    FsubI16 "FISUB m16" Fisub_m16int;
    FsubI32 "FISUB m32" Fisub_m32int;
    FsubrReg "FSUBR ST0, STi" Fsubr_st0_sti;
    FsubrTo "FSUBR STi, ST0" Fsubr_sti_st0;
    FsubrPop "FSUBRP STi, ST0" Fsubrp_sti_st0;
    FsubrM32 "FSUBR m32" Fsubr_m32fp;
    FsubrM64 "FSUBR m64" Fsubr_m64fp;
    FsubrI16 "FISUBR m16" Fisubr_m16int;
    FsubrI32 "FISUBR m32" Fisubr_m32int;
    FdivReg "FDIV ST0, STi" Fdiv_st0_sti;
    FdivTo "FDIV STi, ST0" Fdiv_sti_st0;
    FdivPop "FDIVP STi, ST0" Fdivp_sti_st0;
    FdivM32 "FDIV m32" Fdiv_m32fp;
    FdivM64 "FDIV m64" Fdiv_m64fp;
    FdivI16 "FIDIV m16" Fidiv_m16int;
    FdivI32 "FIDIV m32" Fidiv_m32int;
    FdivrReg "FDIVR ST0, STi" Fdivr_st0_sti;
    FdivrTo "FDIVR STi, ST0" Fdivr_sti_st0;
    FdivrPop "FDIVRP STi, ST0" Fdivrp_sti_st0;
    FdivrM32 "FDIVR m32" Fdivr_m32fp;
    FdivrM64 "FDIVR m64" Fdivr_m64fp;
    FdivrI16 "FIDIVR m16" Fidivr_m16int;
    FdivrI32 "FIDIVR m32" Fidivr_m32int;
    FcomReg "FCOM STi" Fcom_st0_sti Fcom_st0_sti_DCD0;
    FcomM32 "FCOM m32" Fcom_m32fp;
    FcomM64 "FCOM m64" Fcom_m64fp;
    FcomI16 "FICOM m16" Ficom_m16int;
    FcomI32 "FICOM m32" Ficom_m32int;
    FcompReg "FCOMP STi" Fcomp_st0_sti Fcomp_st0_sti_DCD8 Fcomp_st0_sti_DED0;
    FcompM32 "FCOMP m32" Fcomp_m32fp;
    FcompM64 "FCOMP m64" Fcomp_m64fp;
    FcompI16 "FICOMP m16" Ficomp_m16int;
    FcompI32 "FICOMP m32" Ficomp_m32int;
    Fcompp "FCOMPP" Fcompp;
    Fucom "FUCOM STi" Fucom_st0_sti;
    Fucomp "FUCOMP STi" Fucomp_st0_sti;
    Fucompp "FUCOMPP" Fucompp;
    Fcomi "FCOMI ST0, STi (to EFLAGS)" Fcomi_st0_sti;
    Fcomip "FCOMIP ST0, STi (to EFLAGS)" Fcomip_st0_sti;
    Fucomi "FUCOMI ST0, STi (to EFLAGS)" Fucomi_st0_sti;
    Fucomip "FUCOMIP ST0, STi (to EFLAGS)" Fucomip_st0_sti;
    Ftst "FTST" Ftst;
    Fxam "FXAM" Fxam;
    FldSti "FLD STi" Fld_sti;
    FldM32 "FLD m32" Fld_m32fp;
    FldM64 "FLD m64" Fld_m64fp;
    FldM80 "FLD m80" Fld_m80fp;
    FildI16 "FILD m16" Fild_m16int;
    FildI32 "FILD m32" Fild_m32int;
    FildI64 "FILD m64" Fild_m64int;
    Fbld "FBLD m80" Fbld_m80bcd;
    FstSti "FST STi" Fst_sti;
    FstpSti "FSTP STi" Fstp_sti Fstp_sti_DFD0 Fstp_sti_DFD8;
    Fstpnce "FSTPNCE STi (D9 D8+i: FSTP without the empty check)" Fstpnce_sti;
    FstM32 "FST m32" Fst_m32fp;
    FstM64 "FST m64" Fst_m64fp;
    FstpM32 "FSTP m32" Fstp_m32fp;
    FstpM64 "FSTP m64" Fstp_m64fp;
    FstpM80 "FSTP m80" Fstp_m80fp;
    FistI16 "FIST m16" Fist_m16int;
    FistI32 "FIST m32" Fist_m32int;
    FistpI16 "FISTP m16" Fistp_m16int;
    FistpI32 "FISTP m32" Fistp_m32int;
    FistpI64 "FISTP m64" Fistp_m64int;
    FisttpI16 "FISTTP m16 (SSE3)" Fisttp_m16int;
    FisttpI32 "FISTTP m32 (SSE3)" Fisttp_m32int;
    FisttpI64 "FISTTP m64 (SSE3)" Fisttp_m64int;
    Fbstp "FBSTP m80" Fbstp_m80bcd;
    Fnstcw "FNSTCW m16" Fnstcw_m2byte;
    FnstswM16 "FNSTSW m16" Fnstsw_m2byte;
    FnstswAx "FNSTSW AX" Fnstsw_AX;
    Fldcw "FLDCW m16" Fldcw_m2byte;
    Fnstenv "FNSTENV" Fnstenv_m14byte Fnstenv_m28byte;
    Fldenv "FLDENV" Fldenv_m14byte Fldenv_m28byte;
    Fnsave "FNSAVE" Fnsave_m94byte Fnsave_m108byte;
    Frstor "FRSTOR" Frstor_m94byte Frstor_m108byte;
    Fninit "FNINIT" Fninit;
    Fnclex "FNCLEX" Fnclex;
    Fnop "FNOP" Fnop;
    Fnobs "FENI, FDISI, FSETPM: 8087/287 controls, no-operations since the 387" Fneni Fndisi Fnsetpm;
    Fincstp "FINCSTP" Fincstp;
    Fdecstp "FDECSTP" Fdecstp;
    Ffree "FFREE STi" Ffree_sti;
    Ffreep "FFREEP STi" Ffreep_sti;
    Fxch "FXCH STi" Fxch_st0_sti Fxch_st0_sti_DDC8 Fxch_st0_sti_DFC8;
    Fcmov "FCMOVcc ST0, STi (the CPU evaluates the condition)" Fcmovb_st0_sti Fcmove_st0_sti Fcmovbe_st0_sti Fcmovu_st0_sti Fcmovnb_st0_sti Fcmovne_st0_sti Fcmovnbe_st0_sti Fcmovnu_st0_sti;
    Fchs "FCHS" Fchs;
    Fabs "FABS" Fabs;
    Fld1 "FLD1" Fld1;
    Fldl2t "FLDL2T" Fldl2t;
    Fldl2e "FLDL2E" Fldl2e;
    Fldpi "FLDPI" Fldpi;
    Fldlg2 "FLDLG2" Fldlg2;
    Fldln2 "FLDLN2" Fldln2;
    Fldz "FLDZ" Fldz;
    F2xm1 "F2XM1" F2xm1;
    Fyl2x "FYL2X" Fyl2x;
    Fyl2xp1 "FYL2XP1" Fyl2xp1;
    Fptan "FPTAN" Fptan;
    Fpatan "FPATAN" Fpatan;
    Fsin "FSIN" Fsin;
    Fcos "FCOS" Fcos;
    Fsincos "FSINCOS" Fsincos;
    Fxtract "FXTRACT" Fxtract;
    Fprem "FPREM" Fprem;
    Fprem1 "FPREM1" Fprem1;
    Fsqrt "FSQRT" Fsqrt;
    Frndint "FRNDINT" Frndint;
    Fscale "FSCALE" Fscale;
}

/// How an operation gets at its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// Registers only: `X87::exec_reg`.
    Register,
    /// Reads this many bytes of memory: `X87::exec_load`.
    Load(u8),
    /// Writes this many bytes of memory: `X87::prepare_store`, `X87::commit_store`.
    Store(u8),
    /// FLDENV or FRSTOR: an image of this many bytes is read.
    LoadImage(u8),
    /// FNSTENV or FNSAVE: an image of this many bytes is written.
    StoreImage(u8),
}

/// A decoded x87 instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// The operation.
    pub op: X87Op,
    /// i of ST(i), 0 where there is none.
    pub sti: u8,
    /// Operand kind and size.
    pub operand: Operand,
}

impl X87Op {
    /// Whether it reads or writes EFLAGS.
    pub const fn touches_eflags(self) -> bool {
        use X87Op::*;
        matches!(self, Fcomi | Fcomip | Fucomi | Fucomip | Fcmov)
    }

    /// Whether this is a control instruction: those neither update the last-instruction pointers
    /// (SDM vol. 1 section 8.1.8) nor touch data.
    pub const fn is_control(self) -> bool {
        use X87Op::*;
        matches!(
            self,
            Fninit | Fnclex | Fnobs | Fldcw | Fnstcw | FnstswM16 | FnstswAx | Fnstenv | Fldenv | Fnsave | Frstor
        )
    }

    /// Whether a pending unmasked exception is reported before this instruction. The FN forms
    /// don't wait.
    pub const fn waits(self) -> bool {
        use X87Op::*;
        !matches!(self, Fninit | Fnclex | Fnobs | Fnstcw | FnstswM16 | FnstswAx | Fnstenv | Fnsave)
    }

    /// Operand kind and size; images by the instruction's operand size.
    const fn operand(self, operand32: bool) -> Operand {
        use X87Op::*;
        match self {
            FaddI16 | FmulI16 | FsubI16 | FsubrI16 | FdivI16 | FdivrI16 | FcomI16 | FcompI16 | FildI16 | Fldcw => {
                Operand::Load(2)
            }
            FaddM32 | FmulM32 | FsubM32 | FsubrM32 | FdivM32 | FdivrM32 | FcomM32 | FcompM32 | FldM32 | FaddI32
            | FmulI32 | FsubI32 | FsubrI32 | FdivI32 | FdivrI32 | FcomI32 | FcompI32 | FildI32 => Operand::Load(4),
            FaddM64 | FmulM64 | FsubM64 | FsubrM64 | FdivM64 | FdivrM64 | FcomM64 | FcompM64 | FldM64 | FildI64 => {
                Operand::Load(8)
            }
            FldM80 | Fbld => Operand::Load(10),
            FistI16 | FistpI16 | FisttpI16 | Fnstcw | FnstswM16 => Operand::Store(2),
            FstM32 | FstpM32 | FistI32 | FistpI32 | FisttpI32 => Operand::Store(4),
            FstM64 | FstpM64 | FistpI64 | FisttpI64 => Operand::Store(8),
            FstpM80 | Fbstp => Operand::Store(10),
            Fldenv => Operand::LoadImage(if operand32 { 28 } else { 14 }),
            Fnstenv => Operand::StoreImage(if operand32 { 28 } else { 14 }),
            Frstor => Operand::LoadImage(if operand32 { 108 } else { 94 }),
            Fnsave => Operand::StoreImage(if operand32 { 108 } else { 94 }),
            _ => Operand::Register,
        }
    }
}

/// Decodes an x87 instruction; `None` for every other one. The decoder never yields the forms
/// with a leading WAIT: that is an instruction of its own.
pub fn decode(insn: &Instruction) -> Option<Decoded> {
    let op = X87Op::from_code(insn.code())?;
    let operand32 = matches!(
        insn.code(),
        Code::Fldenv_m28byte | Code::Fnstenv_m28byte | Code::Frstor_m108byte | Code::Fnsave_m108byte
    );
    let operand = op.operand(operand32);
    let mut sti = 0;
    if operand == Operand::Register {
        // The operand that is not ST0 (or ST0 itself for ST(0)).
        for i in 0..insn.op_count() {
            let index = (insn.op_register(i) as u32).wrapping_sub(Register::ST0 as u32);
            if (1..8).contains(&index) {
                sti = index as u8;
            }
        }
    }
    Some(Decoded { op, sti, operand })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    #[test]
    fn every_escape_opcode_decodes_or_is_undefined() {
        let mut seen = vec![false; X87Op::ALL.len()];
        for bits in [16, 32] {
            for esc in 0xD8..=0xDFu8 {
                for modrm in 0..=255u8 {
                    let code = [esc, modrm, 0, 0, 0, 0, 0, 0];
                    let insn = Decoder::with_ip(bits, &code, 0, DecoderOptions::NONE).decode();
                    if insn.is_invalid() {
                        continue;
                    }
                    let name = format!("{:?}", insn.code());
                    // 287XL/387SL test and rounding extras that no modelled CPU has.
                    let Some(d) = decode(&insn) else {
                        assert!(
                            ["Frstpm", "Fnstdw", "Fnstsg", "Ftstp", "Frint2", "Frichop", "Frinear"]
                                .iter()
                                .any(|p| name.starts_with(p)),
                            "{name}"
                        );
                        continue;
                    };
                    seen[d.op as usize] = true;
                    if modrm >= 0xC0 {
                        assert_eq!(d.operand, Operand::Register);
                        assert!(d.sti == 0 || d.sti == modrm & 7);
                    } else {
                        assert_ne!(d.operand, Operand::Register);
                    }
                }
            }
        }
        let missing: Vec<_> = X87Op::ALL.iter().filter(|op| !seen[**op as usize]).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let waits = Decoder::with_ip(32, &[0x9B, 0xD9, 0x38], 0, DecoderOptions::NONE).decode();
        assert_eq!(waits.code(), Code::Wait);
    }
}
