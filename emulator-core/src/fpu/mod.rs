//! Floating point: the x87 unit with its 80-bit arithmetic, and the IEEE helpers SSE uses.
//!
//! Pure integer code but for the fast paths of [`ieee`] and the first digits of a root in [`wide`], where the host's
//! binary32 and binary64 operations on ordinary numbers are exact by the standard; [`approx`] has RCP and RSQRT. Layers, each knowing only those above:
//! [`wide`] (integer kernels), [`f80`] ([`fast`] is its usual case), [`convert`], [`misc`] and [`transcendental`] (values and
//! their exceptions), [`op`] (decoding) and [`x87`] (the register
//! stack; dispatch and memory images in files of their own).

pub mod approx;
pub mod convert;
pub mod f80;
pub mod fast;
pub mod ieee;
pub mod misc;
pub mod op;
mod tables;
pub mod transcendental;
pub mod wide;
pub mod x87;

#[cfg(all(test, target_arch = "x86_64"))]
mod host_sse_tests;
#[cfg(all(test, target_arch = "x86_64"))]
mod host_tests;

pub use f80::F80;
pub use op::{Decoded, Operand, X87Op, decode};
pub use x87::{ImageMode, StoreValue, X87};
