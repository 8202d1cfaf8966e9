//! MMX and SSE.

use super::fault::{Exec, Fault};
use super::op::Op;
use super::state::Cpu;
use crate::bus::CpuBus;

impl Cpu {
    /// Executes a [`Kind::Simd`](super::op::Kind::Simd) op.
    pub(super) fn exec_simd<B: CpuBus>(&mut self, _bus: &mut B, _op: &Op) -> Exec {
        Err(Fault::UD)
    }
}
