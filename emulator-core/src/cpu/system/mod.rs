//! System instructions: control and debug registers, MSRs, CPUID, port I/O, SYSENTER (SDM vol. 2 and 3).

mod control;
mod cpuid;
pub mod debug;
mod fast_call;
mod io;
mod msr;
mod tables;

pub use cpuid::feature;

#[cfg(test)]
mod tests;

use crate::cpu::fault::{Exec, Fault};
use crate::cpu::state::Cpu;

impl Cpu {
    /// #GP(0) above privilege level 0.
    pub fn require_ring0(&self) -> Exec {
        if self.cpl == 0 { Ok(()) } else { Err(Fault::gp(0)) }
    }
}
