//! Tests of protection, by the sections of the manual (SDM vol. 2 and 3).

mod hostile;
mod interrupts;
mod returns;
mod segments;
mod tasks;
mod transfers;
mod vm86;
