//! The fast tier's host: makes functions of the core's modules in a function table of this worker, and calls them.
//!
//! The modules' bytes stay in the machine's memory. Each worker has a table of its own, so before a slice it makes the
//! functions that its table lacks ([`link`]); everything that the core knows of a function is its slot.
//!
//! Regions are not in the module's own table, because the browser keeps every instance that imports a table for as long as that
//! lives. They have one that goes when all of them are dropped, and are entered through one function in the module's own
//! table, which calls on ([`emulator_core::jit::entry`]).
#![allow(unsafe_code, reason = "calling emitted code by its slot; each block states its invariant")]

use emulator_core::jit::{Entry, JitHost, Services};
use js_sys::{Array, Function, Object, Reflect, Uint8Array, WebAssembly};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use wasm_bindgen::{JsCast, JsValue};

/// Modules that regions of this machine run in.
static MODULES: Mutex<Modules> = Mutex::new(Modules { generation: 0, entry: 0, first: 0, modules: Vec::new() });

struct Modules {
    /// How often all were dropped.
    generation: u32,
    /// The slot of the module's own table through which regions are entered.
    entry: u32,
    /// Number of the first one that is kept; numbers are never used again.
    first: u32,
    modules: Vec<Module>,
}

struct Module {
    bytes: Vec<u8>,
    /// It fills slots below this one.
    end: u32,
}

/// The first slot of a region.
const FIRST_SLOT: u32 = 1;
/// Slots that a table has at first, and grows by at least: growing one by one copies the table each time.
const SLOTS: u32 = 1024;
/// Where the module's own table, as JavaScript sees it, holds this worker's generation and table of regions: they belong to
/// the instance, and nothing in the machine's memory does.
const KEPT: &str = "regions";

impl Modules {
    fn next(&self) -> u32 {
        self.first.wrapping_add(self.modules.len() as u32)
    }

    /// The table of this worker, if it is of this generation; one of another is forgotten.
    fn table(&self) -> Option<WebAssembly::Table> {
        let kept = Reflect::get(&wasm_bindgen::function_table(), &KEPT.into()).ok()?.dyn_into::<Array>().ok()?;
        if kept.get(0).as_f64() == Some(self.generation.into()) {
            return Some(kept.get(1).unchecked_into());
        }
        self.forget();
        None
    }

    /// Lets this worker's table go, with all functions in it. That is a matter of memory only: it may fail.
    fn forget(&self) {
        let own: WebAssembly::Table = wasm_bindgen::function_table().unchecked_into();
        let _ = Reflect::set(&own, &KEPT.into(), &JsValue::UNDEFINED);
        // What is left in the slot holds the table.
        if own.length() > self.entry {
            let _ = own.set_raw(self.entry, &JsValue::NULL);
        }
    }

    /// A table for this worker, and the function through which it is entered.
    fn new_table(&self) -> Result<WebAssembly::Table, JsValue> {
        let own: WebAssembly::Table = wasm_bindgen::function_table().unchecked_into();
        let description = Object::new();
        Reflect::set(&description, &"element".into(), &"anyfunc".into())?;
        Reflect::set(&description, &"initial".into(), &SLOTS.into())?;
        let table = WebAssembly::Table::new(&description)?;
        let environment = Object::new();
        Reflect::set(&environment, &"table".into(), &table)?;
        let exports = instance(&emulator_core::jit::entry(), &environment)?.exports();
        let enter: Function = Reflect::get(&exports, &"enter".into())?.dyn_into()?;
        if own.length() <= self.entry {
            own.grow(self.entry + 1 - own.length())?;
        }
        own.set(self.entry, &enter)?;
        Reflect::set(&own, &KEPT.into(), &Array::of2(&self.generation.into(), &table))?;
        Ok(table)
    }
}

/// Makes the functions of the modules from number `have` on, all of them when others were dropped since. Returns the number
/// of the next one.
pub fn link(have: u32) -> u32 {
    let Ok(modules) = MODULES.try_lock() else { return have };
    let known = modules.table();
    let skip = if known.is_some() { have.saturating_sub(modules.first) as usize } else { 0 };
    if modules.modules.len() > skip
        && let Some(table) = known.or_else(|| modules.new_table().ok())
    {
        for module in modules.modules.iter().skip(skip) {
            // What worked in another worker works here; a failure would show as a trap of the first call.
            let _ = fill(&table, module);
        }
    }
    modules.next()
}

