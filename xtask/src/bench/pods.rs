//! `cargo xtask bench pods`: one TCP stream through the proxies of a cluster, beside the same stream without a tailnet.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use isthmus_testkit::workload;
use serde_json::Value;

use super::accounts::{Pod, machine_seconds};
use crate::demo::stage::{Stage, run_on, until};
use crate::process::say;

/// A server in the cluster that the tailnet reaches, a client in the cluster, and a name for a server outside.
const WORKLOADS: &str = include_str!("pods.yaml");

/// How to measure the proxies.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds of each stream
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// How often each is repeated
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// For development: with an image as of `cargo xtask image --debug`
    #[arg(long)]
    debug: bool,
}

/// A stream: who sends how, and the proxy whose use of the processor is counted.
struct Stream<'a> {
    name: &'a str,
    proxy: Option<&'a Pod>,
    run: Run<'a>,
}

/// Runs a stream for so many seconds and returns the report of iperf3.
type Run<'a> = Box<dyn Fn(u32) -> Result<Value> + 'a>;

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// When the stage cannot be set, or traffic does not pass.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut stage = Stage::set(options.debug)?;
    let measured = measure(&stage, options);
    if measured.is_err() {
        stage.dump();
    }
    stage.strike()?;
    measured
}

fn measure(stage: &Stage, options: &Options) -> Result<()> {
    let mut server = Command::new("iperf3");
    server.arg("--server").stdin(Stdio::null()).stdout(Stdio::null());
    let _server = stage.database.host.namespace.spawn(server);
    deploy(stage)?;
    let address = stage
        .address_of("default-iperf")?
        .context("the exposed Service is a device")?;
    let address6 = stage
        .ipv6_address_of("default-iperf")?
        .context("the exposed Service has an IPv6 address")?;
    let (ingress, egress) = (Pod::of_proxy(stage, "iperf")?, Pod::of_proxy(stage, "far")?);
    let operator = Pod::of_operator(stage)?;
    let report_memory = |when: &str| -> Result<()> {
        let (ingress, egress, operator) = (ingress.memory()?, egress.memory()?, operator.memory()?);
        say(&format!(
            "memory {when}: ingress proxy {ingress}; egress proxy {egress}; operator {operator}"
        ));
        Ok(())
    };
    report_memory("at rest")?;
    for run in 1..=options.runs {
        for stream in streams(stage, [&address, &address6], &ingress, &egress) {
            say(&format!("run {run}  {}", stream.measure(options.seconds)?));
        }
    }
    report_memory("after the load")
}

/// Installs the operator and the workloads, and waits until both proxies are ready.
fn deploy(stage: &Stage) -> Result<()> {
    stage.install_operator()?;
    let manifest = WORKLOADS
        .replace("@IMAGE@", workload::IMAGE)
        .replace("@DATABASE@", &stage.database.address);
    let applied = Instant::now();
    stage.apply(&manifest)?;
    for service in ["iperf", "far"] {
        until("the proxy", || Ok(stage.proxy_is_ready(service)?.then_some(())))?;
        say(&format!(
            "{service} ready after {:.1} s",
            applied.elapsed().as_secs_f64()
        ));
    }
    let wait = [
        "wait",
        "--for=condition=Ready",
        "--timeout=120s",
        "pod",
        "-l",
        "app=iperf",
    ];
    stage.kubectl(&wait)?;
    Ok(())
}

/// IPv4 is forwarded by the kernel of the Pod, and IPv6 relayed by the proxy, because Pods do not forward it.
fn streams<'a>(stage: &'a Stage, addresses: [&'a str; 2], ingress: &'a Pod, egress: &'a Pod) -> [Stream<'a>; 7] {
    let [address, address6] = addresses;
    let stream = |name, proxy, run| Stream { name, proxy, run };
    let laptop = |address: &'a str, more: &'static [&'static str]| -> Run<'a> {
        Box::new(move |seconds| from_laptop(stage, address, seconds, more))
    };
    let pod = |host: &'static str, more: &'static [&'static str]| -> Run<'a> {
        Box::new(move |seconds| from_pod(stage, host, seconds, more))
    };
    let (service, device) = ("iperf.default.svc", "far.default.svc");
    [
        stream("Pod → Service, no tailnet", None, pod(service, &["-4"])),
        stream("laptop → ingress → Service", Some(ingress), laptop(address, &[])),
        stream(
            "laptop ← ingress ← Service",
            Some(ingress),
            laptop(address, &["--reverse"]),
        ),
        stream("laptop → relay → Service", Some(ingress), laptop(address6, &[])),
        stream(
            "laptop ← relay ← Service",
            Some(ingress),
            laptop(address6, &["--reverse"]),
        ),
        stream("Pod → egress → device", Some(egress), pod(device, &[])),
        stream("Pod ← egress ← device", Some(egress), pod(device, &["--reverse"])),
    ]
}

impl Stream<'_> {
    fn measure(&self, seconds: u32) -> Result<String> {
        let before = (self.proxy.map(Pod::processor_seconds).transpose()?, machine_seconds()?);
        let report = (self.run)(seconds)?;
        let after = (self.proxy.map(Pod::processor_seconds).transpose()?, machine_seconds()?);
        let bits = report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .context("iperf3 printed no speed")?;
        let gbits = bits / 1e9 * f64::from(seconds);
        let proxy = before.0.zip(after.0).map_or_else(String::new, |(before, after)| {
            format!("  proxy {:.3} CPU-s/Gbit", (after - before) / gbits)
        });
        let machine = (after.1 - before.1) / gbits;
        Ok(format!(
            "{:<28} {:5.2} Gbit/s  machine {machine:.3} CPU-s/Gbit{proxy}",
            self.name,
            bits / 1e9
        ))
    }
}

fn from_laptop(stage: &Stage, address: &str, seconds: u32, more: &[&str]) -> Result<Value> {
    let time = seconds.to_string();
    let fixed = [
        "--json",
        "--connect-timeout",
        "5000",
        "--time",
        &time,
        "--client",
        address,
    ];
    let output = run_on(&stage.laptop.host.namespace, "iperf3", &[&fixed[..], more].concat());
    let output = output.map_err(anyhow::Error::msg).context("run iperf3 on the laptop")?;
    serde_json::from_slice(&output).context("read what iperf3 printed")
}

fn from_pod(stage: &Stage, host: &str, seconds: u32, more: &[&str]) -> Result<Value> {
    let time = seconds.to_string();
    let fixed = [
        "exec",
        "iperf-client",
        "--",
        "iperf3",
        "--json",
        "--connect-timeout",
        "5000",
        "--time",
        &time,
        "--client",
        host,
    ];
    let output = stage
        .kubectl(&[&fixed[..], more].concat())
        .context("run iperf3 in a Pod")?;
    serde_json::from_str(&output).context("read what iperf3 printed")
}
