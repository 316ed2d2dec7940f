//! Which address families a proxy serves: what it says it carries, and until then what its target has.

use std::collections::BTreeSet;

use isthmus_contract::{
    proxy_config::{EgressTarget, IngressTarget},
    proxy_status::Family,
};

use super::{
    desired::PodAddresses,
    input::Input,
    intent::{Direction, Wanted},
    load_balancer::family,
    status::reported,
};

/// The families that clients can use. Empty: nobody knows yet.
pub(super) fn served(input: &Input, wanted: &Wanted) -> BTreeSet<Family> {
    let carried = carried(input);
    if !carried.is_empty() {
        return carried;
    }
    match &wanted.direction {
        Direction::Ingress {
            target: IngressTarget::ClusterIps(ips),
            ..
        } => ips.iter().copied().map(family).collect(),
        Direction::Egress {
            target: EgressTarget::Ip(ip),
        } => BTreeSet::from([family(*ip)]),
        Direction::Ingress {
            target: IngressTarget::DnsName(_),
            ..
        }
        | Direction::Egress {
            target: EgressTarget::Fqdn(_),
        } => BTreeSet::new(),
    }
}

/// Families that the proxy has said it carries. An earlier Pod's word counts as well: its successor will say the same,
/// and names that change at every restart help nobody.
fn carried(input: &Input) -> BTreeSet<Family> {
    let status = reported(input).and_then(Result::ok);
    status
        .iter()
        .flat_map(|status| &status.carries)
        .map(|carried| carried.family)
        .collect()
}

/// Which addresses of the proxy's Pod its name should show: those that lead somewhere.
pub(super) fn pod_addresses(input: &Input, wanted: &Wanted) -> PodAddresses {
    if matches!(wanted.direction, Direction::Ingress { .. }) {
        return PodAddresses::Any;
    }
    let served: Vec<Family> = served(input, wanted).into_iter().collect();
    match served.as_slice() {
        [] => live(input),
        [one] => PodAddresses::Of(*one),
        [..] => PodAddresses::Both,
    }
}

/// Nothing is known for a moment after each restart: what is there stays.
fn live(input: &Input) -> PodAddresses {
    let spec = input
        .children
        .headless_service
        .as_ref()
        .and_then(|service| service.spec.as_ref());
    let families = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    match families.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["IPv4"] => PodAddresses::Of(Family::V4),
        ["IPv6"] => PodAddresses::Of(Family::V6),
        [] => PodAddresses::Any,
        [..] => PodAddresses::Both,
    }
}
