//! Where the status flags are while a region runs, and which instructions need not record theirs.

use super::region::{Insn, Region};
use super::strings::{self, Uses};
use crate::cpu::flags::LazyOp;
use crate::cpu::op::{Kind, Op, REG_FORM, StringOp, System, Unary};
use crate::cpu::state::{RAX, RDX, RSP};
use crate::fpu::X87Op;

/// Where the status flags are, known when the region is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In the CPU's record.
    Memory,
    /// In the function's locals, whose kind is in a local too (or says that they are in the CPU's record).
    Dynamic,
    /// In the function's locals, of this kind.
    Known(LazyOp),
}

impl State {
    fn meet(self, other: State) -> State {
        if self == other { self } else { State::Dynamic }
    }
}

/// What an instruction does to the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// Nothing.
    None,
    /// All of them are recorded as this kind.
    All(LazyOp),
    /// As above, but CF is kept: INC and DEC.
    Steps(LazyOp),
    /// Some of them; they are recorded as they are.
    Some,
    /// Depending on a count.
    Maybe,
    /// In the CPU's record, by the interpreter.
    Memory,
}

/// Kinds by width (1, 2, 4).
fn sized(width: u32, kinds: [LazyOp; 3]) -> LazyOp {
    kinds[match width {
        1 => 0,
        2 => 1,
        _ => 2,
    }]
}

/// ADD of a width.
#[must_use]
pub fn add(width: u32) -> LazyOp {
    sized(width, [LazyOp::Add8, LazyOp::Add16, LazyOp::Add32])
}

/// SUB of a width.
#[must_use]
pub fn sub(width: u32) -> LazyOp {
    sized(width, [LazyOp::Sub8, LazyOp::Sub16, LazyOp::Sub32])
}

/// A logical operation of a width.
#[must_use]
pub fn logic(width: u32) -> LazyOp {
    sized(width, [LazyOp::Logic8, LazyOp::Logic16, LazyOp::Logic32])
}

/// INC or DEC of a width.
#[must_use]
pub fn step(width: u32, inc: bool) -> LazyOp {
    if inc {
        sized(width, [LazyOp::Inc8, LazyOp::Inc16, LazyOp::Inc32])
    } else {
        sized(width, [LazyOp::Dec8, LazyOp::Dec16, LazyOp::Dec32])
    }
}

/// The record of arithmetic operation `n` (as in the opcode, 8 TEST).
#[must_use]
pub fn alu(n: u8, width: u32) -> LazyOp {
    match n {
        0 => add(width),
        5 | 7 => sub(width),
        2 if width == 4 => LazyOp::Adc32,
        3 if width == 4 => LazyOp::Sbb32,
        _ => logic(width),
    }
}

/// Number and operand form (0 RR, 1 RI, 2 RM, 3 MR, 4 MI) of an arithmetic kind, and its width.
#[must_use]
pub fn arithmetic(op: &Op) -> Option<(u8, u8, u32)> {
    use Kind::*;
    let k = op.kind as u16;
    let within = |first: Kind, last: Kind| (first as u16..=last as u16).contains(&k);
    if within(Add32RR, Cmp32MI) {
        let n = k - Add32RR as u16;
        return Some(((n / 5) as u8, (n % 5) as u8, 4));
    }
    if within(Add8RR, Cmp8MI) {
        let n = k - Add8RR as u16;
        return Some(((n / 5) as u8, (n % 5) as u8, 1));
    }
    Some(match op.kind {
        Test32RR => (8, 0, 4),
        Test32RI => (8, 1, 4),
        Test32MR => (8, 3, 4),
        Test32MI => (8, 4, 4),
        Test8RR => (8, 0, 1),
        Test8RI => (8, 1, 1),
        Test8MR => (8, 3, 1),
        Test8MI => (8, 4, 1),
        Alu16RR => (op.imm as u8, 0, 2),
        Alu16RI => (op.b, 1, 2),
        Alu16RM => (op.b, 2, 2),
        Alu16MR => (op.b, 3, 2),
        Alu16MI => (op.b, 4, 2),
        _ => return None,
    })
}

