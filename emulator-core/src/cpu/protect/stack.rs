//! The stack: pushes and pops that honour SS.B, and multi-word frames that are checked before they are stored.

use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::segment::{Seg, Segment};
use crate::cpu::state::{Cpu, RSP};
use crate::cpu::tlb;

/// A gate with 31 parameters pushes 35 words.
const FRAME_MAX: usize = 36;

/// Words to push together, first pushed first.
pub(in crate::cpu) struct Frame {
    words: [u32; FRAME_MAX],
    len: usize,
    wide: bool,
}

impl Frame {
    /// An empty frame of 32-bit (`wide`) or 16-bit words.
    pub fn new(wide: bool) -> Self {
        Self { words: [0; FRAME_MAX], len: 0, wide }
    }

    /// Adds a word.
    pub fn push(&mut self, word: u32) -> &mut Self {
        if let Some(slot) = self.words.get_mut(self.len) {
            *slot = word;
            self.len += 1;
        }
        self
    }

    fn word_size(&self) -> u32 {
        if self.wide { 4 } else { 2 }
    }
}

/// A stack to push on: the current one, or an inner level's that is not loaded yet.
#[derive(Debug, Clone, Copy)]
pub(in crate::cpu) struct Stack {
    /// Stack segment.
    pub segment: Segment,
    /// Stack pointer; only its low 16 bits count when the segment is not big.
    pub sp: u32,
    /// Whether its pages are accessed with user privilege.
    pub user: bool,
}

impl Stack {
    fn mask(&self) -> u32 {
        sp_mask(&self.segment)
    }

    /// The pointer after a change of the counted bits only.
    fn moved(&self, sp: u32) -> u32 {
        let mask = self.mask();
        self.sp & !mask | sp & mask
    }
}

fn sp_mask(segment: &Segment) -> u32 {
    if segment.big() { u32::MAX } else { 0xffff }
}

impl Cpu {
    /// Bits of ESP that the stack uses.
    #[must_use]
    pub fn sp_mask(&self) -> u32 {
        sp_mask(self.segment(Seg::Ss))
    }

    /// The stack pointer: ESP or SP.
    #[must_use]
    pub fn sp(&self) -> u32 {
        self.reg32(RSP) & self.sp_mask()
    }

    /// Writes ESP or SP, whichever the stack uses.
    pub fn set_sp(&mut self, value: u32) {
        let mask = self.sp_mask();
        self.set_reg32(RSP, self.reg32(RSP) & !mask | value & mask);
    }

    /// Pushes a 16-bit word.
    pub fn push16<B: CpuBus>(&mut self, bus: &mut B, value: u16) -> Exec {
        let sp = self.sp().wrapping_sub(2) & self.sp_mask();
        self.write16(bus, Seg::Ss as u8, sp, value)?;
        self.set_sp(sp);
        Ok(())
    }

    /// Pushes a 32-bit word.
    pub fn push32<B: CpuBus>(&mut self, bus: &mut B, value: u32) -> Exec {
        let sp = self.sp().wrapping_sub(4) & self.sp_mask();
        self.write32(bus, Seg::Ss as u8, sp, value)?;
        self.set_sp(sp);
        Ok(())
    }

    /// Pops a 16-bit word.
    pub fn pop16<B: CpuBus>(&mut self, bus: &mut B) -> Exec<u16> {
        let sp = self.sp();
        let value = self.read16(bus, Seg::Ss as u8, sp)?;
        self.set_sp(sp.wrapping_add(2));
        Ok(value)
    }

    /// Pops a 32-bit word.
    pub fn pop32<B: CpuBus>(&mut self, bus: &mut B) -> Exec<u32> {
        let sp = self.sp();
        let value = self.read32(bus, Seg::Ss as u8, sp)?;
        self.set_sp(sp.wrapping_add(4));
        Ok(value)
    }

    /// Reads the word `skip` bytes above the top of the stack without popping.
    pub(in crate::cpu) fn peek<B: CpuBus>(&mut self, bus: &mut B, skip: u32, wide: bool) -> Exec<u32> {
        let at = self.sp().wrapping_add(skip) & self.sp_mask();
        if wide { self.read32(bus, Seg::Ss as u8, at) } else { Ok(self.read16(bus, Seg::Ss as u8, at)?.into()) }
    }

    /// Releases `bytes` of the stack.
    pub(in crate::cpu) fn drop_stack(&mut self, bytes: u32) {
        self.set_sp(self.sp().wrapping_add(bytes));
    }

    /// The stack as it is now.
    pub(in crate::cpu) fn current_stack(&self) -> Stack {
        Stack { segment: *self.segment(Seg::Ss), sp: self.reg32(RSP), user: self.cpl == 3 }
    }

    /// Checks that a frame can be pushed: limit (`full` otherwise) and pages. Returns the new stack pointer.
    pub(in crate::cpu) fn check_frame<B: CpuBus>(
        &mut self,
        bus: &mut B,
        frame: &Frame,
        stack: &Stack,
        full: Fault,
    ) -> Exec<u32> {
        let (size, mask) = (frame.word_size(), stack.mask());
        let total = size * frame.len as u32;
        let top = stack.sp & mask;
        let bottom = top.wrapping_sub(total) & mask;
        let base = stack.segment.base as u32;
        if !stack.segment.present() {
            return Err(full);
        }
        if stack.user {
            self.check_alignment(base.wrapping_add(bottom), size)?;
        }
        if total > 0 && bottom <= top.wrapping_sub(1) & mask && stack.segment.contains(bottom.into(), total.into()) {
            // No word wraps: one check for the whole range.
            let lin = base.wrapping_add(bottom);
            let entry = self.tlb.write[tlb::slot(lin, stack.user.into())];
            if tlb::hit(entry, lin, total).is_none() {
                self.check_write(bus, lin, total, stack.user)?;
            }
            return Ok(stack.moved(bottom));
        }
        let mut sp = top;
        for _ in 0..frame.len {
            sp = sp.wrapping_sub(size) & mask;
            if !stack.segment.contains(sp.into(), size.into()) {
                return Err(full);
            }
            self.check_write(bus, base.wrapping_add(sp), size, stack.user)?;
        }
        Ok(stack.moved(sp))
    }

    /// Stores a frame that [`check_frame`](Self::check_frame) has passed. Data breakpoints on it trap afterwards.
    pub(in crate::cpu) fn store_frame<B: CpuBus>(&mut self, bus: &mut B, frame: &Frame, stack: &Stack) -> Exec {
        let (size, mask) = (frame.word_size(), stack.mask());
        let mut sp = stack.sp & mask;
        for &word in frame.words.iter().take(frame.len) {
            sp = sp.wrapping_sub(size) & mask;
            let lin = (stack.segment.base as u32).wrapping_add(sp);
            match (frame.wide, stack.user) {
                (true, true) => self.write_lin32(bus, lin, word)?,
                (true, false) => self.sys_write32(bus, lin, word)?,
                (false, true) => self.write_lin16(bus, lin, word as u16)?,
                (false, false) => self.sys_write16(bus, lin, word as u16)?,
            }
        }
        Ok(())
    }
}
