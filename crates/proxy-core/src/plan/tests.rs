use std::collections::BTreeSet;
use std::net::IpAddr;

use isthmus_contract::proxy_config::{Port, Protocol as ConfigProtocol, ProxyConfig};

use super::{Plan, ReservedPorts, TailnetAddresses, Tun};
use crate::flow::{Flow, FlowEnd};
use crate::mode::{Egress, Mode};
use crate::rules::{Protocol, TRACK_EGRESS, TRACK_INGRESS};

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn plan(mode: Mode) -> Plan {
    Plan {
        mode,
        tailnet: TailnetAddresses::from_addresses(["100.64.0.3", "fd7a:115c:a1e0::3"].map(address)),
        pod: BTreeSet::from(["10.244.1.5", "fd00:10:244:1::5"].map(address)),
        tun: Tun {
            name: "tailscale0".to_owned(),
            mtu: 1280,
        },
        reserved: ReservedPorts {
            wireguard: 41641,
            health: 9002,
        },
    }
}

pub(crate) fn listed_ingress() -> Mode {
    let port = |protocol, port| Port { protocol, port };
    let ports = vec![
        port(ConfigProtocol::Tcp, 80),
        port(ConfigProtocol::Udp, 53),
        port(ConfigProtocol::Tcp, 443),
    ];
    Mode::from_config(&ProxyConfig::ingress(vec![address("10.96.0.7")], ports)).unwrap()
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
    let all = plan(Mode::ingress_to_all_ports("10.96.0.7").unwrap());
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
    let mut plan = plan(Mode::egress_to("100.64.0.5").unwrap());
    assert!(plan.admits(&flow));
    plan.tailnet = TailnetAddresses::from_addresses([address("100.64.0.4")]);
    assert!(
        !plan.admits(&flow),
        "answers would come to an address that is no longer ours"
    );
    plan.mode = Mode::Egress(Egress { target: None });
    assert!(!plan.admits(&flow));
}

#[test]
fn plan_carries_ipv6_only_with_a_target_and_an_own_address_of_it() {
    let mut six = plan(Mode::egress_to("fd7a:115c:a1e0::5").unwrap());
    assert!(six.carries_ipv6());
    six.tailnet.v6 = None;
    assert!(!six.carries_ipv6());
    assert!(!plan(listed_ingress()).carries_ipv6());
}
