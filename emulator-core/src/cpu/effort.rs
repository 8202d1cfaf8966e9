//! How much work a run has done, for hosts that share out a processor's time.
//!
//! Instructions cost a host very different amounts of work: a portion of a REP instruction moves 16 KiB or stores 4,096
//! times to a device, and still counts as one. A host that gives a machine so many instructions would wait for a guest
//! of such ones a thousand times longer than for others. So what is known to be slow adds to the *effort*, and a run
//! may end by that too. Nothing that the guest can see depends on it.

use super::state::Cpu;

/// An instruction that runs alone (device access, system instruction).
pub const ALONE: u64 = 24;
/// Dropping all translations.
pub const FLUSH: u64 = 400;
/// Decoding a block, and dropping a page's blocks.
pub const DECODE: u64 = 200;
/// Delivering an interrupt or a fault.
const DELIVER: u64 = 24;

/// More than any one instruction: a REP instruction's portion of device accesses.
const MOST: u64 = 1 << 17;
/// Deliveries that a run of one instruction may have.
const SPARE: u64 = 64;

/// Work beyond one unit for each retired instruction.
#[derive(Debug, Clone)]
pub struct Effort {
    extra: u64,
    /// Effort and instruction count together end a run when they reach this.
    end: u64,
    /// What delivering an interrupt or a fault adds.
    delivery: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { extra: 0, end: u64::MAX, delivery: DELIVER }
    }
}

impl Cpu {
    /// Allows so much work from now on, in units of a simple instruction.
    pub fn limit_effort(&mut self, units: u64) {
        self.effort = Effort { extra: 0, end: self.icount.saturating_add(units), delivery: DELIVER };
    }

    /// Allows `instructions`, however long they take, and a few more deliveries of faults and interrupts than that: a
    /// handler that faults at once, or is interrupted at once, retires nothing and would keep the host for ever.
    pub fn limit_deliveries(&mut self, instructions: u64) {
        let end = self.icount.saturating_add(instructions.saturating_add(SPARE).saturating_mul(MOST));
        self.effort = Effort { extra: 0, end, delivery: MOST };
    }

    #[inline]
    pub(super) fn exert(&mut self, units: u64) {
        self.effort.extra += units;
    }

    pub(super) fn exert_delivery(&mut self) {
        self.exert(self.effort.delivery);
    }

    /// Whether all work is done that is allowed.
    #[inline]
    #[must_use]
    pub fn exhausted(&self) -> bool {
        self.icount.saturating_add(self.effort.extra) >= self.effort.end
    }
}
