//! Accesses to memory: linear addresses, the TLB, and windows.
//!
//! A window is a page that an access hit before: its linear address and what to add to get an offset in the memory
//! block, in two locals. Accesses in loops, and those to the stack, look there before they look into the TLB. A window
//! stays true while its function runs: whatever changes translations or write-protects a page (the decoder, when it
//! finds code there) runs outside of translated code.

use super::emit::{Emitter, at, local, wasm};
use super::flow;
use super::loops::Loop;
use super::region::{Block, Insn, Region};
use super::{Layout, call, strings};
use crate::cpu::op::{Kind, Op, REG_FORM, SEG_ADDR16, SEG_FLAT};
use crate::cpu::state::{Cpu, RBP, RDI, RSI, RSP, ZERO_REG};
use crate::cpu::tlb;
use std::mem::offset_of;
use wasm_encoder::{BlockType, ValType};

/// Most windows of a region.
const MAX_WINDOWS: usize = 6;
/// Instructions of a loop that counts as short.
const SHORT_LOOP: usize = 40;
/// The page of a window that is shut: an address cut to its page and its alignment never has this bit.
const SHUT: i32 = 0x800;
/// In the page of a window for writing: it holds code, as its entry in the TLB says.
const HOLDS_CODE: i32 = tlb::HOLDS_CODE as i32;

/// The windows of a region, by the register that addresses are made from, and whether they are for writing.
#[derive(Debug)]
pub struct Windows {
    classes: Vec<(u8, bool)>,
    /// Their first local.
    first: u32,
}

impl Windows {
    /// The registers from which most accesses in loops are made, with locals from `first` on. A loop that other functions are
    /// called from begins with shut windows each time, so it has none; and the stack has some where a function calls itself.
    pub fn choose(region: &Region, first: u32) -> Self {
        let recursive = region.blocks.iter().any(|block| calls(block).is_some_and(|to| region.find(to).is_some()));
        let mut uses = [[0u32; 2]; 32];
        for (n, block) in region.blocks.iter().enumerate() {
            let loops = in_loop(region, n);
            for Access { class, write, .. } in block.insns.iter().flat_map(|insn| accesses(&insn.op)) {
                if loops || recursive && class == RSP as u8 {
                    uses[usize::from(class & 31)][usize::from(write)] += 1;
                }
            }
        }
        let mut classes: Vec<(u8, bool)> = (0..32u8)
            .flat_map(|class| [(class, false), (class, true)])
            .filter(|&(class, write)| uses[usize::from(class)][usize::from(write)] > 0)
            .collect();
        classes.sort_by_key(|&(class, write)| std::cmp::Reverse(uses[usize::from(class)][usize::from(write)]));
        classes.truncate(MAX_WINDOWS);
        Self { classes, first }
    }

    /// The local behind theirs.
    pub fn end(&self) -> u32 {
        self.first + self.locals()
    }

    /// How many locals they take.
    pub fn locals(&self) -> u32 {
        2 * self.classes.len() as u32
    }

    /// The locals of a window: its page, and what to add.
    pub(super) fn find(&self, class: u8, write: bool) -> Option<(u32, u32)> {
        let n = self.classes.iter().position(|&window| window == (class & 31, write))? as u32;
        Some((self.first + 2 * n, self.first + 2 * n + 1))
    }
}

/// Where a block's direct call leads.
fn calls(block: &Block) -> Option<u32> {
    block.insns.last().filter(|last| last.op.kind == Kind::CallRel32).map(Insn::target)
}

/// Whether a block lies between a jump back and its target, with nothing between that leaves the region.
pub(super) fn in_loop(region: &Region, n: usize) -> bool {
    let stays = |block: &Block| {
        use Kind::*;
        let leaves = |insn: &Insn| matches!(insn.op.kind, CallR32 | CallM32 | JmpR32 | JmpM32 | Ret32 | RetImm32);
        let last = block.insns.last();
        !last.is_some_and(leaves) && calls(block).is_none_or(|to| region.find(to).is_some())
    };
    let loops = |from: usize, to: usize| from >= n && to <= n && region.blocks[to..=from].iter().all(stays);
    let repeats = |block: &Block| block.insns.last().is_some_and(|last| last.op.kind == Kind::StringRep);
    let back =
        |from: usize| flow::successors(region, from).filter(move |&to| to != from || !repeats(&region.blocks[from]));
    (n..region.blocks.len()).any(|from| back(from).any(|to| loops(from, to)))
}

