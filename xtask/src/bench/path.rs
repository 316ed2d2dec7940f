//! `cargo xtask bench path`: what a way through the proxies of a cluster carries and costs, beside the way from Pod to Pod.

mod latency;
mod streams;

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use isthmus_testkit::workload;
use serde::Serialize;

use self::latency::Latency;
use self::streams::Throughput;
use super::accounts::{Memory, Pod};
use crate::demo::stage::{Places, Stage, until};
use crate::process::say;

/// Servers in the cluster that the tailnet reaches, a client in the cluster, and a name for a host outside.
const WORKLOADS: &str = include_str!("path/workloads.yaml");

/// How to measure the ways through the proxies.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds of each stream
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// How often each is repeated
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// New connections made one after the other over each way
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// For development: with an image as of `cargo xtask image --debug`
    #[arg(long)]
    debug: bool,
}

/// All figures.
#[derive(Debug, Serialize)]
struct Report {
    runs: Vec<Run>,
    memory_at_rest: Memories,
    memory_after_load: Memories,
}

/// Every way once.
#[derive(Debug, Serialize)]
struct Run {
    streams: Vec<Throughput>,
    connections: Vec<Latency>,
}

#[derive(Debug, Serialize)]
struct Memories {
    ingress: Memory,
    egress: Memory,
    operator: Memory,
}

/// What the measurements run between.
struct Scene<'a> {
    stage: &'a Stage,
    /// Addresses of the exposed Service on the tailnet: IPv4 is forwarded by the kernel of the proxy's Pod, and IPv6
    /// relayed by the proxy, because Pods do not forward it.
    exposed: [String; 2],
    ingress: Pod,
    egress: Pod,
    operator: Pod,
    client: Pod,
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// When the stage cannot be set, or traffic does not pass.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut stage = Stage::set(options.debug, Places::Open)?;
    let measured = measure(&stage, options);
    if measured.is_err() {
        stage.dump();
    }
    stage.strike()?;
    let report = measured?;
    if options.json {
        print(&report);
    }
    Ok(())
}

fn measure(stage: &Stage, options: &Options) -> Result<Report> {
    let start = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    };
    let mut iperf = Command::new("iperf3");
    start(iperf.arg("--server"));
    let mut web = Command::new("busybox");
    // Without a file there is nothing to read: the answer is a short page that says so.
    start(web.args(["httpd", "-f", "-p", "80", "-h", "/proc/self/fdinfo"]));
    let _servers = [iperf, web].map(|command| stage.database.host.namespace.spawn(command));
    let scene = deploy(stage)?;
    let memory_at_rest = scene.memory("at rest")?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        runs.push(scene.run(number, options)?);
    }
    Ok(Report {
        runs,
        memory_at_rest,
        memory_after_load: scene.memory("after the load")?,
    })
}

/// Installs the operator and the workloads, and waits until both proxies are ready.
fn deploy(stage: &Stage) -> Result<Scene<'_>> {
    stage.install_operator()?;
    let manifest = WORKLOADS
        .replace("@IMAGE@", workload::IMAGE)
        .replace("@DATABASE@", &stage.database.address);
    let applied = Instant::now();
    stage.apply(&manifest)?;
    for service in ["near", "far"] {
        until("the proxy", || Ok(stage.proxy_is_ready(service)?.then_some(())))?;
        let seconds = applied.elapsed().as_secs_f64();
        say(&format!("{service} ready after {seconds:.1} s"));
    }
    stage.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=120s",
        "pod",
        "-l",
        "app=bench",
    ])?;
    let device = "default-near";
    let address = stage.address_of(device)?.context("the exposed Service is a device")?;
    let address6 = stage.ipv6_address_of(device)?;
    Ok(Scene {
        stage,
        exposed: [address, address6.context("the exposed Service has an IPv6 address")?],
        ingress: Pod::of_proxy(stage, "near")?,
        egress: Pod::of_proxy(stage, "far")?,
        operator: Pod::of_operator(stage)?,
        client: Pod::of_workload(stage, "role=client")?,
    })
}

impl Scene<'_> {
    fn run(&self, number: u32, options: &Options) -> Result<Run> {
        let mut streams = Vec::new();
        for stream in self.streams() {
            let throughput = stream.measure(options.seconds)?;
            say(&format!("run {number}  {throughput}"));
            streams.push(throughput);
        }
        let mut connections = Vec::new();
        for way in self.ways()? {
            let latency = way.measure(options.connections)?;
            say(&format!("run {number}  {latency}"));
            connections.push(latency);
        }
        Ok(Run { streams, connections })
    }

    fn memory(&self, when: &str) -> Result<Memories> {
        let memories = Memories {
            ingress: self.ingress.memory()?,
            egress: self.egress.memory()?,
            operator: self.operator.memory()?,
        };
        let Memories {
            ingress,
            egress,
            operator,
        } = &memories;
        say(&format!(
            "memory {when}: ingress proxy {ingress}; egress proxy {egress}; operator {operator}"
        ));
        Ok(memories)
    }

    /// The address of a Pod or of a Service in the default namespace.
    fn look_up(&self, object: &str, path: &str) -> Result<String> {
        let path = format!("jsonpath={{{path}}}");
        self.stage.kubectl(&["get", object, "-o", &path])
    }
}

#[expect(clippy::print_stdout, reason = "the results are what the command is run for")]
fn print(report: &Report) {
    let text = serde_json::to_string_pretty(report).expect("figures are plain numbers");
    println!("{text}");
}
