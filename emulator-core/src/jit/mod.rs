//! The fast tier: regions of hot code become WebAssembly functions. docs/how-it-runs-fast.md has the whole story.
//!
//! The core forms regions, emits bytes and decides what runs; a [`JitHost`] makes functions of the bytes and calls
//! them. Natively there is no host and everything is interpreted.

pub mod conditions;
pub mod emit;
pub mod flow;
mod module;
mod ops;
pub mod region;
pub mod services;
mod simd;
#[cfg(test)]
mod tests;
mod x87;

pub use module::module;

use crate::bus::CpuBus;
use crate::cpu::op::Op;
use crate::cpu::state::{Cpu, CpuModel, mode};
use crate::mem::Memory;
use std::collections::HashMap;
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
    /// The first region.
    pub const REGIONS: u32 = IMPORTS + 1;
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
    /// Whether the memory is shared between threads.
    pub shared: bool,
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
    /// Offset in the page.
    pub at: u32,
    /// `rip` at the page's start.
    pub vbase: u32,
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
        Self { threshold: 600, seed: 0 }
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
    /// Entries from the run loop that the jump cache knew, had under another address, or under older translations.
    pub known: [u64; 3],
    /// Blocks that are better interpreted.
    pub refused: u64,
}

/// Regions of one module.
const BATCH: usize = 24;
/// A block that waits for its region is looked at again after so many executions.
const PATIENCE: u32 = 400;
/// Slots in use at which everything is dropped and translation starts afresh.
const MAX_SLOTS: u32 = 40_000;
/// Bytes of modules at which the same happens.
const MAX_BYTES: u64 = 32 << 20;

/// Pages whose overwriting is remembered.
const MAX_OVERWRITTEN: usize = 4096;
/// Entries of the jump cache.
pub const JUMPS: u32 = 4096;

/// Where translated code finds other translated code by its linear address, without leaving for the run loop.
/// An entry is a key (linear address, and above it the tag of the translations in force) and a slot. The tag changes
/// whenever a translation or any code does, so nothing need be searched and dropped.
#[derive(Debug)]
struct JumpCache {
    entries: Box<[[u64; 2]]>,
}

impl JumpCache {
    fn new() -> Self {
        Self { entries: vec![[u64::MAX; 2]; JUMPS as usize].into_boxed_slice() }
    }

    /// Enters a jump; what was there: 0 the same, 1 another address, 2 an older translation.
    fn set(&mut self, lin: u32, tag: u64, slot: u32) -> usize {
        let entry = &mut self.entries[((lin ^ lin >> 12) & (JUMPS - 1)) as usize];
        let key = tag | u64::from(lin);
        let found = match entry[0] ^ key {
            0 => 0,
            other if other >> 32 == 0 => 1,
            _ => 2,
        };
        *entry = [key, slot.into()];
        found
    }
}

#[derive(Debug)]
struct Pending {
    page: u32,
    body: Vec<u8>,
    keys: Vec<u64>,
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
    /// (block offset of an entry | mode << 32) to slot.
    entries: HashMap<u64, u32>,
    by_page: HashMap<u32, Vec<u64>>,
    pending: Vec<Pending>,
    /// How often compiled code of a page was overwritten.
    overwritten: HashMap<u32, u32>,
    jumps: JumpCache,
    counters: Counters,
}

