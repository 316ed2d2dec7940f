use std::collections::BTreeSet;
use std::net::IpAddr;

use isthmus_contract::proxy_config::{Port, Protocol as ConfigProtocol, ProxyConfig};
use isthmus_contract::proxy_status::Family;

use super::{Path, Paths, Plan, ReservedPorts, TailnetAddresses, Tun};
use crate::flow::{Flow, FlowEnd};
use crate::mode::{IngressPorts, Mode};
use crate::relay::RelayPorts;
use crate::rules::{Protocol, TRACK_EGRESS, TRACK_INGRESS, TRACK_RELAYED};

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn plan(mode: Mode) -> Plan {
    Plan {
        mode,
        paths: Paths::KERNEL,
        tailnet: TailnetAddresses::from_addresses(["100.64.0.3", "fd7a:115c:a1e0::3"].map(address)),
        pod: BTreeSet::from(["10.244.1.5", "fd00:10:244:1::5"].map(address)),
        tun: Tun {
            name: "tailscale0".to_owned(),
            mtu: 1280,
        },
        reserved: ReservedPorts {
            wireguard: 41641,
            health: 9002,
            debug: None,
        },
    }
}

pub(crate) fn relayed() -> Path {
    Path::Relay(RelayPorts { tcp: 40006, udp: 40017 })
}

pub(crate) fn listed_ingress() -> Mode {
    let port = |protocol, port| Port { protocol, port };
    let ports = vec![
        port(ConfigProtocol::Tcp, 80),
        port(ConfigProtocol::Udp, 53),
        port(ConfigProtocol::Tcp, 443),
    ];
    let ips = ["10.96.0.7", "fd00:10:96::7"].map(address).to_vec();
    Mode::from_config(&ProxyConfig::ingress(ips, ports), &BTreeSet::new()).unwrap()
}

pub(crate) fn every_port() -> Mode {
    Mode::ingress_to(["10.96.0.7", "fd00:10:96::7"].map(address), IngressPorts::All)
}

pub(crate) fn to_device() -> Mode {
    Mode::egress_to(["100.64.0.5", "fd7a:115c:a1e0::5"].map(address))
}

fn ingress_flow(port: u16, target: &str) -> Flow {
    Flow {
        mark: TRACK_INGRESS,
        protocol: Some(Protocol::Tcp),
        original: FlowEnd {
            source: address("100.64.0.9"),
            destination: address("100.64.0.3"),
            destination_port: Some(port),
        },
        reply: FlowEnd {
            source: address(target),
            destination: address("10.244.1.5"),
            destination_port: Some(40000),
        },
    }
}

#[test]
fn flow_lives_on_only_while_the_plan_leads_it_there() {
    let served = plan(listed_ingress());
    assert!(served.admits(&ingress_flow(80, "10.96.0.7")));
    assert!(
        !served.admits(&ingress_flow(81, "10.96.0.7")),
        "the port is no longer served"
    );
    assert!(
        !served.admits(&ingress_flow(80, "10.96.0.8")),
        "the target is another one"
    );
    assert!(!plan(Mode::Closed).admits(&ingress_flow(80, "10.96.0.7")));
    let all = plan(every_port());
    assert!(all.admits(&ingress_flow(81, "10.96.0.7")));
    let foreign = Flow {
        mark: 0,
        ..ingress_flow(81, "10.96.0.8")
    };
    assert!(served.admits(&foreign), "flows of others are not ours to judge");
}

#[test]
fn egress_flow_is_forgotten_when_target_or_own_address_changes() {
    let flow = Flow {
        mark: TRACK_EGRESS,
        protocol: None,
        original: FlowEnd {
            source: address("10.244.2.7"),
            destination: address("10.244.1.5"),
            destination_port: None,
        },
        reply: FlowEnd {
            source: address("100.64.0.5"),
            destination: address("100.64.0.3"),
            destination_port: None,
        },
    };
    let mut plan = plan(to_device());
    assert!(plan.admits(&flow));
    plan.tailnet = TailnetAddresses::from_addresses([address("100.64.0.4")]);
    assert!(
        !plan.admits(&flow),
        "answers would come to an address that is no longer ours"
    );
    plan.mode = Mode::egress_to([]);
    assert!(!plan.admits(&flow));
}

