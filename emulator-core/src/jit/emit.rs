//! The emitter: one region becomes one wasm function.
//!
//! `(place, fuel, r0..r7) -> i32`: `place` is what `rip` is at the first page's start plus the number of the block to begin
//! with, `fuel` how many instructions may retire. Registers and flags live in locals. Every exit stores them
//! into the CPU's fields at their addresses; an exit in the middle of a block carries a constant that says where
//! it is, how much fuel to give back and how the flags were recorded.

use super::flow::{self, State};
use super::loops::Loop;
use super::memory::Windows;
use super::region::{Block, Insn, Region, Tail, page_of};
use super::spans::{self, Spans};
use super::vectors::Vectors;
use super::{Layout, call, leave};
use crate::cpu::flags::LazyOp;
use crate::cpu::op::{Kind, Op, System};
use crate::cpu::simd::table::{Class, SimdOp};
use crate::cpu::state::{Cpu, ZERO_REG, mode};
use std::mem::offset_of;
use wasm_encoder::{BlockType, BranchHint, Encode, MemArg, ValType};

/// The function's locals.
pub mod local {
    #![allow(missing_docs, reason = "named after what they hold")]
    /// The first page's linear address and a block's number; then the block to go on with.
    pub const ENTRY: u32 = 0;
    pub const FUEL: u32 = 1;
    pub const R0: u32 = 2;
    /// What an exit in the middle of a block is told.
    pub const SITE: u32 = 10;
    pub const KIND: u32 = 11;
    pub const RES: u32 = 12;
    pub const A: u32 = 13;
    pub const B: u32 = 14;
    pub const T0: u32 = 15;
    pub const T1: u32 = 16;
    pub const T2: u32 = 17;
    pub const T3: u32 = 18;
    pub const LIN: u32 = 19;
    pub const RIP: u32 = 20;
    pub const CODE: u32 = 21;
    /// The first page's linear address.
    pub const VBASE: u32 = 22;
    pub const I32: u32 = 23 - 10;
    pub const E: u32 = 23;
    pub const W: u32 = 24;
    pub const I64: u32 = 2;
    /// The first of those that only a region with floating-point or SIMD instructions has: a local costs the browser
    /// wherever control meets.
    pub const FLOATS: u32 = 25;
    /// Offset of the last x87 memory operand.
    pub const FDP: u32 = FLOATS;
    /// The second operand of a SIMD instruction.
    pub const V: u32 = 26;
    /// The first operand, the result and its error.
    pub const VX: u32 = 27;
    pub const VZ: u32 = 28;
    pub const VERR: u32 = 29;
    pub const V128: u32 = 4;
    /// What is known of MXCSR.
    pub const MX: u32 = 30;
    /// Operands and result of binary64 arithmetic, and its error.
    pub const X: u32 = 31;
    pub const Y: u32 = 32;
    pub const Z: u32 = 33;
    pub const ERR: u32 = 34;
    pub const F64: u32 = 4;
    pub const FLOATS_END: u32 = ERR + 1;
}

/// In the local that holds the kind of the flags: they are in the CPU's record.
pub const IN_MEMORY: i32 = 63;
/// In an exit's constant: the kind is in the local.
const KIND_IN_LOCAL: u32 = 62;
const PARAMETERS: usize = 10;
// An exit's constant: above the offset from the first page the fuel to give back, the kind of the flags, why it leaves.
const COUNT_SHIFT: u32 = 16;
const KIND_SHIFT: u32 = 24;
const CODE_SHIFT: u32 = 30;

/// Writes wasm instructions one after the other.
macro_rules! wasm {
    ($self:expr; $($name:ident($($arg:expr),*))*) => {{
        $( let _ = $crate::jit::sink::Sink::new(&mut $self.out).$name($($arg),*); )*
    }};
}
pub(super) use wasm;

/// A memory argument: constant address or displacement, natural alignment not promised.
#[must_use]
pub fn at(offset: u32) -> MemArg {
    MemArg { offset: offset.into(), align: 0, memory_index: 0 }
}

/// Type of the function: parameters and result.
#[must_use]
pub fn signature() -> (Vec<ValType>, Vec<ValType>) {
    (vec![ValType::I32; PARAMETERS], vec![ValType::I32])
}

