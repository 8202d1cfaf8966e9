//! The `tab86` program, built for the tests.

fn main() -> std::process::ExitCode {
    tab86_cli::main()
}
