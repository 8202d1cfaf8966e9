//! `tab86`: the machine natively, headless or in a terminal.

fn main() -> std::process::ExitCode {
    tab86_cli::main()
}
