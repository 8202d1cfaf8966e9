//! How the workers of a page share its machines.
//!
//! A page has a few workers and perhaps many machines (VMs). Every VM's whole state lies in its own shared memory, so
//! any worker can run any VM's next slice. The [`RunQueue`] lies in one more shared memory; workers and page call it
//! at the same time, without locks, so that a worker that dies in the middle leaves nothing locked. Input and output of a
//! VM cross in [`Ring`]s in its memory.
//!
//! The crate knows neither wasm nor JavaScript: it is tested natively with threads, and model-checked with loom (the
//! README says how).

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod queue;
mod ring;
mod share;
mod sync;
mod word;

pub use queue::{Next, RunQueue, Sleep};
pub use ring::{MAX_PAYLOAD, Ring};
pub use share::{Priority, SLICE_US, STARVATION_BOUND_US};

/// VMs that a queue has room for.
#[cfg(not(loom))]
pub const VMS: usize = 64;
/// Workers that a queue has room for.
#[cfg(not(loom))]
pub const WORKERS: usize = 16;
/// VMs in a model.
#[cfg(loom)]
pub const VMS: usize = 2;
/// Workers in a model.
#[cfg(loom)]
pub const WORKERS: usize = 2;
