//! A device of the tailnet, reached from the cluster: by its address and by its name.

use std::time::Instant;

use anyhow::{Context, Result};
use isthmus_testkit::tailnet::Way;
use isthmus_testkit::workload;

use super::{control, redis_client, sha256, wait_for};
use crate::demo::redis;
use crate::demo::report::Row;
use crate::demo::stage::Stage;
use crate::process::say;

/// The device gets a name in the cluster, and a Pod reaches it; first by the device's address, then by its name.
pub(super) fn show(stage: &Stage) -> Result<[Row; 2]> {
    let address = &stage.database.address;
    let blob = redis::fill(&stage.database.host.namespace)?;
    stage.apply(&workload::client_pod())?;
    stage.kubectl(&["wait", "--for=condition=Ready", "--timeout=120s", "pod/client"])?;
    let name = stage.name_of("database")?.context("the database is a device")?;
    let by_address = Stage::example("egress.yaml")?.replace("100.64.0.5", address);
    let by_name = Stage::example("egress-fqdn.yaml")?.replace("database.tailnet.example", &name);
    Ok([
        reach(
            stage,
            &Case {
                name: "a Pod reaches a device of the tailnet by its address",
                service: "db",
                example: &by_address,
                direct: address,
                expected: &sha256(blob.as_bytes()),
            },
        )?,
        reach(
            stage,
            &Case {
                name: "a Pod reaches a device of the tailnet by its name",
                service: "db-by-name",
                example: &by_name,
                direct: &name,
                expected: &sha256(blob.as_bytes()),
            },
        )?,
    ])
}

struct Case<'a> {
    name: &'static str,
    service: &'static str,
    example: &'a str,
    /// What the Pod cannot reach by itself.
    direct: &'a str,
    expected: &'a str,
}

fn reach(stage: &Stage, case: &Case<'_>) -> Result<Row> {
    let (before, failed_before) = control(ask(stage, case.direct, &["ping"]));

    let applied = Instant::now();
    stage.apply(case.example)?;
    let host = format!("{}.default.svc", case.service);
    let ready_s = wait_for(applied, "the Service's condition", || {
        stage.proxy_is_ready(case.service)
    })?;
    // Not asked before: the cluster's DNS would remember for seconds that the name had no address.
    let first_byte_s = wait_for(applied, "the database to answer", || {
        Ok(ask(stage, &host, &["ping"]).is_ok())
    })?;
    let received = ask(stage, &host, &["get", "blob"])
        .map_err(anyhow::Error::msg)
        .context("get the mebibyte")?;
    let client = ask(stage, &host, &["client", "info"])
        .map_err(anyhow::Error::msg)
        .context("ask who the client is")?;
    let proxy = stage
        .address_of(&format!("default-{}", case.service))?
        .context("the proxy is a device of the tailnet")?;
    say(&format!("a Pod reaches the database as {host}"));
    Ok(Row {
        case: case.name,
        before: format!("pod$ redis-cli -h {} ping: {before}", case.direct),
        failed_before,
        request: format!("pod$ redis-cli -h {host} ping"),
        repeat: format!(
            "{} exec client -- redis-cli -h {host} ping",
            stage.kubectl_path().display()
        ),
        received: sha256(received.trim_end().as_bytes()),
        expected: case.expected.to_owned(),
        peer: redis_client(&client).unwrap_or_else(|| "not said".to_owned()),
        way: Stage::way(&stage.database, &proxy, Way::Relayed)?,
        expected_way: Way::Relayed.to_string(),
        expected_peer: proxy,
        ready_s,
        first_byte_s,
    })
}

/// What a Pod gets from redis at this host.
fn ask(stage: &Stage, host: &str, command: &[&str]) -> Result<String, String> {
    let program = ["exec", "client", "--", "timeout", "10", "redis-cli", "-e", "-h", host];
    let answer = stage
        .kubectl(&[&program[..], command].concat())
        .map_err(|error| format!("{error:#}"))?;
    redis::judge(answer)
}
