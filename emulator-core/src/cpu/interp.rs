//! The interpreter: one loop over the ops of a block, and from block to block without leaving it.
//!
//! Inside the loop `cpu.rip` is the start of the running block; it becomes exact again whenever the interpreter is
//! left. The loop itself calls nothing ([`Plain`]): an op that is not plain computation on plain memory leaves it and is
//! done in full ([`Full`]) before the loop goes on. What even that cannot do inside a block (devices, stores to code)
//! leaves before it does anything ([`Fault::DEFER`]) and is then executed alone by [`Cpu::step`].

use super::cache::{Block, CodeCache, NONE};
use super::execute::{Flow, execute};
use super::fault::Fault;
use super::full::{Full, execute_full};
use super::op::{Kind, Op};
use super::plain::Plain;
use super::state::{Cpu, mode};
use super::tlb;
use crate::bus::CpuBus;
use crate::mem::Ram;

/// Why the interpreter was left. `cpu.rip` and `cpu.icount` are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The next block would pass the instruction budget.
    Budget,
    /// The block at `rip` is not known here; it follows `from` by link `slot`.
    Unknown {
        /// The block that led here.
        from: u32,
        /// Which of its links.
        slot: u8,
        /// Where that block began.
        rip: u32,
    },
    /// The instruction at `rip` raised a fault or must run alone.
    Fault(Fault),
    /// The instruction at `rip` is one that always runs alone.
    Alone(Op),
    /// The block at `rip` is hot.
    Hot,
}

/// Why the block loop was left.
enum Stop {
    /// For good.
    Leave(Leave),
    /// Op `at` of block `id` is not for plain memory.
    Op { id: u32, at: u16 },
}

/// Where an op that was done in full leads.
enum To {
    /// To another op of its block.
    Op(usize),
    /// To an address, by a link.
    Block((u32, u8)),
}

/// What decides, besides the code itself, how far a run goes.
#[derive(Clone, Copy)]
struct Bounds {
    /// See [`Derived::mode`](super::state::Derived::mode).
    mode: u32,
    /// TLB half.
    user: u32,
    /// The instruction count that no block may pass.
    until: u64,
}

impl Cpu {
    /// Makes `rip` and `icount` exact for op `at` of a block.
    #[cold]
    #[inline(never)]
    fn stop_at(&mut self, ops: &[Op], at: usize) {
        for op in &ops[..at] {
            self.rip = u64::from((self.rip as u32).wrapping_add(u32::from(op.len)));
            self.icount += u64::from(op.instructions());
        }
    }

    /// Makes `rip` and `icount` exact for the second instruction of a pair, the first one of which retired.
    #[cold]
    #[inline(never)]
    fn stop_between(&mut self, ops: &[Op], at: usize) {
        self.stop_at(ops, at);
        // A pair has the length of its first instruction there.
        self.rip = u64::from((self.rip as u32).wrapping_add(u32::from(ops[at].seg)));
        self.icount += 1;
    }

    /// Retires block `id` and finds the one at `target`, by link `slot` or by its address.
    #[inline(always)]
    fn follow(
        &mut self,
        code: &CodeCache,
        bounds: Bounds,
        (id, block): (u32, &Block),
        to: (u32, u8),
    ) -> Result<u32, Leave> {
        let rip = self.rip as u32;
        let (target, slot) = to;
        self.icount += u64::from(block.instructions);
        self.rip = target.into();
        let linked = if slot < 2 { block.links[usize::from(slot)].get() } else { NONE };
        if linked != NONE {
            return Ok(linked);
        }
        let lin = target.wrapping_add(self.derived.base[1] as u32);
        let Some(to) = code.jump(lin, bounds.mode, self.tlb.fetch[tlb::slot(lin, bounds.user)]) else {
            return Err(Leave::Unknown { from: id, slot, rip });
        };
        // It may be known from elsewhere only.
        if !self.link(code, bounds.mode, (id, slot, rip), to)
            && let Some(block) = code.blocks.get(to as usize)
        {
            block.arrive();
        }
        Ok(to)
    }

    /// Whether block `id` at `rip` may run now.
    #[inline(always)]
    fn admit(&self, code: &CodeCache, bounds: Bounds, block: &Block) -> Result<(), Leave> {
        match block.heat.get() {
            0 if self.icount >= code.calm_until => return Err(Leave::Hot),
            0 => {}
            heat => block.heat.set(heat - 1),
        }
        if self.icount + u64::from(block.instructions) > bounds.until {
            return Err(Leave::Budget);
        }
        if bounds.mode & mode::FLAT == 0 && self.rip + u64::from(block.bytes) > u64::from(self.seg[1].limit) + 1 {
            return Err(Leave::Unknown { from: NONE, slot: 2, rip: self.rip as u32 });
        }
        Ok(())
    }

