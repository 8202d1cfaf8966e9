//! Decoded code by physical page: blocks of ops, links between them, and the jump cache.
//!
//! A block never leaves its page. Links connect blocks of one page only, so they die together when the page
//! is written; transfers between pages go through the jump cache, which is keyed by linear address. What it says holds
//! while the fetch TLB translates the page to where the block was decoded, so it outlives loads of CR3.

use super::op::Op;
use super::tlb;
use crate::cpu::state::CpuModel;
use crate::jit::{Hot, Jit, Profile};
use crate::mem::Memory;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// No block; as an offset, that of a block whose bytes were overwritten.
pub const NONE: u32 = u32::MAX;
const JUMP_ENTRIES: usize = 8192;
/// Instructions that are interpreted when an idle guest wakes up: a few times a kernel's tick.
const CALM: u64 = 30_000;
/// Decoded ops kept before everything is dropped and decoding starts afresh (32 MiB).
const MAX_OPS: usize = 2 << 20;

/// A run of decoded instructions inside one page.
#[derive(Debug, Clone)]
pub struct Block {
    /// First op.
    pub start: u32,
    /// Bytes of code.
    pub bytes: u16,
    /// Number of ops.
    pub ops: u8,
    /// Instructions (at least the number of ops).
    pub instructions: u8,
    /// Where in the memory block it was decoded from, or [`NONE`] when that was overwritten.
    pub offset: u32,
    /// Mode in which it was decoded.
    pub mode: u8,
    /// How often control came here from another page or by an indirect jump, as far as that is counted.
    pub arrivals: Cell<u16>,
    /// Executions until it is hot; 0 for a block with translated code.
    pub heat: Cell<u32>,
    /// Place of its region, or [`NONE`].
    pub region: Cell<u32>,
    /// Blocks that follow in the same page when control falls through (0) or takes the direct jump (1).
    pub links: [Cell<u32>; 2],
}

// A power of two: what a link leads to is found without a multiplication.
const _: () = assert!(size_of::<Block>() == 32);

#[derive(Debug, Clone, Copy)]
struct JumpEntry {
    /// Linear address | mode << 32.
    key: u64,
    block: u32,
}

const NO_JUMP: JumpEntry = JumpEntry { key: u64::MAX, block: NONE };

/// Hashes the integer keys of the block table by one multiplication.
#[derive(Debug, Default, Clone)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64((*b).into());
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

/// A table by such keys.
pub type Table<V> = HashMap<u64, V, BuildHasherDefault<KeyHasher>>;

/// All decoded code of a machine.
#[derive(Debug)]
pub struct CodeCache {
    /// Ops of all blocks.
    pub ops: Vec<Op>,
    /// All blocks; dead ones stay until everything is dropped.
    pub blocks: Vec<Block>,
    /// (block offset of the first byte | mode << 32) to block.
    by_offset: Table<u32>,
    /// Page number to the keys of its blocks.
    by_page: Table<Vec<u64>>,
    jumps: Box<[JumpEntry]>,
    /// Instructions decoded one at a time.
    pub steps: super::run::StepCache,
    /// The fast tier, where there is one.
    pub jit: Option<Box<Jit>>,
    /// Until this count of instructions code is interpreted however hot it is: see [`calm`](Self::calm).
    pub(super) calm_until: u64,
}

impl Default for CodeCache {
    fn default() -> Self {
        Self {
            ops: Vec::new(),
            blocks: Vec::new(),
            by_offset: Table::default(),
            by_page: Table::default(),
            jumps: vec![NO_JUMP; JUMP_ENTRIES].into_boxed_slice(),
            steps: super::run::StepCache::default(),
            jit: None,
            calm_until: 0,
        }
    }
}

#[inline(always)]
fn jump_slot(lin: u32) -> usize {
    ((lin ^ lin >> 13) as usize) & (JUMP_ENTRIES - 1)
}

impl Block {
    /// Counts that control came here by no link.
    #[inline(always)]
    pub fn arrive(&self) {
        self.arrivals.set(self.arrivals.get().saturating_add(1));
    }
}

impl CodeCache {
    /// The block for a linear address in a mode, if it is remembered and the page's entry in the fetch TLB, `fetch`, still
    /// leads there.
    #[inline(always)]
    #[must_use]
    pub fn jump(&self, lin: u32, mode: u32, fetch: u64) -> Option<u32> {
        let e = &self.jumps[jump_slot(lin)];
        if e.key != (u64::from(lin) | u64::from(mode) << 32) {
            return None;
        }
        let block = self.blocks.get(e.block as usize)?;
        (tlb::hit(fetch, lin, 1) == Some(block.offset)).then_some(e.block)
    }

    /// Remembers where `lin` leads.
    pub fn set_jump(&mut self, lin: u32, mode: u32, block: u32) {
        self.jumps[jump_slot(lin)] = JumpEntry { key: u64::from(lin) | u64::from(mode) << 32, block };
    }

    /// A guest that does next to nothing woke up, at `icount` instructions: the next ones are interpreted. What it does
    /// is some thousand instructions that no cache of the host knows any more. Compiled they are many times larger, and
    /// it is the memory that costs.
    pub fn calm(&mut self, icount: u64) {
        self.calm_until = icount + CALM;
    }

    /// A block's ops.
    #[inline(always)]
    #[must_use]
    pub fn ops_of(&self, block: &Block) -> &[Op] {
        &self.ops[block.start as usize..block.start as usize + usize::from(block.ops)]
    }