/// An access that translated code makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    /// The register that its address is made from, or `ZERO_REG`.
    pub class: u8,
    /// What is added to that register, as it is before the instruction, where that is all.
    pub disp: Option<u32>,
    /// Bytes.
    pub size: u32,
    pub write: bool,
}

/// The accesses of an instruction to its stack, its operand and, of a string instruction, its source and destination.
pub(super) fn accesses(op: &Op) -> impl Iterator<Item = Access> {
    use Kind::*;
    let stack = |disp: i32, write: bool| Some(Access { class: RSP as u8, disp: Some(disp as u32), size: 4, write });
    let stack = match op.kind {
        Push32R | Push32I | Push32M | CallRel32 | CallR32 | CallM32 => stack(-4, true),
        Pop32R | Ret32 | RetImm32 => stack(0, false),
        _ => None,
    };
    let translated = flow::translated(op);
    let operand = match (op.kind, flow::arithmetic(op)) {
        (_, Some((_, 0 | 1, _))) => None,
        (_, Some((n, form, width))) => Some((width, form > 2 && n < 7)),
        (Mov32RM | Mov32RB | Cmov32RM | Push32M | Imul32RM | Imul32RMI | JmpM32 | CallM32, _) => Some((4, false)),
        (Mov16RM | Movzx32From16M | Movsx32From16M, _) => Some((2, false)),
        (Mov8RM | Movzx32From8M | Movsx32From8M, _) => Some((1, false)),
        (Mov32MR | Mov32BR | Mov32MI | Xchg32RM | Inc32M | Dec32M, _) => Some((4, true)),
        (Mov16MR | Mov16MI, _) => Some((2, true)),
        (Mov8MR | Mov8MI | SetccM, _) => Some((1, true)),
        (UnaryE, _) if op.base != REG_FORM && translated => Some((op.imm >> 8, true)),
        (ShiftE | CmpxchgE, _) if op.base != REG_FORM && translated => Some((4, true)),
        (MulDivE, _) if translated => Some((4, false)),
        (Movx16From8E, _) if op.base != REG_FORM => Some((1, false)),
        _ => None,
    };
    let operand = operand.map(|(size, write)| Access { class: class(op), disp: direct(op), size, write });
    let string = strings::Uses::of(op);
    let element = |r: usize, write: bool| Access { class: r as u8, disp: Some(0), size: strings::width(op), write };
    let source = string.filter(|uses| uses.source).map(|_| element(RSI, false));
    let destination = string.and_then(|uses| uses.destination).map(|write| element(RDI, write));
    stack.into_iter().chain(operand).chain(source).chain(destination)
}

/// The register that stands for an operand: its base, or its index.
fn class(op: &Op) -> u8 {
    if op.base & 31 == ZERO_REG as u8 { op.index & 31 } else { op.base & 31 }
}

/// What is added to the base of a flat operand that has no index.
fn direct(op: &Op) -> Option<u32> {
    let plain = op.seg & 7 == SEG_FLAT && op.seg & SEG_ADDR16 == 0 && op.index & 31 == ZERO_REG as u8;
    plain.then_some(op.disp)
}