    /// The block loop, from op `at` of block `id` on.
    #[inline(never)]
    fn run_plain(&mut self, ram: &Ram, code: &CodeCache, bounds: Bounds, (mut id, at): (u32, u16)) -> Stop {
        let mut plain = Plain { ram, user: bounds.user };
        let Some(mut block) = code.blocks.get(id as usize) else { return Stop::Op { id, at } };
        let mut it = code.ops_of(block).get(usize::from(at)..).unwrap_or_default().iter();
        loop {
            let next = (self.rip as u32).wrapping_add(block.bytes.into());
            let to = loop {
                let Some(op) = it.next() else { break (next, 0) };
                match execute(self, &mut plain, op, next) {
                    Ok(Flow::Next) => {}
                    Ok(Flow::Jump(target, slot)) => break (target, slot),
                    Err(_) => {
                        let at = usize::from(block.ops) - it.as_slice().len() - 1;
                        return Stop::Op { id, at: at as u16 };
                    }
                }
            };
            // One of three ways, each with code of its own: the host then predicts the guest's branch where it is decided,
            // and not only where the next op is known.
            let followed = match to {
                (target, 0) => self.follow(code, bounds, (id, block), (target, 0)),
                (target, 1) => self.follow(code, bounds, (id, block), (target, 1)),
                (target, _) => self.follow(code, bounds, (id, block), (target, 2)),
            };
            match followed {
                Ok(to) => id = to,
                Err(leave) => return Stop::Leave(leave),
            }
            let Some(b) = code.blocks.get(id as usize) else {
                return Stop::Leave(Leave::Unknown { from: NONE, slot: 2, rip: self.rip as u32 });
            };
            block = b;
            if let Err(leave) = self.admit(code, bounds, block) {
                return Stop::Leave(leave);
            }
            it = code.ops_of(block).iter();
        }
    }

    /// Interprets from block `id` on until something else must be decided.
    pub fn run_blocks<B: CpuBus>(&mut self, bus: &mut B, ram: &Ram, code: &CodeCache, id: u32, until: u64) -> Leave {
        let mut bounds = Bounds { mode: self.derived.mode, user: self.derived.user, until };
        let mut place = (id, 0);
        loop {
            let (id, at) = match self.run_plain(ram, code, bounds, place) {
                Stop::Leave(leave) => return leave,
                Stop::Op { id, at } => (id, usize::from(at)),
            };
            let Some(block) = code.blocks.get(id as usize) else {
                return Leave::Unknown { from: NONE, slot: 2, rip: self.rip as u32 };
            };
            let ops = code.ops_of(block);
            let to = match self.run_full(bus, ops, at, block.bytes) {
                Ok(To::Op(at)) => {
                    place = (id, at as u16);
                    continue;
                }
                Ok(To::Block(to)) => to,
                Err(leave) => return leave,
            };
            // How much work a REP instruction is shows only behind it.
            if ops.first().is_some_and(|op| op.kind == Kind::StringRep) && self.exhausted() {
                bounds.until = 0;
            }
            let id = match self.follow(code, bounds, (id, block), to) {
                Ok(id) => id,
                Err(leave) => return leave,
            };
            let Some(block) = code.blocks.get(id as usize) else {
                return Leave::Unknown { from: NONE, slot: 2, rip: self.rip as u32 };
            };
            if let Err(leave) = self.admit(code, bounds, block) {
                return leave;
            }
            place = (id, 0);
        }
    }

    /// Executes op `at` of a block of `bytes`, and the floating-point ops behind it: they stand together.
    #[inline]
    fn run_full<B: CpuBus>(&mut self, bus: &mut B, ops: &[Op], mut at: usize, bytes: u16) -> Result<To, Leave> {
        use Kind::*;
        let next = (self.rip as u32).wrapping_add(bytes.into());
        loop {
            let Some(op) = ops.get(at) else { return Ok(To::Block((next, 0))) };
            let mut between = false;
            let flow = match op.kind {
                X87Reg | X87Load | X87Store => self.exec_x87(bus, op).map(|()| Flow::Next),
                Simd => self.exec_simd(bus, op).map(|()| Flow::Next),
                Alone => {
                    self.stop_at(ops, at);
                    return Err(self::Leave::Alone(*op));
                }
                _ => {
                    let mut full = Full { bus: &mut *bus, between: false };
                    let flow = execute_full(self, &mut full, op, next);
                    between = full.between;
                    flow
                }
            };
            match flow {
                Ok(Flow::Next) => at += 1,
                Ok(Flow::Jump(target, slot)) => return Ok(To::Block((target, slot))),
                Err(fault) => {
                    if between {
                        self.stop_between(ops, at);
                    } else {
                        self.stop_at(ops, at);
                    }
                    return Err(self::Leave::Fault(fault));
                }
            }
            if ops.get(at).is_some_and(|op| !matches!(op.kind, X87Reg | X87Load | X87Store | Simd)) {
                return Ok(To::Op(at));
            }
        }
    }
}
