//! `cargo xtask bench`: the comparison with v86, with the bench that lies beside the checkout.
use crate::{Need, build, repo, run, setup, wasm};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Options {
    /// How often each emulator runs; the medians count
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// 0 measures the interpreter alone
    #[arg(long, value_parser = ["0", "1"], default_value = "1")]
    jit: String,
    /// Run one of the two only
    #[arg(long, value_parser = ["v86", "tab86"])]
    only: Option<String>,
    /// What the guest's shell runs instead of all workloads
    #[arg(long)]
    cmds: Option<String>,
    /// Seconds until a run is given up
    #[arg(long, default_value_t = 400)]
    timeout: u32,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
    /// The folder with run.mjs and build-guest.sh
    #[arg(long, value_name = "DIR")]
    bench: Option<PathBuf>,
    /// Measure build/pkg as it is
    #[arg(long)]
    no_build: bool,
}

/// Runs the bench and prints its table.
pub fn run(options: &Options) -> Result<()> {
    let bench = options.bench.clone().unwrap_or_else(|| repo::path("../shared/bench"));
    let script = bench.join("run.mjs");
    if !script.is_file() {
        bail!("no bench at {}: name its folder with --bench", bench.display());
    }
    if options.no_build {
        setup::ensure(Need::Test)?;
    } else {
        build(Need::Test, false)?;
    }
    wasm::print_sizes()?;
    let guest = guest(&bench)?;
    // The version that the figures in the documentation are measured against is the one in package-lock.json.
    let v86 = repo::path("node_modules/v86");
    run::step("running the bench");
    let mut node = run::here("node");
    node.arg(script).arg("--guest").arg(guest).arg("--v86").arg(v86).arg("--pkg").arg(repo::build("pkg"));
    node.arg("--firmware").arg(repo::build("firmware")).arg("--rounds").arg(options.rounds.to_string());
    node.arg("--query").arg(format!("jit={}", options.jit)).arg("--timeout").arg(options.timeout.to_string());
    for (flag, value) in [("--only", &options.only), ("--cmds", &options.cmds)] {
        if let Some(value) = value {
            node.arg(flag).arg(value);
        }
    }
    if let Some(file) = &options.json {
        node.arg("--json").arg(std::path::absolute(file)?);
    }
    run::run(node.env("CHROMIUM", setup::chromium()?))
}

fn guest(bench: &Path) -> Result<PathBuf> {
    let folder = repo::build("bench/guest");
    if !["vmlinuz", "initrd.gz"].iter().all(|name| folder.join(name).is_file()) {
        run::step("building the bench's guest");
        run::run(Command::new("bash").arg(bench.join("build-guest.sh")).arg(&folder))?;
    }
    Ok(folder)
}