impl Emitter<'_> {
    /// No window is open where a region begins.
    pub(super) fn shut_windows(&mut self) {
        for page in (self.windows.first..self.windows.end()).step_by(2) {
            wasm!(self; i32_const(SHUT) local_set(page));
        }
    }

    /// Pushes whether an access of `size` bytes at LIN is outside of a window. Only aligned ones are inside: those
    /// never cross the page's end.
    fn outside(&mut self, size: u32, page: u32) {
        wasm!(self; local_get(local::LIN) i32_const(-4096 | (size as i32 - 1)) i32_and() local_get(page) i32_ne());
    }

    /// Pushes LIN's offset in the memory block, as the window has it.
    fn window_offset(&mut self, add: u32) {
        wasm!(self; local_get(local::LIN) local_get(add) i32_add());
    }

    /// Pushes LIN's offset in the memory block from the entry in E, which becomes the window.
    fn open_window(&mut self, window: Option<(u32, u32)>) {
        let Some((page, add)) = window else { return self.block_offset() };
        wasm!(self; local_get(local::E) i32_wrap_i64() local_set(page)
            local_get(local::E) i64_const(32) i64_shr_u() i32_wrap_i64() local_tee(add) local_get(local::LIN) i32_add());
    }

    /// Pushes base + index × scale + displacement.
    pub(super) fn offset(&mut self, op: &Op) {
        let mut any = false;
        if op.base & 31 != ZERO_REG as u8 {
            self.get(op.base);
            any = true;
        }
        if op.index & 31 != ZERO_REG as u8 {
            self.get(op.index);
            if op.index >> 5 != 0 {
                wasm!(self; i32_const((op.index >> 5).into()) i32_shl());
            }
            if any {
                wasm!(self; i32_add());
            }
            any = true;
        }
        if op.disp != 0 || !any {
            wasm!(self; i32_const(op.disp as i32));
            if any {
                wasm!(self; i32_add());
            }
        }
    }

    /// Sets LIN to the linear address of a memory operand, after the segment's check.
    pub(super) fn linear(&mut self, op: &Op, size: u32, write: bool) {
        (self.class, self.direct) = (class(op), direct(op));
        self.offset(op);
        if op.seg & SEG_ADDR16 != 0 {
            wasm!(self; i32_const(0xffff) i32_and());
        }
        if op.seg & 7 == SEG_FLAT {
            wasm!(self; local_set(local::LIN));
            return;
        }
        let seg = u32::from(op.seg & 7);
        let max = if write { offset_of!(Cpu, derived.write_max) } else { offset_of!(Cpu, derived.read_max) };
        let (max, base) = (self.cpu(max) + 8 * seg, self.cpu(offset_of!(Cpu, derived.base)) + 8 * seg);
        wasm!(self; local_tee(local::LIN) i64_extend_i32_u() i64_const(i64::from(size) - 1) i64_add()
            i32_const(0) i64_load(at(max)) i64_gt_s());
        self.open_seldom();
        self.fault();
        self.close();
        wasm!(self; i32_const(0) i32_load(at(base)) local_get(local::LIN) i32_add() local_set(local::LIN));
    }

    /// Sets E to the entry of one of the TLB's arrays for the linear address in a local.
    pub(super) fn entry_of(&mut self, linear: u32, array: usize) {
        let array = self.cpu(array) + self.user * 8 * tlb::ENTRIES as u32;
        wasm!(self; local_get(linear) i32_const(9) i32_shr_u()
            i32_const(8 * (tlb::ENTRIES as i32 - 1)) i32_and() i64_load(at(array)) local_set(local::E));
    }

    /// Looks LIN up in a TLB; pushes whether it misses. The entry is in E.
    pub(super) fn look_up(&mut self, size: u32, write: bool) {
        let array = if write { offset_of!(Cpu, tlb.write) } else { offset_of!(Cpu, tlb.read) };
        self.entry_of(local::LIN, array);
        wasm!(self; local_get(local::E) i32_wrap_i64() local_get(local::LIN));
        if size > 1 {
            wasm!(self; i32_const(size as i32 - 1) i32_add());
        }
        wasm!(self; i32_const(-4096) i32_and() i32_ne());
    }

    /// Looks LIN up in a TLB and leaves label 0 where the access must not be made directly. The entry is in E. Stores to
    /// pages that hold code may be, where they hit none.
    pub(super) fn reach(&mut self, size: u32, write: bool) {
        if !write {
            self.look_up(size, write);
            return self.seldom_br_if(0);
        }
        self.open();
        self.look_up(size, write);
        wasm!(self; i32_eqz());
        self.mostly_br_if(0);
        wasm!(self; local_get(local::E) local_get(local::LIN) i32_const(size as i32) call(call::GUARD));
        self.seldom_br_if(1);
        self.close();
    }

    /// Pushes LIN's offset in the memory block, from the entry in E.
    pub(super) fn block_offset(&mut self) {
        wasm!(self; local_get(local::E) i64_const(32) i64_shr_u() i32_wrap_i64() local_get(local::LIN) i32_add());
    }

    /// Whether the current block is in a short loop, where stores beside code have code of their own; elsewhere they are
    /// left to a function of the module, which is slower and shorter. The stack seldom lies beside code.
    pub(super) fn in_short_loop(&self) -> bool {
        let length = |head: usize, last: usize| -> usize {
            self.region.blocks[head..=last].iter().map(|block| block.insns.len()).sum()
        };
        let short = |&(head, last): &Loop| (head..=last).contains(&self.here) && length(head, last) <= SHORT_LOOP;
        ![RSP as u8, RBP as u8].contains(&(self.class & 31)) && self.region.loops.iter().any(short)
    }

    fn plain_load(&mut self, size: u32, offset: u32) {
        let ram = at(self.layout.ram + offset);
        match size {
            1 => wasm!(self; i32_load8_u(ram)),
            2 => wasm!(self; i32_load16_u(ram)),
            _ => wasm!(self; i32_load(ram)),
        }
    }

    fn plain_store(&mut self, size: u32, offset: u32) {
        let ram = at(self.layout.ram + offset);
        match size {
            1 => wasm!(self; i32_store8(ram)),
            2 => wasm!(self; i32_store16(ram)),
            _ => wasm!(self; i32_store(ram)),
        }
    }

    /// Accesses LIN in plain memory, by its span or window if it has one and else by the TLB: `access` gets the offset in the
    /// memory block on the stack and what to add to it, and is emitted for each. Then it leaves the label outside; where the
    /// TLB misses it goes on.
    fn plainly(&mut self, size: u32, write: bool, access: impl Fn(&mut Self, u32)) {
        if let Some(spot) = self.spot() {
            // What is not in its span is seldom: the module's own functions look into the TLB.
            return self.in_span(spot, access);
        }
        let window = self.windows.find(self.class, write);
        let beside = write && window.is_some() && self.in_short_loop();
        if let Some((page, add)) = window {
            self.open();
            if beside {
                self.open();
            }
            self.outside(size, page);
            self.seldom_br_if(0);
            self.window_offset(add);
            access(self, 0);
            wasm!(self; br(1 + u32::from(beside)));
            self.close();
            if beside {
                // Beside code: an access in a window is aligned and lies in one granule.
                let code = at(self.layout.code);
                wasm!(self; local_get(local::LIN) i32_const(-4096 | (size as i32 - 1)) i32_and()
                    local_get(page) i32_const(HOLDS_CODE) i32_xor() i32_ne());
                self.seldom_br_if(0);
                self.window_offset(add);
                wasm!(self; i32_const(12) i32_shr_u() i32_const(3) i32_shl() i64_load(code)
                    local_get(local::LIN) i32_const(6) i32_shr_u() i64_extend_i32_u() i64_shr_u()
                    i32_wrap_i64() i32_const(1) i32_and());
                self.seldom_br_if(0);
                self.window_offset(add);
                access(self, 0);
                wasm!(self; br(1));
                self.close();
            }
        }
        self.open();
        if beside {
            self.reach(size, write);
        } else {
            self.look_up(size, write);
            self.seldom_br_if(0);
        }
        self.open_window(window);
        access(self, 0);
        wasm!(self; br(1));
        self.close();
    }

    /// Loads `size` bytes at LIN, zero-extended, into a local.
    pub(super) fn load(&mut self, size: u32, into: u32) {
        self.open();
        self.plainly(size, false, |emit, offset| {
            emit.plain_load(size, offset);
            wasm!(emit; local_set(into));
        });
        let load = if self.spot().is_some() { call::LOOK_LOAD } else { call::LOAD };
        wasm!(self; local_get(local::LIN) i32_const(size as i32) call(load) local_tee(local::E)
            i64_const(0) i64_lt_s());
        self.open_seldom();
        self.fault();
        self.close();
        wasm!(self; local_get(local::E) i32_wrap_i64() local_set(into));
        self.close();
    }

    /// Stores the low `size` bytes of a local at LIN.
    pub(super) fn store(&mut self, size: u32, from: u32) {
        self.open();
        self.plainly(size, true, |emit, offset| {
            wasm!(emit; local_get(from));
            emit.plain_store(size, offset);
        });
        wasm!(self; local_get(local::LIN) i32_const(size as i32) local_get(from) call(call::STORE_BESIDE));
        self.open_seldom();
        self.fault();
        self.close();
        self.close();
    }

    /// The read half of a read-modify-write at LIN: the value goes into a local, and LIN becomes the offset in
    /// the memory block.
    pub(super) fn modify_load(&mut self, size: u32, into: u32) {
        self.open();
        self.plainly(size, true, |emit, offset| {
            if offset != 0 {
                wasm!(emit; i32_const(offset as i32) i32_add());
            }
            wasm!(emit; local_set(local::LIN));
        });
        wasm!(self; local_get(local::LIN) i32_const(size as i32) call(call::MODIFY_BESIDE) local_tee(local::E)
            i64_const(0) i64_lt_s());
        self.open_seldom();
        self.fault();
        self.close();
        wasm!(self; local_get(local::E) i32_wrap_i64() local_set(local::LIN));
        self.close();
        wasm!(self; local_get(local::LIN));
        self.plain_load(size, 0);
        wasm!(self; local_set(into));
    }

    /// The write half, from a local.
    pub(super) fn modify_store(&mut self, size: u32, from: u32) {
        wasm!(self; local_get(local::LIN) local_get(from));
        self.plain_store(size, 0);
    }
}

