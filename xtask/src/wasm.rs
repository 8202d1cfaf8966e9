//! Compiling `web/` to wasm, in two variants, each as a module plus the JavaScript glue around it.
use crate::{repo, run, toolchain::Toolchain};
use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use wasm_bindgen_cli_support::Bindgen;

/// One of the two builds of the same crate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// One shared memory per VM, for cross-origin isolated pages.
    Shared,
    /// Private memory and messages, for everywhere else.
    Plain,
}

/// The two builds, in the order in which they are made.
pub const VARIANTS: [Variant; 2] = [Variant::Shared, Variant::Plain];

/// The contract of the package's size (issue 2, "It must show" 8).
const MAX_BYTES: u64 = 1_500_000;
const MAX_GZIPPED: u64 = 500_000;

/// All 65,536 pages that wasm32 has: the page chooses the memory's real maximum, which may be lower but not higher.
const MAX_MEMORY: u64 = 1 << 32;
/// What wasm-bindgen's threading transform looks for in a module and lld exports only when asked.
const THREAD_EXPORTS: [&str; 5] = ["__wasm_init_tls", "__tls_size", "__tls_align", "__tls_base", "__heap_base"];
/// What every browser with WebAssembly threads, and Node 18, understand.
const FEATURES: &str = "+simd128,+nontrapping-fptoint,+sign-ext,+bulk-memory,+mutable-globals";
/// The global that wasm-bindgen's no-modules glue defines; it stays inside the factory.
const GLUE_GLOBAL: &str = "wasm_bindgen";

impl Variant {
    /// The folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Shared => "shared",
            Variant::Plain => "plain",
        }
    }

    /// Where the finished files lie.
    pub fn folder(self) -> PathBuf {
        repo::build("wasm").join(self.name())
    }

    fn rustflags(self) -> Vec<String> {
        let mut features = FEATURES.to_owned();
        // Compiled guest code goes into the function table.
        let mut link = vec!["--growable-table".to_owned()];
        if self == Variant::Shared {
            features.push_str(",+atomics");
            link.extend(["--shared-memory".to_owned(), "--import-memory".to_owned()]);
            link.push(format!("--max-memory={MAX_MEMORY}"));
            link.extend(THREAD_EXPORTS.map(|name| format!("--export={name}")));
        }
        let mut flags = vec![format!("-Ctarget-feature={features}")];
        flags.extend(link.into_iter().map(|arg| format!("-Clink-arg={arg}")));
        // Panic messages name source files: keep this machine's folders out of them.
        flags.push(format!("--remap-path-prefix={}=tab86", repo::root().display()));
        if let Some(home) = cargo_home() {
            flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
        }
        flags
    }
}

fn cargo_home() -> Option<PathBuf> {
    let given = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    given.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}

/// Builds variants into `build/wasm/`; `dev` skips wasm-opt and keeps function names.
pub fn build(toolchain: &Toolchain, variants: &[Variant], dev: bool) -> Result<()> {
    for &variant in variants {
        let module = compile(toolchain, variant)?;
        finish(variant, &module, dev)?;
    }
    Ok(())
}

fn compile(toolchain: &Toolchain, variant: Variant) -> Result<PathBuf> {
    run::step(format!("compiling web/ to wasm, {} memory ({})", variant.name(), toolchain.describe()));
    Ok(build_package(toolchain, variant, "tab86-web")?.join("tab86_web.wasm"))
}

/// Compiles a package's program of the same name, with private memory.
pub fn compile_program(toolchain: &Toolchain, package: &str) -> Result<PathBuf> {
    run::step(format!("compiling {package} to wasm ({})", toolchain.describe()));
    Ok(build_package(toolchain, Variant::Plain, package)?.join(format!("{package}.wasm")))
}

/// The folder with what was built.
fn build_package(toolchain: &Toolchain, variant: Variant, package: &str) -> Result<PathBuf> {
    // Its own target folder: neither the compiler nor the flags are those of the native builds.
    let target = repo::path("target/wasm").join(variant.name());
    let mut cargo = run::cargo();
    cargo.args(["build", "--release", "--package", package, "--target", "wasm32-unknown-unknown"]);
    cargo.args(["-Zbuild-std=std,panic_abort", "--target-dir"]).arg(&target);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", variant.rustflags().join("\x1f")).env_remove("RUSTFLAGS");
    toolchain.apply(&mut cargo);
    run::run(&mut cargo)?;
    Ok(target.join("wasm32-unknown-unknown/release"))
}

