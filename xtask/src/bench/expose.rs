//! `cargo xtask bench expose`: from the apply of a Service to the first byte, and what it costs.

mod audit;

use std::process::{Command, Stdio};
use std::time::Instant;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use clap::Args;
use isthmus_testkit::workload;
use serde::Serialize;

use self::audit::{Audit, Requests};
use super::accounts::{Memory, Pod};
use crate::demo::stage::{Places, Stage, run_on, until};
use crate::process::say;

/// A web server in the cluster; every Service of this benchmark leads to it.
const SERVER: &str = include_str!("expose/server.yaml");

/// How to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// How many Services are exposed and deleted one after the other
    #[arg(long, default_value_t = 10)]
    singles: u32,
    /// How many are exposed at once; may be given several times
    #[arg(long, default_values_t = [20, 30])]
    burst: Vec<u32>,
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
    image_bytes: u64,
    singles: Vec<Single>,
    bursts: Vec<Burst>,
}

/// One Service, with nothing else going on. Seconds since the start of the apply.
#[derive(Debug, Serialize)]
struct Single {
    ready_s: f64,
    first_byte_s: f64,
    /// Seconds from the deletion until no Pod of it is left.
    gone_s: f64,
    requests: Requests,
    operator: Memory,
    proxy: Memory,
}

/// Many Services at once.
#[derive(Debug, Serialize)]
struct Burst {
    services: u32,
    /// Seconds from the start of the apply until the last one was ready.
    all_ready_s: f64,
    requests: Requests,
    /// Requests of all clients, a Service.
    requests_per_service: f64,
    operator: Memory,
    /// The largest of the proxies.
    largest_proxy_mib: f64,
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// When the stage cannot be set, or a Service is not reached.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut stage = Stage::set(options.debug, Places::Open)?;
    let measured = measure(&stage, options);
    if measured.is_err() {
        stage.dump();
    }
    stage.strike()?;
    print(&measured?, options.json);
    Ok(())
}

fn measure(stage: &Stage, options: &Options) -> Result<Report> {
    stage.install_operator()?;
    stage.apply(&SERVER.replace("@IMAGE@", workload::IMAGE))?;
    stage.kubectl(&["wait", "--for=condition=Ready", "--timeout=120s", "pod/web"])?;
    let image_bytes = fs::metadata(stage.image()).context("look at the image file")?.len();
    let mut singles = Vec::new();
    for number in 1..=options.singles {
        let single = expose_one(stage, number)?;
        say(&format!(
            "single {number}: ready {:.2} s, first byte {:.2} s, gone {:.2} s; {}",
            single.ready_s, single.first_byte_s, single.gone_s, single.requests
        ));
        singles.push(single);
    }
    let mut bursts = Vec::new();
    for services in &options.burst {
        let burst = expose_many(stage, *services)?;
        say(&format!(
            "{services} at once: all ready {:.2} s; {:.1} requests a Service; operator {}; largest proxy {:.1} MiB; {}",
            burst.all_ready_s, burst.requests_per_service, burst.operator, burst.largest_proxy_mib, burst.requests
        ));
        bursts.push(burst);
    }
    Ok(Report {
        image_bytes,
        singles,
        bursts,
    })
}

fn expose_one(stage: &Stage, number: u32) -> Result<Single> {
    let name = format!("single-{number}");
    let audit = Audit::begin(stage.audit_log())?;
    let applied = Instant::now();
    stage.apply(&service(&name))?;
    let (ready_s, first_byte_s) = thread::scope(|scope| {
        let waiting = wait_until_ready(stage, &[&name]);
        let ready = scope.spawn(move || finish(waiting).map(|()| applied.elapsed().as_secs_f64()));
        let first_byte = wait_for_first_byte(stage, &name).map(|()| applied.elapsed().as_secs_f64());
        let ready = ready.join().expect("waiting does not panic");
        anyhow::Ok((ready?, first_byte?))
    })?;
    let requests = audit.end()?;
    let operator = Pod::of_operator(stage)?.memory()?;
    let proxy = Pod::of_proxy(stage, &name)?.memory()?;
    let deleted = Instant::now();
    remove(stage, &[&name])?;
    Ok(Single {
        ready_s,
        first_byte_s,
        gone_s: deleted.elapsed().as_secs_f64(),
        requests,
        operator,
        proxy,
    })
}

