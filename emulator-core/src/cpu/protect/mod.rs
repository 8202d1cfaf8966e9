//! Protection: segment loads, far transfers, interrupt delivery and task switches (SDM vol. 3, chapters 5 to 7).
//!
//! Every operation checks everything before it changes anything, in the order of the manual's operation
//! sections (SDM vol. 2), so that a fault leaves the instruction undone. The one exception is the manual's:
//! a task switch that fails after its commit point faults in the new task.

mod descriptor;
mod flag_ops;
mod gate;
mod iret;
mod load;
mod query;
mod stack;
mod task;
mod transfer;
mod vm86;

#[cfg(test)]
mod tests;

pub use gate::{Delivered, Source};
pub(in crate::cpu) use vm86::IO_MAP_BASE;
