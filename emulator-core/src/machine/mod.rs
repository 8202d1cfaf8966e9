//! The machine: what holds the board, the CPUs and the loaders together.

pub mod loader;
