//! Running other programs, and telling the user what is going on.
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Announces a step that may take a while.
pub fn step(text: impl AsRef<str>) {
    eprintln!("==> {}", text.as_ref());
}

/// Reports something that the user should know but that stops nothing.
pub fn warn(text: impl AsRef<str>) {
    eprintln!("warning: {}", text.as_ref());
}

/// The command line as one would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs a command with its output passed through; fails when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a command that should say nothing; its output is shown only when it fails.
pub fn quietly(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a command and returns what it printed; its errors are part of the failure.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        let stderr = String::from_utf8_lossy(&out.stderr);
        bail!("`{}` failed ({})\n{}{}", shown(command), out.status, stdout, stderr.trim_end());
    }
    Ok(stdout)
}

/// Runs a command with its output passed through *and* kept, for the figures in it.
pub fn tee(command: &mut Command) -> Result<(bool, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", shown(command)))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let kept = std::thread::scope(|scope| {
        let errors = scope.spawn(|| copy_lines(stderr, std::io::stderr()));
        let mut kept = copy_lines(stdout, std::io::stdout());
        kept.push_str(&errors.join().unwrap_or_default());
        kept
    });
    Ok((child.wait()?.success(), kept))
}

fn copy_lines(from: Option<impl Read>, mut to: impl Write) -> String {
    let mut kept = String::new();
    let Some(from) = from else { return kept };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while matches!(from.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        // A closed terminal must not stop the tests.
        let _ = to.write_all(&line);
        kept.push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
    kept
}

/// Finds a program in the search path.
pub fn find(program: &str) -> Option<PathBuf> {
    let dirs = std::env::var_os("PATH")?;
    // System administration programs are not in every user's search path.
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&dirs).chain(extra).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A command that runs in the root of the checkout.
pub fn here(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(crate::repo::root());
    command
}

/// The cargo that runs us, and not another one in the search path.
pub fn cargo() -> Command {
    here(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A size as people read it.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Writes a file with its folders.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tee_keeps_both_streams_and_the_status() {
        let (ok, kept) = tee(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap();
        assert!(!ok);
        assert!(kept.contains("out\n") && kept.contains("err\n"));
    }

    #[test]
    fn output_reports_what_a_failing_command_said() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 1"])).unwrap_err();
        assert!(error.to_string().contains("why"));
    }
}
