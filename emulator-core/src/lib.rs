//! The tab86 machine: an x86 PC as a library that knows no browser and no operating system.
//!
//! Arrows run one way: `machine → {cpu, devices} → {bus, mem, time}`. See ARCHITECTURE.md for the map.

pub mod bus;
pub mod cpu;
pub mod devices;
pub mod fpu;
#[cfg(all(test, target_arch = "x86_64"))]
mod host_cpu;
pub mod jit;
pub mod machine;
pub mod mem;
pub mod time;
