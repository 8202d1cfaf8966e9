//! What is not compared: what the manual leaves undefined, by instruction page (Intel SDM vol. 2), and what
//! vendors do differently.

use crate::generate::{offset, operand_size, segment};
use crate::layout::base;
use crate::vector::{FX_ST, Vector};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

const CF: u32 = 1;
const PF: u32 = 4;
const AF: u32 = 0x10;
const ZF: u32 = 0x40;
const SF: u32 = 0x80;
const OF: u32 = 0x800;

/// What of an outcome is left out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Undefined flags.
    pub flags: u32,
    /// Undefined general registers, a bit each.
    pub gpr: u8,
    /// The written operand is undefined, wherever it is.
    pub memory: Option<(u32, u32)>,
    /// XMM registers whose value is an approximation, a bit each.
    pub approximate: bool,
    /// x87 results may differ by a unit in the last place, and C1 (which way they were rounded) with them.
    pub transcendental: bool,
    /// Undefined bits of a general register: its number, and which.
    pub bits: (u8, u32),
    /// The instruction makes several accesses that may fault: which of them is reported is the processor's choice.
    pub several: bool,
    /// Everything.
    pub all: bool,
    /// And those before it may have been made.
    pub partial: bool,
    /// Bytes of an image in memory that hold last instruction and data pointers.
    pub pointers: Option<(u32, u32)>,
    /// The host did not look at all of the memory that the core found at fault.
    pub unread: bool,
    /// The operand of 16 bytes need not be aligned, but may be checked.
    pub unaligned: bool,
    /// All of x87.
    pub floating: bool,
    /// Which of several NaN a result is.
    pub nan: bool,
}

/// A row of the table as the report shows it.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Instructions.
    pub what: &'static str,
    /// What is left out.
    pub mask: &'static str,
    /// Why.
    pub source: &'static str,
}

