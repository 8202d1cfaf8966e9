//! The run loop of one vCPU: interrupts, blocks, and the instructions that run alone.

use super::cache::{CodeCache, NONE};
use super::decode::{self, MAX_LEN};
use super::effort;
use super::execute::Flow;
use super::fault::{Exec, Fault};
use super::flags;
use super::full::{Full, execute_full};
use super::interp::Leave;
use super::op::{Kind, Op, System};
use super::protect::Delivered;
use super::state::{Activity, Cpu, Shadow, mode};
use super::tlb;
use crate::bus::CpuBus;
use crate::jit::{LEFT, leave};
use crate::mem::PAGE;

/// No block to link from: (block, link slot, where it began).
const NOWHERE: (u32, u8, u32) = (NONE, 2, 0);

/// Why [`Cpu::run`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuExit {
    /// The instruction budget is used up, or the [effort](Cpu::exhausted).
    Budget,
    /// HLT with nothing to take.
    Halted,
    /// Triple fault.
    Shutdown,
    /// Waiting for a start-up IPI.
    WaitForSipi,
    /// A device asked for something (reset, power-off, …): see the bus.
    Attention,
}

/// Ops of instructions that were decoded alone, by their bytes: page-crossing ones and remainders.
#[derive(Debug, Clone)]
pub struct StepCache {
    entries: Box<[Option<(u128, u32, Op)>]>,
}

impl Default for StepCache {
    fn default() -> Self {
        Self { entries: vec![None; 256].into_boxed_slice() }
    }
}

/// Translated code never asks for more fuel at once: its blocks are shorter, and so are the stretches between two looks.
const MOST_ASKED: u64 = 255;

impl Cpu {
    /// Executes until the machine's instruction count reaches `until`, the CPU halts or shuts down, or the
    /// bus wants attention.
    ///
    /// The delivery of an interrupt or exception counts as one instruction: a handler whose first instruction faults
    /// again would otherwise keep the host here for ever.
    pub fn run<B: CpuBus>(&mut self, bus: &mut B, code: &mut CodeCache, until: u64) -> CpuExit {
        let ram = bus.mem().block_handle();
        let mut from = NOWHERE;
        // The next block is interpreted although it has translated code.
        let mut interpret = false;
        // So are all that follow: what is left until the end is less than translated code asks for.
        let mut ends = false;
        // Translated code left for the next block.
        let mut left = false;
        loop {
            self.sync_tlb(bus);
            if bus.mem().has_stale_code() {
                code.drop_pages(&bus.mem_mut().take_stale_code());
                self.exert(effort::DECODE);
                from = NOWHERE;
            }
            if code.full() {
                code.clear();
                from = NOWHERE;
            }
            if bus.attention() {
                return CpuExit::Attention;
            }
            if self.icount >= until || self.exhausted() {
                return CpuExit::Budget;
            }
            if let Some(delivered) = self.take_pending(bus) {
                if delivered == Delivered::Shutdown || self.frame_trap(bus) == Some(Delivered::Shutdown) {
                    return CpuExit::Shutdown;
                }
                from = NOWHERE;
                continue;
            }
            match self.activity {
                Activity::Running => {}
                Activity::Halted => return CpuExit::Halted,
                Activity::Shutdown => return CpuExit::Shutdown,
                Activity::WaitForSipi => return CpuExit::WaitForSipi,
            }
            // RF lasts for one instruction, wherever blocks begin.
            if self.shadow != Shadow::None || self.flag(flags::TF | flags::RF) || self.debug_enabled() {
                from = NOWHERE;
                self.step(bus, code);
                continue;
            }
            let id = match self.find_block(bus, code) {
                Ok(Some(id)) => id,
                Ok(None) => {
                    from = NOWHERE;
                    self.step(bus, code);
                    continue;
                }
                Err(fault) => {
                    from = NOWHERE;
                    self.raise(bus, fault);
                    continue;
                }
            };
            // What the interpreter or a region left for from elsewhere; not what an interrupt or a slice's end cut.
            let linked = self.link(code, self.derived.mode, from, id);
            if !linked && (from.0 != NONE || left) {
                code.blocks[id as usize].arrive();
            }
            let executions = if std::mem::take(&mut left) { LEFT } else { 1 };
            from = NOWHERE;
            let heat = &code.blocks[id as usize].heat;
            if heat.get() == 0 && !std::mem::take(&mut interpret) && !ends && self.icount >= code.calm_until {
                let (lin, user) = (self.linear_ip(), self.derived.user);
                let fetch = |lin: u32| tlb::hit(self.tlb.fetch[tlb::slot(lin, user)], lin, 1);
                let place = code.hot(bus.mem_mut(), self.model, (id, lin), &fetch);
                let offset = code.blocks.get(id as usize).map_or(0, |block| block.offset);
                match (place, &mut code.jit) {
                    (Some(place), Some(jit)) => match self.run_region(bus, jit, place, offset, until) {
                        leave::STEP if self.icount < until => self.step(bus, code),
                        leave::FUEL => (interpret, ends) = (true, until - self.icount <= MOST_ASKED),
                        leave::LOOKUP => left = true,
                        _ => {}
                    },
                    // The block may be gone.
                    _ => interpret = true,
                }
                continue;
            }
            interpret = false;
            // A block that translated code keeps leaving for is only ever entered here.
            heat.set(heat.get().saturating_sub(executions));
            let block = &code.blocks[id as usize];
            if self.icount + u64::from(block.instructions) > until {
                self.step(bus, code);
                continue;
            }
            match self.run_blocks(bus, &ram, code, id, until) {
                Leave::Unknown { from: block, slot, rip } => from = (block, slot, rip),
                Leave::Fault(fault) if fault.is_defer() => self.step(bus, code),
                Leave::Fault(fault) => self.raise(bus, fault),
                Leave::Alone(op) => self.step_op(bus, op),
                Leave::Budget | Leave::Hot => {}
            }
        }
    }

