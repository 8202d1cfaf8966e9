//! The fast tier: regions of hot code become WebAssembly functions. docs/how-it-runs-fast.md has the whole story.
//!
//! The core forms regions, emits bytes and decides what runs; a [`JitHost`] makes functions of the bytes and calls
//! them. Natively there is no host and everything is interpreted.

pub mod conditions;
mod double;
pub mod emit;
pub mod flow;
mod loops;
mod memory;
mod module;
mod ops;
mod record;
pub mod region;
pub mod services;
mod shifts;
mod simd;
mod sink;
mod spans;
mod strings;
#[cfg(test)]
mod tests;
mod vectors;
mod x87;

pub use module::{entry, module};

use crate::bus::CpuBus;
use crate::cpu::cache::Table;
use crate::cpu::op::Op;
use crate::cpu::state::{Cpu, CpuModel, mode};
use crate::mem::Memory;
use std::collections::BTreeSet;
use std::collections::hash_map::Entry::Vacant;

/// Functions that a module imports, by index, and its own one in front of the regions.
pub mod call {
    #![allow(missing_docs, reason = "as in `Services`")]
    pub const LOAD: u32 = 0;
    pub const STORE: u32 = 1;
    pub const MODIFY: u32 = 2;
    pub const EXECUTE: u32 = 3;
    pub const CONDITION: u32 = 4;
    pub const FLAGS: u32 = 5;
    /// The functions of the x87 unit ([`direct`](crate::fpu::x87::direct)).
    pub const X87: u32 = 6;
    /// Imports.
    pub const IMPORTS: u32 = X87 + 33;
    /// Writes the flags into the CPU's record.
    pub const SPILL: u32 = IMPORTS;
    /// CF from a record.
    pub const CARRY: u32 = IMPORTS + 1;
    /// Whether a store that missed the TLB must not be done.
    pub const GUARD: u32 = IMPORTS + 2;
    /// As `STORE` and `MODIFY`, which they call unless the TLB knows the page, and where it is a store beside code.
    pub const STORE_BESIDE: u32 = IMPORTS + 3;
    pub const MODIFY_BESIDE: u32 = IMPORTS + 4;
    /// As `LOAD`, which it calls unless the TLB knows the page.
    pub const LOOK_LOAD: u32 = IMPORTS + 5;
    /// The first region.
    pub const REGIONS: u32 = IMPORTS + 6;
}

/// Why translated code returned; `rip`, registers, flags and `fuel` are in the CPU.
pub mod leave {
    /// The code at `rip` is to be found.
    pub const LOOKUP: u32 = 0;
    /// The block at `rip` would retire more than it may.
    pub const FUEL: u32 = 1;
    /// The instruction at `rip` must be executed alone.
    pub const STEP: u32 = 2;
}

/// Where things are in the host's address space, which is the emitted code's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The CPU.
    pub cpu: u32,
    /// The memory block.
    pub ram: u32,
    /// The jump cache: [`JUMPS`] entries of 16 bytes, see [`JumpCache`].
    pub jumps: u32,
    /// Which granules of each page hold code ([`Ram::code`](crate::mem::Ram::code)).
    pub code: u32,
    /// Whether the memory is shared between threads.
    pub shared: bool,
    /// Instructions that may retire between two looks at the fuel, if no single block has more.
    pub stretch: u32,
}

/// What translated code calls.
pub trait Services {
    /// A load that missed the TLB: the zero-extended value, or -1.
    fn load(&mut self, lin: u32, size: u32) -> i64;
    /// A store that missed the TLB; whether it was done.
    fn store(&mut self, lin: u32, size: u32, value: u32) -> bool;
    /// A read-modify-write that missed the TLB: the offset in the memory block, or -1.
    fn modify(&mut self, lin: u32, size: u32) -> i64;
    /// Executes an instruction of the list: 0 done, 1 it must be executed alone, 2 REP that has more to do.
    fn execute(&mut self, number: u32, rip: u32) -> u32;
    /// A condition from the CPU's record of the flags.
    fn condition(&mut self, cc: u32) -> bool;
    /// The status flags from the CPU's record.
    fn flags(&mut self) -> u32;
}

/// The arguments of a region's function.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Slot of the function.
    pub slot: u32,
    /// `rip` at the start of the region's first page, plus the number of the door to begin with.
    pub place: u32,
    /// Instructions that may retire.
    pub fuel: u32,
    /// EAX to EDI.
    pub registers: [u32; 8],
}