/// A function that is written.
struct Out {
    out: Vec<u8>,
}

/// The function of each module that tells whether a store of `size` bytes that missed the TLB must not be done directly, given
/// the entry that it found: `(entry, linear address, size)`. It may be where the page is the entry's and holds code, but not
/// in the granules that it touches. Where the code is gone from the page the core makes the entry one like any other.
#[must_use]
pub fn guard_function(layout: &Layout) -> Vec<u8> {
    let mut f = Out { out: vec![1, 1, 0x7e] };
    let code = at(layout.code);
    wasm!(f;
        local_get(1) local_get(2) i32_add() i32_const(1) i32_sub() local_tee(2)
        i32_const(-4096) i32_and() i32_const(HOLDS_CODE) i32_or() local_get(0) i32_wrap_i64() i32_ne()
        if_(BlockType::Empty) i32_const(1) return_() end()
        local_get(0) i64_const(32) i64_shr_u() i32_wrap_i64() local_get(1) i32_add()
        i32_const(12) i32_shr_u() i32_const(3) i32_shl() i64_load(code) local_tee(3)
        local_get(1) i32_const(6) i32_shr_u() i64_extend_i32_u() i64_shr_u()
        local_get(3) local_get(2) i32_const(6) i32_shr_u() i64_extend_i32_u() i64_shr_u()
        i64_or() i32_wrap_i64() i32_const(1) i32_and()
        local_get(3) i64_eqz() i32_or()
        end()
    );
    f.out
}

