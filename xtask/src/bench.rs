//! `cargo xtask bench`: measurements, printed and never asserted.

mod accounts;
mod dataplane;
mod expose;
mod load;
mod node;
mod path;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use isthmus_testkit::netns;
use serde_json::Value;

use crate::debian;
use crate::process::{cargo, repository, step};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// One TCP stream through two nodes in network namespaces, beside the bare link they run over
    Node(NodeOptions),
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

/// How to measure nodes in network namespaces.
#[derive(Args)]
pub(crate) struct NodeOptions {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// How often each is repeated
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Measure this `isthmus` instead of a release build of this checkout
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl NodeOptions {
    /// Makes sure that the machine can run it, with these programs of these packages beside those that every measurement needs; gives
    /// the `isthmus` to measure.
    fn prepare(&self, more: &[(&'static str, &'static str)]) -> anyhow::Result<PathBuf> {
        ensure!(
            netns::is_allowed(),
            "network namespaces need root: run it as root, or under `unshare -Urnm`"
        );
        let programs = [("ip", "iproute2"), ("iperf3", "iperf3"), ("ping", "iputils-ping")];
        debian::ensure_programs(&[&programs, more].concat())?;
        let isthmus = self.binary.clone().map_or_else(release_build, Ok)?;
        ensure!(
            isthmus.is_file(),
            "cannot measure {}: there is no such file",
            isthmus.display()
        );
        Ok(isthmus)
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
