//! `cargo xtask bench`: measurements, printed and never asserted.

mod accounts;
mod dataplane;
mod expose;
mod load;
mod node;
mod path;

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use serde_json::Value;

use crate::process::{cargo, repository, step};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// One TCP stream through two nodes in network namespaces, beside the bare link they run over
    Node(node::Options),
    /// Loads of several kinds through two nodes in network namespaces, beside other programs
    Dataplane(dataplane::Options),
    /// Streams and new connections through the proxies of a cluster, beside the same from Pod to Pod
    Path(path::Options),
    /// How soon an exposed Service is ready and reached, one by one and many at once, and what that costs
    Expose(expose::Options),
}

/// Runs a benchmark.
///
/// # Errors
/// When the machine cannot run it, or traffic does not pass.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Node(options) => node::run(options),
        Bench::Dataplane(options) => dataplane::run(options),
        Bench::Path(options) => path::run(options),
        Bench::Expose(options) => expose::run(options),
    }
}

fn release_build() -> anyhow::Result<PathBuf> {
    step(
        "release build",
        cargo().args(["build", "--release", "--locked", "--quiet", "--package", "isthmus"]),
    )?;
    let metadata = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()?;
    let metadata: Value =
        serde_json::from_slice(&metadata.stdout).context("cannot read what cargo metadata printed")?;
    let target = metadata["target_directory"]
        .as_str()
        .map_or_else(|| repository().join("target"), PathBuf::from);
    Ok(target.join("release/isthmus"))
}