/// Whether and how the translator has its own code for a kind; the interpreter executes the rest.
#[must_use]
pub fn translated(op: &Op) -> bool {
    use Kind::*;
    if arithmetic(op).is_some() {
        return true;
    }
    match op.kind {
        Nop | Mov32RR | Mov32RI | Mov32RM | Mov32MR | Mov32MI | Mov32RB | Mov32BR | Mov16RR | Mov16RI | Mov16RM
        | Mov16MR | Mov16MI | Mov8RR | Mov8RI | Mov8RM | Mov8MR | Mov8MI | Movzx32From8R | Movzx32From8M
        | Movzx32From16R | Movzx32From16M | Movsx32From8R | Movsx32From8M | Movsx32From16R | Movsx32From16M | Lea32
        | Xchg32RR | Xchg32RM | Cmov32RR | Cmov32RM | SetccR | SetccM | Bswap32 | Push32R | Push32I | Push32M
        | Pop32R | Leave32 | Inc32R | Dec32R | Inc32M | Dec32M | Neg32R | Not32R | Shl32RI | Shr32RI | Sar32RI
        | ShiftRI | Rol32RI | Ror32RI | Shl32RC | Shr32RC | Sar32RC | Shld32RRI | Shrd32RRI | Imul32RR | Imul32RM
        | Imul32RRI | Imul32RMI | Mul32R | Imul32R | Div32R | Cdq | Cwde | Cbw | Bt32RR | Bt32RI | Bsf32R | Bsr32R
        | Jmp | Jcc | CallRel32 | JmpR32 | JmpM32 | CallR32 | CallM32 | Ret32 | RetImm32 | LoopCx => true,
        UnaryE => op.imm & 0xff <= Unary::Neg as u32,
        Movx16From8E | Cld => true,
        ShiftE => super::shifts::memory_shift(op).is_some(),
        MulDivE => op.imm >> 8 == 4 && op.imm & 0xff < 7 && op.base != REG_FORM,
        CmpxchgE => op.imm == 4 && op.base != REG_FORM,
        StringOnce => Uses::of(op).is_some(),
        X87Reg | X87Load | X87Store | Fwait => super::x87::translated(op),
        Simd => super::simd::translated(op),
        _ => false,
    }
}

/// Whether an instruction is one of the floating-point or SIMD unit's.
#[must_use]
pub fn floats(op: &Op) -> bool {
    use Kind::*;
    matches!(op.kind, X87Reg | X87Load | X87Store | X87Env | Fwait | Simd)
}

/// What an instruction does to the flags.
#[must_use]
pub fn writes(op: &Op) -> Writes {
    use Kind::*;
    if !translated(op) {
        return if interpreted_flags(op) { Writes::Memory } else { Writes::None };
    }
    if let Some((n, _, width)) = arithmetic(op) {
        return Writes::All(alu(n, width));
    }
    match op.kind {
        Inc32R | Inc32M => Writes::Steps(LazyOp::Inc32),
        Dec32R | Dec32M => Writes::Steps(LazyOp::Dec32),
        Neg32R => Writes::All(LazyOp::Sub32),
        UnaryE => {
            let width = op.imm >> 8;
            match op.imm & 0xff {
                n if n == Unary::Inc as u32 => Writes::Steps(step(width, true)),
                n if n == Unary::Dec as u32 => Writes::Steps(step(width, false)),
                n if n == Unary::Neg as u32 => Writes::All(sub(width)),
                _ => Writes::None,
            }
        }
        Shl32RI => Writes::All(LazyOp::Shl32),
        Shr32RI => Writes::All(LazyOp::Shr32),
        Sar32RI => Writes::All(LazyOp::Sar32),
        ShiftRI => Writes::All(if op.imm >> 16 == 1 { LazyOp::Logic8 } else { LazyOp::Logic16 }),
        Shl32RC | Shr32RC | Sar32RC => Writes::Maybe,
        Shld32RRI | Shrd32RRI | Bsf32R | Bsr32R => Writes::All(LazyOp::Logic32),
        Imul32RR | Imul32RM | Imul32RRI | Imul32RMI => Writes::All(LazyOp::Imul32),
        Mul32R => Writes::All(LazyOp::Mul32),
        Imul32R => Writes::All(LazyOp::Logic32),
        ShiftE => super::shifts::memory_shift(op).map_or(Writes::Memory, Writes::All),
        MulDivE => match op.imm & 0xff {
            4 => Writes::All(LazyOp::Mul32),
            5 => Writes::All(LazyOp::Logic32),
            _ => Writes::None,
        },
        CmpxchgE => Writes::All(LazyOp::Sub32),
        StringOnce if Uses::of(op).is_some_and(Uses::compares) => Writes::All(sub(strings::width(op))),
        Rol32RI | Ror32RI | Bt32RR | Bt32RI => Writes::Some,
        X87Reg if super::x87::writes_flags(op) => Writes::Some,
        Simd if super::simd::writes_flags(op) => Writes::Some,
        _ => Writes::None,
    }
}

