//! Kernel modules for an initramfs: a few by name with all that they need, and the index files `modprobe` reads.
//! Debian's package carries the modules without `depmod`'s files, so the facts come from each module's `.modinfo`.
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module that goes into the initramfs.
pub struct Module {
    /// The name as `lsmod` shows it: underscores, no suffix.
    pub name: String,
    /// The path below `/lib/modules/VERSION`.
    pub path: String,
    /// The file's bytes.
    pub bytes: Vec<u8>,
    needs: Vec<String>,
    aliases: Vec<String>,
}

/// All that `wanted` name, and what these need, in an order in which they can be loaded.
/// A name the kernel has built in, or lacks, is left out.
pub fn select(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(folder, folder, &mut files)?;
    let (mut chosen, mut seen) = (Vec::new(), BTreeSet::new());
    for name in wanted {
        add(&canonical(name), &files, &mut chosen, &mut seen)?;
    }
    Ok(chosen)
}

fn add(
    name: &str,
    files: &BTreeMap<String, (String, PathBuf)>,
    chosen: &mut Vec<Module>,
    seen: &mut BTreeSet<String>,
) -> Result<()> {
    let Some((path, file)) = files.get(name) else { return Ok(()) };
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let list = |key: &str| -> Vec<String> {
        let values = modinfo(&bytes, key).into_iter();
        values.flat_map(|v| v.split(',').map(canonical).collect::<Vec<_>>()).filter(|v| !v.is_empty()).collect()
    };
    let needs = list("depends");
    // "pre: a b post: c": wanted but not linked against (a checksum's implementation).
    let soft: Vec<String> = modinfo(&bytes, "softdep")
        .iter()
        .flat_map(|v| v.split_whitespace().filter(|w| !w.ends_with(':')).map(canonical).collect::<Vec<_>>())
        .collect();
    let aliases = modinfo(&bytes, "alias");
    for need in needs.iter().chain(&soft) {
        add(need, files, chosen, seen)?;
    }
    chosen.push(Module { name: name.to_owned(), path: path.clone(), bytes, needs, aliases });
    Ok(())
}

fn index(root: &Path, folder: &Path, files: &mut BTreeMap<String, (String, PathBuf)>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(root, &path, files)?;
        } else if path.extension().is_some_and(|e| e == "ko") {
            let name = canonical(&path.file_stem().unwrap_or_default().to_string_lossy());
            let relative = path.strip_prefix(root)?.to_string_lossy().into_owned();
            files.insert(name, (relative, path));
        }
    }
    Ok(())
}

fn canonical(name: &str) -> String {
    name.trim().replace('-', "_")
}

/// The values of one key in a module's `.modinfo`: NUL-terminated `key=value` strings.
fn modinfo(module: &[u8], key: &str) -> Vec<String> {
    let prefix = format!("{key}=");
    let strings = module.split(|&byte| byte == 0).filter_map(|s| std::str::from_utf8(s).ok());
    strings.filter_map(|s| s.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// `modules.dep`: each module's file and all that must be loaded before it, nearest first.
pub fn dep_file(modules: &[Module]) -> String {
    let by_name: BTreeMap<&str, &Module> = modules.iter().map(|m| (m.name.as_str(), m)).collect();
    let mut text = String::new();
    for module in modules {
        let mut all = Vec::new();
        closure(module, &by_name, &mut all);
        text.push_str(&format!("{}:", module.path));
        all.iter().rev().for_each(|path| text.push_str(&format!(" {path}")));
        text.push('\n');
    }
    text
}

fn closure<'a>(module: &Module, by_name: &BTreeMap<&str, &'a Module>, all: &mut Vec<&'a str>) {
    for need in module.needs.iter().filter_map(|name| by_name.get(name.as_str())) {
        closure(need, by_name, all);
        if !all.contains(&need.path.as_str()) {
            all.push(&need.path);
        }
    }
}

/// `modules.alias`: so that mounting a file system or finding a PCI device loads its module.
pub fn alias_file(modules: &[Module]) -> String {
    let lines = modules.iter().flat_map(|m| m.aliases.iter().map(|a| format!("alias {a} {}\n", m.name)));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, needs: &[&str]) -> Module {
        let needs = needs.iter().map(|s| s.to_string()).collect();
        Module { name: name.into(), path: format!("kernel/{name}.ko"), bytes: vec![], needs, aliases: vec![] }
    }

    #[test]
    fn dependencies_of_dependencies_come_last() {
        let modules = [module("c", &[]), module("b", &["c"]), module("a", &["b"])];
        assert!(dep_file(&modules).ends_with("kernel/a.ko: kernel/b.ko kernel/c.ko\n"));
    }

    #[test]
    fn modinfo_reads_every_value_of_a_key() {
        let bytes = b"\x7fELF\0alias=fs-ext4\0depends=jbd2,mbcache\0alias=ext4\0";
        assert_eq!(modinfo(bytes, "alias"), ["fs-ext4", "ext4"]);
        assert_eq!(modinfo(bytes, "depends"), ["jbd2,mbcache"]);
    }
}
