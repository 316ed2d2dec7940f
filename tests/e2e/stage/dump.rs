//! What is printed when a test with an operator fails: objects, conditions, logs, and rules and routes of the proxies.

use isthmus_testkit::log::read_tail;
use serde_json::Value;

use super::{PodProcess, Stage};

/// What says how a proxy's packets go.
const NETWORK: [&str; 6] = [
    "nft list ruleset",
    "ip rule",
    "ip route show table all",
    "ip -6 rule",
    "ip -6 route show table all",
    "ip -s addr",
];

const PROXIES: [&str; 2] = ["-l", "tailscale.com/managed=true"];

pub(super) fn print(stage: &Stage) {
    let namespace = stage.namespace.name();
    show(stage, &["-n", namespace, "get", "services", "-o", "yaml"]);
    show(
        stage,
        &["-n", "isthmus", "get", "all,secrets,roles,rolebindings", "-o", "wide"],
    );
    show(stage, &["-n", "isthmus", "get", "events", "--sort-by=.lastTimestamp"]);
    show(stage, &["-n", "isthmus", "logs", "deployment/operator", "--tail=100"]);
    let logs = ["-n", "isthmus", "logs", "--all-containers", "--prefix", "--tail=80"];
    show(stage, &[&logs[..], &PROXIES].concat());
    show(stage, &[&logs[..], &PROXIES, &["--previous"]].concat());
    let pods = output(
        stage,
        &[&["-n", "isthmus", "get", "pods", "-o", "json"], &PROXIES[..]].concat(),
    );
    let pods: Value = serde_json::from_str(&pods).unwrap_or_default();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let Some(process) = PodProcess::find(pod, "/isthmus") else {
            continue;
        };
        for line in NETWORK {
            eprintln!("# {line} in {}\n{}", pod["metadata"]["name"], process.run(line));
        }
    }
    show_cluster(stage);
    let devices = stage.tailnet.devices().unwrap_or_default();
    eprintln!("# devices of the tailnet\n{:#}", Value::from(devices));
}

fn show(stage: &Stage, arguments: &[&str]) {
    eprintln!("# kubectl {}\n{}", arguments.join(" "), output(stage, arguments));
}

/// What of the cluster itself does not run, and what its scheduler said last.
fn show_cluster(stage: &Stage) {
    let cluster = stage.cluster.cluster();
    match cluster.status() {
        Ok(status) => eprintln!("# the cluster\n{status:?}"),
        Err(error) => eprintln!("# the cluster: {error:#}"),
    }
    eprintln!("{}", read_tail(&cluster.logs().join("kube-scheduler.log"), 15));
}

fn output(stage: &Stage, arguments: &[&str]) -> String {
    let output = stage.cluster.cluster().kubectl().args(arguments).output();
    output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}
