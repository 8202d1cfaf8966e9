//! `cargo xtask guests`: real operating systems from Debian's packages and our own small guests, in `build/guests/`
//! with a `guests.json` that the page and the tests read.
mod catalogue;
mod cpio;
mod debian;
mod iso;
mod modules;

use crate::{apt, repo, run};
use anyhow::{Context, Result, bail};
use catalogue::{Guest, Recipe};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What became of the guests.
pub struct Report {
    /// Those that are there.
    pub made: usize,
    /// The names of those that could not be made.
    pub failed: Vec<String>,
}

/// Makes all guests, or those of `only`; a guest that cannot be had is reported and left out.
/// What is there already is kept, unless `refresh` asks for the newest packages.
pub fn make(only: &[String], refresh: bool) -> Result<Report> {
    let folder = repo::build("guests");
    std::fs::create_dir_all(&folder)?;
    let catalogue = catalogue::all()?;
    for name in only {
        if !catalogue.iter().any(|guest| guest.name == *name) {
            let names: Vec<&str> = catalogue.iter().map(|g| g.name.as_str()).collect();
            bail!("no guest is called {name}. There are: {}", names.join(", "));
        }
    }
    let everything = std::env::var_os("TAB86_ALL_GUESTS").is_some();
    let wanted =
        |guest: &Guest| only.contains(&guest.name) || (only.is_empty() && (everything || !guest.recipe.on_request()));
    let fetched =
        |guest: &&Guest| wanted(guest) && guest.recipe.needs_packages() && (refresh || !is_made(guest, &folder));
    let fetching = catalogue.iter().any(|guest| fetched(&guest));
    let packages = if fetching { prepare_packages(refresh) } else { Ok(()) };
    if let Err(reason) = &packages {
        run::warn(format!("guests from packages are left out: {reason:#}"));
    }
    let mut failed = Vec::new();
    for guest in catalogue.iter().filter(|guest| wanted(guest)) {
        if packages.is_err() && fetched(&guest) {
            failed.push(guest.name.clone());
        } else if let Err(error) = make_one(guest, &folder, refresh) {
            run::warn(format!("no guest {}: {error:#}", guest.name));
            failed.push(guest.name.clone());
        }
    }
    let listed = |guest: &&Guest| !guest.recipe.on_request() && is_made(guest, &folder);
    let mut made: Vec<&Guest> = catalogue.iter().filter(listed).collect();
    // The page lists them in this order: the default first, our own last.
    made.sort_by_key(|guest| (guest.name != catalogue::DEFAULT, !guest.recipe.needs_packages()));
    let list: Vec<Value> = made.iter().map(|guest| describe(guest, &folder)).collect();
    let text = serde_json::to_string_pretty(&json!({ "guests": list }))? + "\n";
    let manifest = folder.join("guests.json");
    if std::fs::read_to_string(&manifest).ok().as_ref() != Some(&text) {
        run::write(&manifest, text)?;
    }
    Ok(Report { made: made.len(), failed })
}

/// Makes it possible to fetch packages, or says why not.
fn prepare_packages(refresh: bool) -> Result<()> {
    if !apt::available() {
        bail!("fetching it needs apt (Debian or Ubuntu)");
    }
    apt::enable_i386()?;
    if refresh {
        apt::update("sudo apt-get update")?;
    }
    // A first run may find the lists without i386; what stays unknown is reported guest by guest.
    apt::knows(&["busybox-static:i386"]).map(drop)
}

fn is_made(guest: &Guest, folder: &Path) -> bool {
    guest.files.iter().all(|(_, name)| folder.join(name).is_file())
}

fn make_one(guest: &Guest, folder: &Path, refresh: bool) -> Result<()> {
    // Sources of this checkout may have changed; fetched packages stay until asked for.
    let newest = guest.recipe.sources().iter().filter_map(|path| modified(path)).max();
    let oldest = guest.files.iter().filter_map(|(_, name)| modified(&folder.join(name))).min();
    if is_made(guest, folder) && !refresh && newest <= oldest {
        return Ok(());
    }
    let cache = repo::build("cache/packages");
    std::fs::create_dir_all(&cache)?;
    let file = |role: &str| -> Result<PathBuf> {
        let found = guest.files.iter().find(|(r, _)| *r == role);
        Ok(folder.join(&found.with_context(|| format!("the catalogue lists no {role} for {}", guest.name))?.1))
    };
    run::step(format!("making guest {}", guest.name));
    match &guest.recipe {
        Recipe::Debian { meta } => debian::make(meta, &cache, &file("kernel")?, &file("initrd")?),
        Recipe::DebianGdb => debian::add_gdb(&cache, &folder.join("debian-initrd.gz"), &file("initrd")?),
        Recipe::Isolinux => iso::make(&cache, &file("cdrom")?),
        Recipe::Assembly { source } => assemble(source, &folder.join(&guest.files[0].1)),
        Recipe::Package { package, members } => {
            let root = apt::unpack(package, &cache)?;
            for (role, member) in members {
                copy(&root.join(member), &file(role)?)?;
            }
            Ok(())
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    // Written anew and not copied with its old date, so that "made" compares with the sources' dates.
    let bytes = std::fs::read(from).with_context(|| format!("the package has no {}", from.display()))?;
    run::write(to, bytes)
}

/// What a 3.5-inch high-density floppy disk holds.
const FLOPPY_BYTES: usize = 1_474_560;

fn assemble(source: &Path, image: &Path) -> Result<()> {
    let mut nasm = Command::new("nasm");
    nasm.current_dir(source.parent().unwrap_or(repo::root()));
    run::quietly(nasm.args(["-f", "bin", "-o"]).arg(image).arg(source))?;
    let mut disk = std::fs::read(image)?;
    if disk.len() > FLOPPY_BYTES {
        bail!("{} assembles to {} bytes, more than a floppy holds", source.display(), disk.len());
    }
    disk.resize(FLOPPY_BYTES, 0);
    run::write(image, disk)
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    path.metadata().ok()?.modified().ok()
}

fn describe(guest: &Guest, folder: &Path) -> Value {
    let size = |name: &String| folder.join(name).metadata().map(|m| m.len()).unwrap_or(0);
    let files: serde_json::Map<String, Value> =
        guest.files.iter().map(|(role, name)| ((*role).to_owned(), json!(name))).collect();
    let mut value = json!({
        "name": guest.name,
        "title": guest.title,
        "description": guest.description,
        "kind": guest.kind,
        "default": guest.name == catalogue::DEFAULT,
        "files": files,
        "bytes": guest.files.iter().map(|(_, name)| size(name)).sum::<u64>(),
        "memory": u64::from(guest.memory_mib) << 20,
    });
    if !guest.cmdline.is_empty() {
        value["cmdline"] = json!(guest.cmdline);
    }
    if !guest.ready.is_empty() {
        value["ready"] = json!(guest.ready);
    }
    if !guest.boot_order.is_empty() {
        value["bootOrder"] = json!(guest.boot_order);
    }
    value
}