/// Whether the interpreter reads or writes status flags when it executes an op.
fn interpreted_flags(op: &Op) -> bool {
    use Kind::*;
    match op.kind {
        X87Reg => !matches!(X87Op::ALL.get(usize::from(op.a)), Some(x) if !x.touches_eflags()),
        X87Load | X87Store | X87Env | Fwait => false,
        Simd => crate::cpu::simd::writes_flags(op),
        Cld | Std | Cwd | Lea16 | Xchg16E | Xchg8E | PushE | PopE | PushI | Pusha | Popa | Enter | Leave | Xlat => {
            false
        }
        StringOnce | StringRep => {
            let n = op.imm & 0xff;
            n == StringOp::Cmps as u32 || n == StringOp::Scas as u32
        }
        Alone => !matches!(op.system(), System::Cli | System::Rdtsc),
        _ => true,
    }
}

/// General registers that the interpreter reads and writes when it executes an op, as bit masks.
#[must_use]
pub fn interpreted_registers(op: &Op) -> (u8, u8) {
    use Kind::*;
    let bit = |r: u8| if r & 31 < 8 { 1u8 << (r & 7) } else { 0 };
    let address = if op.base == REG_FORM { 0 } else { bit(op.base) | bit(op.index) };
    match op.kind {
        X87Reg => {
            (if op.a == X87Op::FnstswAx as u8 { 1 } else { 0 }, if op.a == X87Op::FnstswAx as u8 { 1 } else { 0 })
        }
        X87Load | X87Store | X87Env => (address, 0),
        Fwait | Cld | Std => (0, 0),
        Simd => {
            let (reads, written) = crate::cpu::simd::general_registers(op);
            (address | reads, written)
        }
        Alone => match op.system() {
            System::Pushf | System::Popf => (bit(RSP as u8), bit(RSP as u8)),
            System::Cli => (0, 0),
            System::Rdtsc => (0, bit(RAX as u8) | bit(RDX as u8)),
            _ => (0xff, 0xff),
        },
        _ => (0xff, 0xff),
    }
}

/// Whether an instruction looks at the flags, or may leave the region before it does anything.
#[must_use]
pub fn observes(op: &Op) -> bool {
    use Kind::*;
    if let Some((n, form, _)) = arithmetic(op) {
        return form >= 2 || n == 2 || n == 3;
    }
    match op.kind {
        Nop | Mov32RR | Mov32RI | Mov16RR | Mov16RI | Mov8RR | Mov8RI | Movzx32From8R | Movzx32From16R
        | Movsx32From8R | Movsx32From16R | Lea32 | Xchg32RR | Bswap32 | Neg32R | Not32R | Shl32RI | Shr32RI
        | Sar32RI | ShiftRI | Shld32RRI | Shrd32RRI | Imul32RR | Imul32RRI | Mul32R | Imul32R | Cdq | Cwde | Cbw
        | Bsf32R | Bsr32R | Inc32R | Dec32R => false,
        UnaryE | Movx16From8E => op.base != REG_FORM,
        _ => true,
    }
}

