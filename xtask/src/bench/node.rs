//! One TCP stream through two nodes in network namespaces.

use anyhow::Context;
use isthmus_testkit::two_nodes::{IPV4, TwoNodes};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::NodeOptions;
use super::load::{self, Cost, Load, Traffic};
use crate::process::say;

/// What one measurement showed.
struct Measured {
    cost: Cost,
    /// Of the node that sends, and of the one that receives.
    batches: Vec<Batches>,
}

/// How much a node moved at once.
struct Batches {
    bytes_per_tun_read: f64,
    bytes_per_send: f64,
}

/// Measures the bare link, the node, and the node without offloads, in turn.
///
/// # Errors
/// When the machine cannot run it, or traffic does not pass.
pub(super) fn run(options: &NodeOptions) -> anyhow::Result<()> {
    let binary = options.prepare(&[])?;
    let modes: [(&str, Option<&[&str]>); 3] = [
        ("veth", None),
        ("node", Some(&[])),
        ("node, no offloads", Some(&["--no-offloads"])),
    ];
    for run in 1..=options.runs {
        let mut veth = None;
        for (name, mode) in modes {
            let measured = measure(&TwoNodes::new("bench", &binary), mode, options.seconds)?;
            let veth = *veth.get_or_insert(measured.cost.gbits_per_second);
            say(&format!("run {run}  {}", describe(name, &measured, veth)));
        }
    }
    Ok(())
}

/// Measures one stream from the first machine to the second: through nodes with these options, or over the bare link.
fn measure(two: &TwoNodes, options: Option<&[&str]>, seconds: u32) -> anyhow::Result<Measured> {
    let [client, server] = &two.machines;
    let load = Load {
        seconds,
        streams: 1,
        reverse: false,
        traffic: Traffic::Tcp { gbits_per_second: None },
    };
    let Some(options) = options else {
        let cost = load::measure(client, server, &format!("{IPV4}2"), load, &[])?;
        return Ok(Measured {
            cost,
            batches: Vec::new(),
        });
    };
    let nodes = two.start_both(IPV4, options);
    let processes = [nodes[0].id(), nodes[1].id()];
    let cost = load::measure(client, server, "10.120.0.2", load, &processes)?;
    let mut batches = Vec::new();
    for (which, node) in nodes.into_iter().enumerate() {
        node.signal(Signal::SIGTERM);
        node.ended();
        let counts = counts(&two.log(which))?;
        batches.push(Batches {
            bytes_per_tun_read: mean(&counts, "tun_read_bytes", "tun_reads"),
            bytes_per_send: mean(&counts, "udp_send_bytes", "udp_sends"),
        });
    }
    Ok(Measured { cost, batches })
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
    let speed = measured.cost.gbits_per_second;
    let first = format!(
        "{name:<18} {speed:6.2} Gbit/s  {:5.1} % of veth  {:6} retransmits",
        100.0 * speed / veth,
        measured.cost.retransmits
    );
    let processes = measured.cost.processes.iter().zip(&measured.batches);
    let nodes = ["sender", "receiver"].into_iter().zip(processes);
    let nodes = nodes.map(|(role, (used, batches))| {
        format!(
            "       {role:<8}  {:5.3} CPU-s/Gbit  {:5.1} MB resident  {:6.0} B per TUN read  {:6.0} B per send",
            used.cpu_seconds_per_gbit, used.resident_megabytes, batches.bytes_per_tun_read, batches.bytes_per_send
        )
    });
    std::iter::once(first).chain(nodes).collect::<Vec<_>>().join("\n")
}
