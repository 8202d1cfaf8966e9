//! tab86 for JavaScript: an instance of this module is one PC, in a memory of its own. Several workers may each have an
//! instance over that same memory; one at a time calls it. The page sees the machine through the words and rings that
//! `header` and `rings` describe. The same module over the pool's memory is its run queue (`queue`).

mod blocks;
mod config;
mod error;
mod header;
#[cfg(target_arch = "wasm32")]
mod jit;
mod network;
mod pace;
#[cfg(target_arch = "wasm32")]
mod pages;
mod queue;
mod rings;
mod vm;

use error::js_error;
use std::sync::{Mutex, TryLockError};
use vm::Vm;
use wasm_bindgen::prelude::*;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: pages::PageAllocator = pages::PageAllocator::new();

/// The last panic's message: the trap that follows it says nothing.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// The machine of this memory. The lock is never waited for: the run queue lets one worker at a time in, and a machine
/// that failed in the middle of a slice stays locked for ever.
static MACHINE: Mutex<Option<Vm>> = Mutex::new(None);

fn with<R>(work: impl FnOnce(&mut Vm) -> R) -> Result<R, JsValue> {
    match MACHINE.try_lock() {
        Ok(mut machine) => match machine.as_mut() {
            Some(machine) => Ok(work(machine)),
            None => Err(js_error("internal", "The machine was not created.")),
        },
        Err(TryLockError::WouldBlock) => Err(js_error("crashed", "The machine failed and cannot go on.")),
        Err(TryLockError::Poisoned(_)) => Err(js_error("crashed", "The machine failed and cannot go on.")),
    }
}

/// Builds the machine from a `MachineSetup` (`protocol.js`). Returns the header's address.
///
/// # Errors
/// An `Error` with a `code` when the setup makes no machine.
#[wasm_bindgen]
pub fn create(setup: &JsValue) -> Result<usize, JsValue> {
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut message) = PANIC.lock() {
            *message = info.to_string();
        }
        console_error_panic_hook::hook(info);
    }));
    let vm = Vm::new(setup)?;
    let header = vm.header_ptr();
    match MACHINE.try_lock() {
        Ok(mut machine) => *machine = Some(vm),
        Err(_) => return Err(js_error("internal", "This memory has a machine already.")),
    }
    Ok(header)
}

/// Address of the header, for an instance over a memory that has a machine.
#[wasm_bindgen]
pub fn header() -> Result<usize, JsValue> {
    with(|vm| vm.header_ptr())
}

/// Runs a slice; `settle` must follow. Times are the pool's, in milliseconds.
///
/// # Errors
/// When there is no machine, or it failed; so for all functions here.
#[wasm_bindgen]
pub fn run(now: f64) -> Result<(), JsValue> {
    with(|vm| vm.run(now))
}

/// Runs at most so many instructions, whatever the time: for tools that follow a deterministic machine step by step.
#[wasm_bindgen]
pub fn run_exactly(instructions: u32) -> Result<(), JsValue> {
    with(|vm| vm.run_exactly(u64::from(instructions)))
}

/// Accounts for the slice that ended now. Returns a number of `AFTER` (`protocol.js`) with flags.
#[wasm_bindgen]
pub fn settle(now: f64) -> Result<u32, JsValue> {
    with(|vm| vm.settle(now))
}

/// Makes the compiled functions of the machine that this instance lacks, from module number `have` on. Returns the number
/// of the next module.
#[cfg(target_arch = "wasm32")]
#[wasm_bindgen]
pub fn link(have: u32) -> u32 {
    jit::link(have)
}

/// Registers, flags and counts, for tools that compare runs.
#[wasm_bindgen]
pub fn registers() -> Result<Vec<u64>, JsValue> {
    with(|vm| vm.registers())
}

/// Figures of the fast tier (`Counters` in the core, in order), for tools.
#[wasm_bindgen]
pub fn jit_counters() -> Result<Vec<u64>, JsValue> {
    with(|vm| vm.jit_counters())
}

/// When a parked machine wants to run, or infinity.
#[wasm_bindgen]
pub fn wake_at() -> Result<f64, JsValue> {
    with(|vm| vm.wake_at())
}

/// The machine's state, a place in `STATES` (`protocol.js`).
#[wasm_bindgen]
pub fn report_state() -> Result<u32, JsValue> {
    with(Vm::report_state)
}

/// The value that the guest wrote to the debug exit, if that ended the machine.
#[wasm_bindgen]
pub fn exit_code() -> Result<Option<u32>, JsValue> {
    with(|vm| vm.exit_code())
}

/// Starts the machine, or lets it go on after a pause.
#[wasm_bindgen]
pub fn start(now: f64) -> Result<(), JsValue> {
    with(|vm| vm.start(now))
}

/// Pauses the machine.
#[wasm_bindgen]
pub fn pause(now: f64) -> Result<(), JsValue> {
    with(|vm| vm.pause(now))
}

/// Presses the reset button.
#[wasm_bindgen]
pub fn reset(now: f64) -> Result<(), JsValue> {
    with(|vm| vm.reset(now))
}

/// This memory is a copy of another machine's.
#[wasm_bindgen]
pub fn become_clone() -> Result<(), JsValue> {
    with(Vm::become_clone)
}

/// A hash of all guest RAM, as `tab86 run --stats` prints it.
#[wasm_bindgen]
pub fn ram_hash() -> Result<String, JsValue> {
    with(|vm| vm.ram_hash())
}

/// Copies physical memory, as devices see it.
#[wasm_bindgen]
pub fn read_memory(address: f64, length: usize) -> Result<Vec<u8>, JsValue> {
    with(|vm| vm.read_memory(address, length))
}

/// The last panic's message, empty when there was none.
#[wasm_bindgen]
pub fn panic_message() -> String {
    PANIC.try_lock().map(|message| message.clone()).unwrap_or_default()
}
