//! One TCP stream over each way: as fast as it goes, and at a fixed rate for a fair price.

use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::Scene;
use crate::bench::accounts::{Pod, machine_seconds};
use crate::demo::stage::{Stage, run_on};

/// The fixed rate. What a gigabit costs depends on the rate, because full queues make larger batches.
const RATE: &str = "1G";

/// A stream: who sends how, and the proxy whose use of the processor is counted.
pub(super) struct Stream<'a> {
    name: &'static str,
    proxy: Option<&'a Pod>,
    run: RunIperf<'a>,
}

/// Runs iperf3 with more arguments and returns its report.
type RunIperf<'a> = Box<dyn Fn(&[&str]) -> Result<Value> + 'a>;

/// What a stream showed.
#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    name: &'static str,
    unlimited: Price,
    /// At one gigabit per second.
    fixed: Price,
}

/// What went through, and what it cost.
#[derive(Debug, Serialize)]
struct Price {
    gbits_per_second: f64,
    /// Processor time of the proxy's Pod.
    proxy_seconds_per_gbit: Option<f64>,
    /// Processor time of the whole machine, iperf3 and the other end's node included.
    machine_seconds_per_gbit: f64,
}

impl Scene<'_> {
    pub(super) fn streams(&self) -> [Stream<'_>; 7] {
        let [address, address6] = &self.exposed;
        let (service, device) = ("near.default.svc", "far.default.svc");
        [
            self.pod_stream("Pod → Service, no tailnet", None, service, &["-4"]),
            self.laptop_stream("laptop → ingress → Service", address, &[]),
            self.laptop_stream("laptop ← ingress ← Service", address, &["--reverse"]),
            self.laptop_stream("laptop → relay → Service", address6, &[]),
            self.laptop_stream("laptop ← relay ← Service", address6, &["--reverse"]),
            self.pod_stream("Pod → egress → device", Some(&self.egress), device, &[]),
            self.pod_stream("Pod ← egress ← device", Some(&self.egress), device, &["--reverse"]),
        ]
    }

    fn laptop_stream<'a>(&'a self, name: &'static str, host: &'a str, how: &'static [&str]) -> Stream<'a> {
        let run = move |more: &[&str]| laptop_iperf(self.stage, host, &[how, more].concat());
        Stream {
            name,
            proxy: Some(&self.ingress),
            run: Box::new(run),
        }
    }

    fn pod_stream<'a>(
        &'a self,
        name: &'static str,
        proxy: Option<&'a Pod>,
        host: &'static str,
        how: &'static [&str],
    ) -> Stream<'a> {
        let run = move |more: &[&str]| pod_iperf(self.stage, host, &[how, more].concat());
        Stream {
            name,
            proxy,
            run: Box::new(run),
        }
    }
}

impl Stream<'_> {
    pub(super) fn measure(&self, seconds: u32) -> Result<Throughput> {
        Ok(Throughput {
            name: self.name,
            unlimited: self.price(seconds, &[])?,
            fixed: self.price(seconds, &["--bitrate", RATE])?,
        })
    }

    fn price(&self, seconds: u32, more: &[&str]) -> Result<Price> {
        let time = seconds.to_string();
        let used = || anyhow::Ok((self.proxy.map(Pod::processor_seconds).transpose()?, machine_seconds()?));
        let before = used()?;
        let report = (self.run)(&[&["--time", &time], more].concat())?;
        let after = used()?;
        let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
        let gbits_per_second = bits.context("iperf3 printed no speed")? / 1e9;
        let gbits = gbits_per_second * f64::from(seconds);
        let proxy = before.0.zip(after.0);
        Ok(Price {
            gbits_per_second,
            proxy_seconds_per_gbit: proxy.map(|(before, after)| (after - before) / gbits),
            machine_seconds_per_gbit: (after.1 - before.1) / gbits,
        })
    }
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, unlimited, fixed } = self;
        write!(f, "{name:<28} {unlimited}; at {RATE}: {fixed}")
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.machine_seconds_per_gbit;
        write!(
            f,
            "{:5.2} Gbit/s, CPU-s/Gbit: machine {machine:.3}",
            self.gbits_per_second
        )?;
        match self.proxy_seconds_per_gbit {
            Some(proxy) => write!(f, ", proxy {proxy:.3}"),
            None => Ok(()),
        }
    }
}

fn laptop_iperf(stage: &Stage, host: &str, more: &[&str]) -> Result<Value> {
    let arguments = [&CLIENT[1..], &[host], more].concat();
    let output = run_on(&stage.laptop.host.namespace, CLIENT[0], &arguments);
    let output = output.map_err(anyhow::Error::msg).context("run iperf3 on the laptop")?;
    serde_json::from_slice(&output).context("read what iperf3 printed")
}

fn pod_iperf(stage: &Stage, host: &str, more: &[&str]) -> Result<Value> {
    let arguments = [&["exec", "client", "--"], &CLIENT[..], &[host], more].concat();
    let output = stage.kubectl(&arguments).context("run iperf3 in a Pod")?;
    serde_json::from_str(&output).context("read what iperf3 printed")
}

/// The program and its arguments, up to the host.
const CLIENT: [&str; 5] = ["iperf3", "--json", "--connect-timeout", "5000", "--client"];
