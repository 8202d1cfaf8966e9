//! Where things are: every path of the checkout that the chores touch.
use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A path inside the checkout.
pub fn path(relative: impl AsRef<Path>) -> PathBuf {
    root().join(relative)
}

/// A path among the built files, which git ignores.
pub fn build(relative: impl AsRef<Path>) -> PathBuf {
    root().join("build").join(relative)
}

/// A path as it is printed: relative to the root of the checkout where it lies inside.
pub fn show(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
