//! `cargo xtask package`: the npm package as the registry would get it.
use crate::{repo, run};
use anyhow::{Context, Result, bail};

/// Packs `build/pkg` into `build/NAME-VERSION.tgz`.
pub fn pack() -> Result<()> {
    if !repo::build("pkg/package.json").is_file() {
        bail!("pkg/package.json is missing: there is no npm package to make yet");
    }
    let mut npm = run::here("npm");
    npm.args(["pack", "--json", "--loglevel=error", "--pack-destination"]).arg(repo::build("")).arg(repo::build("pkg"));
    let text = run::output(&mut npm)?;
    let list: serde_json::Value = serde_json::from_str(&text).context("what npm pack printed")?;
    let entry = &list[0];
    let name = entry["filename"].as_str().context("npm pack named no file")?;
    let file = repo::build(name);
    let bytes = file.metadata().with_context(|| format!("{} was not written", file.display()))?.len();
    println!("{} ({}, {} files)", repo::show(&file), run::size(bytes), entry["entryCount"]);
    Ok(())
}
