//! What the system tests share: where guests come from.
//!
//! A guest image is taken from `build/guests` (or the folder that `TAB86_GUESTS` names), where
//! `cargo xtask guests` puts them. Those that are assembled from sources of this repository are made on the spot
//! when they are not there.

pub mod net;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The folder of the guests.
#[must_use]
pub fn guests() -> PathBuf {
    std::env::var_os("TAB86_GUESTS").map_or_else(|| root().join("build/guests"), PathBuf::from)
}

/// A guest image by its file name: one of our own is assembled into `scratch`, others must be there.
///
/// # Errors
/// What to do about a guest that is missing.
pub fn guest(file: &str, scratch: &Path) -> Result<PathBuf, String> {
    let stem = file.strip_suffix(".img").unwrap_or(file);
    let sources = [format!("guests/{stem}/{stem}.asm"), format!("tests/guests/{stem}/{stem}.asm")];
    if let Some(source) = sources.iter().map(|s| root().join(s)).find(|s| s.is_file()) {
        return assemble(&source, &scratch.join(file));
    }
    let path = guests().join(file);
    if path.is_file() { Ok(path) } else { Err(format!("build/guests/{file} is missing: run `cargo xtask guests`")) }
}

fn assemble(source: &Path, image: &Path) -> Result<PathBuf, String> {
    let include = root().join("tests/guests/");
    // Two tests may assemble the same guest at once: neither must see the other's half-written file.
    let aside = image.with_extension(format!("{}.tmp", std::process::id()));
    let nasm = Command::new("nasm").args(["-f", "bin", "-i"]).arg(include).arg("-o").arg(&aside).arg(source).output();
    match nasm {
        Err(e) => Err(format!("cannot run nasm ({e}): run `cargo xtask setup`")),
        Ok(out) if !out.status.success() => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        Ok(_) => std::fs::rename(&aside, image).map(|()| image.to_owned()).map_err(|e| e.to_string()),
    }
}
