//! Regions: the blocks of one physical page that jumps reach from a hot entry, decoded afresh.
//!
//! Instructions are decoded one at a time, so nothing is fused and every instruction records its flags; what
//! need not be recorded is decided when the region is emitted.

use super::loops::{self, Loop};
use crate::cpu::decode::decode_one;
use crate::cpu::op::{Kind, Op, System};
use crate::cpu::state::CpuModel;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a page.
const PAGE: u32 = 4096;
/// Most blocks of a region.
const MAX_BLOCKS: usize = 250;
/// Most instructions of a region.
const MAX_INSTRUCTIONS: usize = 1300;
/// Most instructions of a block: the count goes into eight bits of an exit's description.
const MAX_BLOCK: usize = 100;

/// A region is not worth it when one instruction in so many is left to the interpreter.
const LEFT_SHARE: usize = 4;

/// An instruction at an offset in its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Offset in the page.
    pub at: u16,
    /// The instruction.
    pub op: Op,
}

impl Insn {
    /// Offset of the following instruction; it may be the next page's first byte.
    #[must_use]
    pub fn next(&self) -> u32 {
        u32::from(self.at) + u32::from(self.op.len)
    }

    /// Where a direct transfer leads, as an offset from the page's start.
    #[must_use]
    pub fn target(&self) -> u32 {
        self.next().wrapping_add(self.op.disp)
    }
}

/// How a block goes on when its last instruction is no transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With its last instruction, a transfer.
    Transfer,
    /// With the instruction at this offset.
    Next(u32),
    /// The instruction at this offset must be executed alone.
    Alone(u16),
}

/// Straight code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Offset of the first instruction.
    pub at: u16,
    /// Its instructions.
    pub insns: Vec<Insn>,
    /// What follows.
    pub tail: Tail,
    /// Code elsewhere may enter here.
    pub entry: bool,
}

/// Blocks in the order in which they are emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// The blocks.
    pub blocks: Vec<Block>,
    /// Their offsets in ascending order, with their numbers.
    starts: Vec<(u32, usize)>,
    /// Loops that become loops of wasm.
    pub loops: Vec<Loop>,
    /// Blocks at which the function can begin or go on by number, in ascending order.
    pub doors: Vec<usize>,
}

impl Region {
    /// A region of blocks that are given in any order.
    #[must_use]
    pub fn new(blocks: Vec<Block>) -> Self {
        let mut starts: Vec<(u32, usize)> = blocks.iter().map(|block| u32::from(block.at)).zip(0..).collect();
        starts.sort_unstable();
        let mut region = Self { blocks, starts, loops: Vec::new(), doors: Vec::new() };
        region.loops = loops::find(&region);
        region.doors = loops::doors(&region);
        region
    }

    /// The number of a door.
    #[must_use]
    pub fn door(&self, block: usize) -> Option<u32> {
        self.doors.binary_search(&block).ok().map(|n| n as u32)
    }

    /// The number of the block at an offset.
    #[must_use]
    pub fn find(&self, at: u32) -> Option<usize> {
        let n = self.starts.binary_search_by_key(&at, |&(start, _)| start).ok()?;
        self.starts.get(n).map(|&(_, number)| number)
    }

    /// Whether it would be faster than interpreting: not when much of it is left to the interpreter one by one.
    #[must_use]
    pub fn pays(&self) -> bool {
        let all: usize = self.blocks.iter().map(|b| b.insns.len()).sum();
        let left = self.blocks.iter().flat_map(|b| &b.insns).filter(|i| !super::flow::translated(&i.op)).count();
        left * LEFT_SHARE <= all
    }

    /// Bytes of code, as (offset, length).
    pub fn spans(&self) -> impl Iterator<Item = (u32, u32)> {
        self.blocks.iter().filter_map(|b| {
            let last = b.insns.last()?;
            Some((u32::from(b.at), last.next() - u32::from(b.at)))
        })
    }

    /// Offsets at which it can be entered, and the numbers of their doors.
    pub fn entries(&self) -> impl Iterator<Item = (u16, u32)> {
        self.doors.iter().zip(0..).filter_map(|(&block, n)| {
            let block = self.blocks.get(block)?;
            block.entry.then_some((block.at, n))
        })
    }
}