    /// Delivers an NMI or external interrupt if one can be taken now.
    fn take_pending<B: CpuBus>(&mut self, bus: &mut B) -> Option<Delivered> {
        if self.shadow != Shadow::None || matches!(self.activity, Activity::Shutdown | Activity::WaitForSipi) {
            return None;
        }
        let nmi = self.nmi_pending && !self.nmi_blocked;
        if nmi || self.flag(flags::IF) && bus.interrupt_pending(self.index) { self.take(bus, nmi) } else { None }
    }

    /// Delivers the NMI, or the external interrupt if there still is one. Not part of the run loop's function, as little is
    /// that seldom runs: the browser optimises that one while the guest starts.
    #[inline(never)]
    fn take<B: CpuBus>(&mut self, bus: &mut B, nmi: bool) -> Option<Delivered> {
        let vector = if nmi { None } else { Some(bus.acknowledge_interrupt(self.index, self.icount)?) };
        self.activity = Activity::Running;
        self.icount += 1;
        self.exert_delivery();
        match vector {
            Some(vector) => Some(self.take_interrupt(bus, vector)),
            None => {
                self.nmi_pending = false;
                Some(self.take_nmi(bus))
            }
        }
    }

    /// Delivers a fault of the instruction at `rip`.
    #[inline(never)]
    fn raise<B: CpuBus>(&mut self, bus: &mut B, fault: Fault) {
        self.single = true;
        self.icount += 1;
        if self.deliver(bus, fault) == Delivered::Ok {
            let _shutdown_shows_in_activity = self.frame_trap(bus);
        }
        self.single = false;
        self.exert_delivery();
    }

    /// The debug trap of a frame that met a data breakpoint as it was pushed: before the handler's first instruction.
    fn frame_trap<B: CpuBus>(&mut self, bus: &mut B) -> Option<Delivered> {
        if self.pending_debug == 0 { None } else { self.debug_trap(bus, false) }
    }

    fn linear_ip(&self) -> u32 {
        (self.rip as u32).wrapping_add(self.derived.base[1] as u32)
    }