/// The state behind an instruction.
#[must_use]
pub fn after(state: State, insn: &Insn) -> State {
    match writes(&insn.op) {
        Writes::None => state,
        Writes::All(kind) | Writes::Steps(kind) => State::Known(kind),
        Writes::Some => State::Known(LazyOp::Eager),
        Writes::Maybe => State::Dynamic,
        Writes::Memory => State::Memory,
    }
}

/// Offsets in the page to which a block may go on inside its region.
pub(super) fn successors(region: &Region, n: usize) -> impl Iterator<Item = usize> {
    use super::region::Tail;
    let block = &region.blocks[n];
    let mut to = [None; 2];
    match block.tail {
        Tail::Next(at) => to[0] = region.find(at),
        Tail::Alone(_) => {}
        Tail::Transfer => {
            if let Some(last) = block.insns.last() {
                match last.op.kind {
                    Kind::Jmp => to[0] = region.find(last.target()),
                    Kind::Jcc | Kind::LoopCx => to = [region.find(last.target()), region.find(last.next())],
                    Kind::StringRep => to = [Some(n), region.find(last.next())],
                    _ => {}
                }
            }
        }
    }
    to.into_iter().flatten()
}

/// How much fuel there must be at the start of each block.
#[derive(Debug)]
pub struct Fuel {
    /// Enough for any way from the block to the next ones that look, or out of the region.
    pub need: Vec<u32>,
    /// Blocks that look whether there is as much; the others may rely on it.
    pub looks: Vec<bool>,
}

/// Blocks look at the fuel where control comes from elsewhere, where it goes back, and every `stretch` instructions: each
/// look is an exit, at which registers and flags must be at hand.
#[must_use]
pub fn fuel(region: &Region, stretch: u32) -> Fuel {
    let blocks = region.blocks.len();
    let mut looks = vec![false; blocks];
    region.doors.iter().for_each(|&door| looks[door] = true);
    for from in 0..blocks {
        successors(region, from).filter(|&to| to <= from).for_each(|to| looks[to] = true);
    }
    let mut need = vec![0; blocks];
    for from in (0..blocks).rev() {
        let own = region.blocks[from].insns.len() as u32;
        let mut most = 0;
        for to in successors(region, from).collect::<Vec<_>>() {
            looks[to] |= own + need[to] > stretch;
            most = most.max(if looks[to] { 0 } else { need[to] });
        }
        need[from] = own + most;
    }
    Fuel { need, looks }
}

/// The state at the start of each block.
#[must_use]
pub fn states(region: &Region) -> Vec<State> {
    let mut at: Vec<Option<State>> = region.blocks.iter().map(|b| b.entry.then_some(State::Memory)).collect();
    let mut changed = true;
    while changed {
        changed = false;
        for n in 0..region.blocks.len() {
            let Some(mut state) = at[n] else { continue };
            for insn in &region.blocks[n].insns {
                state = after(state, insn);
            }
            for to in successors(region, n).collect::<Vec<_>>() {
                let met = at[to].map_or(state, |s| s.meet(state));
                changed |= at[to] != Some(met);
                at[to] = Some(met);
            }
        }
    }
    at.into_iter().map(|s| s.unwrap_or(State::Memory)).collect()
}

/// For each instruction of a block, whether anything may look at the flags that it leaves. Whatever follows the
/// block may.
#[must_use]
pub fn live(insns: &[Insn]) -> Vec<bool> {
    let mut live = true;
    let mut all = vec![true; insns.len()];
    for (insn, needed) in insns.iter().zip(all.iter_mut()).rev() {
        *needed = live;
        if matches!(writes(&insn.op), Writes::All(_)) {
            live = false;
        }
        live |= observes(&insn.op);
    }
    all
}