fn expose_many(stage: &Stage, services: u32) -> Result<Burst> {
    let names: Vec<String> = (1..=services).map(|number| format!("many-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let documents: Vec<String> = names.iter().map(|name| service(name)).collect();
    let audit = Audit::begin(stage.audit_log())?;
    let applied = Instant::now();
    stage.apply(&documents.join("---\n"))?;
    finish(wait_until_ready(stage, &names))?;
    let all_ready_s = applied.elapsed().as_secs_f64();
    let requests = audit.end()?;
    for name in &names {
        wait_for_first_byte(stage, name)?;
    }
    let mut largest_proxy_mib = 0.0_f64;
    for name in &names {
        largest_proxy_mib = largest_proxy_mib.max(Pod::of_proxy(stage, name)?.memory()?.own_mib);
    }
    let operator = Pod::of_operator(stage)?.memory()?;
    remove(stage, &names)?;
    Ok(Burst {
        services,
        all_ready_s,
        requests_per_service: requests.total() / f64::from(services),
        requests,
        operator,
        largest_proxy_mib,
    })
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: default
  annotations: {{tailscale.com/expose: \"true\"}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80}}]
"
    )
}

/// The command that ends when all are ready. It watches, which disturbs less than asking again and again.
fn wait_until_ready(stage: &Stage, names: &[&str]) -> Command {
    let mut command = stage.kubectl_command();
    command.args(["wait", "--for=condition=TailscaleProxyReady", "--timeout=300s"]);
    command.args(names.iter().map(|name| format!("service/{name}")));
    command
}

fn finish(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("run kubectl wait")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "not every Service became ready: {}",
        complaint.trim()
    );
    Ok(())
}

/// The laptop asks all along, from before the device exists.
fn wait_for_first_byte(stage: &Stage, name: &str) -> Result<()> {
    let device = format!("default-{name}");
    let address = until("the device of the Service", || stage.address_of(&device))?;
    let page = format!("http://{address}/");
    let ask = ["-sSf", "--connect-timeout", "30", "--max-time", "30", &page];
    until("the first byte", || {
        Ok(run_on(&stage.laptop.host.namespace, "curl", &ask).ok())
    })?;
    Ok(())
}

/// Deletes the Services and waits until no Pod of a proxy is left.
fn remove(stage: &Stage, names: &[&str]) -> Result<()> {
    stage.kubectl(&[&["delete", "service", "--timeout=300s"], names].concat())?;
    let pods = [
        "-n",
        "isthmus",
        "get",
        "pods",
        "-l",
        "tailscale.com/managed=true",
        "-o",
        "name",
    ];
    until("the Pods to be gone", || {
        Ok(stage.kubectl(&pods)?.trim().is_empty().then_some(()))
    })
}

#[expect(clippy::print_stdout, reason = "the results are what the command is run for")]
fn print(report: &Report, json: bool) {
    if json {
        println!(
            "{}",
            serde_json::to_string_pretty(report).expect("figures are plain numbers")
        );
        return;
    }
    println!("image {} kB", report.image_bytes / 1000);
    for (what, figures) in [
        (
            "ready",
            report.singles.iter().map(|one| one.ready_s).collect::<Vec<_>>(),
        ),
        (
            "first byte",
            report.singles.iter().map(|one| one.first_byte_s).collect(),
        ),
        ("gone", report.singles.iter().map(|one| one.gone_s).collect()),
        (
            "requests of all",
            report.singles.iter().map(|one| one.requests.total()).collect(),
        ),
        (
            "proxy MiB",
            report.singles.iter().map(|one| one.proxy.own_mib).collect(),
        ),
    ] {
        println!("one Service, {what:<16} {}", spread(figures));
    }
}

/// The least, the median and the greatest.
fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    match (figures.first(), figures.get(figures.len() / 2), figures.last()) {
        (Some(least), Some(median), Some(greatest)) => format!("{least:.2} / {median:.2} / {greatest:.2}"),
        _ => "not measured".to_owned(),
    }
}