    /// The block at `rip`, decoded now if need be. `None`: the instruction must be executed alone (it crosses
    /// its page, or lies outside memory or at the segment's end).
    fn find_block<B: CpuBus>(&mut self, bus: &mut B, code: &mut CodeCache) -> Exec<Option<u32>> {
        let lin = self.linear_ip();
        let mode_bits = self.derived.mode;
        let id = match code.jump(lin, mode_bits, self.tlb.fetch[tlb::slot(lin, self.derived.user)]) {
            Some(id) => id,
            None => match self.look_up_block(bus, code, lin)? {
                Some(id) => id,
                None => return Ok(None),
            },
        };
        let end = self.rip + u64::from(code.blocks[id as usize].bytes);
        let inside = mode_bits & mode::FLAT != 0 || end <= u64::from(self.seg[1].limit) + 1;
        Ok(inside.then_some(id))
    }

    /// The same for what the jump cache does not know.
    #[inline(never)]
    fn look_up_block<B: CpuBus>(&mut self, bus: &mut B, code: &mut CodeCache, lin: u32) -> Exec<Option<u32>> {
        let mode_bits = self.derived.mode;
        if self.rip > u64::from(self.seg[1].limit) {
            return Err(Fault::gp(0));
        }
        let Some(offset) = self.fetch_offset(bus, lin)? else { return Ok(None) };
        let known = code.find(offset, mode_bits);
        let id = known.or_else(|| self.decode_at(bus, code, offset, mode_bits));
        if let Some(id) = id {
            code.set_jump(lin, mode_bits, id);
        }
        Ok(id)
    }

    #[inline(never)]
    fn decode_at<B: CpuBus>(&mut self, bus: &mut B, code: &mut CodeCache, offset: u32, mode_bits: u32) -> Option<u32> {
        self.exert(effort::DECODE);
        // Blocks are short: most of the page need not be copied.
        let mut bytes = [0; 640];
        let n = ((PAGE - u64::from(offset) % PAGE) as usize).min(bytes.len());
        bus.mem().block().read(offset, &mut bytes[..n]);
        let start = code.ops.len();
        let decoded = decode::decode_block(&bytes[..n], mode_bits, self.model, &mut code.ops).ok()?;
        if !bus.mem().page_has_code(offset) {
            // From now on stores to this page must be seen.
            self.tlb.mark_code_page(offset);
        }
        bus.mem_mut().mark_code(offset, decoded.bytes);
        Some(code.insert(offset, mode_bits, start as u32, decoded.bytes, decoded.instructions))
    }

    /// Enters a link between two blocks of one linear page in flat code: it then holds wherever the page is
    /// mapped.
    #[inline(always)]
    pub(super) fn link(&self, code: &CodeCache, mode: u32, (from, slot, rip): (u32, u8, u32), to: u32) -> bool {
        let inside = slot < 2 && mode & mode::FLAT != 0 && rip >> 12 == self.rip as u32 >> 12;
        if inside {
            code.link(from, slot, to);
        }
        inside
    }

    /// The bytes at `rip`, as far as they can be fetched. A fault at the very first missing byte is the
    /// instruction's.
    fn fetch<B: CpuBus>(&mut self, bus: &mut B) -> (u128, usize, Option<Fault>) {
        let lin = self.linear_ip();
        // Mostly all of it lies in one page of memory.
        let whole = MAX_LEN as u32 + 1;
        if lin % PAGE as u32 <= PAGE as u32 - whole && self.rip + u64::from(whole) <= u64::from(self.seg[1].limit) {
            match self.fetch_offset(bus, lin) {
                Ok(Some(offset)) => {
                    // Not copied: that is a call of the browser's, however little it is.
                    return (bus.mem().block().read_u128(offset) << 8 >> 8, MAX_LEN, None);
                }
                Ok(None) => {}
                Err(fault) => return (0, 0, Some(fault)),
            }
        }
        let (mut bytes, mut n) = (0u128, 0);
        while n < MAX_LEN {
            if self.rip + n as u64 > u64::from(self.seg[1].limit) {
                return (bytes, n, Some(Fault::gp(0)));
            }
            let at = lin.wrapping_add(n as u32);
            let byte = match self.fetch_offset(bus, at) {
                Ok(Some(offset)) => bus.mem().block().read_u8(offset),
                Ok(None) => 0xff,
                Err(fault) => return (bytes, n, Some(fault)),
            };
            bytes |= u128::from(byte) << (8 * n);
            n += 1;
        }
        (bytes, n, None)
    }

