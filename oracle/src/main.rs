//! `tab86-oracle`: the command behind `cargo xtask oracle`.
fn main() -> std::process::ExitCode {
    tab86_oracle::main()
}
