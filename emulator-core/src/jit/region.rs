//! Regions: the blocks that jumps reach from a hot entry, in its page and the pages around it, decoded afresh.
//!
//! Pages are those of linear space; where each is in memory is noted when the region is formed, and looked at again whenever
//! control goes from one to another.
//!
//! Instructions are decoded one at a time, so nothing is fused and every instruction records its flags; what
//! need not be recorded is decided when the region is emitted.

use super::loops::{self, Loop};
use crate::cpu::decode::{MAX_LEN, decode_one};
use crate::cpu::op::{Kind, Op, System};
use crate::cpu::state::CpuModel;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a page.
const PAGE: u32 = 4096;
/// Pages that a region can reach over: places in it have 16 bits.
pub const PAGES: usize = 16;
/// The number of the page with the hot entry, before those in front of the region's first one are left out.
pub const HOME: usize = 7;
/// Most blocks of a region.
const MAX_BLOCKS: usize = 250;
/// Most instructions of a region.
const MAX_INSTRUCTIONS: usize = 1300;
/// Most instructions of a region to which functions are added that it may call.
const MAX_CALLER: usize = 300;
/// Most instructions of a block: the count goes into eight bits of an exit's description.
const MAX_BLOCK: usize = 100;

/// A region is not worth it when one instruction in so many is left to the interpreter.
const LEFT_SHARE: usize = 4;

/// An instruction at an offset in its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Offset from the region's first page.
    pub at: u16,
    /// The instruction.
    pub op: Op,
}

/// The number of the page of an offset.
#[must_use]
pub fn page_of(at: u32) -> u32 {
    at / PAGE
}

impl Insn {
    /// Offset of the following instruction.
    #[must_use]
    pub fn next(&self) -> u32 {
        u32::from(self.at) + u32::from(self.op.len)
    }

    /// Where a direct transfer leads, as an offset from the region's first page.
    #[must_use]
    pub fn target(&self) -> u32 {
        self.next().wrapping_add(self.op.disp)
    }

    /// The number of the page of its last byte.
    #[must_use]
    pub fn last_page(&self) -> u32 {
        page_of(self.next() - 1)
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
    /// Where each page is in the memory block, from the first with code on; nothing for those without.
    pub pages: Vec<Option<u32>>,
}

impl Region {
    /// A region of blocks that are given in any order, in pages that are at these places in the memory block.
    #[must_use]
    pub fn new(blocks: Vec<Block>, pages: Vec<Option<u32>>) -> Self {
        let mut starts: Vec<(u32, usize)> = blocks.iter().map(|block| u32::from(block.at)).zip(0..).collect();
        starts.sort_unstable();
        let mut region = Self { blocks, starts, loops: Vec::new(), doors: Vec::new(), pages };
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

    /// Where an offset is in the memory block.
    #[must_use]
    pub fn place(&self, at: u32) -> Option<u32> {
        let page = self.pages.get(page_of(at) as usize)?;
        page.map(|page| page + at % PAGE)
    }

    /// Bytes of code, as (offset in the memory block, length); none goes across a page's end.
    pub fn spans(&self) -> impl Iterator<Item = (u32, u32)> {
        let blocks = self.blocks.iter().filter_map(|b| Some((u32::from(b.at), b.insns.last()?.next())));
        blocks.flat_map(|(from, to)| {
            let middle = to.min((page_of(from) + 1) * PAGE);
            [(from, middle), (middle, to)]
                .into_iter()
                .filter(|(from, to)| from < to)
                .filter_map(|(from, to)| Some((self.place(from)?, to - from)))
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
    /// So often that it is nearly hot, and no region can be entered there yet.
    Warm,
}

/// What regions are formed of.
#[derive(Clone, Copy)]
pub struct Code<'a> {
    /// The mode of the code.
    pub mode: u32,
    /// The processor's model.
    pub model: CpuModel,
    /// What is known of a place in the memory block.
    pub known: &'a dyn Fn(u32) -> Known,
    /// Places of the blocks in the page of one.
    pub blocks: &'a dyn Fn(u32) -> Vec<u32>,
}

impl std::fmt::Debug for Code<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("mode", &self.mode).field("model", &self.model).finish_non_exhaustive()
    }
}

/// The code around a hot entry: up to [`PAGES`] pages, each of which is loaded when it is asked for.
pub struct Window<'a> {
    code: Vec<u8>,
    /// For pages that were asked for, where they are in the memory block.
    pages: Vec<Option<Option<u32>>>,
    load: &'a mut dyn FnMut(usize, &mut [u8]) -> Option<u32>,
}

impl std::fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window").field("pages", &self.pages).finish_non_exhaustive()
    }
}

impl<'a> Window<'a> {
    /// A window of pages that `load` copies by their numbers: it returns where the page is in the memory block, or nothing when it
    /// may hold no code of a region.
    #[must_use]
    pub fn new(load: &'a mut dyn FnMut(usize, &mut [u8]) -> Option<u32>) -> Self {
        Self { code: Vec::new(), pages: vec![None; PAGES], load }
    }

    fn page(&mut self, page: usize) -> Option<u32> {
        let known = self.pages.get_mut(page)?;
        *known.get_or_insert_with(|| {
            let (from, to) = (page * PAGE as usize, (page + 1) * PAGE as usize);
            if self.code.len() < to {
                self.code.resize(to, 0);
            }
            (self.load)(page, &mut self.code[from..to])
        })
    }

    /// Where an offset is in the memory block.
    fn place(&mut self, at: u32) -> Option<u32> {
        self.page(page_of(at) as usize).map(|page| page + at % PAGE)
    }

