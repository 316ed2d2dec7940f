//! A Service of type LoadBalancer, with TCP and UDP.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use isthmus_testkit::tailnet::Way;

use super::{
    balancer_address, control, fetch, hash_in_pod, last_web_client, on_laptop_with_patience, repeat_on_laptop, sha256,
    wait_for,
};
use crate::demo::report::Row;
use crate::demo::stage::{Stage, until};
use crate::process::say;

/// The laptop fetches the same file by HTTP and by TFTP.
pub(super) fn show(stage: &Stage) -> Result<[Row; 2]> {
    let example = Stage::example("load-balancer.yaml")?;
    let foreign = example.replace("loadBalancerClass: tailscale", "loadBalancerClass: example.com/none");
    stage.apply(&foreign)?;
    stage.kubectl(&["rollout", "status", "deployment/files", "--timeout=120s"])?;
    let cluster_ip = stage.kubectl(&["get", "service", "files", "-o", "jsonpath={.spec.clusterIP}"])?;
    let by_http = control(fetch(stage, &format!("http://{cluster_ip}/blob")));
    let by_tftp = control(transfer(stage, &cluster_ip));
    // The class of a balancer cannot be changed.
    stage.kubectl(&["delete", "service", "files"])?;

    let applied = Instant::now();
    stage.apply(&example)?;
    let address = until("the address of the balancer", || balancer_address(stage, "files"))?;
    let page = format!("http://{address}/blob");
    let http_s = wait_for(applied, "the Service to answer by TCP", || {
        Ok(fetch(stage, &page).is_ok())
    })?;
    let tftp_s = wait_for(applied, "the Service to answer by UDP", || {
        Ok(transfer(stage, &address).is_ok())
    })?;
    let ready_s = wait_for(applied, "the Service's condition", || stage.proxy_is_ready("files"))?;
    let fetched = fetch(stage, &page)
        .map_err(anyhow::Error::msg)
        .context("fetch by HTTP")?;
    let transferred = transfer(stage, &address)
        .map_err(anyhow::Error::msg)
        .context("fetch by TFTP")?;
    let expected = hash_in_pod(stage, "deployment/files", "/files/blob")?;
    let proxy = stage.proxy_pod_address("files", false)?;
    let way = Stage::way(&stage.laptop, &address, Way::Direct)?;
    say("the laptop reaches the balancer by TCP and by UDP");

    let row = |case, before: (String, bool), program: &str, received: &[u8], peer: Option<String>, first_byte_s| {
        let request = |host: &str| match program {
            "tftp" => format!("busybox tftp -g -r blob -l - {host}"),
            other => format!("{other} http://{host}/blob"),
        };
        Row {
            case,
            before: format!("laptop$ {}: {}", request(&cluster_ip), before.0),
            failed_before: before.1,
            request: format!("laptop$ {}", request(&address)),
            repeat: repeat_on_laptop(stage, &request(&address)),
            received: sha256(received),
            expected: expected.clone(),
            peer: peer.unwrap_or_else(|| "not logged".to_owned()),
            expected_peer: proxy.clone(),
            way: way.clone(),
            expected_way: Way::Direct.to_string(),
            ready_s,
            first_byte_s,
        }
    };
    let web_client = last_web_client(&logs(stage, "http")?);
    let tftp_client = last_tftp_client(&logs(stage, "tftp")?);
    Ok([
        row(
            "a laptop fetches from a LoadBalancer by TCP",
            by_http,
            "curl",
            &fetched,
            web_client,
            http_s,
        ),
        row(
            "a laptop fetches from a LoadBalancer by UDP",
            by_tftp,
            "tftp",
            &transferred,
            tftp_client,
            tftp_s,
        ),
    ])
}

/// Fetches the file by TFTP, in datagrams that fit the tunnel.
fn transfer(stage: &Stage, host: &str) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("blob");
    let local = file.display().to_string();
    let fetch = ["busybox", "tftp", "-b", "1024", "-g", "-r", "blob", "-l", &local, host];
    on_laptop_with_patience(stage, &fetch)?;
    fs::read(&file).map_err(|error| error.to_string())
}

fn logs(stage: &Stage, container: &str) -> Result<String> {
    stage.kubectl(&["logs", "deployment/files", "-c", container])
}

/// The client of the last transfer in dnsmasq's log: `dnsmasq-tftp: sent /files/blob to 10.244.1.5`.
fn last_tftp_client(log: &str) -> Option<String> {
    let line = log.lines().rev().find(|line| line.contains("sent /files/blob to "))?;
    line.rsplit(' ').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::last_tftp_client;

    #[test]
    fn client_is_read_from_the_log_of_the_tftp_server() {
        let log = "dnsmasq-tftp: started\ndnsmasq-tftp: sent /files/blob to 10.244.1.5\n";
        assert_eq!(last_tftp_client(log).as_deref(), Some("10.244.1.5"));
    }
}