/// The table, for the report. [`mask`] is the code of it.
pub const ROWS: [Row; 32] = [
    Row { what: "AND, OR, XOR, TEST", mask: "AF", source: "SDM vol. 2, AND, OR, XOR, TEST: Flags Affected" },
    Row {
        what: "SHL, SHR, SAR by a count other than 0",
        mask: "AF; OF unless the count is 1; CF of SHL and SHR when the count is at least the operand's size",
        source: "SDM vol. 2, SAL/SAR/SHL/SHR: Flags Affected",
    },
    Row {
        what: "ROL, ROR, RCL, RCR by a count other than 0 and 1",
        mask: "OF",
        source: "SDM vol. 2, RCL/RCR/ROL/ROR: Flags Affected",
    },
    Row {
        what: "SHLD, SHRD by a count other than 0",
        mask: "AF; OF unless the count is 1; all flags and the destination when the count exceeds the operand's size",
        source: "SDM vol. 2, SHLD, SHRD: Description, Flags Affected",
    },
    Row { what: "MUL, IMUL", mask: "SF, ZF, AF, PF", source: "SDM vol. 2, MUL, IMUL: Flags Affected" },
    Row { what: "DIV, IDIV", mask: "CF, OF, SF, ZF, AF, PF", source: "SDM vol. 2, DIV, IDIV: Flags Affected" },
    Row { what: "DAA, DAS", mask: "OF", source: "SDM vol. 2, DAA, DAS: Flags Affected" },
    Row { what: "AAA, AAS", mask: "OF, SF, ZF, PF", source: "SDM vol. 2, AAA, AAS: Flags Affected" },
    Row { what: "AAM, AAD", mask: "OF, AF, CF", source: "SDM vol. 2, AAM, AAD: Flags Affected" },
    Row {
        what: "BSF, BSR",
        mask: "CF, OF, SF, AF, PF; the destination when the source is 0",
        source: "SDM vol. 2, BSF, BSR: Description, Flags Affected",
    },
    Row { what: "BT, BTS, BTR, BTC", mask: "OF, SF, AF, PF", source: "SDM vol. 2, BT, BTC, BTR, BTS: Flags Affected" },
    Row { what: "BSWAP with a 16-bit register", mask: "the destination", source: "SDM vol. 2, BSWAP: Description" },
    Row {
        what: "RCPPS, RCPSS, RSQRTPS, RSQRTSS",
        mask: "compared to a relative error of 2^-10",
        source: "SDM vol. 2, RCPPS and others: an approximation of 1.5 × 2^-12; each vendor has its own",
    },
    Row {
        what: "FSIN, FCOS, FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1",
        mask: "one unit in the last place of the result; C1 and, next to the smallest numbers, UE",
        source: "SDM vol. 1, 8.3.10: less than 1 ulp of error; C1 tells which way it was rounded",
    },
    Row {
        what: "FIP, FDP, FOP, FCS, FDS, in the unit and in images stored by FNSTENV, FNSAVE, FXSAVE",
        mask: "all",
        source: "SDM vol. 1, 8.1.8 and 8.1.9 leave them to the implementation; AMD saves them with a pending exception only",
    },
    Row {
        what: "PUSH of a segment register with a 32-bit operand",
        mask: "the upper two bytes",
        source: "SDM vol. 2, PUSH: Description (zero, or not written)",
    },
    Row { what: "LAR", mask: "bits 19:16", source: "SDM vol. 2, LAR: Description (00FxFF00h, x undefined)" },
    Row {
        what: "Far pointers, far CALL, RET and IRET, ENTER, PUSHA, POPA, BOUND, 80-bit operands, x87 and FXSAVE images, MASKMOVQ, MASKMOVDQU, when they fault",
        mask: "which of their accesses is reported, and what those before it stored or, for POPA, loaded",
        source: "SDM vol. 3, 6.9: the order within an instruction is the implementation's; vol. 2, ENTER, MASKMOVQ",
    },
    Row {
        what: "MASKMOVQ, MASKMOVDQU when they fault",
        mask: "whether bytes that are not selected may fault",
        source: "SDM vol. 2, MASKMOVQ, MASKMOVDQU: Description (implementation-specific)",
    },
    Row {
        what: "Unaligned accesses with AC set that are also a page, limit or type fault",
        mask: "which of the two is reported",
        source: "SDM vol. 3, table 6-2: the order within a class is the implementation's (AMD: alignment before pages)",
    },
    Row {
        what: "ENTER, MASKMOVQ, MASKMOVDQU with AC set",
        mask: "all",
        source: "seen on AMD: they check the alignment of accesses that are wider than their operands",
    },
    Row {
        what: "MOVUPS, MOVUPD, MOVDQU, LDDQU, PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM with AC set",
        mask: "all when one of the two raises #AC",
        source: "SDM vol. 2, MOVUPS and others: may or may not be generated, depending on the implementation",
    },
    Row {
        what: "REP that is single-stepped between iterations",
        mask: "RF of the trap's frame",
        source: "SDM vol. 3, 17.3.1.1: set; the AMD host has it clear",
    },
    Row {
        what: "REP CMPS, REP SCAS that stop between two iterations",
        mask: "status flags, unless the host leaves them as they were",
        source: "SDM vol. 2, REP: Description (restored to those from before the instruction); AMD's are those of the last iteration",
    },
    Row {
        what: "CMPS that faults",
        mask: "which of its two accesses is reported",
        source: "SDM vol. 3, 6.9: the order within an instruction is the implementation's",
    },
    Row {
        what: "Operands across 4 GiB",
        mask: "whether that is #PF, or #GP or #SS",
        source: "SDM vol. 3, 5.3: with an effective limit of FFFFFFFFh it depends on the implementation",
    },
    Row {
        what: "x87 stores that an unmasked exception stops, BOUND whose index is below the lower bound, POP of a segment register with a 32-bit operand",
        mask: "all, when the host does not look at the memory that the core found at fault",
        source: "seen on Intel: what is not needed is not accessed; AMD checks it",
    },
    Row {
        what: "DPPS, DPPD",
        mask: "which NaN the result is",
        source: "the order of the sums is not said; Intel's differs for each element, AMD's does not",
    },
    Row {
        what: "MOVD, MOVQ, MOVNTQ of an MMX register to memory that faults",
        mask: "all of x87",
        source: "TOP: seen on Intel: cleared, on AMD: unchanged (SDM vol. 3, 12.2: cleared by the instruction)",
    },
    Row {
        what: "FPREM and FPREM1 of a denormal by an infinity, FSCALE of a denormal by 0, underflow unmasked",
        mask: "all of x87",
        source: "seen on Intel: unchanged, on AMD: underflow",
    },
    Row {
        what: "ENTER with a 32-bit operand whose 16-bit stack pointer wraps",
        mask: "all",
        source: "seen on Intel: the frame pointer's upper half is all ones, on AMD: 0",
    },
    Row { what: "FXSAVE", mask: "MXCSR_MASK", source: "SDM vol. 1, 11.6.6: depends on the processor" },
];