/// Who makes functions of modules and calls them.
pub trait JitHost: std::fmt::Debug + Send {
    /// The first slot of the function table that is free for regions.
    fn first_slot(&self) -> u32;
    /// Whether the memory is shared between threads.
    fn shared(&self) -> bool;
    /// Makes a module's functions callable; it fills slots below `end`. `false` when it cannot be.
    fn add(&mut self, module: Vec<u8>, end: u32) -> bool;
    /// Forgets all modules.
    fn clear(&mut self);
    /// Calls a region.
    fn enter(&mut self, entry: &Entry, services: &mut dyn Services) -> u32;
}

/// See [`Layout::stretch`].
const STRETCH: u32 = 128;

/// When code is hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heat {
    /// Executions before a block is translated.
    pub threshold: u32,
    /// With a seed other than zero the threshold of each block is some number up to it.
    pub seed: u32,
}

impl Default for Heat {
    fn default() -> Self {
        Self { threshold: 20_000, seed: 0 }
    }
}

/// Figures for display.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Regions that can run.
    pub regions: u64,
    /// Regions translated since power-on.
    pub translated: u64,
    /// Modules made.
    pub modules: u64,
    /// Bytes of modules.
    pub bytes: u64,
    /// Times that translated code was entered from the run loop.
    pub entered: u64,
    /// Exits by reason.
    pub left: [u64; 3],
    /// Instructions retired by translated code.
    pub instructions: u64,
    /// Entries from the run loop that the jump cache knew, had another address for, or another region.
    pub known: [u64; 3],
    /// Blocks that are better interpreted.
    pub refused: u64,
}

/// Longer blocks are hot sooner: what interpreting one costs is in proportion to its instructions, while a third of what a
/// compiled one costs is not.
const SHORT: u8 = 12;
/// Regions of one module.
const BATCH: usize = 24;
/// Below this threshold everything is compiled at once, one by one.
const AT_ONCE: u32 = 100;
/// A block that waits for its region is looked at again after so many executions, as a power of two of the threshold. A module
/// costs the engine about half a millisecond, so that it is worth waiting for others.
const WAIT_SHIFT: u32 = 2;
/// For a block that translated code left for, it is so many executions: to leave and to enter again costs more than
/// interpreting a block. What lies between regions is hot sooner than what is far from them.
pub const LEFT: u32 = 8;
/// One arrival in so many executions (as a power of two) makes an entry.
const ARRIVES_SHIFT: u32 = 6;
/// One in so many makes a function that has no region yet worth being compiled with its callers.
const WARM_SHIFT: u32 = 3;
/// Slots in use at which everything is dropped and translation starts afresh.
const MAX_SLOTS: u32 = 40_000;
/// Bytes of modules at which the same happens.
const MAX_BYTES: u64 = 32 << 20;

/// Pages whose overwriting is remembered.
const MAX_OVERWRITTEN: usize = 4096;
/// Entries of the jump cache.
pub const JUMPS: u32 = 4096;

// Where an entry of a region is, in one word: the slot, the number of its page in the region, and the number of its door.
/// Where the page's number begins.
pub const PAGE_SHIFT: u32 = 20;
/// Where the door's number begins.
pub const DOOR_SHIFT: u32 = 24;
/// The bits of the slot.
pub const SLOT_MASK: u32 = (1 << PAGE_SHIFT) - 1;

/// No linear address has so high a mode above it.
const NO_JUMP: [u64; 2] = [u64::MAX; 2];

/// Where translated code finds other translated code by its linear address, without leaving for the run loop.
/// An entry is a key (linear address, and above it the mode), what to add to a linear address of that page to get its
/// offset in the memory block, and above that a place. It holds while the fetch TLB says the same of the page, so a load
/// of CR3 costs nothing here; entries of code that was overwritten are dropped.
#[derive(Debug)]
struct JumpCache {
    entries: Box<[[u64; 2]]>,
}

impl JumpCache {
    fn new() -> Self {
        Self { entries: vec![NO_JUMP; JUMPS as usize].into_boxed_slice() }
    }

