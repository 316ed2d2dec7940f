//! The cases: each with a request that fails before, and the same request answered after.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context, Result};
use isthmus_testkit::workload;
use sha2::{Digest, Sha256};

use super::report::Row;
use super::stage::{Stage, run_on, until};
use crate::process::say;

/// A Pod of the cluster that asks the database.
const CLIENT: &str = "apiVersion: v1
kind: Pod
metadata:
  name: client
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: client
    image: IMAGE
    imagePullPolicy: Never
    args: [sleep, infinity]
";

/// A Service of the cluster gets one annotation, and the laptop on the tailnet reaches it.
pub(super) fn show_expose(stage: &Stage) -> Result<Row> {
    let example = Stage::example("expose.yaml")?;
    let plain: Vec<&str> = example
        .lines()
        .filter(|line| !line.contains("tailscale.com/expose"))
        .collect();
    stage.apply(&plain.join("\n"))?;
    stage.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let cluster_ip = stage.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    let (before, failed_before) = control(fetch(stage, &format!("http://{cluster_ip}/")));

    let applied = Instant::now();
    stage.apply(&example)?;
    let address = until("the device of the Service", || stage.address_of("default-web"))?;
    let page = format!("http://{address}/");
    let first_byte_s = wait_for(applied, "the Service to answer", || Ok(fetch(stage, &page).is_ok()))?;
    let ready_s = wait_for(applied, "the Service's condition", || stage.proxy_is_ready("web"))?;
    let received = fetch(stage, &format!("http://{address}/blob"))
        .map_err(anyhow::Error::msg)
        .context("fetch the mebibyte")?;
    let expected = stage.kubectl(&["exec", "deployment/web", "--", "sha256sum", "/www/blob"])?;
    let log = stage.kubectl(&["logs", "deployment/web"])?;
    say("the laptop reaches the Service");
    Ok(Row {
        case: "a laptop on the tailnet fetches from a Service with one annotation",
        before: format!("laptop$ curl http://{cluster_ip}/: {before}"),
        failed_before,
        request: format!("laptop$ curl {page}"),
        repeat: format!("nsenter --net={} curl {page}", stage.laptop.host.namespace.path()),
        received: sha256(&received),
        expected: first_word(&expected),
        peer: last_client(&log).unwrap_or_else(|| "not logged".to_owned()),
        proxy: stage.proxy_pod_address("web")?,
        ready_s,
        first_byte_s,
    })
}

/// A device of the tailnet gets a name in the cluster, and a Pod reaches it.
pub(super) fn show_egress(stage: &Stage) -> Result<Row> {
    let address = &stage.database.address;
    let blob = fill_database(stage)?;
    stage.apply(&CLIENT.replace("IMAGE", workload::IMAGE))?;
    stage.kubectl(&["wait", "--for=condition=Ready", "--timeout=120s", "pod/client"])?;
    let (before, failed_before) = control(ask(stage, address, &["ping"]));

    let applied = Instant::now();
    stage.apply(&Stage::example("egress.yaml")?.replace("100.64.0.5", address))?;
    let name = "db.default.svc";
    let ready_s = wait_for(applied, "the Service's condition", || stage.proxy_is_ready("db"))?;
    // Not asked before: the cluster's DNS would remember for seconds that the name had no address.
    let first_byte_s = wait_for(applied, "the database to answer", || {
        Ok(ask(stage, name, &["ping"]).is_ok())
    })?;
    let received = ask(stage, name, &["get", "blob"])
        .map_err(anyhow::Error::msg)
        .context("get the mebibyte")?;
    let client = ask(stage, name, &["client", "info"])
        .map_err(anyhow::Error::msg)
        .context("ask who the client is")?;
    say("a Pod reaches the database");
    Ok(Row {
        case: "a Pod reaches a device of the tailnet by the name of a Service",
        before: format!("pod$ redis-cli -h {address} ping: {before}"),
        failed_before,
        request: format!("pod$ redis-cli -h {name} ping"),
        repeat: format!(
            "{} exec client -- redis-cli -h {name} ping",
            stage.kubectl_path().display()
        ),
        received: sha256(received.trim_end().as_bytes()),
        expected: sha256(blob.as_bytes()),
        peer: redis_client(&client).unwrap_or_else(|| "not said".to_owned()),
        proxy: stage
            .address_of("default-db")?
            .context("the proxy is a device of the tailnet")?,
        ready_s,
        first_byte_s,
    })
}

