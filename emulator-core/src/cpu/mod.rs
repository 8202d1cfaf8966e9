//! The CPU: architectural state, memory access, decoder and interpreter.
//!
//! One [`Cpu`] is one vCPU and owns only its own registers and TLBs. Faults are values ([`Fault`]):
//! an instruction either retires whole or leaves no trace but its fault.

pub mod access;
mod alone;
pub mod cache;
pub mod decode;
mod effort;
mod execute;
pub mod fault;
pub mod flags;
mod float;
mod full;
mod fuse;
pub mod integer;
pub mod interp;
pub mod op;
mod operand;
mod outline;
mod plain;
pub mod protect;
mod quiet;
pub mod run;
pub mod segment;
pub mod simd;
mod stack;
pub mod state;
mod string;
pub mod system;
#[cfg(test)]
#[allow(missing_docs, reason = "test support")]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod tlb;

pub use fault::{Exec, Fault};
pub use protect::{Delivered, Source};
pub use segment::{Seg, Segment};
pub use state::Cpu;