/// Operand size in bytes of the destination.
fn width(insn: &Instruction) -> u32 {
    let r = insn.op0_register();
    match insn.op0_kind() {
        OpKind::Register if (Register::AL as u32..=Register::R15L as u32).contains(&(r as u32)) => 1,
        OpKind::Register if (Register::AX as u32..=Register::R15W as u32).contains(&(r as u32)) => 2,
        OpKind::Register => 4,
        _ => operand_size(insn),
    }
}

fn number(r: Register) -> u32 {
    let within = |first: Register| (r as u32).checked_sub(first as u32).filter(|n| *n < 8);
    within(Register::EAX).or_else(|| within(Register::AX)).unwrap_or(0)
}

/// The linear address of the memory operand.
#[must_use]
pub fn operand_address(insn: &Instruction, v: &Vector) -> u32 {
    base(v.sel[segment(insn)]).wrapping_add(offset(insn, &v.gpr))
}

/// The count of a shift or rotate, masked to five bits.
fn count(insn: &Instruction, v: &Vector, operand: u32) -> u32 {
    let raw = match insn.op_kind(operand) {
        OpKind::Register => v.gpr[1],
        _ => insn.immediate(operand) as u32,
    };
    raw & 31
}

fn is_segment(r: Register) -> bool {
    (Register::ES as u32..=Register::GS as u32).contains(&(r as u32))
}

/// ST0 is a denormal and ST1 of these exponent and significand, and underflow is unmasked.
fn denormal_and(v: &Vector, other: (u16, u64)) -> bool {
    let st = |n: usize| {
        let at = FX_ST + 16 * n;
        let significand = u64::from_le_bytes(std::array::from_fn(|i| v.fx[at + i]));
        (u16::from_le_bytes([v.fx[at + 8], v.fx[at + 9]]) & 0x7fff, significand)
    };
    v.fx[0] & 0x10 == 0 && st(0).0 == 0 && st(1) == other
}

/// Whether the memory operand has 16 bytes and need not be aligned.
#[must_use]
pub fn unaligned_16(insn: &Instruction) -> bool {
    use Mnemonic as M;
    let moves = matches!(insn.mnemonic(), M::Movdqu | M::Movups | M::Movupd | M::Lddqu);
    moves || matches!(insn.mnemonic(), M::Pcmpestri | M::Pcmpestrm | M::Pcmpistri | M::Pcmpistrm)
}

/// The mask for an instruction that faulted.
#[must_use]
pub fn mask_of_fault(insn: &Instruction, vector: u8) -> Mask {
    use Mnemonic as M;
    let mut mask = Mask::default();
    if !(11..=14).contains(&vector) && vector != 17 {
        mask.unread = vector == 5;
        return mask;
    }
    match insn.mnemonic() {
        M::Popa | M::Popad => (mask.several, mask.gpr) = (true, 0xff),
        M::Enter | M::Pusha | M::Pushad | M::Call => (mask.several, mask.partial) = (true, true),
        M::Fnsave | M::Fnstenv | M::Fxsave | M::Fstp | M::Fbstp => (mask.several, mask.partial) = (true, true),
        M::Maskmovq | M::Maskmovdqu => mask.all = true,
        // Two bytes or four.
        M::Push if is_segment(insn.op0_register()) => mask.all = true,
        M::Retf | M::Iret | M::Iretd | M::Jmp | M::Lds | M::Les | M::Lss | M::Lfs | M::Lgs | M::Bound => {
            mask.several = true;
        }
        M::Cmpsb | M::Cmpsw | M::Cmpsd => mask.several = true,
        M::Movd | M::Movq | M::Movntq => mask.floating = true,
        M::Pop if is_segment(insn.op0_register()) => mask.several = true,
        M::Frstor | M::Fldenv | M::Fxrstor | M::Fld | M::Fbld => mask.several = true,
        _ => {}
    }
    mask
}

