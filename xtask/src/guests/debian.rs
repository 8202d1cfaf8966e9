//! The Debian guest: a stock kernel and an initramfs of BusyBox, a few modules and the files of `guests/debian/`.
use super::cpio::Cpio;
use super::modules;
use crate::{apt, repo};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Writes the kernel and the initramfs of the kernel package that `meta` (`linux-image-686`, …) stands for.
pub fn make(meta: &str, cache: &Path, kernel: &Path, initrd: &Path) -> Result<()> {
    let package = apt::first_dependency(&format!("{meta}:i386"))?;
    let root = apt::unpack(&format!("{package}:i386"), cache)?;
    let busybox = apt::unpack("busybox-static:i386", cache)?;
    std::fs::copy(only_file(&root.join("boot"), "vmlinuz-")?, kernel)?;
    let folder = only_file(&root.join("lib/modules"), "")?;
    std::fs::write(initrd, initramfs(&folder, &busybox.join("bin/busybox"))?)?;
    Ok(())
}

/// Writes `base` with a second archive behind it, which the kernel unpacks over the first: GDB and its libraries.
pub fn add_gdb(cache: &Path, base: &Path, initrd: &Path) -> Result<()> {
    const GDB: &str = "gdb-minimal:i386";
    let mut cpio = Cpio::default();
    for folder in ["lib", "lib/i386-linux-gnu"] {
        cpio.folder(folder);
    }
    let gdb = apt::unpack(GDB, cache)?;
    cpio.file("bin/gdb", 0o755, &std::fs::read(gdb.join("usr/bin/gdb"))?);
    cpio.symlink("lib/ld-linux.so.2", "i386-linux-gnu/ld-linux.so.2");
    for package in apt::libraries_of(GDB)? {
        let root = apt::unpack(&package, cache)?;
        for place in ["lib/i386-linux-gnu", "usr/lib/i386-linux-gnu"] {
            add_libraries(&mut cpio, &root.join(place))?;
        }
    }
    let mut bytes = std::fs::read(base).with_context(|| format!("reading {}", base.display()))?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(cpio.finish_gzipped()?);
    std::fs::write(initrd, bytes)?;
    Ok(())
}

/// Adds the shared libraries of a folder, and the links to them.
fn add_libraries(cpio: &mut Cpio, folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok()).map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = format!("lib/i386-linux-gnu/{name}");
        if !name.contains(".so") {
            continue;
        }
        match std::fs::read_link(&path) {
            Ok(link) => cpio.symlink(&target, &link.to_string_lossy()),
            Err(_) if path.is_file() => cpio.file(&target, 0o755, &std::fs::read(&path)?),
            Err(_) => {}
        }
    }
    Ok(())
}

/// The one entry of a folder whose name begins with `prefix`.
fn only_file(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries.filter_map(|e| e.ok()).map(|e| e.path());
    let found = paths.find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)));
    found.with_context(|| format!("nothing named {prefix}… in {}", folder.display()))
}

fn initramfs(module_folder: &Path, busybox: &Path) -> Result<Vec<u8>> {
    let recipe = |name: &str| {
        let file = repo::path("guests/debian").join(name);
        std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
    };
    let list = recipe("modules.txt")?;
    let lines = list.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let words: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    let wanted: Vec<&str> = words.iter().filter_map(|w| w.first().copied()).collect();
    let at_boot: Vec<&str> = words.iter().filter(|w| w.contains(&"*")).filter_map(|w| w.first().copied()).collect();
    let chosen = modules::select(module_folder, &wanted)?;

    let mut cpio = Cpio::default();
    for folder in ["bin", "dev", "etc", "lib", "lib/modules", "mnt", "proc", "root", "sbin", "sys", "tmp", "usr", "var"]
    {
        cpio.folder(folder);
    }
    // What the kernel opens as the first process's terminal, before /dev is mounted.
    cpio.char_device("dev/console", (5, 1));
    cpio.file("bin/busybox", 0o755, &std::fs::read(busybox)?);
    // Where the kernel looks for it when something asks for a module.
    cpio.symlink("sbin/modprobe", "/bin/busybox");
    cpio.file("init", 0o755, recipe("init")?.as_bytes());
    cpio.file("etc/inittab", 0o644, recipe("inittab")?.as_bytes());
    cpio.file("etc/shell", 0o755, recipe("shell")?.as_bytes());
    cpio.file("etc/network", 0o755, recipe("network")?.as_bytes());
    cpio.file("etc/udhcpc", 0o755, recipe("udhcpc")?.as_bytes());
    cpio.file("etc/hosts", 0o644, b"127.0.0.1 localhost tab86\n");
    cpio.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n");
    cpio.file("etc/filesystems", 0o644, recipe("filesystems")?.as_bytes());
    cpio.file("etc/modules", 0o644, (at_boot.join("\n") + "\n").as_bytes());
    cpio.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    cpio.file("etc/group", 0o644, b"root:x:0:\n");
    cpio.symlink("etc/mtab", "/proc/mounts");

    let version = module_folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let base = format!("lib/modules/{version}");
    cpio.folder(&base);
    let mut folders = BTreeSet::new();
    for module in &chosen {
        for (at, _) in module.path.match_indices('/') {
            if folders.insert(&module.path[..at]) {
                cpio.folder(&format!("{base}/{}", &module.path[..at]));
            }
        }
        cpio.file(&format!("{base}/{}", module.path), 0o644, &module.bytes);
    }
    cpio.file(&format!("{base}/modules.dep"), 0o644, modules::dep_file(&chosen).as_bytes());
    cpio.file(&format!("{base}/modules.alias"), 0o644, modules::alias_file(&chosen).as_bytes());
    Ok(cpio.finish_gzipped()?)
}
