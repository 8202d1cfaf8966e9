//! `cargo xtask oracle`: the core against the processor of this machine, interpreted or with translation forced; and its
//! checked-in sample as wasm.
use crate::{repo, run, setup, wasm};
use anyhow::Result;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The page that `--report` writes.
const PAGE: &str = "docs/oracle.md";
/// The same with `--jit`.
const JIT_PAGE: &str = "docs/oracle-jit.md";
/// What the tests run.
const SHORT: &str = "300000";
/// What they run with translation forced: vectors, and states for each encoding.
const SHORT_JIT: [&str; 2] = ["120000", "12"];

/// Options of `cargo xtask oracle`.
#[derive(clap::Args)]
pub struct Options {
    /// Vectors to run
    #[arg(long, default_value_t = 2_000_000)]
    vectors: u64,
    /// Seed: the same gives the same vectors
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only forms whose name contains this
    #[arg(long, value_name = "FORM")]
    only: Option<String>,
    /// Write docs/oracle.md: forms with counts, and what is not compared; with --jit docs/oracle-jit.md
    #[arg(long)]
    report: bool,
    /// With translation forced: the fast tier as wasm in Node runs what this machine's processor did
    #[arg(long)]
    jit: bool,
    /// With --jit: states on which each encoding runs
    #[arg(long, default_value_t = 48)]
    states: u32,
    /// Processes to run
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Failures to show for each form
    #[arg(long, default_value_t = 1)]
    keep: u32,
    /// Run one vector, given as a failure prints it
    #[arg(long, value_name = "VECTOR")]
    reproduce: Option<String>,
    /// List the forms
    #[arg(long)]
    list: bool,
    /// Make the checked-in sample anew
    #[arg(long)]
    write_sample: bool,
    /// Run the checked-in sample as wasm
    #[arg(long)]
    wasm: bool,
}

/// Runs the oracle; whether everything agrees.
pub fn run(options: &Options) -> Result<bool> {
    if options.wasm {
        return sample_as_wasm();
    }
    let mut oracle = command();
    if options.jit {
        oracle.arg("--jit").arg(program()?).args(["--states", &options.states.to_string()]);
    }
    oracle.args(["--vectors", &options.vectors.to_string(), "--seed", &options.seed.to_string()]);
    oracle.args(["--threads", &options.threads.to_string(), "--keep", &options.keep.to_string()]);
    for (flag, value) in [("--only", &options.only), ("--reproduce", &options.reproduce)] {
        if let Some(value) = value {
            oracle.arg(flag).arg(value);
        }
    }
    if options.report {
        oracle.arg("--report").arg(repo::path(if options.jit { JIT_PAGE } else { PAGE }));
    }
    if options.list {
        oracle.arg("--list");
    }
    if options.write_sample {
        oracle.arg("--write-sample").arg(repo::path("oracle/sample.txt.gz"));
    }
    Ok(oracle.status()?.success())
}

fn command() -> Command {
    let mut cargo = run::cargo();
    cargo.args(["run", "--quiet", "--package", "tab86-oracle", "--"]);
    cargo
}

/// The short runs of the tests, interpreted and with translation forced: `None` when this host cannot.
pub fn short() -> Result<[Option<bool>; 2]> {
    let module = program()?;
    let once = |arguments: &[&str]| -> Result<Option<bool>> {
        let mut oracle = command();
        oracle.args(arguments);
        let (success, text) = run::tee(&mut oracle)?;
        Ok(if success && text.lines().any(|line| line.starts_with("skipped:")) { None } else { Some(success) })
    };
    let [vectors, states] = SHORT_JIT;
    let module = module.to_string_lossy();
    Ok([once(&["--vectors", SHORT])?, once(&["--vectors", vectors, "--states", states, "--jit", &module])?])
}

/// The oracle as a wasm program.
fn program() -> Result<PathBuf> {
    let toolchain = setup::ensure(setup::Need::Serve)?;
    wasm::compile_program(&toolchain, "tab86-oracle")
}

/// Runs the oracle's sample in Node, interpreted and with translation forced.
pub fn sample_as_wasm() -> Result<bool> {
    let module = program()?;
    run::step("the oracle's sample as wasm");
    let mut node = run::here("node");
    node.arg("tests/jit/oracle.mjs").arg(module).stdin(Stdio::null());
    Ok(node.status()?.success())
}