/// Emits one region.
#[derive(Debug)]
pub struct Emitter<'a> {
    pub(super) out: Vec<u8>,
    /// Branches that are seldom taken.
    hints: Vec<BranchHint>,
    pub(super) region: &'a Region,
    pub(super) layout: &'a Layout,
    /// Ops that the interpreter executes for this and other regions.
    pub(super) ops: &'a mut Vec<Op>,
    mode: u32,
    pub(super) user: u32,
    depth: u32,
    /// How deep the label in front of each block is, and the loop that begins with it.
    labels: Vec<u32>,
    heads: Vec<Option<u32>>,
    states: Vec<State>,
    fuel: flow::Fuel,
    pub(super) state: State,
    /// Whether anything may look at the flags that the current instruction leaves.
    pub(super) live: bool,
    /// Where an exit of the current instruction is: its offset, and the fuel to give back.
    position: u32,
    pub(super) here: usize,
    pub(super) windows: Windows,
    pub(super) vectors: Vectors,
    /// The register that the address of the current access is made from.
    pub(super) class: u8,
    /// What is added to it, if that is all.
    pub(super) direct: Option<u32>,
    pub(super) spans: Spans,
    /// Whether there are the locals of floating-point and SIMD instructions.
    floats: bool,
    /// The spans' first local.
    pub(super) first_span: u32,
    /// Number of the current instruction in its block.
    pub(super) current: usize,
    /// The page that was found to be where it was, besides the block's own.
    checked: Option<u32>,
    pub(super) unit: super::x87::Unit,
}

// How deep the function's own labels are.
/// Behind it: out.
const OUT: u32 = 1;
/// Goes to the block whose number the local holds, as after a call or return.
const AGAIN: u32 = 2;
/// Behind it: to the code at RIP.
const TRANSFER: u32 = 3;
/// Behind it: out, in the middle of a block.
const FAULT: u32 = 4;
/// Goes to the block whose number the local holds.
const LOOP: u32 = 5;

/// A function's body, without its size.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    /// Hints for branches.
    hints: Vec<BranchHint>,
    /// Where the function's own slot goes: five bytes.
    own: usize,
}

impl Body {
    /// The function that goes into `slot`: its bytes, and hints for its branches.
    #[must_use]
    pub fn placed(mut self, slot: u32) -> (Vec<u8>, Vec<BranchHint>) {
        let padded: [u8; 5] = std::array::from_fn(|i| (slot >> (7 * i)) as u8 & 0x7f | if i < 4 { 0x80 } else { 0 });
        self.bytes[self.own..self.own + 5].copy_from_slice(&padded);
        (self.bytes, self.hints)
    }
}

/// Emits `region`, code of the given mode.
#[must_use]
pub fn emit(region: &Region, layout: &Layout, mode: u32, ops: &mut Vec<Op>) -> Body {
    let floats = region.blocks.iter().flat_map(|block| &block.insns).any(|insn| flow::floats(&insn.op));
    let windows = Windows::choose(region, if floats { local::FLOATS_END } else { local::FLOATS });
    let vectors = Vectors::choose(region, windows.end());
    let mut emitter = Emitter {
        out: Vec::new(),
        hints: Vec::new(),
        region,
        layout,
        ops,
        mode,
        user: u32::from(mode & mode::USER != 0),
        depth: 0,
        labels: vec![0; region.blocks.len()],
        heads: vec![None; region.blocks.len()],
        states: flow::states(region),
        fuel: flow::fuel(region, layout.stretch),
        state: State::Memory,
        live: true,
        position: 0,
        here: 0,
        first_span: windows.end() + vectors.locals(),
        floats,
        vectors,
        windows,
        class: ZERO_REG as u8,
        direct: None,
        spans: Spans::default(),
        current: 0,
        checked: None,
        unit: super::x87::Unit::default(),
    };
    let own = emitter.function();
    Body { bytes: emitter.out, hints: emitter.hints, own }
}

