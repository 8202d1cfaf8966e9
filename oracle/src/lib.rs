//! The oracle: every instruction form that user code may run, on random states, on the host's processor and on the
//! core; what they leave must be equal. Runs on x86-64 Linux; elsewhere it says that it is skipped. As a wasm program it
//! runs what the host did with translation forced.

pub mod compare;
#[cfg(target_arch = "wasm32")]
mod engine;
pub mod forced;
pub mod forms;
pub mod generate;
pub mod layout;
pub mod masks;
pub mod ours;
pub mod rng;
pub mod sample;
pub mod text;
pub mod vector;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod bench;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod command;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod native;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod records;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod report;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub use command::main;

#[cfg(target_arch = "wasm32")]
pub use engine::main;

/// Without a host to compare with: the core on the sample.
#[cfg(not(any(target_arch = "wasm32", all(target_arch = "x86_64", target_os = "linux"))))]
pub fn main() -> std::process::ExitCode {
    println!("skipped: the oracle needs an x86-64 Linux host; only the checked-in sample is run");
    match sample::check() {
        Ok(checked) if checked.failures.is_empty() && checked.passed > 0 => std::process::ExitCode::SUCCESS,
        other => {
            println!("{other:#?}");
            std::process::ExitCode::FAILURE
        }
    }
}
