//! Every crate inherits the lints and package fields of the workspace.

use std::{fs, path::Path};

use anyhow::Context;

use super::{Complaint, sources::tracked};

/// Checks every `Cargo.toml` below the root.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    for path in tracked(root, "Cargo.toml")? {
        let text = fs::read_to_string(root.join(&path)).with_context(|| format!("read {path}"))?;
        let manifest: toml::Table = text.parse().with_context(|| format!("parse {path}"))?;
        if manifest.contains_key("package") {
            complaints.extend(inherits(&path, &manifest));
        }
    }
    Ok(complaints)
}

fn inherits(path: &str, manifest: &toml::Table) -> Vec<Complaint> {
    let from_workspace = |table: Option<&toml::Value>| {
        table
            .and_then(|value| value.get("workspace"))
            .and_then(toml::Value::as_bool)
            .unwrap_or(false)
    };
    let package = manifest.get("package");
    let mut complaints = Vec::new();
    if !from_workspace(manifest.get("lints")) {
        complaints.push(format!("{path}: add `[lints] workspace = true`"));
    }
    for field in ["version", "edition", "rust-version", "license"] {
        if !from_workspace(package.and_then(|package| package.get(field))) {
            complaints.push(format!(
                "{path}: `{field}` comes from the workspace: `{field}.workspace = true`"
            ));
        }
    }
    complaints
}
