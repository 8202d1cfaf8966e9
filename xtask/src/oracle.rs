//! `cargo xtask oracle`: the core against the processor of this machine; and its checked-in sample as wasm.
use crate::{repo, run, setup, wasm};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// The page that `--report` writes.
const PAGE: &str = "docs/oracle.md";
/// What the tests run.
const SHORT: &str = "300000";

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
    /// Write docs/oracle.md: forms with counts, and what is not compared
    #[arg(long)]
    report: bool,
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
    oracle.args(["--vectors", &options.vectors.to_string(), "--seed", &options.seed.to_string()]);
    oracle.args(["--threads", &options.threads.to_string(), "--keep", &options.keep.to_string()]);
    for (flag, value) in [("--only", &options.only), ("--reproduce", &options.reproduce)] {
        if let Some(value) = value {
            oracle.arg(flag).arg(value);
        }
    }
    if options.report {
        oracle.arg("--report").arg(repo::path(PAGE));
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

/// The short run of the tests: `None` when this host cannot.
pub fn short() -> Result<Option<bool>> {
    let mut oracle = command();
    oracle.args(["--vectors", SHORT]);
    let (success, text) = run::tee(&mut oracle)?;
    Ok(if success && text.lines().any(|line| line.starts_with("skipped:")) { None } else { Some(success) })
}

/// Compiles the oracle to wasm, where all that it does is to run its sample, and runs it in Node.
pub fn sample_as_wasm() -> Result<bool> {
    let toolchain = setup::ensure(setup::Need::Serve)?;
    let module: PathBuf = wasm::compile_program(&toolchain, "tab86-oracle")?;
    run::step("the oracle's sample as wasm");
    let script = "const { readFileSync } = await import('node:fs');\
                  const module = new WebAssembly.Module(readFileSync(process.argv[1]));\
                  process.exit(new WebAssembly.Instance(module, {}).exports.main(0, 0));";
    Ok(run::here("node").args(["--input-type=module", "--eval", script]).arg(module).status()?.success())
}