/// Waits until the condition holds; seconds since the apply.
fn wait_for(applied: Instant, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<f64> {
    until(what, || Ok(condition()?.then(|| applied.elapsed().as_secs_f64())))
}

/// How the negative control ended, and whether it failed as it must.
fn control<T>(result: Result<T, String>) -> (String, bool) {
    match result {
        Ok(_) => ("answered".to_owned(), false),
        Err(complaint) => {
            let cause = complaint.rsplit(" failed: ").next().unwrap_or_default().trim();
            (cause.lines().next().unwrap_or("no answer").to_owned(), true)
        }
    }
}

/// What the laptop gets from a URL.
fn fetch(stage: &Stage, url: &str) -> Result<Vec<u8>, String> {
    run_on(
        &stage.laptop.host.namespace,
        "curl",
        &["-sSf", "--connect-timeout", "2", "--max-time", "20", url],
    )
}

/// What a Pod gets from redis at this host.
fn ask(stage: &Stage, host: &str, command: &[&str]) -> Result<String, String> {
    let program = ["exec", "client", "--", "timeout", "10", "redis-cli", "-e", "-h", host];
    let answer = stage
        .kubectl(&[&program[..], command].concat())
        .map_err(|error| format!("{error:#}"))?;
    if answer.trim().is_empty() || answer.contains("Could not connect") {
        Err(answer)
    } else {
        Ok(answer)
    }
}

/// Stores a mebibyte of text in the database and returns it.
fn fill_database(stage: &Stage) -> Result<String> {
    let mut blob = String::with_capacity(1 << 20);
    let mut block = sha256(stage.database.address.as_bytes());
    while blob.len() < 1 << 20 {
        write!(blob, "{block}").context("write into memory")?;
        block = sha256(block.as_bytes());
    }
    // Half of it fits in one argument of a program.
    let (first, second) = blob.split_at(blob.len() / 16);
    let set = |command: &str, part: &str| run_on(&stage.database.host.namespace, "redis-cli", &[command, "blob", part]);
    set("set", first)
        .map_err(anyhow::Error::msg)
        .context("fill the database")?;
    for part in second.as_bytes().chunks(first.len()) {
        let part = std::str::from_utf8(part).context("hexadecimal digits are text")?;
        set("append", part)
            .map_err(anyhow::Error::msg)
            .context("fill the database")?;
    }
    Ok(blob)
}

/// The client of the last request for the mebibyte in busybox httpd's log: `[::ffff:10.244.1.5]:44210: url:/blob`.
fn last_client(log: &str) -> Option<String> {
    let line = log.lines().rev().find(|line| line.contains("url:/blob"))?;
    let address = line.split_once("]:").map_or(line, |(address, _)| address);
    Some(address.trim_start_matches('[').trim_start_matches("::ffff:").to_owned())
}

/// The client's address in redis's description of it: `id=3 addr=100.64.0.6:40112 …`.
fn redis_client(info: &str) -> Option<String> {
    let address = info.split_whitespace().find_map(|word| word.strip_prefix("addr="))?;
    Some(address.rsplit_once(':')?.0.to_owned())
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_read_from_the_log_of_the_web_server() {
        let log = "[::ffff:10.244.1.1]:5: url:/\n[::ffff:10.244.1.5]:44210: url:/blob\n";
        assert_eq!(last_client(log).as_deref(), Some("10.244.1.5"));
    }

    #[test]
    fn client_is_read_from_what_redis_says() {
        assert_eq!(
            redis_client("id=3 addr=100.64.0.6:40112 laddr=x").as_deref(),
            Some("100.64.0.6")
        );
    }
}