    /// Enters a jump to the region that begins at `offset`; what was there: 0 the same, 1 another address, 2 another region.
    fn set(&mut self, lin: u32, mode: u32, offset: u32, place: u32) -> usize {
        let entry = &mut self.entries[((lin ^ lin >> 12) & (JUMPS - 1)) as usize];
        let new =
            [u64::from(lin) | u64::from(mode) << 32, u64::from(offset.wrapping_sub(lin)) | u64::from(place) << 32];
        // Word by word: what was stored by words and is loaded as one vector waits for the stores.
        let [address, region] = *entry;
        let found = if address != new[0] { 1 } else { 2 * usize::from(region != new[1]) };
        *entry = new;
        found
    }

    /// Drops the jumps to the given pages.
    fn drop_pages(&mut self, pages: &BTreeSet<u32>) {
        for entry in &mut self.entries {
            if pages.contains(&((entry[0] as u32).wrapping_add(entry[1] as u32) >> 12)) {
                *entry = NO_JUMP;
            }
        }
    }
}

#[derive(Debug)]
struct Pending {
    pages: Vec<u32>,
    body: emit::Body,
    /// Entries, and their places but for the slot.
    keys: Vec<(u64, u32)>,
}

/// The translation cache of one vCPU.
#[derive(Debug)]
pub struct Jit {
    host: Box<dyn JitHost>,
    layout: Layout,
    heat: Heat,
    /// Instructions that regions leave to the interpreter.
    ops: Vec<Op>,
    next_slot: u32,
    held: u64,
    /// (block offset of an entry | mode << 32) to its place.
    entries: Table<u32>,
    /// Page to the keys of the entries of regions with code there; some may be of regions that are gone.
    by_page: Table<Vec<u64>>,
    /// Page to the blocks that its regions hold without an entry for them.
    inner: Table<Vec<u64>>,
    pending: Vec<Pending>,
    /// How often compiled code of a page was overwritten.
    overwritten: Table<u32>,
    jumps: JumpCache,
    counters: Counters,
}

/// What the interpreter knows of the code around a hot block.
pub struct Profile<'a> {
    /// Where in the memory block the page of a linear address is from which code may be fetched.
    pub fetch: &'a dyn Fn(u32) -> Option<u32>,
    /// Of an offset of the memory block where a block was executed in this mode, how often control came there from elsewhere.
    pub arrivals: &'a dyn Fn(u32) -> Option<u32>,
    /// Offsets of the blocks in the page of an offset.
    pub blocks: &'a dyn Fn(u32) -> Vec<u32>,
    /// Instructions of the hot block.
    pub instructions: u8,
}

/// What became of a hot block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hot {
    /// Its region runs.
    Runs(u32),
    /// Ask again after so many executions.
    Later(u32),
    /// A module was made: the blocks at these entries are at these places now.
    Made(Vec<(u64, u32)>),
    /// Everything was dropped.
    Dropped,
}

impl Jit {
    /// A cache for `cpu` and the memory `mem`, neither of which may move.
    #[must_use]
    pub fn new(host: Box<dyn JitHost>, heat: Heat, cpu: &Cpu, mem: &Memory) -> Self {
        let jumps = JumpCache::new();
        let layout = Layout {
            jumps: jumps.entries.as_ptr() as usize as u32,
            cpu: std::ptr::from_ref(cpu) as usize as u32,
            ram: mem.block().host_address() as u32,
            code: mem.block().code_address() as u32,
            shared: host.shared(),
            // What is translated at once is to run translated, and be it for two instructions.
            stretch: if heat.threshold == 0 { 0 } else { STRETCH },
        };
        Self {
            next_slot: host.first_slot(),
            host,
            layout,
            heat,
            ops: Vec::new(),
            held: 0,
            entries: Table::default(),
            by_page: Table::default(),
            inner: Table::default(),
            pending: Vec::new(),
            overwritten: Table::default(),
            jumps,
            counters: Counters::default(),
        }
    }

