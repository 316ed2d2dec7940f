//! A database outside the cluster that only the cluster reaches, as one of a cloud provider; an ExternalName Service brings
//! it onto the tailnet.

use std::time::Instant;

use anyhow::{Context, Result};
use isthmus_testkit::tailnet::Way;

use super::{control, on_laptop_with_patience, redis_client, repeat_on_laptop, sha256, wait_for};
use crate::demo::redis;
use crate::demo::report::Row;
use crate::demo::stage::{Stage, until};
use crate::process::say;

/// The laptop reaches the database through the Service.
pub(super) fn show(stage: &Stage) -> Result<Row> {
    let cloud = &stage.cloud;
    let blob = redis::fill(&cloud.namespace)?;
    let (before, failed_before) = control(ask(stage, &cloud.address, &["ping"]));

    let applied = Instant::now();
    stage.apply(&Stage::example("external-name.yaml")?.replace("203.0.113.5", &cloud.address))?;
    let address = until("the device of the Service", || stage.address_of("default-clouddb"))?;
    let first_byte_s = wait_for(applied, "the database to answer", || {
        Ok(ask(stage, &address, &["ping"]).is_ok())
    })?;
    let ready_s = wait_for(applied, "the Service's condition", || stage.proxy_is_ready("clouddb"))?;
    let get = |command: &[&str]| ask(stage, &address, command).map_err(anyhow::Error::msg);
    let received = get(&["get", "blob"]).context("get the mebibyte")?;
    let client = get(&["client", "info"]).context("ask who the client is")?;
    say("the laptop reaches the database of the cloud");
    Ok(Row {
        case: "a laptop reaches a database outside the cluster through an ExternalName Service",
        before: format!("laptop$ redis-cli -h {} ping: {before}", cloud.address),
        failed_before,
        request: format!("laptop$ redis-cli -h {address} ping"),
        repeat: repeat_on_laptop(stage, &format!("redis-cli -h {address} ping")),
        received: sha256(received.trim_end().as_bytes()),
        expected: sha256(blob.as_bytes()),
        peer: redis_client(&client).unwrap_or_else(|| "not said".to_owned()),
        // What leaves the cluster has the address of its way out.
        expected_peer: stage.router_address(),
        way: Stage::way(&stage.laptop, &address, Way::Direct)?,
        expected_way: Way::Direct.to_string(),
        ready_s,
        first_byte_s,
    })
}

/// What the laptop gets from redis at this host.
fn ask(stage: &Stage, host: &str, command: &[&str]) -> Result<String, String> {
    let answer = on_laptop_with_patience(stage, &[&["redis-cli", "-e", "-h", host][..], command].concat())?;
    redis::judge(String::from_utf8_lossy(&answer).into_owned())
}
