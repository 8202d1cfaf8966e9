//! `cargo xtask fuzz`: hostile guests by the thousand (emulator-core/tests/hostile), optimised.
use crate::{repo, run};
use anyhow::Result;
use clap::Args;

#[derive(Args)]
pub struct Options {
    /// Instructions of hostile code to execute
    #[arg(long, default_value_t = 1_000_000_000)]
    instructions: u64,
    /// The first seed: the same seeds make the same guests
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(options: &Options) -> Result<()> {
    run::run(
        run::cargo()
            .current_dir(repo::root())
            .args(["run", "--release", "--quiet", "-p", "emulator-core", "--example", "hostile", "--"])
            .args([options.instructions.to_string(), options.seed.to_string()]),
    )
}
