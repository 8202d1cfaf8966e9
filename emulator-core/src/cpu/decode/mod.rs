//! Bytes to [`Op`]s: iced-x86 decodes, this module lowers and fuses.
//!
//! Lowering depends only on the bytes and on the mode bits ([`super::state::mode`]), so a decoded page serves
//! every linear address that maps it.

mod arithmetic;
mod control;

use super::float::FOP_BITS;
use super::op::{Kind, Op, REG_FORM, SEG_ADDR16, SEG_FLAT, StringOp, System, Unary};
use super::simd::{self, decode::Rm};
use super::state::{CpuModel, RDI, ZERO_REG, mode};
use super::system::feature;
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
    super::fuse::put_together(out, first);
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
        if decoder.last_error() == DecoderError::NoMoreBytes && bytes.len() < MAX_LEN {
            return None;
        }
        return Some(system(if too_long(window, code32) { System::GpTooLong } else { System::Ud }, 1));
    }
    let mut lower = Lower { insn: &insn, bytes: window, mode: mode_bits, model, op: blank(insn.len() as u8) };
    let op = lower.lower().unwrap_or_else(|| system(System::Ud, insn.len() as u8));
    Some(op)
}

fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// Whether the 15 bytes of an instruction that cannot be decoded are the beginning of a longer one. Only repeated
/// prefixes can make it that long: without the repetitions, and with any continuation, it is valid then.
fn too_long(window: &[u8], code32: bool) -> bool {
    let prefixes = window.iter().take_while(|&&b| is_prefix(b)).count();
    if window.len() < MAX_LEN || prefixes == 0 {
        return false;
    }
    let kept = (0..prefixes).filter(|&i| !window[i + 1..prefixes].contains(&window[i])).map(|i| window[i]);
    let mut short: Vec<u8> = kept.chain(window[prefixes..].iter().copied()).collect();
    let removed = MAX_LEN - short.len();
    short.resize(MAX_LEN, 0);
    let insn = Decoder::with_ip(if code32 { 32 } else { 16 }, &short, 0, OPTIONS).decode();
    prefixes == MAX_LEN || (!insn.is_invalid() && insn.len() + removed > MAX_LEN)
}

fn blank(len: u8) -> Op {
    Op { kind: Kind::Nop, len, seg: SEG_FLAT, a: 0, b: 0, base: ZERO_REG as u8, index: ZERO_REG as u8, disp: 0, imm: 0 }
}

fn system(code: System, len: u8) -> Op {
    Op { kind: Kind::Alone, imm: code as u32, ..blank(len) }
}

/// The opcode bytes behind the prefixes: (first, second).
fn opcode(bytes: &[u8]) -> (u8, u8) {
    let i = bytes.iter().take_while(|&&b| is_prefix(b)).count();
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
        if self.op.seg == SEG_FLAT && (0..self.insn.op_count()).any(|n| self.is_mem(n)) {
            // Nothing to gain here, and the segment tells which fault an access across 4 GiB is.
            self.op.seg = reg::segment(self.insn.memory_segment()).unwrap_or(3);
        }
        self.op.imm = (self.op.imm & !0xff) | code as u32;
        Some(self.op)
    }

    /// A system op with a width in `imm` bits 15:8.
    fn system_width(&mut self, code: System, width: u32) -> Option<Op> {
        self.op.imm = width << 8;
        self.system(code)
    }

    /// Operand size of the instruction (prefix and code size), in bytes.
    fn operand_size(&self) -> u32 {
        let has66 = self.bytes.iter().take_while(|&&b| is_prefix(b)).any(|&b| b == 0x66);
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
            // The P6 family made 0F 0D and 0F 18-1F no-operations; before, they are invalid.
            M::Nop | M::Pause | M::Endbr32 | M::Endbr64 | M::Reservednop if first != 0x0f || self.p6() => {
                self.kind(Kind::Nop)
            }
            M::Prefetchnta | M::Prefetcht0 | M::Prefetcht1 | M::Prefetcht2 | M::Sfence if self.sse() => {
                self.kind(Kind::Nop)
            }
            M::Lfence | M::Mfence if self.model.features() & super::system::feature::SSE2 != 0 => self.kind(Kind::Nop),
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
            M::Popcnt if self.has(feature::POPCNT) => self.counted(Kind::PopcntE),
            M::Crc32 if self.has(feature::SSE4_2) => self.counted(Kind::Crc32E),
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

    fn p6(&self) -> bool {
        self.model >= CpuModel::PentiumIII
    }

    fn has(&self, feature: u64) -> bool {
        self.model.features() & feature != 0
    }

    /// POPCNT, CRC32: `a` the destination, `imm` the source's width.
    fn counted(&mut self, kind: Kind) -> Option<Op> {
        self.op.a = self.reg(0);
        let width = self.width(1);
        self.either(1);
        self.kind_imm(kind, width)
    }

    fn sse(&self) -> bool {
        self.model >= CpuModel::PentiumIII
    }

    /// `a` the operation, `b` the stack register or operand size, `imm` FOP (see [`float`](super::float)).
    fn x87(&mut self) -> Option<Op> {
        let decoded = crate::fpu::decode(self.insn)?;
        let (first, modrm) = opcode(self.bytes);
        let p6_only =
            matches!(decoded.op, X87Op::Fcmov | X87Op::Fcomi | X87Op::Fcomip | X87Op::Fucomi | X87Op::Fucomip);
        if p6_only && !self.p6() {
            return None;
        }
        if decoded.op == X87Op::Fcmov {
            // DA C0+8n: B, E, BE, U; DB the same negated.
            self.op.index = modrm >> 3 & 3 | (first & 1) << 2;
        }
        if matches!(decoded.op, X87Op::FisttpI16 | X87Op::FisttpI32 | X87Op::FisttpI64) && !self.has(feature::SSE3) {
            return None;
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
            if !self.has(feature::SSE2) {
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
