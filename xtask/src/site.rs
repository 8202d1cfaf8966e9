//! Assembling the npm package (`build/pkg`) and the whole site (`build/site`) from their parts.
use crate::{repo, sync::Tree, wasm};
use anyhow::Result;

/// What the page takes from npm: the package's folder or file below node_modules, and its name below `/vendor`.
const VENDOR: [(&str, &str); 3] = [
    ("@xterm/xterm/lib/xterm.mjs", "vendor/xterm/xterm.mjs"),
    ("@xterm/xterm/css/xterm.css", "vendor/xterm/xterm.css"),
    ("@xterm/addon-fit/lib/addon-fit.mjs", "vendor/xterm/addon-fit.mjs"),
];

/// `build/pkg`: the tracked files of `pkg/` with the built wasm and its glue below `wasm/`.
pub fn assemble_package() -> Result<()> {
    let mut tree = Tree::default();
    tree.folder(&repo::path("pkg"), "")?;
    for variant in wasm::VARIANTS {
        tree.folder(&variant.folder(), &format!("wasm/{}", variant.name()))?;
    }
    for license in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let file = repo::path(license);
        if file.is_file() {
            tree.file(&file, license);
        }
    }
    tree.write(&repo::build("pkg"))
}

/// `build/site`: what any static server can serve (with the isolation headers, for shared memory).
pub fn assemble_site() -> Result<()> {
    let mut tree = Tree::default();
    tree.folder(&repo::path("www"), "")?.folder(&repo::build("pkg"), "pkg")?;
    tree.folder(&repo::build("firmware"), "firmware")?.folder(&repo::build("guests"), "guests")?;
    // A service worker isolates pages in its own folder and below.
    tree.file(&repo::path("pkg/isolation-worker.js"), "isolation-worker.js");
    for (from, to) in VENDOR {
        tree.file(&repo::path("node_modules").join(from), to);
    }
    tree.write(&repo::build("site"))
}
