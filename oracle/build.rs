//! The wasm program's function table must be visible and grow: translated code goes into it.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        println!("cargo::rustc-link-arg-bins=--export-table");
        println!("cargo::rustc-link-arg-bins=--growable-table");
    }
}
