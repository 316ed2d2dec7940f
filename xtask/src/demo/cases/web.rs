//! A web server of the cluster, reached from the tailnet.

use std::time::Instant;

use anyhow::{Context, Result};
use isthmus_testkit::tailnet::Way;

use super::{control, fetch, hash_in_pod, last_web_client, repeat_on_laptop, sha256, wait_for};
use crate::demo::report::Row;
use crate::demo::stage::{Stage, until};
use crate::process::say;

/// A Service of the cluster gets one annotation, and the laptop on the tailnet reaches it.
pub(super) fn show_annotation(stage: &Stage) -> Result<Row> {
    let example = Stage::example("expose.yaml")?;
    stage.apply(&without_annotation(&example))?;
    stage.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    show(
        stage,
        &Case {
            name: "a laptop on the tailnet fetches from a Service with one annotation",
            service: "web",
            example: &example,
            ipv6: false,
        },
    )
}

/// A Service that has no IPv4 address.
pub(super) fn show_ipv6(stage: &Stage) -> Result<Row> {
    let example = Stage::example("expose-ipv6.yaml")?;
    stage.apply(&without_annotation(&example))?;
    show(
        stage,
        &Case {
            name: "a laptop on the tailnet fetches from a Service that has only IPv6",
            service: "web6",
            example: &example,
            ipv6: true,
        },
    )
}

struct Case<'a> {
    name: &'static str,
    service: &'static str,
    example: &'a str,
    ipv6: bool,
}

fn without_annotation(example: &str) -> String {
    let plain = example.lines().filter(|line| !line.contains("tailscale.com/expose"));
    plain.collect::<Vec<_>>().join("\n")
}

fn show(stage: &Stage, case: &Case<'_>) -> Result<Row> {
    let cluster_ip = stage.kubectl(&["get", "service", case.service, "-o", "jsonpath={.spec.clusterIP}"])?;
    let before_url = format!("http://{}/", in_url(&cluster_ip));
    let (before, failed_before) = control(fetch(stage, &before_url));

    let applied = Instant::now();
    stage.apply(case.example)?;
    let device = format!("default-{}", case.service);
    let address = until("the device of the Service", || {
        if case.ipv6 {
            stage.ipv6_address_of(&device)
        } else {
            stage.address_of(&device)
        }
    })?;
    let page = format!("http://{}/", in_url(&address));
    let first_byte_s = wait_for(applied, "the Service to answer", || Ok(fetch(stage, &page).is_ok()))?;
    let ready_s = wait_for(applied, "the Service's condition", || {
        stage.proxy_is_ready(case.service)
    })?;
    let received = fetch(stage, &format!("{page}blob"))
        .map_err(anyhow::Error::msg)
        .context("fetch the mebibyte")?;
    let log = stage.kubectl(&["logs", "deployment/web"])?;
    say(&format!("the laptop reaches the Service {}", case.service));
    Ok(Row {
        case: case.name,
        before: format!("laptop$ curl {before_url}: {before}"),
        failed_before,
        request: format!("laptop$ curl {page}"),
        repeat: repeat_on_laptop(stage, &format!("curl {page}")),
        received: sha256(&received),
        expected: hash_in_pod(stage, "deployment/web", "/www/blob")?,
        peer: last_web_client(&log).unwrap_or_else(|| "not logged".to_owned()),
        expected_peer: stage.proxy_pod_address(case.service, case.ipv6)?,
        way: Stage::way(&stage.laptop, &address, Way::Direct)?,
        expected_way: Way::Direct.to_string(),
        ready_s,
        first_byte_s,
    })
}

fn in_url(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}