/// Runs wasm-bindgen and wasm-opt, unless the same input went through before.
fn finish(variant: Variant, module: &Path, dev: bool) -> Result<()> {
    let bytes = std::fs::read(module).with_context(|| format!("reading {}", module.display()))?;
    let folder = variant.folder();
    let stamp = folder.join(".input");
    let input = fingerprint(&bytes, dev);
    if std::fs::read_to_string(&stamp).is_ok_and(|old| old == input) {
        return Ok(());
    }
    run::step(format!("wasm-bindgen{}, {} memory", if dev { "" } else { " and wasm-opt" }, variant.name()));
    let mut bindgen = Bindgen::new();
    bindgen.input_bytes("tab86", bytes).out_name("tab86").typescript(true).omit_default_module_path(true);
    bindgen.no_modules(true)?.no_modules_global(GLUE_GLOBAL)?.keep_debug(false).remove_name_section(!dev);
    let mut output = bindgen.generate_output().context("wasm-bindgen")?;
    if output.js().contains("snippets/") {
        bail!("web/ uses JavaScript snippets, which the glue as a factory cannot carry: import through js-sys instead");
    }
    let wasm = folder.join("tab86_bg.wasm");
    run::write(&wasm, output.wasm_mut().emit_wasm())?;
    run::write(&folder.join("tab86.js"), factory(output.js()))?;
    run::write(&folder.join("tab86.d.ts"), factory_types(output.ts().unwrap_or_default()))?;
    if !dev {
        optimize(variant, &wasm)?;
    }
    run::write(&stamp, input)
}

fn fingerprint(module: &[u8], dev: bool) -> String {
    let mut hasher = DefaultHasher::new();
    (module, dev, include_str!("wasm.rs")).hash(&mut hasher);
    // The versions of wasm-bindgen and of wasm-opt.
    for lock in ["Cargo.lock", "package-lock.json"] {
        std::fs::read(repo::path(lock)).unwrap_or_default().hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

/// wasm-bindgen's glue keeps one instance in its scope. As a function that returns a new scope, each VM gets its own
/// and nothing of a closed VM stays reachable (an ES module would live as long as the page).
fn factory(glue: &str) -> String {
    format!(
        "// Generated by wasm-bindgen; `cargo xtask build` made a factory of it.\n\
         /** Returns a fresh instance of wasm-bindgen's glue. */\n\
         export function createGlue() {{\n{}\nreturn {GLUE_GLOBAL};\n}}\n",
        glue.trim()
    )
}

fn factory_types(types: &str) -> String {
    format!(
        "{}\n/** Returns a fresh instance of wasm-bindgen's glue. */\nexport function createGlue(): typeof {GLUE_GLOBAL};\n",
        types.trim()
    )
}

fn optimize(variant: Variant, wasm: &Path) -> Result<()> {
    let mut features = vec!["simd", "nontrapping-float-to-int", "sign-ext", "bulk-memory", "mutable-globals"];
    features.extend(["reference-types", "multivalue"]);
    if variant == Variant::Shared {
        features.push("threads");
    }
    let mut command = run::here("node");
    command.arg(repo::path("node_modules/binaryen/bin/wasm-opt")).arg("-O3").arg(wasm).arg("-o").arg(wasm);
    // The block loop is a function of its own so that nothing in it needs saving across calls: it must stay one.
    command.arg("--one-caller-inline-max-function-size=1000");
    command.args(features.iter().map(|name| format!("--enable-{name}"))).arg("--strip-producers");
    run::quietly(&mut command)
}

/// A finished module's name, size and gzipped size.
pub struct Size {
    /// The variant's name.
    pub name: &'static str,
    /// Bytes.
    pub bytes: u64,
    /// Bytes after `gzip -9`.
    pub gzipped: u64,
}

/// The sizes of both modules.
pub fn sizes() -> Result<Vec<Size>> {
    VARIANTS
        .iter()
        .map(|variant| {
            let file = variant.folder().join("tab86_bg.wasm");
            let bytes = std::fs::read(&file).with_context(|| format!("{} (`cargo xtask build`)", file.display()))?;
            let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
            gzip.write_all(&bytes)?;
            Ok(Size { name: variant.name(), bytes: bytes.len() as u64, gzipped: gzip.finish()?.len() as u64 })
        })
        .collect()
}

/// Prints the sizes.
pub fn print_sizes() -> Result<()> {
    for Size { name, bytes, gzipped } in sizes()? {
        println!("wasm, {name} memory: {} ({} gzipped)", run::size(bytes), run::size(gzipped));
    }
    Ok(())
}

/// Fails when a module is larger than promised.
pub fn check_sizes() -> Result<()> {
    for Size { name, bytes, gzipped } in sizes()? {
        if bytes > MAX_BYTES || gzipped > MAX_GZIPPED {
            let (most, most_gzipped) = (run::size(MAX_BYTES), run::size(MAX_GZIPPED));
            let (is, is_gzipped) = (run::size(bytes), run::size(gzipped));
            bail!("the {name} wasm is {is} ({is_gzipped} gzipped); at most {most} ({most_gzipped}) is allowed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shared_variant_asks_for_threads() {
        let (shared, plain) = (Variant::Shared.rustflags().join(" "), Variant::Plain.rustflags().join(" "));
        assert!(shared.contains("+atomics") && shared.contains("--import-memory"));
        assert!(!plain.contains("atomics") && !plain.contains("memory="));
    }

    #[test]
    fn the_factory_returns_the_glue_it_encloses() {
        let module = factory("let wasm_bindgen = (function(exports) { return 1; })({});\n");
        assert!(module.contains("export function createGlue() {\nlet wasm_bindgen"));
        assert!(module.trim_end().ends_with("return wasm_bindgen;\n}"));
    }
}