    /// The block that was decoded at a memory offset in a mode.
    #[must_use]
    pub fn find(&self, offset: u32, mode: u32) -> Option<u32> {
        self.by_offset.get(&(u64::from(offset) | u64::from(mode) << 32)).copied()
    }

    /// Whether it is time to drop everything before decoding more.
    #[must_use]
    pub fn full(&self) -> bool {
        self.ops.len() >= MAX_OPS
    }

    /// Adds a block whose ops were appended from `start` on.
    pub fn insert(&mut self, offset: u32, mode: u32, start: u32, bytes: u32, instructions: u32) -> u32 {
        let id = self.blocks.len() as u32;
        let ops = (self.ops.len() - start as usize) as u8;
        let key = u64::from(offset) | u64::from(mode) << 32;
        let region = self.jit.as_ref().and_then(|jit| jit.place(key));
        let heat = match (region, &self.jit) {
            (Some(_), _) => 0,
            (None, Some(jit)) => jit.patience(key, instructions as u8),
            (None, None) => u32::MAX,
        };
        self.blocks.push(Block {
            start,
            ops,
            bytes: bytes as u16,
            instructions: instructions as u8,
            offset,
            mode: mode as u8,
            arrivals: Cell::new(0),
            heat: Cell::new(heat),
            region: Cell::new(region.unwrap_or(NONE)),
            links: [const { Cell::new(NONE) }; 2],
        });
        self.by_offset.insert(key, id);
        self.by_page.entry(u64::from(offset >> 12)).or_default().push(key);
        id
    }

    /// Enters `to` as what follows `from`, when both lie in one page.
    pub fn link(&self, from: u32, slot: u8, to: u32) {
        if let (Some(block), Some(next)) = (self.blocks.get(from as usize), self.blocks.get(to as usize))
            && block.offset >> 12 == next.offset >> 12
        {
            block.links[usize::from(slot & 1)].set(to);
        }
    }

    /// The place of the translated code at block `id`, which is hot and at `lin`; translates when there is none yet. `fetch` tells
    /// where in the memory block the pages of other linear addresses are.
    pub fn hot(
        &mut self,
        mem: &mut Memory,
        model: CpuModel,
        (id, lin): (u32, u32),
        fetch: &dyn Fn(u32) -> Option<u32>,
    ) -> Option<u32> {
        let region = self.blocks[id as usize].region.get();
        if region == NONE { self.translate(mem, model, (id, lin), fetch) } else { Some(region) }
    }

    /// The same for a block that is not known to have any.
    #[inline(never)]
    fn translate(
        &mut self,
        mem: &mut Memory,
        model: CpuModel,
        (id, lin): (u32, u32),
        fetch: &dyn Fn(u32) -> Option<u32>,
    ) -> Option<u32> {
        let block = &self.blocks[id as usize];
        let Some(jit) = &mut self.jit else {
            block.heat.set(u32::MAX);
            return None;
        };
        let (mode, by_offset) = (u32::from(block.mode), &self.by_offset);
        let (blocks, by_page) = (&self.blocks, &self.by_page);
        let arrivals = |offset: u32| {
            let id = by_offset.get(&(u64::from(offset) | u64::from(mode) << 32))?;
            blocks.get(*id as usize).map(|block| block.arrivals.get().into())
        };
        let blocks_of = |offset: u32| {
            let keys = by_page.get(&u64::from(offset >> 12)).map_or(&[][..], Vec::as_slice);
            keys.iter().filter(|&key| (key >> 32) as u32 == mode).map(|&key| key as u32).collect()
        };
        let instructions = block.instructions;
        let profile = Profile { fetch, arrivals: &arrivals, blocks: &blocks_of, instructions };
        match jit.hot(mem, model, (lin, block.offset), mode, &profile) {
            Hot::Runs(place) => {
                block.region.set(place);
                return Some(place);
            }
            Hot::Later(executions) => block.heat.set(executions),
            Hot::Made(entries) => {
                for (key, place) in entries {
                    if let Some(b) = self.by_offset.get(&key).and_then(|&id| self.blocks.get(id as usize)) {
                        b.region.set(place);
                        b.heat.set(0);
                    }
                }
                if self.blocks[id as usize].region.get() == NONE {
                    self.blocks[id as usize].heat.set(u32::MAX);
                }
            }
            Hot::Dropped => self.clear(),
        }
        None
    }

    /// Drops the blocks of the given pages.
    #[inline(never)]
    pub fn drop_pages(&mut self, pages: &[u32]) {
        if let Some(jit) = &mut self.jit {
            // Their entries may be in other pages, whose blocks stay.
            for key in jit.drop_pages(pages) {
                if let Some(block) = self.by_offset.get(&key).and_then(|&id| self.blocks.get(id as usize)) {
                    block.region.set(NONE);
                    block.heat.set(jit.patience(key, block.instructions));
                }
            }
        }
        for page in pages {
            for key in self.by_page.remove(&u64::from(*page)).unwrap_or_default() {
                // Jumps may still lead there.
                if let Some(block) = self.by_offset.remove(&key).and_then(|id| self.blocks.get_mut(id as usize)) {
                    block.offset = NONE;
                }
            }
        }
    }

    /// Drops everything.
    #[inline(never)]
    pub fn clear(&mut self) {
        self.ops.clear();
        self.blocks.clear();
        self.by_offset.clear();
        self.by_page.clear();
        self.jumps.fill(NO_JUMP);
        self.calm_until = 0;
    }
}
