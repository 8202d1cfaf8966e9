//! The oracle as a wasm program: the host of translated code, and the program around it.
//!
//! `tests/jit/oracle.mjs` provides the imports. What it delivers is run with translation forced; when it delivers
//! nothing, the checked-in sample is run, interpreted and translated.
#![allow(unsafe_code, reason = "imports, and calling emitted code by its slot; each block states its invariant")]

use crate::forced::Forced;
use crate::sample;
use emulator_core::jit::{Entry, JitHost, Services};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[link(wasm_import_module = "oracle")]
unsafe extern "C" {
    /// Reads at most `length` bytes of the records; 0 at their end.
    fn read(at: *mut u8, length: usize) -> usize;
    /// Prints.
    fn write(at: *const u8, length: usize);
    /// Slots of the function table.
    fn slots() -> u32;
    /// Names the function in a slot for modules to import.
    fn provide(name: *const u8, length: usize, slot: usize);
    /// Makes an instance of a module that fills slots below `end`; 0 when it cannot be.
    fn instantiate(at: *const u8, length: usize, end: u32) -> u32;
}

fn print(text: &str) {
    // SAFETY: the import reads the bytes of the string and keeps nothing.
    unsafe { write(text.as_ptr(), text.len()) };
}

/// Where the services of the code that runs are (the address of a reference to them), or 0.
static SERVICES: AtomicUsize = AtomicUsize::new(0);
/// Instructions that translated code had the interpreter execute.
static CALLS: AtomicU64 = AtomicU64::new(0);

fn with<R>(work: impl FnOnce(&mut dyn Services) -> R) -> R {
    let services = SERVICES.load(Ordering::Relaxed) as *mut &mut dyn Services;
    // SAFETY: only emitted code calls the functions below, and it only runs inside `enter`, which has put the address of
    // its own exclusive reference there and does not touch it until that code returns. There is one thread.
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
    CALLS.fetch_add(1, Ordering::Relaxed);
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

#[derive(Debug)]
struct TableHost {
    first: u32,
}

impl TableHost {
    fn new() -> TableHost {
        let own = [
            ("load", load as extern "C" fn(u32, u32) -> i64 as usize),
            ("store", store as extern "C" fn(u32, u32, u32) -> u32 as usize),
            ("modify", modify as extern "C" fn(u32, u32) -> i64 as usize),
            ("execute", execute as extern "C" fn(u32, u32) -> u32 as usize),
            ("condition", condition as extern "C" fn(u32) -> u32 as usize),
            ("flags", flags as extern "C" fn() -> u32 as usize),
        ];
        let x87 = emulator_core::fpu::x87::direct::functions().map(|(name, _, slot)| (name, slot));
        for (name, slot) in own.into_iter().chain(x87) {
            // SAFETY: the import reads the bytes of the name; on wasm a function pointer is a slot.
            unsafe { provide(name.as_ptr(), name.len(), slot) };
        }
        // SAFETY: no arguments.
        TableHost { first: unsafe { slots() } }
    }
}

impl JitHost for TableHost {
    fn first_slot(&self) -> u32 {
        self.first
    }

    fn shared(&self) -> bool {
        false
    }

    fn add(&mut self, bytes: Vec<u8>, end: u32) -> bool {
        // SAFETY: the import reads the bytes and keeps nothing.
        unsafe { instantiate(bytes.as_ptr(), bytes.len(), end) != 0 }
    }

    fn clear(&mut self) {}

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

/// Reads up to and with the next empty line.
fn next_sheet(rest: &mut Vec<u8>, piece: &mut [u8]) -> Option<String> {
    let mut searched = 0;
    loop {
        if let Some(end) = rest[searched..].windows(2).position(|two| two == b"\n\n") {
            let end = searched + end;
            let sheet = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest.drain(..end + 2);
            return Some(sheet);
        }
        searched = rest.len().saturating_sub(1);
        // SAFETY: the import writes at most so many bytes into the slice.
        let n = unsafe { read(piece.as_mut_ptr(), piece.len()) };
        if n == 0 {
            return None;
        }
        rest.extend_from_slice(&piece[..n]);
    }
}

fn run() -> Result<bool, String> {
    let mut forced = Forced::new(Box::new(TableHost::new()), || CALLS.load(Ordering::Relaxed), 1);
    let mut rest = Vec::new();
    let mut piece = vec![0; 1 << 16];
    while let Some(sheet) = next_sheet(&mut rest, &mut piece) {
        let different = forced.sheet(&sheet)?;
        print(&different);
    }
    if !rest.is_empty() {
        return Err("the records end within a sheet".into());
    }
    if forced.total().vectors > 0 {
        print(&forced.summary());
        return Ok(forced.total().failures == 0);
    }
    let checked = sample::check()?;
    print(&checked.failures.join("\n"));
    let lines = sample::lines()?;
    // Of 16-bit code and other segments nothing is translated.
    for line in lines.lines().filter(|line| !line.starts_with("16: ")) {
        print(&forced.sheet(line)?);
    }
    let total = forced.total();
    print(&format!(
        "sample: {} records interpreted, {} differ; {} with translation forced, {} differ, {} in translated code\n",
        checked.passed + checked.failures.len(),
        checked.failures.len(),
        total.vectors,
        total.failures,
        total.translated,
    ));
    Ok(checked.failures.is_empty() && checked.passed > 0 && total.failures == 0 && total.translated > 500)
}

/// The program.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|info| print(&format!("{info}\n"))));
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print(&format!("{error}\n"));
            ExitCode::FAILURE
        }
    }
}