    /// Figures.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { regions: u64::from(self.next_slot - self.host.first_slot()), ..self.counters }
    }

    /// How often a block of so many instructions is executed before it is hot.
    #[must_use]
    pub fn patience(&self, key: u64, instructions: u8) -> u32 {
        // Code that is overwritten again and again is not worth compiling each time.
        let times = self.overwritten.get(&u64::from(key as u32 >> 12)).copied().unwrap_or(0);
        if times > 1 {
            return self.heat.threshold.max(64) << times.min(14);
        }
        if self.heat.seed == 0 {
            let instructions = instructions.max(SHORT);
            return (u64::from(self.heat.threshold) * u64::from(SHORT) / u64::from(instructions)) as u32;
        }
        let mixed = (key ^ u64::from(self.heat.seed)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        mixed as u32 % (self.heat.threshold + 1)
    }

    /// The place of the region that can be entered at `key`.
    #[must_use]
    pub fn place(&self, key: u64) -> Option<u32> {
        self.entries.get(&key).copied()
    }

    /// Whether code of this mode is translated.
    fn takes(mode_bits: u32) -> bool {
        let needed = mode::FLAT | mode::CODE32 | mode::STACK32;
        mode_bits & needed == needed && mode_bits & mode::VM86 == 0
    }

    /// A block at `lin`, and `offset` of the memory block, is hot.
    pub fn hot(
        &mut self,
        mem: &mut Memory,
        model: CpuModel,
        (lin, offset): (u32, u32),
        mode_bits: u32,
        profile: &Profile<'_>,
    ) -> Hot {
        let key = u64::from(offset) | u64::from(mode_bits) << 32;
        if let Some(place) = self.place(key) {
            return Hot::Runs(place);
        }
        if !Self::takes(mode_bits) {
            return Hot::Later(u32::MAX);
        }
        if self.next_slot - self.host.first_slot() >= MAX_SLOTS || self.held >= MAX_BYTES {
            self.clear();
            return Hot::Dropped;
        }
        if self.pending.iter().any(|p| p.keys.iter().any(|&(k, _)| k == key)) {
            return Hot::Made(self.flush());
        }
        // Where everything is translated at once, nothing was executed yet.
        let all = self.heat.threshold < AT_ONCE;
        // It became as hot as the block at which its region begins, and soon runs there. Code of its own it gets when it
        // is interpreted as often again.
        let inner = self.inner.entry(u64::from(offset >> 12)).or_default();
        if let Some(at) = inner.iter().position(|&k| k == key).filter(|_| !all) {
            inner.swap_remove(at);
            return Hot::Later(self.patience(key, profile.instructions));
        }
        let home = (lin & !0xfff, offset & !0xfff);
        let mut load = |page: usize, bytes: &mut [u8]| {
            let lin = home.0.wrapping_add((page as u32) << 12).wrapping_sub((region::HOME as u32) << 12);
            let offset = if lin == home.0 { Some(home.1) } else { (profile.fetch)(lin) }?;
            // What the write TLB does not know as a page of code could be overwritten unseen.
            let found = mem.page_has_code(offset).then_some(offset)?;
            mem.block().read(found, bytes);
            Some(found)
        };
        // Where control often arrives the region can be entered; what is entered from its own blocks alone, loops above all,
        // is better compiled without.
        let often = (self.heat.threshold >> ARRIVES_SHIFT).max(1);
        let warm = (self.heat.threshold >> WARM_SHIFT).max(1);
        let own = |place: u32| self.entries.contains_key(&(u64::from(place) | u64::from(mode_bits) << 32));
        let known = |place: u32| match (profile.arrivals)(place) {
            Some(times) if times >= warm && !own(place) => region::Known::Warm,
            Some(times) if times >= often => region::Known::Arrives,
            Some(_) => region::Known::Executed,
            None if all || place == offset => region::Known::Executed,
            None => region::Known::No,
        };
        let at = (region::HOME as u32) << 12 | offset & 0xfff;
        let code = region::Code { mode: mode_bits, model, known: &known, blocks: profile.blocks };
        let Some(region) = region::form(region::Window::new(&mut load), at, code) else {
            return Hot::Later(u32::MAX);
        };
        if !all && !region.pays() {
            self.counters.refused += 1;
            return Hot::Later(u32::MAX);
        }
        for (place, len) in region.spans() {
            mem.mark_code(place, len);
        }
        let body = emit::emit(&region, &self.layout, mode_bits, &mut self.ops);
        let key_of = |at: u16| region.place(at.into()).map(|place| u64::from(place) | u64::from(mode_bits) << 32);
        let keys = region
            .entries()
            .filter_map(|(at, door)| Some((key_of(at)?, region::page_of(at.into()) << PAGE_SHIFT | door << DOOR_SHIFT)))
            .collect();
        hold(&mut self.inner, region.blocks.iter().filter(|block| !block.entry).filter_map(|block| key_of(block.at)));
        let pages = region.pages.iter().flatten().map(|place| place >> 12).collect();
        self.pending.push(Pending { pages, body, keys });
        self.counters.translated += 1;
        let batch = if all { 1 } else { BATCH };
        if self.pending.len() >= batch {
            return Hot::Made(self.flush());
        }
        Hot::Later(self.patience(key, profile.instructions) >> WAIT_SHIFT)
    }

    /// Makes a module of what waits. Returns its entries and their places.
    #[inline(never)]
    fn flush(&mut self) -> Vec<(u64, u32)> {
        let pending = std::mem::take(&mut self.pending);
        let first = self.next_slot;
        let end = first + pending.len() as u32;
        let (bodies, entries): (Vec<_>, Vec<_>) =
            pending.into_iter().zip(first..).map(|(p, slot)| (p.body.placed(slot), (p.pages, p.keys, slot))).unzip();
        let bytes = module(&self.layout, first, &bodies);
        self.counters.modules += 1;
        self.counters.bytes += bytes.len() as u64;
        self.held += bytes.len() as u64;
        if !self.host.add(bytes, end) {
            return Vec::new();
        }
        let mut made = Vec::new();
        self.next_slot = end;
        for (pages, keys, slot) in entries {
            for (key, above) in keys {
                // An older region that holds this entry stays the one: its callers are settled on it.
                let Vacant(entry) = self.entries.entry(key) else { continue };
                entry.insert(slot | above);
                made.push((key, slot | above));
                for page in &pages {
                    let keys = self.by_page.entry((*page).into()).or_default();
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
            }
        }
        made
    }

    /// Drops the regions with code in the given pages. Returns their entries.
    pub fn drop_pages(&mut self, pages: &[u32]) -> Vec<u64> {
        let mut dropped = Vec::new();
        for page in pages {
            self.inner.remove(&u64::from(*page));
            let Some(keys) = self.by_page.remove(&u64::from(*page)) else { continue };
            dropped.extend(keys.into_iter().filter(|key| self.entries.remove(key).is_some()));
            if self.overwritten.len() >= MAX_OVERWRITTEN {
                self.overwritten.clear();
            }
            *self.overwritten.entry((*page).into()).or_default() += 1;
        }
        if !dropped.is_empty() {
            let entered = dropped.iter().map(|key| *key as u32 >> 12);
            self.jumps.drop_pages(&entered.chain(pages.iter().copied()).collect());
        }
        self.pending.retain(|p| !p.pages.iter().any(|page| pages.contains(page)));
        dropped
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.host.clear();
        self.ops.clear();
        self.pending.clear();
        self.entries.clear();
        self.by_page.clear();
        self.inner.clear();
        self.jumps.entries.fill(NO_JUMP);
        self.next_slot = self.host.first_slot();
        self.held = 0;
    }
}

/// Notes the blocks that a region holds without an entry for them.
fn hold(pages: &mut Table<Vec<u64>>, keys: impl Iterator<Item = u64>) {
    for key in keys {
        let inner = pages.entry(u64::from(key as u32 >> 12)).or_default();
        if !inner.contains(&key) {
            inner.push(key);
        }
    }
}

impl Cpu {
    /// Runs the region at `place`, which holds the code at `rip`, that is at `offset` in the memory block; returns why it came
    /// back ([`leave`]). `icount` is exact.
    pub(crate) fn run_region<B: CpuBus>(
        &mut self,
        bus: &mut B,
        jit: &mut Jit,
        place: u32,
        offset: u32,
        until: u64,
    ) -> u32 {
        let lin = (self.rip as u32).wrapping_add(self.derived.base[1] as u32);
        let fuel = (until - self.icount).min(1 << 30) as u32;
        let entry = Entry {
            slot: place & SLOT_MASK,
            // In flat code the two addresses are one.
            place: (lin & !0xfff).wrapping_sub((place >> PAGE_SHIFT & (region::PAGES as u32 - 1)) << 12)
                | place >> DOOR_SHIFT,
            fuel,
            registers: std::array::from_fn(|r| self.reg32(r)),
        };
        let found = jit.jumps.set(lin, self.derived.mode, offset, place);
        let Jit { host, ops, counters, .. } = jit;
        counters.known[found] += 1;
        let why = host.enter(&entry, &mut services::Running { cpu: self, bus, ops, fuel });
        let retired = u64::from(fuel.wrapping_sub(self.fuel));
        self.icount += retired;
        counters.entered += 1;
        counters.instructions += retired;
        if let Some(n) = counters.left.get_mut(why as usize) {
            *n += 1;
        }
        why
    }
}