impl Emitter<'_> {
    /// Address of a field of the CPU.
    pub(super) fn cpu(&self, offset: usize) -> u32 {
        self.layout.cpu + offset as u32
    }

    pub(super) fn open(&mut self) {
        wasm!(self; block(BlockType::Empty));
        self.depth += 1;
    }

    pub(super) fn open_if(&mut self) {
        wasm!(self; if_(BlockType::Empty));
        self.depth += 1;
    }

    /// The branch that comes next is seldom taken. Engines that read hints keep what is behind it, calls in particular,
    /// from costing the usual way registers.
    pub(super) fn seldom(&mut self) {
        self.hints.push(BranchHint { branch_func_offset: self.out.len() as u32, branch_hint_value: 0 });
    }

    /// An `if` that is seldom entered.
    pub(super) fn open_seldom(&mut self) {
        self.seldom();
        self.open_if();
    }

    /// A branch that is seldom taken.
    pub(super) fn seldom_br_if(&mut self, label: u32) {
        self.seldom();
        wasm!(self; br_if(label));
    }

    /// A branch that is mostly taken.
    pub(super) fn mostly_br_if(&mut self, label: u32) {
        self.hints.push(BranchHint { branch_func_offset: self.out.len() as u32, branch_hint_value: 1 });
        wasm!(self; br_if(label));
    }

    fn open_loop(&mut self) {
        wasm!(self; loop_(BlockType::Empty));
        self.depth += 1;
    }

    pub(super) fn close(&mut self) {
        wasm!(self; end());
        self.depth -= 1;
    }

    /// Depth of a label counted from here; labels are known by how deep they are.
    fn label(&self, depth: u32) -> u32 {
        self.depth - depth
    }

    /// Declares locals.
    fn locals(&mut self) {
        let floats = u32::from(self.floats);
        let groups = [
            (local::I32, ValType::I32),
            (local::I64, ValType::I64),
            (floats, ValType::I32),
            (floats * local::V128, ValType::V128),
            (floats, ValType::I32),
            (floats * local::F64, ValType::F64),
            (self.windows.locals(), ValType::I32),
            (self.vectors.locals(), ValType::V128),
            (spans::locals(&self.region.blocks), ValType::I32),
        ];
        (groups.len() as u32).encode(&mut self.out);
        for (count, kind) in groups {
            count.encode(&mut self.out);
            kind.encode(&mut self.out);
        }
    }

    /// Emits the function; where its own slot goes.
    fn function(&mut self) -> usize {
        let n = self.region.blocks.len();
        self.locals();
        wasm!(self; i32_const(IN_MEMORY) local_set(local::KIND)
            local_get(local::ENTRY) i32_const(-4096) i32_and() local_set(local::VBASE)
            local_get(local::ENTRY) i32_const(0xfff) i32_and() local_set(local::ENTRY));
        self.shut_windows();
        self.load_vectors();
        self.open();
        self.open_loop();
        self.open();
        self.open();
        self.open_loop();
        self.open_blocks(0, n, None);
        // The other blocks then have but one predecessor, many of them, and nothing meets there.
        let targets: Vec<u32> = self.region.doors.iter().map(|&block| self.label(self.labels[block])).collect();
        let last = targets.last().copied().unwrap_or(0);
        wasm!(self; local_get(local::ENTRY) br_table(targets[..targets.len().saturating_sub(1)].iter().copied(), last));
        self.blocks(0, n, None);
        wasm!(self; unreachable());
        self.close();
        self.close();
        self.fault_tail();
        let out = self.label(OUT);
        wasm!(self; br(out));
        self.close();
        let own = self.transfer();
        self.close();
        self.close();
        self.exit_tail();
        wasm!(self; end());
        own
    }

    /// The last block of the outermost loop that begins with a block, other than `within`.
    fn loop_at(&self, block: usize, within: Option<Loop>) -> Option<Loop> {
        let inner = |&&(h, l): &&Loop| h == block && within.is_none_or(|(head, last)| h > head || l < last);
        self.region.loops.iter().find(inner).copied()
    }

    /// Opens labels in front of blocks, but for those inside of loops. A loop has its first block behind no label.
    fn open_blocks(&mut self, first: usize, end: usize, within: Option<Loop>) {
        let mut blocks = Vec::new();
        let mut block = first;
        while block < end {
            blocks.push(block);
            block = self.loop_at(block, within).map_or(block, |(_, last)| last) + 1;
        }
        for block in blocks.into_iter().rev() {
            if within.is_none_or(|(head, _)| head != block) {
                self.open();
                self.labels[block] = self.depth;
            }
        }
    }

    /// Emits blocks behind their labels, and loops around them.
    fn blocks(&mut self, first: usize, end: usize, within: Option<Loop>) {
        let mut block = first;
        while block < end {
            if within.is_none_or(|(head, _)| head != block) {
                self.close();
            }
            let Some((head, last)) = self.loop_at(block, within) else {
                self.block(block);
                block += 1;
                continue;
            };
            self.open_loop();
            self.heads[head] = Some(self.depth);
            self.open_blocks(head, last + 1, Some((head, last)));
            self.blocks(head, last + 1, Some((head, last)));
            self.heads[head] = None;
            wasm!(self; unreachable());
            self.close();
            block = last + 1;
        }
    }

    /// An exit in the middle of a block arrives here.
    fn fault_tail(&mut self) {
        wasm!(self;
            local_get(local::SITE) i32_const(CODE_SHIFT as i32) i32_shr_u() local_set(local::CODE)
            local_get(local::SITE) i32_const(0xffff) i32_and() local_get(local::VBASE) i32_add() local_set(local::RIP)
            local_get(local::FUEL) local_get(local::SITE) i32_const(COUNT_SHIFT as i32) i32_shr_u()
            i32_const(0xff) i32_and() i32_add() local_set(local::FUEL)
            local_get(local::SITE) i32_const(KIND_SHIFT as i32) i32_shr_u() i32_const(63) i32_and()
            local_tee(local::T0)
            i32_const(KIND_IN_LOCAL as i32) i32_ne()
        );
        self.open_if();
        wasm!(self; local_get(local::T0) local_set(local::KIND));
        self.close();
    }

    /// Goes to the region at RIP where the jump cache knows it, which may be this one; else falls out. Flags are in the
    /// CPU's record wherever code elsewhere may enter. Returns where the function's own slot goes.
    fn transfer(&mut self) -> usize {
        wasm!(self; local_get(local::KIND) i32_const(IN_MEMORY) i32_ne());
        self.open_seldom();
        self.spill_call();
        wasm!(self; i32_const(IN_MEMORY) local_set(local::KIND));
        self.close();
        let fetch = self.cpu(offset_of!(Cpu, tlb.fetch)) + self.user * 8 * crate::cpu::tlb::ENTRIES as u32;
        let jumps = self.layout.jumps;
        let mode = i64::from(self.mode) << 32;
        wasm!(self;
            local_get(local::RIP) local_get(local::RIP) i32_const(12) i32_shr_u() i32_xor()
            i32_const(super::JUMPS as i32 - 1) i32_and() i32_const(4) i32_shl() local_tee(local::T0)
            i64_load(at(jumps))
            local_get(local::RIP) i64_extend_i32_u() i64_const(mode) i64_or() i64_ne());
        let out = self.label(OUT);
        self.seldom_br_if(out);
        // The page must still be where it was when the jump was entered.
        wasm!(self;
            local_get(local::RIP) i32_const(9) i32_shr_u() i32_const(8 * (crate::cpu::tlb::ENTRIES as i32 - 1)) i32_and()
            i64_load(at(fetch))
            local_get(local::T0) i64_load(at(jumps + 8)) local_tee(local::E) i64_const(32) i64_shl()
            local_get(local::RIP) i32_const(-4096) i32_and() local_tee(local::VBASE) i64_extend_i32_u() i64_or()
            i64_ne());
        self.seldom_br_if(out);
        let above = i64::from(32 + super::PAGE_SHIFT) - 12;
        wasm!(self;
            local_get(local::VBASE) local_get(local::E) i64_const(above) i64_shr_u() i32_wrap_i64()
            i32_const((super::region::PAGES as i32 - 1) << 12) i32_and() i32_sub() local_set(local::VBASE)
            local_get(local::E) i64_const(32 + i64::from(super::DOOR_SHIFT)) i64_shr_u() i32_wrap_i64()
            local_set(local::ENTRY)
            local_get(local::E) i64_const(32) i64_shr_u() i32_wrap_i64() i32_const(super::SLOT_MASK as i32) i32_and()
            local_tee(local::T0));
        self.out.push(0x41);
        let own = self.out.len();
        self.out.extend([0x80, 0x80, 0x80, 0x80, 0]);
        let again = self.label(AGAIN);
        wasm!(self; i32_eq() br_if(again));
        self.store_vectors();
        wasm!(self; local_get(local::ENTRY) local_get(local::VBASE) i32_or()
            local_get(local::FUEL));
        for r in 0..8 {
            wasm!(self; local_get(local::R0 + r));
        }
        wasm!(self; local_get(local::T0) return_call_indirect(0, 0));
        own
    }

    /// Stores everything and returns the code of the exit.
    fn exit_tail(&mut self) {
        self.store_registers(0xff);
        self.store_vectors();
        self.spill_call();
        let (rip, fuel) = (at(self.cpu(offset_of!(Cpu, rip))), at(self.cpu(offset_of!(Cpu, fuel))));
        wasm!(self;
            i32_const(0) local_get(local::RIP) i32_store(rip)
            i32_const(0) local_get(local::FUEL) i32_store(fuel)
            local_get(local::CODE)
        );
    }

    pub(super) fn store_registers(&mut self, mask: u8) {
        for r in (0..8u32).filter(|r| mask >> r & 1 != 0) {
            let to = at(self.cpu(offset_of!(Cpu, gpr)) + 8 * r);
            wasm!(self; i32_const(0) local_get(local::R0 + r) i32_store(to));
        }
    }

    pub(super) fn load_registers(&mut self, mask: u8) {
        for r in (0..8u32).filter(|r| mask >> r & 1 != 0) {
            let from = at(self.cpu(offset_of!(Cpu, gpr)) + 8 * r);
            wasm!(self; i32_const(0) i32_load(from) local_set(local::R0 + r));
        }
    }

    // --- blocks and exits ---

    fn block(&mut self, n: usize) {
        self.here = n;
        self.state = self.states[n];
        let region = self.region;
        let block = &region.blocks[n];
        let count = block.insns.len() as u32;
        self.position = u32::from(block.at) | count << COUNT_SHIFT;
        wasm!(self; local_get(local::FUEL) i32_const(count as i32) i32_sub() local_set(local::FUEL));
        if self.fuel.looks[n] {
            wasm!(self; local_get(local::FUEL) i32_const((self.fuel.need[n] - count) as i32) i32_lt_s());
            self.open_seldom();
            self.exit_here(leave::FUEL);
            self.close();
        }
        let live = flow::live(&block.insns);
        self.checked = None;
        self.x87_forget();
        self.begin_spans(block);
        for (i, insn) in block.insns.iter().enumerate() {
            self.live = live[i];
            self.current = i;
            self.x87_before(&block.insns[i..]);
            self.position = u32::from(insn.at) | (count - i as u32) << COUNT_SHIFT;
            if insn.last_page() != page_of(insn.at.into()) {
                self.elsewhere(insn.last_page());
                self.open_seldom();
                self.fault();
                self.close();
                self.checked = Some(insn.last_page());
            }
            self.instruction(insn);
            self.state = flow::after(self.state, insn);
        }
        self.x87_settle();
        self.tail(block);
    }

    fn tail(&mut self, block: &Block) {
        match block.tail {
            Tail::Transfer => {}
            Tail::Next(at) => self.go(at),
            Tail::Alone(at) => {
                self.position = u32::from(at);
                self.exit_here(leave::STEP);
            }
        }
    }

    /// Leaves in the middle of a block, before the current instruction has done anything.
    pub(super) fn exit_here(&mut self, code: u32) {
        self.x87_pointers();
        let kind = match self.state {
            State::Memory => IN_MEMORY as u32,
            State::Dynamic => KIND_IN_LOCAL,
            State::Known(kind) => kind as u32,
        };
        let site = self.position | kind << KIND_SHIFT | code << CODE_SHIFT;
        let fault = self.label(FAULT);
        wasm!(self; i32_const(site as i32) local_set(local::SITE) br(fault));
    }

    /// Leaves in the middle of a block, behind the current instruction, which is not the block's last.
    pub(super) fn exit_next(&mut self, insn: &Insn, code: u32) {
        let here = self.position;
        self.position = insn.next() | ((here >> COUNT_SHIFT) - 1) << COUNT_SHIFT;
        self.exit_here(code);
        self.position = here;
    }

    /// The instruction cannot be executed here: it is executed alone.
    pub(super) fn fault(&mut self) {
        self.exit_here(leave::STEP);
    }

    /// Makes the kind of the flags known at run time.
    pub(super) fn settle_kind(&mut self) {
        let kind = match self.state {
            State::Memory => IN_MEMORY,
            State::Dynamic => return,
            State::Known(kind) => kind as i32,
        };
        wasm!(self; i32_const(kind) local_set(local::KIND));
    }

    /// Whether a page is not where it was when the region was formed, or the fetch TLB does not know it.
    fn elsewhere(&mut self, page: u32) {
        let fetch = self.cpu(offset_of!(Cpu, tlb.fetch)) + self.user * 8 * crate::cpu::tlb::ENTRIES as u32;
        let place = self.region.pages.get(page as usize).copied().flatten().unwrap_or(u32::MAX);
        wasm!(self;
            local_get(local::VBASE) i32_const((page << 12) as i32) i32_add() local_tee(local::RIP)
            i32_const(9) i32_shr_u() i32_const(8 * (crate::cpu::tlb::ENTRIES as i32 - 1)) i32_and() i64_load(at(fetch))
            i32_const(place as i32) local_get(local::RIP) i32_sub() i64_extend_i32_u() i64_const(32) i64_shl()
            local_get(local::RIP) i64_extend_i32_u() i64_or() i64_ne());
    }

    /// Goes on at an offset.
    pub(super) fn go(&mut self, to: u32) {
        let block = self.region.find(to);
        let (from, page) = (page_of(self.region.blocks[self.here].at.into()), page_of(to));
        if block.is_some() && page != from && self.checked != Some(page) {
            self.elsewhere(page);
            self.open_seldom();
            wasm!(self; local_get(local::VBASE) i32_const(to as i32) i32_add() local_set(local::RIP));
            self.go_to_rip();
            self.close();
        }
        if let Some(block) = block
            && self.states[block] == State::Dynamic
        {
            self.settle_kind();
        }
        debug_assert!(block.is_none_or(|to| {
            let (here, fuel) = (self.here, &self.fuel);
            fuel.looks[to] || fuel.need[here] >= self.region.blocks[here].insns.len() as u32 + fuel.need[to]
        }));
        if let Some(block) = block.filter(|&block| block > self.here) {
            let label = self.label(self.labels[block]);
            wasm!(self; br(label));
        } else if let Some(head) = block.and_then(|block| self.heads[block]) {
            let label = self.label(head);
            wasm!(self; br(label));
        } else if let Some(door) = block.and_then(|block| self.region.door(block)) {
            let label = self.label(LOOP);
            wasm!(self; i32_const(door as i32) local_set(local::ENTRY) br(label));
        } else {
            wasm!(self; local_get(local::VBASE) i32_const(to as i32) i32_add() local_set(local::RIP));
            self.go_to_rip();
        }
    }

    /// Goes on behind a call of `to`, whose return address is on the stack.
    pub(super) fn call(&mut self, to: u32) {
        if self.region.find(to).is_some_and(|block| self.region.blocks[block].entry) {
            match self.state {
                State::Known(_) => self.spill_known(),
                _ => self.spill_flags(),
            }
            self.state = State::Memory;
            return self.go(to);
        }
        wasm!(self; local_get(local::VBASE) i32_const(to as i32) i32_add() local_set(local::RIP));
        self.go_to_rip();
    }

    /// Leaves for the address in the local.
    pub(super) fn go_to_rip(&mut self) {
        self.spill_known();
        let transfer = self.label(TRANSFER);
        wasm!(self; br(transfer));
    }

    // --- flags to memory ---

    /// Calls the module's own function that writes the CPU's record from the locals.
    fn spill_call(&mut self) {
        wasm!(self; local_get(local::KIND) local_get(local::RES) local_get(local::A) local_get(local::B)
            call(call::SPILL));
    }

    /// At an exit: flags whose kind is known go into the CPU's record, and the local says so.
    fn spill_known(&mut self) {
        if let State::Known(kind) = self.state {
            let [op, res, src] = [offset_of!(Cpu, lazy.op), offset_of!(Cpu, lazy.res), offset_of!(Cpu, lazy.src)]
                .map(|offset| at(self.cpu(offset)));
            wasm!(self; i32_const(0) i32_const(kind as i32) i32_store8(op)
                i32_const(0) local_get(local::RES) i64_extend_i32_u() i64_store(res)
                i32_const(0) local_get(local::A) i64_extend_i32_u());
            if (LazyOp::Shl32 as u8..=LazyOp::Sbb32 as u8).contains(&(kind as u8)) {
                wasm!(self; local_get(local::B) i64_extend_i32_u() i64_const(32) i64_shl() i64_or());
            }
            wasm!(self; i64_store(src));
        }
        if self.state != State::Dynamic {
            wasm!(self; i32_const(IN_MEMORY) local_set(local::KIND));
        }
    }

    /// From here on the flags are in the CPU's record.
    pub(super) fn spill_flags(&mut self) {
        if self.state != State::Memory {
            self.settle_kind();
            self.spill_call();
            self.state = State::Memory;
        }
    }

    // --- operands ---

    /// Pushes a 32-bit register.
    pub(super) fn get(&mut self, r: u8) {
        match r & 31 {
            r @ 0..8 => wasm!(self; local_get(local::R0 + u32::from(r))),
            _ => wasm!(self; i32_const(0)),
        }
    }

    /// Pops a 32-bit register.
    pub(super) fn set(&mut self, r: u8) {
        wasm!(self; local_set(local::R0 + u32::from(r & 7)));
    }

    /// Pushes a register of `width` bytes, zero-extended.
    pub(super) fn get_sized(&mut self, r: u8, width: u32) {
        self.get(r);
        if width == 1 && r & 0x20 != 0 {
            wasm!(self; i32_const(8) i32_shr_u());
        }
        match width {
            1 => wasm!(self; i32_const(0xff) i32_and()),
            2 => wasm!(self; i32_const(0xffff) i32_and()),
            _ => {}
        }
    }

    /// Writes a register of `width` bytes from a local whose upper bits are zero.
    pub(super) fn set_sized(&mut self, r: u8, width: u32, from: u32) {
        if width == 4 {
            wasm!(self; local_get(from));
            return self.set(r);
        }
        let shift = if width == 1 && r & 0x20 != 0 { 8 } else { 0 };
        let mask = (if width == 1 { 0xffu32 } else { 0xffff }) << shift;
        self.get(r);
        wasm!(self; i32_const(!mask as i32) i32_and() local_get(from));
        if shift != 0 {
            wasm!(self; i32_const(shift) i32_shl());
        }
        wasm!(self; i32_or());
        self.set(r);
    }

    // --- the interpreter's instructions ---

    /// Has the interpreter execute the instruction; T0 is then 2 when a REP instruction has more to do.
    pub(super) fn interpret(&mut self, insn: &Insn) {
        let op = insn.op;
        self.x87_settle();
        self.x87_forget();
        let (reads, written) = flow::interpreted_registers(&op);
        self.store_registers(reads | written);
        // What the instruction may leave changed when it stops on the way must be in the CPU's fields.
        if flow::writes(&op) == flow::Writes::Memory {
            self.spill_flags();
        }
        if op.kind == Kind::Alone && op.system() == System::Rdtsc {
            // What this and the following instructions of the block took is not used up yet.
            let fuel = at(self.cpu(offset_of!(Cpu, fuel)));
            let back = (self.position >> COUNT_SHIFT) as i32;
            wasm!(self; i32_const(0) local_get(local::FUEL) i32_const(back) i32_add() i32_store(fuel));
        }
        let simd = matches!(op.kind, Kind::Simd | Kind::X87Env | Kind::Alone).then(|| SimdOp::of(op.imm));
        if simd.is_some() {
            self.store_vectors();
        }
        let number = self.ops.len() as i32;
        self.ops.push(op);
        wasm!(self; i32_const(number) local_get(local::VBASE) i32_const(insn.at.into()) i32_add()
            call(call::EXECUTE) local_set(local::T0));
        self.load_registers(written);
        if let Some(simd) = simd {
            self.load_vectors();
            let kept =
                op.kind == Kind::Simd && simd.is_some_and(|simd| !simd.info().float && simd.info().dst != Class::State);
            if self.floats && !kept {
                wasm!(self; i32_const(0) local_set(local::MX));
            }
        }
        wasm!(self; local_get(local::T0) i32_const(1) i32_eq());
        self.open_seldom();
        self.fault();
        self.close();
        if op.kind == Kind::StringRep {
            wasm!(self; local_get(local::T0) i32_const(2) i32_eq());
            self.open_if();
            self.go(insn.at.into());
            self.close();
            self.go(insn.next());
        }
    }
}
