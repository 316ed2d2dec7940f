//! The status of a LoadBalancer Service: where clients find it on the tailnet.

use std::net::IpAddr;

use isthmus_contract::proxy_status::Family;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, ServiceStatus};

use super::{families, input::Input, intent::Wanted, status::device};

/// The entries that the status holds.
pub(super) fn existing(status: Option<&ServiceStatus>) -> Vec<LoadBalancerIngress> {
    status
        .and_then(|status| status.load_balancer.as_ref()?.ingress.clone())
        .unwrap_or_default()
}

/// The entries that the status should hold. They come with the first byte that can flow, and stay while the device does:
/// a proxy that restarts is found at the same place.
pub(super) fn entries(input: &Input, wanted: &Wanted, is_ready: bool) -> Vec<LoadBalancerIngress> {
    let was_ready = !existing(input.service.status.as_ref()).is_empty();
    let Some(device) = device(input).filter(|_| is_ready || was_ready) else {
        return Vec::new();
    };
    let served = families::served(input, wanted);
    let addresses = device
        .addresses
        .iter()
        .filter(|ip| served.is_empty() || served.contains(&family(**ip)));
    let name = LoadBalancerIngress {
        hostname: Some(device.fqdn.clone()),
        ..LoadBalancerIngress::default()
    };
    let addresses = addresses.map(|ip| LoadBalancerIngress {
        ip: Some(ip.to_string()),
        // With any other mode kube-proxy captures the address on every node.
        ip_mode: Some("Proxy".to_owned()),
        ..LoadBalancerIngress::default()
    });
    std::iter::once(name).chain(addresses).collect()
}

/// The family of an address.
pub(super) const fn family(ip: IpAddr) -> Family {
    match ip {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

#[cfg(test)]
mod tests;