/// What became of a hot block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hot {
    /// Its region runs.
    Runs(u32),
    /// Ask again after so many executions.
    Later(u32),
    /// Modules were made: blocks must be told.
    Made,
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
            shared: host.shared(),
        };
        Self {
            next_slot: host.first_slot(),
            host,
            layout,
            heat,
            ops: Vec::new(),
            held: 0,
            entries: HashMap::new(),
            by_page: HashMap::new(),
            pending: Vec::new(),
            overwritten: HashMap::new(),
            jumps,
            counters: Counters::default(),
        }
    }

    /// Figures.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { regions: u64::from(self.next_slot - self.host.first_slot()), ..self.counters }
    }

    /// How often a block is executed before it is hot.
    #[must_use]
    pub fn patience(&self, key: u64) -> u32 {
        // Code that is overwritten again and again is not worth compiling each time.
        let times = self.overwritten.get(&(key as u32 >> 12)).copied().unwrap_or(0);
        if times > 1 {
            return self.heat.threshold.max(64) << times.min(14);
        }
        if self.heat.seed == 0 {
            return self.heat.threshold;
        }
        let mixed = (key ^ u64::from(self.heat.seed)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        mixed as u32 % (self.heat.threshold + 1)
    }

    /// The slot of the region that can be entered at `key`.
    #[must_use]
    pub fn slot(&self, key: u64) -> Option<u32> {
        self.entries.get(&key).copied()
    }

    /// Whether code of this mode is translated.
    fn takes(mode_bits: u32) -> bool {
        let needed = mode::FLAT | mode::CODE32 | mode::STACK32;
        mode_bits & needed == needed && mode_bits & mode::VM86 == 0
    }

    /// A block at `offset` of the memory block is hot. `executed` tells which offsets of the memory block were
    /// executed in this mode.
    pub fn hot(
        &mut self,
        mem: &mut Memory,
        model: CpuModel,
        offset: u32,
        mode_bits: u32,
        executed: impl Fn(u32) -> bool,
    ) -> Hot {
        let key = u64::from(offset) | u64::from(mode_bits) << 32;
        if let Some(slot) = self.slot(key) {
            return Hot::Runs(slot);
        }
        if !Self::takes(mode_bits) {
            return Hot::Later(u32::MAX);
        }
        if self.next_slot - self.host.first_slot() >= MAX_SLOTS || self.held >= MAX_BYTES {
            self.clear();
            return Hot::Dropped;
        }
        if self.pending.iter().any(|p| p.keys.contains(&key)) {
            self.flush();
            return Hot::Made;
        }
        let mut page = vec![0; 4096];
        let start = offset & !0xfff;
        mem.block().read(start, &mut page);
        // Where everything is translated at once, nothing was executed yet.
        let all = self.heat.threshold < PATIENCE / 4;
        let known = |at: u32| all || at == offset & 0xfff || executed(start + at);
        let Some(region) = region::form(&page, offset & 0xfff, mode_bits, model, &known) else {
            return Hot::Later(u32::MAX);
        };
        if !all && !region.pays() {
            self.counters.refused += 1;
            return Hot::Later(u32::MAX);
        }
        for (at, len) in region.spans() {
            // The last instruction may go on in the next page only if it was not decoded.
            mem.mark_code(start + at, len);
        }
        let body = emit::emit(&region, &self.layout, mode_bits & mode::USER != 0, &mut self.ops);
        let keys = region.entries().map(|at| u64::from(start + u32::from(at)) | u64::from(mode_bits) << 32).collect();
        self.pending.push(Pending { page: start >> 12, body, keys });
        self.counters.translated += 1;
        let batch = if self.heat.threshold < PATIENCE / 4 { 1 } else { BATCH };
        if self.pending.len() >= batch {
            self.flush();
            return Hot::Made;
        }
        Hot::Later(PATIENCE)
    }

    /// Makes a module of what waits.
    fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let bodies: Vec<&[u8]> = pending.iter().map(|p| p.body.as_slice()).collect();
        let bytes = module(&self.layout, self.next_slot, &bodies);
        let first = self.next_slot;
        let end = first + bodies.len() as u32;
        self.counters.modules += 1;
        self.counters.bytes += bytes.len() as u64;
        self.held += bytes.len() as u64;
        if !self.host.add(bytes, end) {
            return;
        }
        self.next_slot = end;
        for (p, slot) in pending.iter().zip(first..) {
            for key in &p.keys {
                // An older region that holds this entry stays the one: its callers are settled on it.
                if let Vacant(entry) = self.entries.entry(*key) {
                    entry.insert(slot);
                    self.by_page.entry(p.page).or_default().push(*key);
                }
            }
        }
    }

    /// Drops the regions of the given pages.
    pub fn drop_pages(&mut self, pages: &[u32]) {
        for page in pages {
            let Some(keys) = self.by_page.remove(page) else { continue };
            for key in keys {
                self.entries.remove(&key);
            }
            if self.overwritten.len() >= MAX_OVERWRITTEN {
                self.overwritten.clear();
            }
            *self.overwritten.entry(*page).or_default() += 1;
        }
        self.pending.retain(|p| !pages.contains(&p.page));
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.host.clear();
        self.ops.clear();
        self.pending.clear();
        self.entries.clear();
        self.by_page.clear();
        self.jumps.entries.fill([u64::MAX; 2]);
        self.next_slot = self.host.first_slot();
        self.held = 0;
    }
}

impl Cpu {
    /// Runs translated code from `rip` on; returns why it came back ([`leave`]). `icount` is exact.
    pub(crate) fn run_region<B: CpuBus>(
        &mut self,
        bus: &mut B,
        jit: &mut Jit,
        slot: u32,
        epoch: u32,
        until: u64,
    ) -> u32 {
        let lin = (self.rip as u32).wrapping_add(self.derived.base[1] as u32);
        let fuel = (until - self.icount).min(1 << 30) as u32;
        let entry = Entry {
            slot,
            at: lin & 0xfff,
            vbase: (self.rip as u32).wrapping_sub(lin & 0xfff),
            fuel,
            registers: std::array::from_fn(|r| self.reg32(r)),
        };
        // 26 bits of the epoch: when they begin anew, nothing old may be left.
        let tag = (u64::from(epoch) << 6 | u64::from(self.derived.mode)) << 32;
        if self.jump_tag != tag {
            self.jump_tag = tag;
            if epoch & 0x3ff_ffff == 0 {
                jit.jumps.entries.fill([u64::MAX; 2]);
            }
        }
        let found = jit.jumps.set(lin, tag, slot);
        let Jit { host, ops, counters, .. } = jit;
        counters.known[found] += 1;
        let why = host.enter(&entry, &mut services::Running { cpu: self, bus, ops });
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
