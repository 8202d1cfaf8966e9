//! Making one folder the union of others, touching only what changed.
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A plan of which file comes from where.
#[derive(Default)]
pub struct Tree {
    files: BTreeMap<PathBuf, PathBuf>,
}

impl Tree {
    /// Adds a folder's files (where it exists) below `prefix`; hidden files and node_modules stay out.
    pub fn folder(&mut self, from: &Path, prefix: &str) -> Result<&mut Tree> {
        if from.is_dir() {
            self.walk(from, Path::new(prefix))?;
        }
        Ok(self)
    }

    fn walk(&mut self, from: &Path, prefix: &Path) -> Result<()> {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') || name == "node_modules" {
                continue;
            }
            match entry.path().is_dir() {
                true => self.walk(&entry.path(), &prefix.join(&name))?,
                false => drop(self.files.insert(prefix.join(&name), entry.path())),
            }
        }
        Ok(())
    }

    /// Adds one file.
    pub fn file(&mut self, from: &Path, to: &str) -> &mut Tree {
        self.files.insert(to.into(), from.to_owned());
        self
    }

    /// Makes `target` hold exactly the planned files.
    pub fn write(&self, target: &Path) -> Result<()> {
        std::fs::create_dir_all(target)?;
        remove_others(target, target, &self.files)?;
        for (name, from) in &self.files {
            let to = target.join(name);
            if up_to_date(from, &to) {
                continue;
            }
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::copy(from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        }
        Ok(())
    }
}

fn up_to_date(from: &Path, to: &Path) -> bool {
    let (Ok(from), Ok(to)) = (from.metadata(), to.metadata()) else { return false };
    let times = from.modified().ok().zip(to.modified().ok());
    from.len() == to.len() && times.is_some_and(|(from, to)| from <= to)
}

fn remove_others(root: &Path, folder: &Path, keep: &BTreeMap<PathBuf, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(root)?;
        if path.is_dir() && !path.is_symlink() {
            match keep.keys().any(|kept| kept.starts_with(name) && kept != name) {
                true => remove_others(root, &path, keep)?,
                false => std::fs::remove_dir_all(&path)?,
            }
        } else if !keep.contains_key(name) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_holds_exactly_the_planned_files() {
        let dir = std::env::temp_dir().join(format!("tab86-sync-{}", std::process::id()));
        let (from, to) = (dir.join("from"), dir.join("to"));
        for (file, text) in [(from.join("a/b.txt"), "b"), (to.join("old/x"), "x"), (to.join("a/stale"), "y")] {
            crate::run::write(&file, text).unwrap();
        }
        let mut tree = Tree::default();
        tree.folder(&from, "p").unwrap().write(&to).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("p/a/b.txt")).unwrap(), "b");
        assert!(!to.join("old").exists() && !to.join("a").exists());
        crate::run::write(&from.join("a/b.txt"), "changed").unwrap();
        tree.write(&to).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("p/a/b.txt")).unwrap(), "changed");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
