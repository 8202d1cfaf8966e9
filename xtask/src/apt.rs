//! Debian packages: installing tools, and unpacking guests' packages without installing them.
use crate::run;
use anyhow::{Context, Result, bail};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether this system has apt and dpkg.
pub fn available() -> bool {
    run::find("apt-get").is_some() && run::find("dpkg-query").is_some()
}

/// The `ID` of /etc/os-release: `debian`, `ubuntu`, …
pub fn distribution() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let id = text.lines().find_map(|line| line.strip_prefix("ID="));
    id.unwrap_or("unknown").trim_matches('"').to_owned()
}

/// The packages among `wanted` that are not installed.
pub fn missing<'a>(wanted: &[&'a str]) -> Vec<&'a str> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Status} ${Package}\n"]).args(wanted);
    // dpkg-query fails when one of the names is unknown, and still prints the others.
    let text = query.output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let installed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    wanted.iter().copied().filter(|name| !installed.contains(name)).collect()
}

/// Installs packages, updating the lists first; without the right to do so, says what to type.
pub fn install(packages: &[&str]) -> Result<()> {
    run::step(format!("installing system packages: {}", packages.join(" ")));
    let install = [&["apt-get", "install", "-y", "--no-install-recommends"], packages].concat();
    let by_hand = format!("sudo apt-get update && sudo {}", install.join(" "));
    update(&by_hand)?;
    run::run(&mut as_root(&install, &by_hand)?)
}

/// Lets `apt-get download` fetch i386 packages.
pub fn enable_i386() -> Result<()> {
    if run::output(Command::new("dpkg").arg("--print-foreign-architectures"))?.lines().any(|a| a == "i386")
        || run::output(Command::new("dpkg").arg("--print-architecture"))?.trim() == "i386"
    {
        return Ok(());
    }
    let by_hand = "sudo dpkg --add-architecture i386 && sudo apt-get update";
    run::step("letting apt fetch i386 packages (nothing of them gets installed)");
    run::run(&mut as_root(&["dpkg", "--add-architecture", "i386"], by_hand)?)?;
    update(by_hand)
}

/// Refreshes the package lists. One failing list is no reason to stop: what is really missing fails by name later.
pub fn update(by_hand: &str) -> Result<()> {
    if let Err(error) = run::quietly(&mut as_root(&["apt-get", "update", "-qq"], by_hand)?) {
        run::warn(format!("{error:#}"));
    }
    Ok(())
}

/// A command as root: directly, through sudo, or an error that says what to type.
fn as_root(words: &[&str], by_hand: &str) -> Result<Command> {
    let root = run::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let mut command = if root {
        Command::new(words[0])
    } else if run::find("sudo").is_some()
        && (std::io::stdin().is_terminal() || run::quietly(Command::new("sudo").args(["-n", "true"])).is_ok())
    {
        let mut sudo = Command::new("sudo");
        sudo.args(["DEBIAN_FRONTEND=noninteractive", words[0]]);
        sudo
    } else {
        bail!("this needs root, or sudo without a password. Please run\n\n    {by_hand}\n\nand start again.");
    };
    command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

/// The name of the package that a meta package stands for: `linux-image-686` → `linux-image-6.1.0-50-686`.
pub fn first_dependency(package: &str) -> Result<String> {
    let text = run::output(Command::new("apt-cache").args(["depends", package]))?;
    let name = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let name = name.with_context(|| format!("package {package} depends on nothing"))?;
    Ok(name.split(':').next().unwrap_or(name).to_owned())
}

/// The i386 libraries that a package needs, directly and through others.
pub fn libraries_of(package: &str) -> Result<Vec<String>> {
    let no = |what: &str| format!("--no-{what}");
    let kinds = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"].map(no);
    let text = run::output(Command::new("apt-cache").args(["depends", "--recurse"]).args(kinds).arg(package))?;
    let names = text.lines().filter(|line| line.trim_start_matches('z').starts_with("lib") && line.ends_with(":i386"));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The version apt would fetch, or `None` if it knows no such package.
pub fn candidate(package: &str) -> Option<String> {
    let text = run::output(Command::new("apt-cache").args(["policy", package])).ok()?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// Whether apt can fetch all of these. A fresh machine's lists may be empty or old: they are refreshed before saying no.
pub fn knows(packages: &[&str]) -> Result<bool> {
    let all = || packages.iter().all(|package| candidate(package).is_some());
    if !all() {
        update("sudo apt-get update")?;
    }
    Ok(all())
}

/// Fetches a package and unpacks it into `cache/NAME_VERSION`, unless it is there. Nothing gets installed.
pub fn unpack(package: &str, cache: &Path) -> Result<PathBuf> {
    let version = candidate(package)
        .with_context(|| format!("apt knows no package {package} (needs Debian's main archive, i386 enabled)"))?;
    let name = format!("{}_{}", package.replace(':', "_"), version.replace([':', '/'], "_"));
    let target = cache.join(&name);
    if target.is_dir() {
        return Ok(target);
    }
    forget_other_versions(package, cache)?;
    let work = cache.join(format!("{name}.part"));
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    run::step(format!("fetching {package} {version}"));
    let mut apt = Command::new("apt-get");
    // Root's apt would otherwise warn that the user it switches to cannot write here.
    apt.args(["-o", "APT::Sandbox::User=root", "download", package]).current_dir(&work);
    run::run(&mut apt)?;
    let deb = std::fs::read_dir(&work)?.filter_map(|e| e.ok()).map(|e| e.path());
    let deb = deb.into_iter().find(|p| p.extension().is_some_and(|e| e == "deb"));
    let deb = deb.with_context(|| format!("apt fetched no file for {package}"))?;
    run::quietly(Command::new("dpkg").arg("-x").arg(&deb).arg(work.join("root")))?;
    std::fs::rename(work.join("root"), &target)?;
    std::fs::remove_dir_all(&work)?;
    Ok(target)
}

fn forget_other_versions(package: &str, cache: &Path) -> Result<()> {
    let prefix = format!("{}_", package.replace(':', "_"));
    for entry in std::fs::read_dir(cache)?.filter_map(|entry| entry.ok()) {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