impl Out {
    /// Finds the entry for the linear address in local 0, puts it into a local and pushes whether a store of the size in local 1
    /// must be left to the core.
    fn guard(&mut self, layout: &Layout, entry: u32) {
        let field = |offset: usize| at(layout.cpu + offset as u32);
        wasm!(self;
            local_get(0) i32_const(9) i32_shr_u() i32_const(8 * (tlb::ENTRIES as i32 - 1)) i32_and()
            i32_const(0) i32_load(field(offset_of!(Cpu, derived.user)))
            i32_const(8 * tlb::ENTRIES as i32) i32_mul() i32_add()
            i64_load(field(offset_of!(Cpu, tlb.write))) local_tee(entry) i32_wrap_i64()
            local_get(0) local_get(1) i32_add() i32_const(1) i32_sub() i32_const(-4096) i32_and() i32_ne()
            if_(BlockType::Result(ValType::I32)) local_get(entry) local_get(0) local_get(1) call(call::GUARD)
            else_() i32_const(0) end());
    }

    /// Pushes the offset in the memory block of the linear address in local 0.
    fn offset(&mut self, entry: u32) {
        wasm!(self; local_get(entry) i64_const(32) i64_shr_u() i32_wrap_i64() local_get(0) i32_add());
    }
}

/// The function of each module for stores that missed the TLB: `(linear address, size, value)`, whether it was not done.
#[must_use]
pub fn store_function(layout: &Layout) -> Vec<u8> {
    let mut f = Out { out: vec![1, 1, 0x7e] };
    let ram = at(layout.ram);
    f.guard(layout, 3);
    wasm!(f; if_(BlockType::Empty) local_get(0) local_get(1) local_get(2) call(call::STORE) return_() end());
    f.offset(3);
    wasm!(f; local_set(0)
        local_get(1) i32_const(4) i32_eq() if_(BlockType::Empty)
            local_get(0) local_get(2) i32_store(ram) i32_const(0) return_() end()
        local_get(1) i32_const(2) i32_eq() if_(BlockType::Empty)
            local_get(0) local_get(2) i32_store16(ram) i32_const(0) return_() end()
        local_get(0) local_get(2) i32_store8(ram) i32_const(0) end());
    f.out
}

/// The same for a read-modify-write: `(linear address, size)`, the offset in the memory block or -1.
#[must_use]
pub fn modify_function(layout: &Layout) -> Vec<u8> {
    let mut f = Out { out: vec![1, 1, 0x7e] };
    f.guard(layout, 2);
    wasm!(f; if_(BlockType::Empty) local_get(0) local_get(1) call(call::MODIFY) return_() end());
    f.offset(2);
    wasm!(f; i64_extend_i32_u() end());
    f.out
}
