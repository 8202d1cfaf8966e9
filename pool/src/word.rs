//! The word of a VM in the run queue: all of the protocol's state, so that every step is one compare-and-swap.
//!
//! ```text
//!  31           16 15       8    7      6      5      4   3        0
//! ┌───────────────┬──────────┬───────┬──────┬──────┬──────┬──────────┐
//! │ generation    │ worker   │ ASKED │ HOLD │ STOP │ WAKE │ state    │
//! └───────────────┴──────────┴───────┴──────┴──────┴──────┴──────────┘
//! ```
//!
//! The worker is the one that runs the VM, or that ran it last.

/// A word's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u32);

/// What a VM is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// There is no VM.
    Free = 0,
    /// It ended, or was never started: only [`resume`](crate::RunQueue::resume) makes it run.
    Stopped = 1,
    /// It sleeps until its deadline or a wake-up.
    Parked = 2,
    /// It wants to run.
    Ready = 3,
    /// A worker runs it.
    Running = 4,
}

/// A wake-up came while the VM ran: it must not park.
pub const WAKE: u32 = 1 << 4;
/// The VM is paused: nobody may pick it.
pub const STOP: u32 = 1 << 5;
/// Somebody wants the VM for himself, between two slices: nobody may pick it.
pub const HOLD: u32 = 1 << 6;
/// Input came while the VM ran: the slice need not have seen it.
pub const ASKED: u32 = 1 << 7;

const STATE: u32 = 0xf;
const WORKER: u32 = 0xff << 8;
const GENERATION: u32 = 0xffff << 16;

impl Word {
    pub fn state(self) -> State {
        match self.0 & STATE {
            1 => State::Stopped,
            2 => State::Parked,
            3 => State::Ready,
            4 => State::Running,
            _ => State::Free,
        }
    }

    pub fn worker(self) -> usize {
        ((self.0 & WORKER) >> 8) as usize
    }

    pub fn generation(self) -> u32 {
        self.0 >> 16
    }

    pub fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    pub fn to(self, state: State) -> Self {
        Self(self.0 & !STATE | state as u32)
    }

    pub fn with(self, flag: u32) -> Self {
        Self(self.0 | flag)
    }

    pub fn without(self, flag: u32) -> Self {
        Self(self.0 & !flag)
    }

    pub fn of(self, worker: usize) -> Self {
        Self(self.0 & !WORKER | (worker as u32) << 8 & WORKER)
    }

    /// The word of the next VM in this place, without flags.
    pub fn renewed(self, state: State) -> Self {
        Self((self.0 & GENERATION).wrapping_add(1 << 16) | state as u32)
    }
}
