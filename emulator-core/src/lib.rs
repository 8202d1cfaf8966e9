//! The tab86 machine.
pub mod fpu;
