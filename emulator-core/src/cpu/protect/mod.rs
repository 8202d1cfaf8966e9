//! Protection: segment loads, far transfers, interrupt delivery and task switches (SDM vol. 3, chapters 5 to 7).
//!
//! Every operation checks everything before it changes anything, in the order of the manual's operation
//! sections (SDM vol. 2), so that a fault leaves the instruction undone. The one exception is the manual's:
//! a task switch that fails after its commit point faults in the new task.
//!
//! Instructions start with `rip` at themselves and `next_rip` behind them; transfers write `next_rip`. What
//! happens between instructions ([`Cpu::deliver`](crate::cpu::Cpu::deliver), `take_interrupt`, `take_nmi`,
//! `code_breakpoint`, `debug_trap`) starts from `rip` and leaves both at the handler. RF belongs to the
//! interpreter: it clears RF as an instruction begins (having skipped the breakpoint check if it was set),
//! and sets it before it takes an interrupt between the iterations of a REP.

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
