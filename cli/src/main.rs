//! `tab86`: the machine natively, headless or in a terminal.

mod vectors;

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["vectors", file] => match vectors::run(file, 40) {
            Ok(report) => {
                vectors::print(&report);
                if report.failed() > 0 { 1.into() } else { 0.into() }
            }
            Err(e) => {
                eprintln!("tab86: {e}");
                2.into()
            }
        },
        _ => 2.into(),
    }
}
