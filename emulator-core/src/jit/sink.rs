//! Wasm instructions, one after the other. The common ones are functions of their own: the emitter writes them in hundreds of
//! places, and while a guest starts the browser optimises what is in each, on the processors that the guest would need.

use std::ops::{Deref, DerefMut};
use wasm_encoder::{BlockType, InstructionSink, MemArg};

/// Appends instructions to a function's body.
pub struct Sink<'a>(InstructionSink<'a>);

impl<'a> Sink<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self(InstructionSink::new(out))
    }
}

impl std::fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

impl<'a> Deref for Sink<'a> {
    type Target = InstructionSink<'a>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Sink<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

macro_rules! outlined {
    ($($name:ident($($arg:ident: $type:ty),*))*) => {
        #[allow(missing_docs, reason = "named after the instructions")]
        impl Sink<'_> {
            $(
                #[inline(never)]
                pub fn $name(&mut self, $($arg: $type),*) {
                    let _ = self.0.$name($($arg),*);
                }
            )*
        }
    };
}

outlined! {
    local_get(n: u32) local_set(n: u32) local_tee(n: u32)
    i32_const(n: i32) i64_const(n: i64)
    i32_load(at: MemArg) i32_load16_u(at: MemArg) i64_load(at: MemArg)
    i32_store(at: MemArg) i32_store16(at: MemArg) i64_store(at: MemArg)
    i32_add() i32_sub() i32_and() i32_or() i32_xor() i32_shl() i32_shr_u() i32_shr_s()
    i32_eq() i32_ne() i32_eqz() i32_lt_u() i32_lt_s()
    i64_or() i64_shl() i64_shr_u() i64_ne() i64_extend_i32_u() i32_wrap_i64()
    block(t: BlockType) loop_(t: BlockType) if_(t: BlockType) end()
    br(label: u32) br_if(label: u32) call(function: u32)
}