    /// Decodes the one instruction at `rip`.
    fn decode_here<B: CpuBus>(&mut self, bus: &mut B, code: &mut CodeCache) -> Exec<Op> {
        let lin = self.linear_ip();
        let slot = (lin as usize ^ (lin >> 8) as usize) & 255;
        // With their segments: an access across 4 GiB comes here to be checked against them.
        let mode_bits = self.derived.mode & !mode::FLAT;
        let (bytes, n, fault) = self.fetch(bus);
        if fault.is_none()
            && let Some((b, m, op)) = code.steps.entries[slot]
            && (b, m) == (bytes, mode_bits)
        {
            return Ok(op);
        }
        match decode::decode_one(&bytes.to_le_bytes()[..n], mode_bits, self.model) {
            Some(op) => {
                if fault.is_none() {
                    code.steps.entries[slot] = Some((bytes, mode_bits, op));
                }
                Ok(op)
            }
            None => Err(fault.unwrap_or(Fault::gp(0))),
        }
    }

    /// Executes exactly one instruction, with traps.
    pub fn step<B: CpuBus>(&mut self, bus: &mut B, code: &mut CodeCache) {
        let lin = self.linear_ip();
        if self.debug_enabled() && !self.flag(flags::RF) && self.shadow != Shadow::MovSs {
            self.single = true;
            let hit = self.code_breakpoint(bus, lin);
            self.single = false;
            if hit.is_some() {
                self.icount += 1;
                return;
            }
        }
        match self.decode_here(bus, code) {
            Ok(op) => self.step_op(bus, op),
            Err(fault) => self.raise(bus, fault),
        }
    }

    /// Executes one decoded instruction at `rip`, with traps.
    fn step_op<B: CpuBus>(&mut self, bus: &mut B, op: Op) {
        let trap = self.flag(flags::TF);
        let task = self.tr.selector;
        let translations = self.tlb.generation;
        // A fault leaves as if the instruction had not begun, but the shadow that it ran in is spent.
        self.shadow = Shadow::None;
        self.next_rip = (self.rip as u32).wrapping_add(op.len.into()).into();
        self.single = true;
        let outcome = if op.kind == Kind::Alone { self.exec_alone(bus, &op) } else { self.exec_one(bus, op) };
        match outcome {
            Ok(()) => {
                let unfinished = op.kind == Kind::StringRep && self.next_rip == self.rip;
                self.rip = self.next_rip;
                self.icount += 1;
                if !unfinished && self.tr.selector == task && !Self::loads_rf(op) {
                    self.system_flags &= !flags::RF;
                }
                // A software interrupt's handler is entered before a trap could be taken (SDM vol. 3, 6.9).
                let trap = trap && !self.entered_handler(op);
                if trap || self.pending_debug != 0 {
                    let _shutdown_shows_in_activity = self.debug_trap(bus, trap);
                }
            }
            Err(fault) => {
                self.raise(bus, fault);
            }
        }
        self.single = false;
        self.exert(if self.tlb.generation == translations { effort::ALONE } else { effort::FLUSH });
    }

    /// RF is cleared by every instruction but IRET and those that switch tasks (SDM vol. 3, 18.3.1.1).
    fn loads_rf(op: Op) -> bool {
        op.kind == Kind::Alone && op.system() == System::Iret
    }

    /// Whether the op that retired has entered an interrupt handler. An INTO that was not taken leaves TF alone.
    fn entered_handler(&self, op: Op) -> bool {
        op.kind == Kind::Alone
            && match op.system() {
                System::Int | System::Int1 | System::Int3 => true,
                System::Into => !self.flag(flags::TF),
                _ => false,
            }
    }

    /// One op that is no [`Kind::Alone`], in full.
    fn exec_one<B: CpuBus>(&mut self, bus: &mut B, op: Op) -> Exec {
        let next = self.next_rip as u32;
        if let Flow::Jump(target, _) = execute_full(self, &mut Full { bus, between: false }, &op, next)? {
            self.next_rip = target.into();
        }
        Ok(())
    }
}