#[test]
fn flow_ends_when_its_address_vanishes_from_the_name_and_others_live_on() {
    let both = ["10.96.0.7", "10.96.0.8"].map(address);
    let mut plan = plan(Mode::ingress_to(both, IngressPorts::All));
    assert!(
        both.iter()
            .all(|target| plan.admits(&ingress_flow(80, &target.to_string())))
    );
    plan.mode = Mode::ingress_to([both[1]], IngressPorts::All);
    assert!(!plan.admits(&ingress_flow(80, "10.96.0.7")));
    assert!(plan.admits(&ingress_flow(80, "10.96.0.8")));
}

#[test]
fn connection_to_a_former_address_lives_on_beside_a_new_one_and_datagrams_move() {
    let former = BTreeSet::from(["10.96.0.7", "fd00:10:96::7"].map(address));
    let to = |targets: &[&str]| {
        let targets = targets.iter().map(|target| address(target));
        Mode::ingress_to(targets, IngressPorts::All).keeping(former.clone())
    };
    let flow = ingress_flow(80, "10.96.0.7");
    let datagrams = Flow {
        protocol: Some(Protocol::Udp),
        ..flow
    };
    let mut plan = plan(to(&["10.96.0.8"]));
    assert!(plan.admits(&flow) && !plan.admits(&datagrams));
    assert!(!plan.admits(&ingress_flow(80, "10.96.0.9")));
    assert_eq!(plan.ways()[0].targets, [address("10.96.0.8")], "nothing new goes there");
    plan.paths.v4 = Some(relayed());
    assert!(!plan.admits(&flow), "the kernel carries nothing of that family");
    plan.paths.v4 = Some(Path::Kernel);
    plan.mode = to(&["fd00:10:96::8"]);
    assert!(!plan.admits(&flow), "the name has no address of that family");
}

#[test]
fn family_is_carried_only_with_a_target_an_own_address_and_a_path() {
    let families = |plan: &Plan| -> Vec<_> { plan.carries().iter().map(|carried| carried.family).collect() };
    let mut plan = plan(to_device());
    assert_eq!(families(&plan), [Family::V4, Family::V6]);
    plan.tailnet.v6 = None;
    assert_eq!(families(&plan), [Family::V4]);
    plan.mode = Mode::egress_to([address("fd7a:115c:a1e0::5")]);
    assert_eq!(families(&plan), []);
    plan.mode = to_device();
    plan.paths.v4 = None;
    assert_eq!(families(&plan), []);
}

#[test]
fn family_that_the_relay_carries_is_none_of_the_kernels() {
    let mut plan = plan(every_port());
    plan.paths.v4 = Some(relayed());
    assert_eq!(plan.ways().len(), 2);
    let kernel = plan.kernel_ways();
    assert_eq!(kernel.len(), 1);
    assert!(kernel[0].own.is_ipv6());
    assert!(!plan.admits(&ingress_flow(80, "10.96.0.7")));
}

#[test]
fn relayed_flow_lives_on_only_while_the_relay_carries_it() {
    let flow = |port| Flow {
        mark: TRACK_RELAYED,
        ..ingress_flow(port, "100.64.0.3")
    };
    let mut plan = plan(listed_ingress());
    assert!(!plan.admits(&flow(80)), "the kernel carries it now");
    plan.paths.v4 = Some(relayed());
    assert!(plan.admits(&flow(80)));
    assert!(!plan.admits(&flow(81)));
    plan.mode = Mode::Closed;
    assert!(!plan.admits(&flow(80)));
}

#[test]
fn flows_may_be_stranded_only_by_another_plan_than_the_one_that_let_them_through() {
    let (carrying, other) = (plan(listed_ingress()), plan(every_port()));
    let closed = Plan {
        mode: Mode::Closed,
        ..carrying.clone()
    };
    assert!(carrying.may_strand_flows(&other));
    assert!(carrying.may_strand_flows(&closed));
    assert!(!carrying.may_strand_flows(&carrying.clone()), "nothing changes");
    assert!(!closed.may_strand_flows(&carrying), "nothing was let through");
}
