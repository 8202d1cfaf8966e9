//! The compiler for wasm32. The shared-memory build needs a standard library compiled with atomics, hence `-Zbuild-std`,
//! hence a compiler *with its sources*: rustup's `rust-src` of the pinned compiler, or Debian's `rustc-web`.
use crate::{apt, run};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the library's sources lie below a compiler's sysroot.
const SOURCES: &str = "lib/rustlib/src/rust/library";
/// Debian's compiler that it builds its browsers with: recent in every release, and packaged with its sources.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// A compiler that can build the standard library for wasm32.
pub enum Toolchain {
    /// The pinned compiler, with rustup's `rust-src`.
    Rustup,
    /// Debian's compiler with the pinned toolchain's linker.
    Debian { linker: PathBuf },
}

impl Toolchain {
    /// Finds a compiler; installs one where there is none.
    pub fn ensure() -> Result<Toolchain> {
        if let Some(found) = Toolchain::find()? {
            return Ok(found);
        }
        run::step("installing a compiler for wasm");
        if apt::available() && apt::knows(&DEBIAN_PACKAGES)? {
            apt::install(&apt::missing(&DEBIAN_PACKAGES))?;
        }
        match Toolchain::find()? {
            Some(found) => Ok(found),
            None => bail!(
                "no compiler with the sources of its standard library. Run `rustup component add rust-src`, or on Debian \
                 `sudo apt-get install {}`, and start again.",
                DEBIAN_PACKAGES.join(" ")
            ),
        }
    }

    fn find() -> Result<Option<Toolchain>> {
        let pinned = sysroot(Path::new("rustc"))?;
        if pinned.join(SOURCES).is_dir() {
            return Ok(Some(Toolchain::Rustup));
        }
        let debian = Path::new(DEBIAN_RUSTC);
        if !debian.is_file() || !sysroot(debian)?.join(SOURCES).is_dir() || !recent_enough(debian)? {
            return Ok(None);
        }
        let linker = pinned.join("lib/rustlib").join(host()?).join("bin/rust-lld");
        Ok(linker.is_file().then_some(Toolchain::Debian { linker }))
    }

    /// Sets what cargo needs to build with this compiler and its unstable `-Zbuild-std`.
    pub fn apply(&self, cargo: &mut Command) {
        cargo.env("RUSTC_BOOTSTRAP", "1");
        if let Toolchain::Debian { linker } = self {
            cargo.env("RUSTC", DEBIAN_RUSTC).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }

    /// For the log.
    pub fn describe(&self) -> &'static str {
        match self {
            Toolchain::Rustup => "rustup's compiler with rust-src",
            Toolchain::Debian { .. } => "Debian's rustc-web with rustup's cargo and linker",
        }
    }
}

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    // The environment that cargo gave us pins the toolchain, so `rustc` is the one that compiled xtask.
    Ok(PathBuf::from(run::output(run::here(rustc).args(["--print", "sysroot"]))?.trim()))
}

fn host() -> Result<String> {
    let text = run::output(run::here("rustc").arg("-vV"))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or("x86_64-unknown-linux-gnu").to_owned())
}

/// A distribution's compiler serves only if it is at least as new as the one the workspace is written for.
fn recent_enough(rustc: &Path) -> Result<bool> {
    let text = run::output(Command::new(rustc).arg("--version"))?;
    let wanted = minor(env!("CARGO_PKG_RUST_VERSION"));
    Ok(minor(text.split_whitespace().nth(1).unwrap_or_default()) >= wanted)
}

fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(minor("1.96.0") > minor("1.95"));
        assert!(minor("1.100.1") > minor("1.95"));
        assert!(minor("1.63.0") < minor("1.95"));
    }
}
