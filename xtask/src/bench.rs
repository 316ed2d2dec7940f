//! `cargo xtask bench`: measurements, printed and never asserted.

mod accounts;
mod expose;
mod path;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use isthmus_testkit::netns::{Namespace, Process};
use isthmus_testkit::two_nodes::{IPV4, TwoNodes};
use isthmus_testkit::{netns, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    debian,
    process::{cargo, repository, say, step},
};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// One TCP stream through two nodes in network namespaces, beside the bare link they run over
    Node(NodeOptions),
    /// Streams and new connections through the proxies of a cluster, beside the same from Pod to Pod
    Path(path::Options),
    /// How soon an exposed Service is ready and reached, one by one and many at once, and what that costs
    Expose(expose::Options),
}

/// How to measure the node.
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

/// What one measurement showed.
struct Measured {
    gbits_per_second: f64,
    retransmits: u64,
    /// Of the node that sends, and of the one that receives.
    nodes: Option<[NodeUse; 2]>,
}

/// What one node used.
struct NodeUse {
    cpu_seconds_per_gbit: f64,
    resident_megabytes: f64,
    bytes_per_tun_read: f64,
    bytes_per_send: f64,
}

/// Runs a benchmark.
///
/// # Errors
/// When the machine cannot run it, or traffic does not pass.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Node(options) => measure_nodes(options),
        Bench::Path(options) => path::run(options),
        Bench::Expose(options) => expose::run(options),
    }
}

fn measure_nodes(options: &NodeOptions) -> anyhow::Result<()> {
    ensure!(
        netns::is_allowed(),
        "network namespaces need root: run it as root, or under `unshare -Urnm`"
    );
    debian::ensure_programs(&[("ip", "iproute2"), ("iperf3", "iperf3"), ("ping", "iputils-ping")])?;
    let binary = options.binary.clone().map_or_else(release_build, Ok)?;
    ensure!(
        binary.is_file(),
        "cannot measure {}: there is no such file",
        binary.display()
    );
    let modes: [(&str, Option<&[&str]>); 3] = [
        ("veth", None),
        ("node", Some(&[])),
        ("node, no offloads", Some(&["--no-offloads"])),
    ];
    for run in 1..=options.runs {
        let mut veth = None;
        for (name, mode) in modes {
            let measured = measure(&TwoNodes::new("bench", &binary), mode, options.seconds)?;
            let veth = *veth.get_or_insert(measured.gbits_per_second);
            say(&format!("run {run}  {}", describe(name, &measured, veth)));
        }
    }
    Ok(())
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

/// Measures one stream from the first machine to the second: through nodes with these options, or over the bare link.
fn measure(two: &TwoNodes, options: Option<&[&str]>, seconds: u32) -> anyhow::Result<Measured> {
    let [client, server] = &two.machines;
    let Some(options) = options else {
        return Ok(stream(client, server, &format!("{IPV4}2"), seconds));
    };
    let nodes = two.start_both(IPV4, options);
    let before = cpu_seconds(&nodes)?;
    let mut measured = stream(client, server, "10.120.0.2", seconds);
    let after = cpu_seconds(&nodes)?;
    let resident = [resident_megabytes(&nodes[0])?, resident_megabytes(&nodes[1])?];
    let gbits = measured.gbits_per_second * f64::from(seconds);
    let mut uses = Vec::new();
    for (which, node) in nodes.into_iter().enumerate() {
        node.signal(Signal::SIGTERM);
        node.ended();
        let counts = counts(&two.log(which))?;
        uses.push(NodeUse {
            cpu_seconds_per_gbit: (after[which] - before[which]) / gbits,
            resident_megabytes: resident[which],
            bytes_per_tun_read: mean(&counts, "tun_read_bytes", "tun_reads"),
            bytes_per_send: mean(&counts, "udp_send_bytes", "udp_sends"),
        });
    }
    measured.nodes = uses.try_into().ok();
    Ok(measured)
}

fn stream(client: &Namespace, server: &Namespace, address: &str, seconds: u32) -> Measured {
    let mut command = Command::new("iperf3");
    command
        .args(["--server", "--one-off"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let _server = server.spawn(command);
    let line = format!("iperf3 --json --time {seconds} --client {address}");
    // With --json iperf3 may end well although it could not connect yet; then the figure is missing.
    let (bits, report) = wait::until("iperf3", || {
        let report: Value = serde_json::from_slice(&client.run(&line).stdout).ok()?;
        Some((report["end"]["sum_received"]["bits_per_second"].as_f64()?, report))
    });
    Measured {
        gbits_per_second: bits / 1e9,
        retransmits: report["end"]["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
        nodes: None,
    }
}

/// Seconds of processor time that each node has used: the scheduler counts nanoseconds for every thread.
fn cpu_seconds(nodes: &[Process; 2]) -> anyhow::Result<[f64; 2]> {
    let used = |node: &Process| -> anyhow::Result<f64> {
        let mut nanoseconds = 0.0;
        for thread in fs::read_dir(format!("/proc/{}/task", node.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += text.split_whitespace().next().unwrap_or("0").parse::<f64>()?;
        }
        Ok(nanoseconds / 1e9)
    };
    Ok([used(&nodes[0])?, used(&nodes[1])?])
}

fn resident_megabytes(node: &Process) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", node.id()))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("the kernel shows no memory use")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).unwrap_or("0").parse()?;
    Ok(kilobytes / 1024.0)
}

/// What the node logged when it ended.
fn counts(log: &str) -> anyhow::Result<Value> {
    let last = log
        .lines()
        .rev()
        .find(|line| line.contains("tun_reads"))
        .context("the node logged no counts")?;
    serde_json::from_str(last).context("cannot read the node's log")
}

fn mean(counts: &Value, sum: &str, count: &str) -> f64 {
    let number = |name: &str| counts[name].as_f64().unwrap_or(0.0);
    number(sum) / number(count).max(1.0)
}

fn describe(name: &str, measured: &Measured, veth: f64) -> String {
    let speed = measured.gbits_per_second;
    let first = format!(
        "{name:<18} {speed:6.2} Gbit/s  {:5.1} % of veth  {:6} retransmits",
        100.0 * speed / veth,
        measured.retransmits
    );
    let nodes = ["sender", "receiver"].into_iter().zip(measured.nodes.iter().flatten());
    let nodes = nodes.map(|(role, used)| {
        format!(
            "       {role:<8}  {:5.3} CPU-s/Gbit  {:5.1} MB resident  {:6.0} B per TUN read  {:6.0} B per send",
            used.cpu_seconds_per_gbit, used.resident_megabytes, used.bytes_per_tun_read, used.bytes_per_send
        )
    });
    std::iter::once(first).chain(nodes).collect::<Vec<_>>().join("\n")
}