/// An instance of a module with imports from `e`.
fn instance(bytes: &[u8], environment: &Object) -> Result<WebAssembly::Instance, JsValue> {
    let imports = Object::new();
    Reflect::set(&imports, &"e".into(), environment)?;
    WebAssembly::Instance::new(&WebAssembly::Module::new(&Uint8Array::from(bytes))?, &imports)
}

/// Puts a module's functions into the table.
fn fill(table: &WebAssembly::Table, module: &Module) -> Result<(), JsValue> {
    if table.length() < module.end {
        table.grow((module.end - table.length()).max(SLOTS))?;
    }
    let own: WebAssembly::Table = wasm_bindgen::function_table().unchecked_into();
    let environment = Object::new();
    let set = |name: &str, value: &JsValue| Reflect::set(&environment, &name.into(), value);
    set("memory", &wasm_bindgen::memory())?;
    set("table", table)?;
    for (name, slot) in [
        ("load", load as extern "C" fn(u32, u32) -> i64 as usize),
        ("store", store as extern "C" fn(u32, u32, u32) -> u32 as usize),
        ("modify", modify as extern "C" fn(u32, u32) -> i64 as usize),
        ("execute", execute as extern "C" fn(u32, u32) -> u32 as usize),
        ("condition", condition as extern "C" fn(u32) -> u32 as usize),
        ("flags", flags as extern "C" fn() -> u32 as usize),
    ] {
        let function: Function = own.get(slot as u32)?;
        set(name, &function)?;
    }
    for (name, _, slot) in emulator_core::fpu::x87::direct::functions() {
        let function: Function = own.get(slot as u32)?;
        set(name, &function)?;
    }
    instance(&module.bytes, &environment)?;
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

/// The function through which regions are entered: a slot of their table, and the region's parameters.
type Enter = extern "C" fn(u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32) -> u32;

/// The host of the machine in this memory.
#[derive(Debug)]
pub struct TableHost {
    entry: u32,
}

impl TableHost {
    /// Regions are entered behind the functions that the module itself has in its table, which is the same in every worker.
    pub fn new() -> Self {
        let own: WebAssembly::Table = wasm_bindgen::function_table().unchecked_into();
        let entry = own.length();
        if let Ok(mut modules) = MODULES.try_lock() {
            modules.entry = entry;
        }
        Self { entry }
    }
}

impl JitHost for TableHost {
    fn first_slot(&self) -> u32 {
        FIRST_SLOT
    }

    fn shared(&self) -> bool {
        cfg!(target_feature = "atomics")
    }

    fn add(&mut self, bytes: Vec<u8>, end: u32) -> bool {
        let Ok(mut modules) = MODULES.try_lock() else { return false };
        let module = Module { bytes, end };
        let table = modules.table().map_or_else(|| modules.new_table(), Ok);
        let made = table.and_then(|table| fill(&table, &module)).is_ok();
        if made {
            modules.modules.push(module);
        }
        made
    }

    fn clear(&mut self) {
        if let Ok(mut modules) = MODULES.try_lock() {
            modules.first = modules.next();
            modules.modules.clear();
            modules.generation = modules.generation.wrapping_add(1);
            modules.forget();
        }
    }

    fn enter(&mut self, entry: &Entry, services: &mut dyn Services) -> u32 {
        let mut services = services;
        SERVICES.store(&raw mut services as usize, Ordering::Relaxed);
        // SAFETY: on wasm a function pointer is a slot of the function table. This one holds a function of this type whenever a
        // region is there to be entered: `add` and `link` put it there before they fill slots of regions. The engine checks
        // that once more and traps otherwise, and so it does with the region's slot.
        let enter = unsafe { std::mem::transmute::<usize, Enter>(self.entry as usize) };
        let [r0, r1, r2, r3, r4, r5, r6, r7] = entry.registers;
        let why = enter(entry.slot, entry.place, entry.fuel, r0, r1, r2, r3, r4, r5, r6, r7);
        SERVICES.store(0, Ordering::Relaxed);
        why
    }
}
