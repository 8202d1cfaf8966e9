//! `cargo xtask setup`: everything a fresh machine lacks. Each part looks first and does nothing when all is there.
use crate::{apt, repo, run, toolchain::Toolchain};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// What a command is going to need, beyond the compiler.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// To build the package.
    Build,
    /// To make guests and serve the page.
    Serve,
    /// To drive a browser as well.
    Test,
}

/// A tool: the program or file that shows it is there, and the Debian package that brings it.
struct Tool {
    probe: &'static str,
    package: &'static str,
    need: Need,
}

const TOOLS: [Tool; 6] = [
    Tool { probe: "node", package: "nodejs", need: Need::Build },
    Tool { probe: "npm", package: "npm", need: Need::Build },
    Tool { probe: "/usr/share/seabios/bios-256k.bin", package: "seabios", need: Need::Serve },
    Tool { probe: "nasm", package: "nasm", need: Need::Serve },
    Tool { probe: "xorriso", package: "xorriso", need: Need::Serve },
    Tool { probe: "mcopy", package: "mtools", need: Need::Test },
];

/// SeaBIOS and its VGA BIOS as the Debian package names them; 128 KB for those who map it below 1 MB, 256 KB for `pc`.
const FIRMWARE: [&str; 3] = ["bios.bin", "bios-256k.bin", "vgabios-stdvga.bin"];
const SEABIOS: &str = "/usr/share/seabios";

/// The oldest Node.js that the tools run on: Debian 12's.
const NODE_MAJOR: u32 = 18;

/// Makes everything there that `need` asks for.
pub fn ensure(need: Need) -> Result<Toolchain> {
    system_packages(need)?;
    let toolchain = Toolchain::ensure()?;
    node_modules()?;
    if need >= Need::Serve {
        firmware()?;
    }
    if need >= Need::Test {
        chromium()?;
    }
    Ok(toolchain)
}

fn system_packages(need: Need) -> Result<()> {
    let lacking = |tool: &&Tool| match tool.probe.starts_with('/') {
        true => !Path::new(tool.probe).exists(),
        false => run::find(tool.probe).is_none(),
    };
    let missing: Vec<&str> = TOOLS.iter().filter(|t| t.need <= need).filter(lacking).map(|t| t.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::available() {
        bail!("this system has no apt. Please install what Debian calls {} and start again.", missing.join(", "));
    }
    apt::install(&missing)
}

/// The JavaScript tools, exactly as package-lock.json pins them.
fn node_modules() -> Result<()> {
    let version = run::output(run::here("node").arg("--version"))?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|n| n.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE_MAJOR) {
        bail!("Node.js {} is too old: {NODE_MAJOR} or newer is needed.", version.trim());
    }
    let lock = std::fs::read(repo::path("package-lock.json")).context("package-lock.json")?;
    let stamp = repo::path("node_modules/.installed-lock.json");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    run::step("installing the JavaScript tools (npm ci)");
    run::run(run::here("npm").args(["ci", "--no-fund", "--no-audit", "--loglevel=error"]))?;
    run::write(&stamp, lock)
}

fn firmware() -> Result<()> {
    for name in FIRMWARE {
        let (from, to) = (Path::new(SEABIOS).join(name), repo::build("firmware").join(name));
        let bytes = std::fs::read(&from).with_context(|| format!("firmware {} (package seabios)", from.display()))?;
        if std::fs::read(&to).ok().as_ref() != Some(&bytes) {
            run::write(&to, bytes)?;
        }
    }
    Ok(())
}

/// The browser that the specs drive: `$CHROMIUM`, or the system's; installed where there is none.
pub fn chromium() -> Result<PathBuf> {
    if let Some(found) = find_chromium() {
        return Ok(found);
    }
    if apt::distribution() == "debian" && apt::available() {
        apt::install(&["chromium"])?;
    } else {
        // Ubuntu's package is a snap, which no driver can start: Playwright brings its own build there.
        run::step("fetching a Chromium (playwright-core install chromium)");
        run::run(run::here("npx").args(["--no-install", "playwright-core", "install", "--with-deps", "chromium"]))?;
    }
    find_chromium().context("no Chromium: install one and name it in the environment variable CHROMIUM")
}

fn find_chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM").map(PathBuf::from) {
        return named.is_file().then_some(named);
    }
    let system = ["chromium", "google-chrome", "google-chrome-stable"];
    system.iter().find_map(|name| run::find(name)).or_else(playwright_chromium)
}

/// The build that Playwright downloads, if it did.
fn playwright_chromium() -> Option<PathBuf> {
    let ask = "process.stdout.write(require('playwright-core').chromium.executablePath())";
    let path = PathBuf::from(run::output(run::here("node").args(["-e", ask])).ok()?);
    path.is_file().then_some(path)
}
