//! Reads the checkout that these tests are part of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::Source;
use crate::edges::Metadata;

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A file's text, by its path from the root.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// Whether there is such a file or folder, by its path from the root.
#[must_use]
pub fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// Paths below a folder, sorted, of the files whose name ends so.
///
/// # Errors
/// A folder cannot be read.
pub fn files(folder: &str, suffix: &str) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    walk(&root().join(folder), folder, suffix, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, path: &str, suffix: &str, found: &mut Vec<String>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {path}"))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {path}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let below = format!("{path}/{name}");
        if entry.file_type()?.is_dir() {
            if name != "target" {
                walk(&entry.path(), &below, suffix, found)?;
            }
        } else if name.ends_with(suffix) {
            found.push(below);
        }
    }
    Ok(())
}

/// All Rust files of the house.
///
/// # Errors
/// One cannot be read, or there is none: then the rules would hold of nothing.
pub fn sources() -> anyhow::Result<Vec<Source>> {
    let sources: Vec<Source> = files("crates", ".rs")?
        .into_iter()
        .map(|path| Ok(Source::new(path.clone(), read(&path)?)))
        .collect::<anyhow::Result<_>>()?;
    ensure!(sources.len() > 20, "only {} Rust files", sources.len());
    Ok(sources)
}

/// What cargo knows of the workspace, dependencies by name only; asks no registry.
///
/// # Errors
/// cargo cannot be run or refuses.
pub fn metadata() -> anyhow::Result<Metadata> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .context("cannot run cargo metadata")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo metadata failed: {complaint}"
    );
    serde_json::from_slice(&output.stdout).context("cargo metadata answers something else")
}
