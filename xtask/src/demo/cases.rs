//! The cases: each with a request that fails before, and the same request answered after.

mod cloud;
mod database;
mod files;
mod web;

use std::time::Instant;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::report::Row;
use super::stage::{Stage, run_on, until};

/// Shows every case, in an order in which later ones use what earlier ones made.
pub(super) fn show_all(stage: &Stage) -> Result<Vec<Row>> {
    let mut rows = vec![web::show_annotation(stage)?, web::show_ipv6(stage)?];
    rows.extend(files::show(stage)?);
    rows.extend(database::show(stage)?);
    rows.push(cloud::show(stage)?);
    Ok(rows)
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
    on_laptop(
        stage,
        "curl",
        &["-sSf", "--connect-timeout", "2", "--max-time", "20", url],
    )
}

/// What a program on the laptop prints.
fn on_laptop(stage: &Stage, program: &str, args: &[&str]) -> Result<Vec<u8>, String> {
    run_on(&stage.laptop.host.namespace, program, args)
}

/// The same, for a program that would wait for an answer for ever.
fn on_laptop_with_patience(stage: &Stage, command: &[&str]) -> Result<Vec<u8>, String> {
    on_laptop(stage, "timeout", &[&["10"], command].concat()).map_err(|complaint| match complaint.as_str() {
        "" => "no answer in 10 s".to_owned(),
        _ => complaint,
    })
}

/// The command that repeats a request of the laptop.
fn repeat_on_laptop(stage: &Stage, request: &str) -> String {
    format!("nsenter --net={} {request}", stage.laptop.host.namespace.path())
}

/// The address that the balancer of a Service has, as its status says.
fn balancer_address(stage: &Stage, service: &str) -> Result<Option<String>> {
    let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
    let addresses = stage.kubectl(&["get", "service", service, "-o", path])?;
    Ok(addresses
        .split_whitespace()
        .find(|address| !address.contains(':'))
        .map(str::to_owned))
}

/// The client of the last request for the mebibyte in busybox httpd's log: `[::ffff:10.244.1.5]:44210: url:/blob`.
fn last_web_client(log: &str) -> Option<String> {
    let line = log.lines().rev().find(|line| line.contains("url:/blob"))?;
    let address = line.split_once("]:").map_or(line, |(address, _)| address);
    Some(address.trim_start_matches('[').trim_start_matches("::ffff:").to_owned())
}

/// The client's address in redis's description of it: `id=3 addr=100.64.0.6:40112 …`.
fn redis_client(info: &str) -> Option<String> {
    let address = info.split_whitespace().find_map(|word| word.strip_prefix("addr="))?;
    Some(address.rsplit_once(':')?.0.to_owned())
}

/// The hash that `sha256sum` prints in a Pod.
fn hash_in_pod(stage: &Stage, workload: &str, file: &str) -> Result<String> {
    let printed = stage.kubectl(&["exec", workload, "--", "sha256sum", file])?;
    let hash = printed.split_whitespace().next();
    Ok(hash.context("sha256sum prints a hash")?.to_owned())
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_read_from_the_log_of_the_web_server() {
        let log = "[::ffff:10.244.1.1]:5: url:/\n[::ffff:10.244.1.5]:44210: url:/blob\n";
        assert_eq!(last_web_client(log).as_deref(), Some("10.244.1.5"));
        assert_eq!(
            last_web_client("[fd00:1::5]:44210: url:/blob").as_deref(),
            Some("fd00:1::5")
        );
    }

    #[test]
    fn client_is_read_from_what_redis_says() {
        assert_eq!(
            redis_client("id=3 addr=100.64.0.6:40112 laddr=x").as_deref(),
            Some("100.64.0.6")
        );
    }
}
