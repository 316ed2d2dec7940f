//! Which crate may depend on which: the arrows of ARCHITECTURE.md, checked against `cargo metadata`.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;

use super::Complaint;
use crate::process::cargo;

/// Each of our crates with those of ours that it may use. Development dependencies are free.
const ALLOWED: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("operator-core", &["contract"]),
    ("kubernetes", &["runtime"]),
    (
        "operator",
        &["contract", "kubernetes", "operator-core", "runtime", "tailnet-api"],
    ),
    ("proxy-core", &["contract"]),
    (
        "proxy",
        &[
            "contract",
            "kubernetes",
            "proxy-core",
            "runtime",
            "sys",
            "tailnet",
            "tailnet-core",
        ],
    ),
    ("runtime", &[]),
    ("sys", &[]),
    ("tailbox", &["runtime", "tailnet-wire"]),
    ("tailnet", &["runtime", "sys", "tailnet-core", "tailnet-wire"]),
    ("tailnet-api", &["runtime"]),
    ("tailnet-core", &["tailnet-wire"]),
    ("tailnet-wire", &[]),
    (
        "isthmus",
        &[
            "contract",
            "kubernetes",
            "operator",
            "operator-core",
            "proxy",
            "proxy-core",
            "runtime",
            "tailbox",
            "tailnet",
            "tailnet-api",
            "tailnet-core",
        ],
    ),
    ("cluster", &[]),
    ("testkit", &["cluster", "sys", "tailnet-core"]),
];

/// Crates without I/O, clocks or randomness.
const PURE: &[&str] = &[
    "contract",
    "operator-core",
    "proxy-core",
    "tailnet-core",
    "tailnet-wire",
];

/// What a pure crate may not depend on: everything that waits, listens or asks the system.
const IMPURE: &[&str] = &[
    "anyhow",
    "axum",
    "h2",
    "hyper",
    "hyper-util",
    "nix",
    "nlink",
    "quinn-udp",
    "rand",
    "reqwest",
    "socket2",
    "tokio",
    "tun-rs",
    "ureq",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    #[serde(default)]
    features: Vec<String>,
}

/// Checks every dependency between our crates, and that the pure ones stay pure.
pub(super) fn check() -> anyhow::Result<Vec<Complaint>> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("run cargo metadata")?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")?;
    Ok(complaints(&metadata.packages))
}

fn complaints(packages: &[Package]) -> Vec<Complaint> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut complaints = Vec::new();
    for package in packages {
        let name = short(&package.name);
        if ["fuzz", "tests", "xtask"].contains(&name) {
            continue;
        }
        let Some(arrows) = allowed.get(name) else {
            complaints.push(format!(
                "crates/{name}: not in the table of arrows; add it there and in ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.is_none())
        {
            complaints.extend(judge(name, arrows, dependency));
        }
    }
    complaints
}

fn judge(name: &str, arrows: &[&str], dependency: &Dependency) -> Option<Complaint> {
    let target = short(&dependency.name);
    if dependency.name.starts_with("isthmus-") && !arrows.contains(&target) {
        return Some(format!(
            "crates/{name}: may not depend on {target}; see the arrows in ARCHITECTURE.md"
        ));
    }
    if !PURE.contains(&name) {
        return None;
    }
    if IMPURE.contains(&dependency.name.as_str()) {
        return Some(format!(
            "crates/{name}: is pure and may not depend on {}",
            dependency.name
        ));
    }
    let client = dependency.name == "kube" && dependency.features.iter().any(|f| f == "client" || f == "runtime");
    client.then(|| format!("crates/{name}: is pure and may not use kube's client"))
}

fn short(name: &str) -> &str {
    name.strip_prefix("isthmus-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::{Dependency, Package, complaints};

    fn package(name: &str, dependency: &str) -> Package {
        let dependency = Dependency {
            name: dependency.into(),
            kind: None,
            features: Vec::new(),
        };
        Package {
            name: name.into(),
            dependencies: vec![dependency],
        }
    }

    #[test]
    fn allowed_arrow_passes() {
        assert!(complaints(&[package("isthmus-proxy", "isthmus-tailnet")]).is_empty());
    }

    #[test]
    fn forbidden_arrow_is_named() {
        let complaints = complaints(&[package("isthmus-operator", "isthmus-proxy")]);
        assert_eq!(
            complaints,
            ["crates/operator: may not depend on proxy; see the arrows in ARCHITECTURE.md"]
        );
    }

    #[test]
    fn pure_crate_with_a_runtime_is_named() {
        let complaints = complaints(&[package("isthmus-tailnet-core", "tokio")]);
        assert_eq!(complaints, ["crates/tailnet-core: is pure and may not depend on tokio"]);
    }
}