    /// The instruction at an offset, in the page that holds its first byte and perhaps the next one.
    fn decode(&mut self, at: u32, mode: u32, model: CpuModel) -> Option<Op> {
        let page = page_of(at) as usize;
        self.page(page)?;
        let end = (page + 1) * PAGE as usize;
        let op = decode_one(&self.code[at as usize..end], mode, model);
        if op.is_some() || end - at as usize >= MAX_LEN {
            return op;
        }
        self.page(page + 1)?;
        decode_one(&self.code[at as usize..end + MAX_LEN], mode, model)
    }

    /// Where its pages are, from number `first` on.
    fn places(&self, first: usize) -> Vec<Option<u32>> {
        self.pages[first..].iter().map(|page| page.flatten()).collect()
    }
}

struct Former<'a, 'w> {
    window: Window<'w>,
    code: Code<'a>,
    ops: BTreeMap<u32, Option<Op>>,
    leaders: BTreeSet<u32>,
    entries: BTreeSet<u32>,
    work: Vec<u32>,
    /// There is a call of what the code does not tell.
    calls: bool,
}

impl Former<'_, '_> {
    fn lead(&mut self, at: u32, entry: bool) {
        let mut entry = entry;
        if !self.leaders.contains(&at) {
            let Some(place) = self.window.place(at) else { return };
            let known = (self.code.known)(place);
            if self.leaders.len() >= MAX_BLOCKS || known == Known::No {
                return;
            }
            entry |= matches!(known, Known::Arrives | Known::Warm);
            self.leaders.insert(at);
            self.work.push(at);
        }
        if entry {
            self.entries.insert(at);
        }
    }

    fn warm(&mut self, at: u32) -> bool {
        self.window.place(at).is_some_and(|place| (self.code.known)(place) == Known::Warm)
    }

    /// What an indirect call may lead to: nearly hot code in the pages that the region has, and beside them.
    fn lead_callees(&mut self) {
        let pages: BTreeSet<u32> = self.leaders.iter().map(|&at| page_of(at)).collect();
        let (Some(first), Some(last)) = (pages.first(), pages.last()) else { return };
        for page in first.saturating_sub(1)..=last + 1 {
            let Some(place) = self.window.place(page * PAGE) else { continue };
            let mut blocks = (self.code.blocks)(place);
            blocks.sort_unstable();
            for block in blocks {
                let at = page * PAGE + block % PAGE;
                if !self.leaders.contains(&at) && self.warm(at) {
                    self.lead(at, true);
                }
            }
        }
    }

    fn trace(&mut self, mut at: u32) {
        use Kind::*;
        while !self.ops.contains_key(&at) && self.ops.len() < MAX_INSTRUCTIONS {
            let op = self.window.decode(at, self.code.mode, self.code.model);
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
                    // What is further away may have many callers, and a region of its own.
                    let target = insn.target();
                    if page_of(target) == page_of(at) || self.leaders.contains(&target) || self.warm(target) {
                        self.lead(target, true);
                    }
                    return self.lead(next, true);
                }
                CallR32 | CallM32 => {
                    self.calls = true;
                    return self.lead(next, true);
                }
                JmpR32 | JmpM32 | Ret32 | RetImm32 => return,
                StringRep => {
                    self.lead(at, false);
                    return self.lead(next, false);
                }
                _ => {}
            }
            if page_of(next) != page_of(at) {
                return self.lead(next, false);
            }
            at = next;
        }
    }

    fn trace_all(&mut self) {
        while let Some(at) = self.work.pop() {
            self.trace(at);
        }
    }

    fn block(&self, at: u32) -> Block {
        let mut insns = Vec::new();
        let mut here = at;
        let tail = loop {
            let ended = page_of(here) != page_of(at) || self.leaders.contains(&here) || insns.len() >= MAX_BLOCK;
            if here != at && ended {
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

/// The region around offset `at` of a window; `None` when nothing there can be translated. Blocks are followed that were
/// executed: the rest would be compiled for nothing.
#[must_use]
pub fn form(window: Window<'_>, at: u32, code: Code<'_>) -> Option<Region> {
    let mut former = Former {
        window,
        code,
        ops: BTreeMap::new(),
        leaders: BTreeSet::new(),
        entries: BTreeSet::new(),
        work: Vec::new(),
        calls: false,
    };
    former.lead(at, true);
    former.trace_all();
    if former.calls && former.ops.len() < MAX_CALLER {
        former.lead_callees();
        former.trace_all();
    }
    let mut blocks: Vec<Block> =
        former.leaders.iter().map(|&at| former.block(at)).filter(|b| !b.insns.is_empty()).collect();
    blocks.iter().any(|block| u32::from(block.at) == at).then_some(())?;
    // Offsets from the first page on.
    let first = blocks.iter().map(|block| page_of(block.at.into())).min()?;
    let by = first * PAGE;
    for block in &mut blocks {
        block.at -= by as u16;
        block.insns.iter_mut().for_each(|insn| insn.at -= by as u16);
        block.tail = match block.tail {
            Tail::Transfer => Tail::Transfer,
            Tail::Next(at) => Tail::Next(at.wrapping_sub(by)),
            Tail::Alone(at) => Tail::Alone(at - by as u16),
        };
    }
    let used: BTreeSet<u32> =
        blocks.iter().flat_map(|b| &b.insns).flat_map(|i| [page_of(i.at.into()), i.last_page()]).collect();
    let mut pages = former.window.places(first as usize);
    pages.truncate(*used.last()? as usize + 1);
    for (page, place) in (0..).zip(&mut pages) {
        *place = place.filter(|_| used.contains(&page));
    }
    Some(loops::arrange(Region::new(blocks, pages)))
}