/// The mask for an instruction that retired. `source` is the value of the second operand (BSF, BSR).
#[must_use]
pub fn mask(insn: &Instruction, v: &Vector, source_zero: bool) -> Mask {
    use Mnemonic as M;
    let mut mask = Mask::default();
    let memory = (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory);
    match insn.mnemonic() {
        M::And | M::Or | M::Xor | M::Test => mask.flags = AF,
        M::Shl | M::Sal | M::Shr | M::Sar => {
            let n = count(insn, v, 1);
            if n != 0 {
                mask.flags = AF;
            }
            if n > 1 {
                mask.flags |= OF;
            }
            if insn.mnemonic() != M::Sar && n >= 8 * width(insn) {
                mask.flags |= CF;
            }
        }
        M::Rol | M::Ror | M::Rcl | M::Rcr if count(insn, v, 1) > 1 => mask.flags = OF,
        M::Shld | M::Shrd => {
            let n = count(insn, v, 2);
            if n != 0 {
                mask.flags = AF;
            }
            if n > 1 {
                mask.flags |= OF;
            }
            if n > 8 * width(insn) {
                mask.flags = CF | PF | AF | ZF | SF | OF;
                if memory {
                    mask.memory = Some((operand_address(insn, v), width(insn)));
                } else {
                    mask.gpr = 1 << number(insn.op0_register());
                }
            }
        }
        M::Mul | M::Imul => mask.flags = SF | ZF | AF | PF,
        M::Div | M::Idiv => mask.flags = CF | OF | SF | ZF | AF | PF,
        M::Daa | M::Das => mask.flags = OF,
        M::Aaa | M::Aas => mask.flags = OF | SF | ZF | PF,
        M::Aam | M::Aad => mask.flags = OF | AF | CF,
        M::Bsf | M::Bsr => {
            mask.flags = CF | OF | SF | AF | PF;
            if source_zero {
                mask.gpr = 1 << number(insn.op0_register());
            }
        }
        M::Bt | M::Bts | M::Btr | M::Btc => mask.flags = OF | SF | AF | PF,
        M::Bswap if width(insn) == 2 => mask.gpr = 1 << number(insn.op0_register()),
        M::Rcpps | M::Rcpss | M::Rsqrtps | M::Rsqrtss => mask.approximate = true,
        M::Fsin | M::Fcos | M::Fsincos | M::Fptan | M::Fpatan | M::F2xm1 | M::Fyl2x | M::Fyl2xp1 => {
            mask.transcendental = true;
        }
        M::Fnstenv | M::Fnsave => {
            let at = operand_address(insn, v);
            let small = matches!(operand_size(insn), 14 | 94);
            mask.pointers = Some(if small { (at.wrapping_add(6), 8) } else { (at.wrapping_add(12), 16) });
        }
        M::Push if is_segment(insn.op0_register()) => {
            let wide = v.code32() != v.code.iter().take_while(|b| crate::forms::is_prefix(**b)).any(|b| *b == 0x66);
            if wide {
                let stack = if v.code32() { v.gpr[4] } else { v.gpr[4] & 0xffff };
                let at = stack.wrapping_sub(4);
                let at = if v.code32() { at } else { at & 0xffff };
                mask.memory = Some((base(v.sel[2]).wrapping_add(at).wrapping_add(2), 2));
            }
        }
        M::Fst | M::Fstp | M::Fist | M::Fistp | M::Fisttp | M::Fbstp if memory => mask.unread = true,
        M::Pop if is_segment(insn.op0_register()) => mask.unread = true,
        // The frame pointers of enclosing procedures too.
        M::Enter => mask.all = !v.code32() && v.gpr[4] & 0xffff < 4 && insn.code() == Code::Enterd_imm16_imm8,
        M::Dpps | M::Dppd => mask.nan = true,
        M::Fprem | M::Fprem1 => mask.floating = denormal_and(v, (0x7fff, 1 << 63)),
        M::Fscale => mask.floating = denormal_and(v, (0, 0)),
        M::Lar => mask.bits = (number(insn.op0_register()) as u8, 0xf_0000),
        M::Fxsave => mask.pointers = Some((operand_address(insn, v).wrapping_add(6), 26)),
        _ => {}
    }
    mask
}