/// Whether an instruction must run alone, outside regions.
#[must_use]
pub fn runs_alone(op: &Op) -> bool {
    use Kind::*;
    match op.kind {
        Alone => match op.system() {
            System::Pushf | System::Popf | System::Cli | System::PushSeg | System::MovFromSeg | System::Rdtsc => false,
            // FS and GS have no part in the mode.
            System::MovToSeg | System::PopSeg => op.a < 4,
            _ => true,
        },
        JmpNear | JccNear | CallNear | JmpNearE | CallNearE | RetNear => true,
        LoopCx => op.imm != 4,
        // INS and OUTS.
        StringRep => op.imm & 0xff >= crate::cpu::op::StringOp::Ins as u32,
        _ => false,
    }
}

/// Whether the instruction behind an instruction that runs alone is worth an entry.
fn comes_back(op: &Op) -> bool {
    use System::*;
    op.kind != Kind::Alone
        || !matches!(
            op.system(),
            Ud | GpTooLong | JmpFarImm | JmpFarMem | RetFar | Iret | Sysenter | Sysexit | Rsm | Int1 | Int3
        )
}

/// What is known of a place in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is not followed.
    No,
    /// A block there was executed.
    Executed,
    /// And often control came there from elsewhere.
    Arrives,
}

struct Former<'a> {
    page: &'a [u8],
    mode: u32,
    model: CpuModel,
    ops: BTreeMap<u32, Option<Op>>,
    leaders: BTreeSet<u32>,
    entries: BTreeSet<u32>,
    work: Vec<u32>,
    known: &'a dyn Fn(u32) -> Known,
}

impl Former<'_> {
    fn lead(&mut self, at: u32, entry: bool) {
        if at >= PAGE {
            return;
        }
        let mut entry = entry;
        if !self.leaders.contains(&at) {
            let known = (self.known)(at);
            if self.leaders.len() >= MAX_BLOCKS || known == Known::No {
                return;
            }
            entry |= known == Known::Arrives;
            self.leaders.insert(at);
            self.work.push(at);
        }
        if entry {
            self.entries.insert(at);
        }
    }

    fn trace(&mut self, mut at: u32) {
        use Kind::*;
        while at < PAGE && !self.ops.contains_key(&at) && self.ops.len() < MAX_INSTRUCTIONS {
            let op = decode_one(&self.page[at as usize..], self.mode, self.model);
            self.ops.insert(at, op);
            let Some(op) = op else { return };
            let insn = Insn { at: at as u16, op };
            let next = insn.next();
            if runs_alone(&op) {
                if comes_back(&op) {
                    self.lead(next, true);
                }
                return;
            }
            match op.kind {
                Jmp => return self.lead(insn.target(), false),
                Jcc | LoopCx => {
                    self.lead(insn.target(), false);
                    return self.lead(next, false);
                }
                CallRel32 => {
                    self.lead(insn.target(), true);
                    return self.lead(next, true);
                }
                CallR32 | CallM32 => return self.lead(next, true),
                JmpR32 | JmpM32 | Ret32 | RetImm32 => return,
                StringRep => {
                    self.lead(at, false);
                    return self.lead(next, false);
                }
                _ => {}
            }
            at = next;
        }
    }

    fn block(&self, at: u32) -> Block {
        let mut insns = Vec::new();
        let mut here = at;
        let tail = loop {
            if here >= PAGE || (here != at && (self.leaders.contains(&here) || insns.len() >= MAX_BLOCK)) {
                break Tail::Next(here);
            }
            match self.ops.get(&here) {
                Some(Some(op)) if !runs_alone(op) => {
                    let insn = Insn { at: here as u16, op: *op };
                    insns.push(insn);
                    if op.ends_block() && op.kind != Kind::Alone {
                        break Tail::Transfer;
                    }
                    here = insn.next();
                }
                Some(_) => break Tail::Alone(here as u16),
                None => break Tail::Next(here),
            }
        };
        Block { at: at as u16, insns, tail, entry: self.entries.contains(&at) }
    }
}

/// The region around offset `at` of a page; `None` when nothing there can be translated. Blocks are followed that
/// `known` says were executed: the rest would be compiled for nothing.
#[must_use]
pub fn form(page: &[u8], at: u32, mode: u32, model: CpuModel, known: &dyn Fn(u32) -> Known) -> Option<Region> {
    let mut former = Former {
        page,
        mode,
        model,
        ops: BTreeMap::new(),
        leaders: BTreeSet::new(),
        entries: BTreeSet::new(),
        work: Vec::new(),
        known,
    };
    former.lead(at, true);
    while let Some(at) = former.work.pop() {
        former.trace(at);
    }
    let blocks: Vec<Block> =
        former.leaders.iter().map(|&at| former.block(at)).filter(|b| !b.insns.is_empty()).collect();
    let region = loops::arrange(Region::new(blocks));
    region.find(at).map(|_| region)
}
