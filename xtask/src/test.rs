//! `cargo xtask test`: every check there is, with one line of figures at the end.
use crate::{Need, make_ready, oracle, repo, run, setup, wasm};
use anyhow::Result;
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Options {
    /// Only these parts, separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Take build/ as it is
    #[arg(long)]
    no_build: bool,
}

/// A part of the tests.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// rustfmt
    Fmt,
    /// clippy, every warning an error
    Clippy,
    /// Unit tests of the core
    Core,
    /// The core against this machine's processor for a few seconds, interpreted and with translation forced, and against
    /// the checked-in sample, also as wasm
    Oracle,
    /// Unit tests of the pool: a simulation, and real threads
    Pool,
    /// Models of the pool's queue and rings, checked by loom
    Model,
    /// Tests of the command line, of the wasm crate, of the relay and of xtask
    Tools,
    /// System tests: guests and conformance, natively
    System,
    /// TypeScript checks the types in the shell and in the package
    Types,
    /// The wasm files are as small as promised
    Size,
    /// Playwright specs in Chromium
    Browser,
}

/// What is counted.
#[derive(Default, Clone, Copy)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    fn one(passed: bool) -> Tally {
        Tally { passed: passed.into(), failed: (!passed).into(), skipped: 0 }
    }

    /// A runner that fails without naming a failed test (it did not compile, it crashed) is a failure all the same.
    fn counting_status(mut self, success: bool) -> Tally {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs the tests; the exit code says whether all passed.
pub fn run(options: &Options) -> Result<ExitCode> {
    let wanted = |part: Part| options.only.is_empty() || options.only.contains(&part);
    let needs_build = [Part::System, Part::Size, Part::Types, Part::Browser].into_iter().any(wanted);
    if needs_build && !options.no_build {
        make_ready(if wanted(Part::Browser) { Need::Test } else { Need::Serve }, false)?;
    }
    let mut total = Tally::default();
    let mut broken = Vec::new();
    for part in Part::value_variants().iter().copied().filter(|part| wanted(*part)) {
        let name = part.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        run::step(format!("test: {name}"));
        let tally = run_part(part)?;
        if tally.failed > 0 {
            broken.push(name);
        }
        total.add(tally);
    }
    if !broken.is_empty() {
        eprintln!("failed parts: {}", broken.join(", "));
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_part(part: Part) -> Result<Tally> {
    match part {
        Part::Fmt => check(run::cargo().args(["fmt", "--all", "--check"])),
        Part::Clippy => {
            check(run::cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
        }
        Part::Core => rust_tests(&["emulator-core"]),
        Part::Oracle => hardware(),
        Part::Pool => rust_tests(&["tab86-pool"]),
        Part::Model => models(),
        Part::Tools => rust_tests(&["tab86", "tab86-web", "tab86-relay", "xtask"]),
        Part::System => rust_tests(&["tab86-tests"]),
        Part::Types => types(),
        Part::Size => {
            wasm::print_sizes()?;
            let result = wasm::check_sizes();
            if let Err(error) = &result {
                eprintln!("error: {error:#}");
            }
            Ok(Tally::one(result.is_ok()))
        }
        Part::Browser => browser(),
    }
}

fn check(command: &mut Command) -> Result<Tally> {
    Ok(Tally::one(command.status()?.success()))
}

fn rust_tests(packages: &[&str]) -> Result<Tally> {
    let select = |cargo: &mut Command| {
        for name in packages {
            cargo.args(["--package", name]);
        }
    };
    if !run::find("cargo-nextest").is_some_and(|path| path.is_file()) {
        let mut cargo = run::cargo();
        cargo.args(["test", "--no-fail-fast"]);
        select(&mut cargo);
        let (success, text) = run::tee(&mut cargo)?;
        return Ok(libtest_tally(&text).counting_status(success));
    }
    let mut nextest = run::cargo();
    nextest.args(["nextest", "run", "--no-fail-fast", "--no-tests=pass", "--status-level=slow", "--color=never"]);
    select(&mut nextest);
    let (success, text) = run::tee(&mut nextest)?;
    Ok(nextest_tally(&text).counting_status(success))
}

fn hardware() -> Result<Tally> {
    let mut tally = rust_tests(&["tab86-oracle"])?;
    for run in oracle::short()? {
        tally.add(match run {
            Some(passed) => Tally::one(passed),
            None => Tally { skipped: 1, ..Tally::default() },
        });
    }
    tally.add(Tally::one(oracle::sample_as_wasm()?));
    Ok(tally)
}

/// The models are another build of the crate, with loom's atomics: in a folder of its own, so that neither build
/// undoes the other.
fn models() -> Result<Tally> {
    let mut cargo = run::cargo();
    cargo.args(["test", "--release", "--no-fail-fast", "--package", "tab86-pool", "--lib", "--target-dir"]);
    cargo.arg(repo::path("target/loom"));
    // Whole-program optimisation takes longer than it saves here.
    cargo.env("RUSTFLAGS", "--cfg loom").env("CARGO_PROFILE_RELEASE_LTO", "off");
    let (success, text) = run::tee(&mut cargo)?;
    Ok(libtest_tally(&text).counting_status(success))
}

/// Adds up libtest's `test result: ok. 5 passed; 0 failed; 1 ignored; …` lines.
fn libtest_tally(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines().filter_map(|line| line.trim().strip_prefix("test result:")) {
        let count = |what: &str| number_before(line, what);
        tally.add(Tally { passed: count("passed"), failed: count("failed"), skipped: count("ignored") });
    }
    tally
}

/// Reads nextest's `Summary [ 1.2s] 6 tests run: 5 passed (1 slow), 1 failed, 2 skipped`.
fn nextest_tally(text: &str) -> Tally {
    let line = text.lines().rev().find(|line| line.trim_start().starts_with("Summary")).unwrap_or_default();
    let count = |what: &str| number_before(line, what);
    Tally { passed: count("passed"), failed: count("failed") + count("timed"), skipped: count("skipped") }
}

fn number_before(line: &str, what: &str) -> u64 {
    let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

fn types() -> Result<Tally> {
    let mut tally = Tally::default();
    for project in ["www/tsconfig.json", "pkg/tsconfig.json"] {
        let tsc = repo::path("node_modules/typescript/bin/tsc");
        tally.add(check(run::here("node").arg(tsc).args(["--noEmit", "--pretty", "false", "-p", project]))?);
    }
    Ok(tally)
}

fn browser() -> Result<Tally> {
    let specs = specs()?;
    if specs.is_empty() {
        return Ok(Tally::default());
    }
    // Some specs drive the relay.
    run::run(run::cargo().args(["build", "--quiet", "--package", "tab86-relay"]))?;
    let mut node = run::here("node");
    node.args(["--test", "--test-reporter=tap", "--test-concurrency=1"]).args(specs);
    let (success, text) = run::tee(node.env("CHROMIUM", setup::chromium()?))?;
    Ok(tap_tally(&text).counting_status(success))
}

fn specs() -> Result<Vec<PathBuf>> {
    let folder = repo::path("tests/browser");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder)?.filter_map(|entry| entry.ok()).map(|entry| entry.path());
    let mut specs: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(".spec.mjs")).collect();
    specs.sort();
    Ok(specs)
}

/// Reads the figures at the end of node's TAP output: `# pass 3`, `# fail 0`, `# skipped 1`.
fn tap_tally(text: &str) -> Tally {
    let count = |what: &str| {
        let prefix = format!("# {what} ");
        text.lines().rev().find_map(|line| line.strip_prefix(&prefix)?.trim().parse().ok()).unwrap_or(0)
    };
    Tally {
        passed: count("pass"),
        failed: count("fail") + count("cancelled"),
        skipped: count("skipped") + count("todo"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(tally: Tally) -> (u64, u64, u64) {
        (tally.passed, tally.failed, tally.skipped)
    }

    #[test]
    fn figures_are_read_from_each_runner() {
        let nextest = "  Summary [   0.004s] 6/9 tests run: 5 passed (1 slow), 1 failed, 2 skipped\n  FAIL x\n";
        assert_eq!(figures(nextest_tally(nextest)), (5, 1, 2));
        let libtest = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                       test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n";
        assert_eq!(figures(libtest_tally(libtest)), (6, 2, 1));
        assert_eq!(
            figures(tap_tally("# tests 4\n# pass 3\n# fail 1\n# cancelled 0\n# skipped 0\n# todo 0\n")),
            (3, 1, 0)
        );
    }

    #[test]
    fn a_runner_that_dies_counts_as_a_failure() {
        assert_eq!(figures(Tally::default().counting_status(false)), (0, 1, 0));
        assert_eq!(figures(Tally::default().counting_status(true)), (0, 0, 0));
    }
}
