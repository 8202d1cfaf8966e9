//! `tab86`: the machine natively, headless or in a terminal. A library so that the system tests can build the very
//! same program.

mod args;
mod console;
mod images;
mod keys;
mod net;
mod output;
mod session;
mod terminal;
mod vectors;

use std::process::ExitCode;

/// Exit status for bad usage and bad input.
const BAD_USAGE: u8 = 2;

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["vectors", file] => run_vectors(file, false),
        ["vectors", file, "--exclusions"] => run_vectors(file, true),
        ["run", ..] => run(args.get(1..).unwrap_or_default()),
        ["--version" | "-V"] => {
            println!("tab86 {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h" | "help"] => {
            print!("{}", args::HELP);
            ExitCode::SUCCESS
        }
        _ => fail("the commands are `tab86 run` and `tab86 vectors FILE`; see `tab86 --help`"),
    }
}

/// Says in one sentence why nothing was run.
fn fail(why: impl std::fmt::Display) -> ExitCode {
    eprintln!("tab86: {why}");
    BAD_USAGE.into()
}

fn run(args: &[String]) -> ExitCode {
    if args.iter().any(|a| a == "--help" || a == "-h") {
        print!("{}", args::HELP);
        return ExitCode::SUCCESS;
    }
    let options = match args::parse(args) {
        Ok(options) => options,
        Err(e) => return fail(e),
    };
    match session::run(options) {
        Ok(status) => status.into(),
        Err(e) => fail(e),
    }
}

fn run_vectors(file: &str, exclusions: bool) -> ExitCode {
    match vectors::run(file, 40) {
        Ok(report) => {
            vectors::print(&report, exclusions);
            u8::from(report.failed() > 0).into()
        }
        Err(e) => fail(e),
    }
}
