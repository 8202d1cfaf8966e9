//! The fast tier's host: makes functions of the core's modules in this worker's function table, and calls them.
//!
//! The modules' bytes stay in the machine's memory. Each worker has a table of its own, so before a slice it makes the
//! functions that its table lacks ([`link`]); everything that the core knows of a function is its slot.
#![allow(unsafe_code, reason = "calling emitted code by its slot; each block states its invariant")]

use emulator_core::jit::{Entry, JitHost, Services};
use js_sys::{Function, Object, Reflect, Uint8Array, WebAssembly};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use wasm_bindgen::{JsCast, JsValue};

/// Modules that regions of this machine run in.
static MODULES: Mutex<Modules> = Mutex::new(Modules { first: 0, modules: Vec::new() });

struct Modules {
    /// Number of the first one that is kept; numbers are never used again.
    first: u32,
    modules: Vec<Module>,
}

struct Module {
    bytes: Vec<u8>,
    /// It fills slots below this one.
    end: u32,
}

impl Modules {
    fn next(&self) -> u32 {
        self.first.wrapping_add(self.modules.len() as u32)
    }
}

/// Makes the functions of the modules from number `have` on. Returns the number of the next one.
pub fn link(have: u32) -> u32 {
    let Ok(modules) = MODULES.try_lock() else { return have };
    let skip = have.saturating_sub(modules.first) as usize;
    for module in modules.modules.iter().skip(skip) {
        // What worked in another worker works here; a failure would show as a trap of the first call.
        let _ = instantiate(module);
    }
    modules.next()
}

fn instantiate(module: &Module) -> Result<(), JsValue> {
    let table: WebAssembly::Table = wasm_bindgen::function_table().unchecked_into();
    if table.length() < module.end {
        // In steps: growing one by one copies the table each time.
        table.grow((module.end - table.length()).max(1024))?;
    }
    let environment = Object::new();
    let set = |name: &str, value: &JsValue| Reflect::set(&environment, &name.into(), value);
    set("memory", &wasm_bindgen::memory())?;
    set("table", &table)?;
    for (name, slot) in [
        ("load", load as extern "C" fn(u32, u32) -> i64 as usize),
        ("store", store as extern "C" fn(u32, u32, u32) -> u32 as usize),
        ("modify", modify as extern "C" fn(u32, u32) -> i64 as usize),
        ("execute", execute as extern "C" fn(u32, u32) -> u32 as usize),
        ("condition", condition as extern "C" fn(u32) -> u32 as usize),
        ("flags", flags as extern "C" fn() -> u32 as usize),
    ] {
        let function: Function = table.get(slot as u32)?;
        set(name, &function)?;
    }
    for (name, _, slot) in emulator_core::fpu::x87::direct::functions() {
        let function: Function = table.get(slot as u32)?;
        set(name, &function)?;
    }
    let imports = Object::new();
    Reflect::set(&imports, &"e".into(), &environment)?;
    let compiled = WebAssembly::Module::new(&Uint8Array::from(module.bytes.as_slice()))?;
    WebAssembly::Instance::new(&compiled, &imports)?;
    Ok(())
}

/// Where the services of the code that runs are (the address of a reference to them), or 0.
static SERVICES: AtomicUsize = AtomicUsize::new(0);

/// Does something with the services of the code that runs.
fn with<R>(work: impl FnOnce(&mut dyn Services) -> R) -> R {
    let services = SERVICES.load(Ordering::Relaxed) as *mut &mut dyn Services;
    // SAFETY: only emitted code calls the functions below, and it only runs inside `enter`, which has put the address of
    // its own exclusive reference there and does not touch it until that code returns. One thread at a time runs a machine.
    unsafe { work(*services) }
}

extern "C" fn load(lin: u32, size: u32) -> i64 {
    with(|services| services.load(lin, size))
}

extern "C" fn store(lin: u32, size: u32, value: u32) -> u32 {
    with(|services| u32::from(!services.store(lin, size, value)))
}

extern "C" fn modify(lin: u32, size: u32) -> i64 {
    with(|services| services.modify(lin, size))
}

extern "C" fn execute(number: u32, rip: u32) -> u32 {
    with(|services| services.execute(number, rip))
}

extern "C" fn condition(cc: u32) -> u32 {
    with(|services| services.condition(cc).into())
}

extern "C" fn flags() -> u32 {
    with(|services| services.flags())
}

/// A region's function.
type Region = extern "C" fn(u32, u32, u32, u32, u32, u32, u32, u32, u32, u32) -> u32;

/// The host of the machine in this memory.
#[derive(Debug)]
pub struct TableHost {
    first: u32,
}

impl TableHost {
    /// Regions go behind the functions that the module itself has in its table.
    pub fn new() -> Self {
        let table: WebAssembly::Table = wasm_bindgen::function_table().unchecked_into();
        Self { first: table.length() }
    }
}

impl JitHost for TableHost {
    fn first_slot(&self) -> u32 {
        self.first
    }

    fn shared(&self) -> bool {
        cfg!(target_feature = "atomics")
    }

    fn add(&mut self, bytes: Vec<u8>, end: u32) -> bool {
        let module = Module { bytes, end };
        let made = instantiate(&module).is_ok();
        if made && let Ok(mut modules) = MODULES.try_lock() {
            modules.modules.push(module);
        }
        made
    }

    fn clear(&mut self) {
        if let Ok(mut modules) = MODULES.try_lock() {
            modules.first = modules.next();
            modules.modules.clear();
        }
    }

    fn enter(&mut self, entry: &Entry, services: &mut dyn Services) -> u32 {
        let mut services = services;
        SERVICES.store(&raw mut services as usize, Ordering::Relaxed);
        // SAFETY: on wasm a function pointer is a slot of the function table. The core only enters slots that a module
        // filled, all of which have this type; the engine checks that once more and traps otherwise.
        let region = unsafe { std::mem::transmute::<usize, Region>(entry.slot as usize) };
        let [r0, r1, r2, r3, r4, r5, r6, r7] = entry.registers;
        let why = region(entry.place, entry.fuel, r0, r1, r2, r3, r4, r5, r6, r7);
        SERVICES.store(0, Ordering::Relaxed);
        why
    }
}
