//! `cargo xtask …`: the project's chores. Each command sets up what it needs by itself.
mod apt;
mod bench;
mod differ;
mod fuzz;
mod guests;
mod oracle;
mod package;
mod repo;
mod run;
mod serve;
mod setup;
mod site;
mod sync;
mod test;
mod toolchain;
mod wasm;

use anyhow::Result;
use clap::{Parser, Subcommand};
use setup::Need;
use std::process::ExitCode;
use toolchain::Toolchain;
use wasm::Variant;

/// The chores of tab86. `cargo xtask serve` shows the emulator in a browser, `cargo xtask test` checks everything;
/// both set up this machine as needed (Debian 12, Ubuntu; elsewhere they say what is missing).
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what this machine lacks: system packages, wasm compiler, JavaScript tools, firmware, guests, a browser
    ///
    /// Looks first and installs only what is missing; a second run takes a second. System packages need root or sudo:
    /// without them the command to run is printed. Firmware goes to build/firmware/, guests to build/guests/.
    Setup {
        /// Leave the guests out
        #[arg(long)]
        no_guests: bool,
    },
    /// Build the npm package into build/pkg/ and the whole site into build/site/
    ///
    /// Compiles web/ to wasm twice, with shared memory and without, wraps each in JavaScript glue, and optimizes them.
    Build {
        /// Skip wasm-opt and keep function names: faster to build, easier to profile
        #[arg(long)]
        dev: bool,
        /// Only the module with private memory, which the specs in Node use; the package and the site stay as they are
        #[arg(long)]
        plain_only: bool,
    },
    /// Set up, build, and serve the page with the headers that shared memory needs
    Serve(serve::Options),
    /// Set up, build, and run every test: format, lints, Rust tests, types, sizes, browser specs
    ///
    /// Ends with one line `N passed, N failed, N skipped`, and fails if anything failed.
    Test(test::Options),
    /// Compare with v86: the same Debian guest and workloads in the same headless Chromium
    Bench(bench::Options),
    /// Compare with QEMU: random single instructions in every mode, with what each ends in
    ///
    /// Needs qemu-system-i386 and says so when it is missing.
    Differ(differ::Options),
    /// Run hostile guests: random code in every mode over random tables, on whole machines, from seeds
    ///
    /// Ends with a panic or hang and the seed of its guest, or with the number of instructions that did no harm.
    Fuzz(fuzz::Options),
    /// Compare the core with this machine's processor: every user-mode instruction form on random states
    ///
    /// Needs x86-64 Linux; elsewhere it is skipped. A mismatch prints a line for `--reproduce`.
    Oracle(oracle::Options),
    /// Make the guests in build/guests/: fetched from Debian's packages, or assembled from guests/
    ///
    /// A guest that cannot be had is reported and left out. build/guests/guests.json lists those that are there.
    Guests {
        /// Only these
        names: Vec<String>,
        /// Fetch newer packages where there are some, and make everything again
        #[arg(long)]
        refresh: bool,
    },
    /// Build and pack the npm package into build/
    Package,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup { no_guests } => {
            setup::ensure(Need::Test)?;
            if !no_guests {
                make_guests()?;
            }
            println!("All set up: `cargo xtask serve` shows the page, `cargo xtask test` runs the tests.");
        }
        Command::Build { dev, plain_only: true } => wasm::build(&Toolchain::ensure()?, &[Variant::Plain], dev)?,
        Command::Build { dev, plain_only: false } => {
            build(Need::Serve, dev)?;
            wasm::print_sizes()?;
        }
        Command::Serve(options) => {
            if !options.no_build {
                make_ready(Need::Serve, options.dev)?;
            }
            serve::serve(&options)?;
        }
        Command::Test(options) => return test::run(&options),
        Command::Bench(options) => bench::run(&options)?,
        Command::Differ(options) => return differ::run(&options),
        Command::Fuzz(options) => fuzz::run(&options)?,
        Command::Oracle(options) => {
            if !oracle::run(&options)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Guests { names, refresh } => {
            setup::ensure(Need::Serve)?;
            let report = guests::make(&names, refresh)?;
            println!("{} guests in build/guests/, {} missing", report.made, report.failed.len());
            if !report.failed.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Package => {
            build(Need::Build, false)?;
            package::pack()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the package and the site.
fn build(need: Need, dev: bool) -> Result<()> {
    let toolchain = setup::ensure(need)?;
    wasm::build(&toolchain, &wasm::VARIANTS, dev)?;
    site::assemble_package()?;
    site::assemble_site()
}

/// Everything the page needs: set-up, guests, build.
fn make_ready(need: Need, dev: bool) -> Result<()> {
    setup::ensure(need)?;
    make_guests()?;
    build(need, dev)
}

/// Makes the guests; what can't be fetched is no reason to stop.
fn make_guests() -> Result<()> {
    let report = guests::make(&[], false)?;
    if !report.failed.is_empty() {
        run::warn(format!("going on with {} guests, without {}", report.made, report.failed.join(", ")));
    }
    Ok(())
}
