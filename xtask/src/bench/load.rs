//! One load between two machines, and what it costs: what all measurements of the data plane share.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use isthmus_testkit::netns::Namespace;
use isthmus_testkit::wait;
use serde::Serialize;
use serde_json::Value;

use super::accounts::machine_seconds;

/// What is sent.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) seconds: u32,
    pub(super) streams: u32,
    /// From the server to the client.
    pub(super) reverse: bool,
    pub(super) traffic: Traffic,
}

/// Of what kind.
#[derive(Clone, Copy)]
pub(super) enum Traffic {
    /// As much as passes, or this much by all streams together.
    Tcp { gbits_per_second: Option<f64> },
    /// Datagrams of this size, as many.
    Udp { bytes: u32, gbits_per_second: f64 },
}

/// What it cost.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cost {
    /// What arrived.
    pub(super) gbits_per_second: f64,
    pub(super) retransmits: u64,
    /// Of datagrams; nothing for streams.
    pub(super) lost_percent: Option<f64>,
    /// Time in which the machine's processors were busy, for whatever: also the ends of the load, and the kernel.
    pub(super) machine_cpu_seconds_per_gbit: f64,
    /// In the order of the processes that were asked for.
    pub(super) processes: Vec<ProcessCost>,
}

/// What a process used.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ProcessCost {
    /// In the program, and in the kernel on its behalf.
    pub(super) cpu_seconds_per_gbit: f64,
    /// At the end of the load.
    pub(super) resident_megabytes: f64,
}

/// Sends a load from one machine to an address of another, and looks at these processes.
///
/// # Errors
/// When the kernel does not tell what was used, or nothing arrived.
pub(super) fn measure(
    client: &Namespace,
    server: &Namespace,
    address: &str,
    load: Load,
    processes: &[u32],
) -> Result<Cost> {
    let before = cpu_seconds(processes)?;
    let machine = machine_seconds()?;
    let report = iperf(client, server, address, load);
    let machine = machine_seconds()? - machine;
    let after = cpu_seconds(processes)?;
    let end = &report["end"];
    let lost_percent = end["sum"]["lost_percent"].as_f64();
    let bits = end["sum_received"]["bits_per_second"].as_f64();
    let bits = bits.context("iperf3 reports no figure of what was received")?;
    let gbits_per_second = bits / 1e9;
    let gbits = gbits_per_second * f64::from(load.seconds);
    ensure!(gbits > 0.0, "nothing arrived at {address}");
    let processes = processes
        .iter()
        .enumerate()
        .map(|(which, process)| {
            Ok(ProcessCost {
                cpu_seconds_per_gbit: (after[which] - before[which]) / gbits,
                resident_megabytes: resident_megabytes(*process)?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(Cost {
        gbits_per_second,
        retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
        lost_percent,
        machine_cpu_seconds_per_gbit: machine / gbits,
        processes,
    })
}

/// Runs `iperf3` and gives its report.
fn iperf(client: &Namespace, server: &Namespace, address: &str, load: Load) -> Value {
    let mut command = Command::new("iperf3");
    command
        .args(["--server", "--one-off"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let _server = server.spawn(command);
    let line = format!("iperf3 --json --client {address}{}", load.arguments());
    // With --json iperf3 may end well although it could not connect yet; then the figure is missing.
    wait::until("iperf3", || {
        let report: Value = serde_json::from_slice(&client.run(&line).stdout).ok()?;
        report["end"]["sum_received"]["bits_per_second"]
            .is_number()
            .then_some(report)
    })
}

impl Load {
    /// The arguments of `iperf3`; its rates are those of each stream.
    fn arguments(self) -> String {
        let rate = |gbits: f64| format!(" --bitrate {:.0}", gbits * 1e9 / f64::from(self.streams));
        let traffic = match self.traffic {
            Traffic::Tcp { gbits_per_second } => gbits_per_second.map(rate).unwrap_or_default(),
            Traffic::Udp {
                bytes,
                gbits_per_second,
            } => format!(" --udp --length {bytes}{}", rate(gbits_per_second)),
        };
        let reverse = if self.reverse { " --reverse" } else { "" };
        format!(" --time {} --parallel {}{reverse}{traffic}", self.seconds, self.streams)
    }
}

/// Seconds of processor time that each process has used: the scheduler counts nanoseconds for every thread.
fn cpu_seconds(processes: &[u32]) -> Result<Vec<f64>> {
    let used = |process: &u32| -> Result<f64> {
        let mut nanoseconds = 0.0;
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += text.split_whitespace().next().unwrap_or("0").parse::<f64>()?;
        }
        Ok(nanoseconds / 1e9)
    };
    processes.iter().map(used).collect()
}

fn resident_megabytes(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("the kernel shows no memory use")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).unwrap_or("0").parse()?;
    Ok(kilobytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_shared_by_the_streams() {
        let load = Load {
            seconds: 8,
            streams: 4,
            reverse: true,
            traffic: Traffic::Tcp {
                gbits_per_second: Some(1.0),
            },
        };
        assert_eq!(load.arguments(), " --time 8 --parallel 4 --reverse --bitrate 250000000");
        let datagrams = Traffic::Udp {
            bytes: 200,
            gbits_per_second: 0.08,
        };
        let load = Load {
            streams: 1,
            reverse: false,
            traffic: datagrams,
            ..load
        };
        assert_eq!(
            load.arguments(),
            " --time 8 --parallel 1 --udp --length 200 --bitrate 80000000"
        );
    }
}
