//! From the tailnet to a Service.

use std::collections::BTreeSet;
use std::net::UdpSocket;

use isthmus_contract::proxy_config::{Port, Protocol, ProxyConfig};
use isthmus_proxy_core::{IngressPorts, Mode, Path, Paths, Plan, RelayPorts};
use isthmus_testkit::{isolate, require};

use super::topology::{
    Answer, FORBIDDEN, NODE, OWN, POD, SERVICE, Topology, address, ask, ask_udp, connect, serve, serve_at, serve_udp,
    text,
};

fn web_and_dns() -> Mode {
    let ports = vec![
        Port {
            protocol: Protocol::Tcp,
            port: 80,
        },
        Port {
            protocol: Protocol::Udp,
            port: 53,
        },
    ];
    Mode::from_config(&ProxyConfig::ingress(vec![address(SERVICE)], ports), &BTreeSet::new()).unwrap()
}

/// What a name with several addresses gives.
fn to_three_addresses() -> Mode {
    let Mode::Ingress(ingress) = web_and_dns() else {
        unreachable!("an ingress")
    };
    Mode::ingress_to(["10.96.0.7", "10.96.0.1", "10.244.2.7"].map(address), ingress.ports)
}

fn all_ports() -> Mode {
    Mode::ingress_to([address(SERVICE)], IngressPorts::All)
}

#[test]
fn peer_reaches_the_service_while_ip_forward_is_off() {
    isolate!();
    let topology = Topology::new("ingress");
    serve(&topology.cluster, "web", 80);
    serve_udp(&topology.cluster, "dns", SERVICE, 53);
    assert!(
        !matches!(connect(&topology.peer, OWN, 80), Answer::Text(_)),
        "nothing passes before the plan"
    );
    for mode in [web_and_dns(), all_ports()] {
        assert!(topology.apply(&Topology::plan(mode)).tun_is_up);
        assert_eq!(connect(&topology.peer, OWN, 80), text("web saw 10.244.1.5"));
        assert_eq!(ask_udp(&topology.peer, OWN, 53), text("dns saw 10.244.1.5"));
    }
    assert_eq!(topology.proxy.check("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");
}

#[test]
fn new_flows_go_to_every_address_of_the_target() {
    isolate!();
    let topology = Topology::new("spread");
    for (name, address) in [("one", "10.96.0.7"), ("two", "10.96.0.1"), ("three", "10.244.2.7")] {
        serve_at(&topology.cluster, name, address, 80);
    }
    topology.apply(&Topology::plan(to_three_addresses()));
    let seen: BTreeSet<String> = (0..60)
        .map(|_| format!("{:?}", connect(&topology.peer, OWN, 80)))
        .collect();
    let wanted = ["one", "two", "three"].map(|name| format!("{:?}", text(&format!("{name} saw 10.244.1.5"))));
    assert_eq!(
        seen,
        BTreeSet::from(wanted),
        "of 60 connections none is lost and none goes astray"
    );
}

#[test]
fn ports_outside_the_plan_stay_closed() {
    isolate!();
    let topology = Topology::new("ports");
    serve(&topology.cluster, "web", 80);
    serve(&topology.cluster, "admin", 8081);
    serve_udp(&topology.cluster, "other", SERVICE, 80);
    topology.apply(&Topology::plan(web_and_dns()));
    assert_eq!(connect(&topology.peer, OWN, 80), text("web saw 10.244.1.5"));
    assert_eq!(connect(&topology.peer, OWN, 8081), Answer::Silence);
    assert_eq!(ask_udp(&topology.peer, OWN, 80), Answer::Silence);
    topology.apply(&Topology::plan(all_ports()));
    assert_eq!(connect(&topology.peer, OWN, 8081), text("admin saw 10.244.1.5"));
}

#[test]
fn peer_cannot_reach_cluster_addresses() {
    isolate!();
    let topology = Topology::new("forbidden");
    serve(&topology.cluster, "cluster", 80);
    for mode in [web_and_dns(), all_ports()] {
        topology.apply(&Topology::plan(mode));
        assert_eq!(
            connect(&topology.peer, OWN, 80),
            text("cluster saw 10.244.1.5"),
            "the way in is open"
        );
        for forbidden in FORBIDDEN.iter().chain([&SERVICE, &NODE]) {
            assert_eq!(connect(&topology.peer, forbidden, 80), Answer::Silence, "{forbidden}");
            let ping = topology.peer.run(&format!("ping -c 1 -W 1 {forbidden}"));
            assert!(!ping.status.success(), "{forbidden}");
        }
    }
}

#[test]
fn health_port_closed_over_tailnet() {
    isolate!();
    let topology = Topology::new("health");
    serve(&topology.proxy, "health", 9002);
    topology.apply(&Topology::plan(web_and_dns()));
    assert_eq!(
        connect(&topology.cluster, POD, 9002),
        text("health saw 10.244.1.1"),
        "the kubelet reaches it"
    );
    for target in [OWN, POD] {
        assert_eq!(connect(&topology.peer, target, 9002), Answer::Silence, "{target}");
    }
    topology.apply(&Topology::plan(Mode::Closed));
    assert_eq!(
        connect(&topology.peer, OWN, 9002),
        Answer::Silence,
        "also before there is anything to carry"
    );
}

#[test]
fn proxy_answers_pings_of_peers() {
    isolate!();
    let topology = Topology::new("ping");
    topology.apply(&Topology::plan(all_ports()));
    topology.peer.check(&format!("ping -c 1 -W 5 {OWN}"));
    assert!(
        !topology.peer.run(&format!("ping -c 1 -W 1 {POD}")).status.success(),
        "only the tailnet address answers"
    );
}

#[test]
fn ingress_works_under_every_reverse_path_check() {
    isolate!();
    let topology = Topology::new("rp-filter");
    serve(&topology.cluster, "web", 80);
    for strictness in ["0", "1", "2"] {
        for device in ["all", "tailscale0", "eth0"] {
            topology
                .proxy
                .sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), strictness);
        }
        topology.apply(&Topology::plan(web_and_dns()));
        assert_eq!(
            connect(&topology.peer, OWN, 80),
            text("web saw 10.244.1.5"),
            "rp_filter {strictness}"
        );
        topology.peer.check(&format!("ping -c 1 -W 5 {OWN}"));
    }
}

#[test]
fn datagrams_of_a_peer_from_one_port_move_with_the_target() {
    isolate!();
    let topology = Topology::new("udp-moves-in");
    let other = "10.96.0.8";
    topology.cluster.ip(&format!("addr add {other}/32 dev lo"));
    serve_udp(&topology.cluster, "old", SERVICE, 53);
    serve_udp(&topology.cluster, "new", other, 53);
    let client = topology.peer.enter(|| UdpSocket::bind("0.0.0.0:5353").unwrap());
    client.connect((OWN, 53)).unwrap();
    for (target, name) in [(SERVICE, "old"), (other, "new"), (SERVICE, "old")] {
        topology.apply(&Topology::plan(Mode::ingress_to([address(target)], IngressPorts::All)));
        for _ in 0..3 {
            assert_eq!(ask(&client), format!("{name} saw 10.244.1.5"));
        }
    }
}

#[test]
fn overlapping_cluster_range_is_still_reached() {
    isolate!();
    let topology = Topology::new("overlap");
    // A cluster may use addresses of the tailnet's own range: the Service does, beside a device with the same address.
    topology.cluster.ip("addr add 100.64.0.77/32 dev lo");
    topology.proxy.ip("route add 100.64.0.77/32 via 10.244.1.1");
    serve(&topology.cluster, "cluster", 80);
    serve(&topology.peer, "device", 80);
    topology.apply(&Topology::plan(Mode::ingress_to(
        [address("100.64.0.77")],
        IngressPorts::All,
    )));
    assert_eq!(connect(&topology.peer, OWN, 80), text("cluster saw 10.244.1.5"));
}

#[test]
fn rules_are_what_nft_lists() {
    isolate!();
    if !require::program("nft") {
        return;
    }
    let topology = Topology::new("oracle");
    let relayed = |mode| Plan {
        paths: Paths {
            v4: Some(Path::Relay(RelayPorts { tcp: 40006, udp: 40017 })),
            ..Paths::KERNEL
        },
        ..Topology::plan(mode)
    };
    for plan in [
        Topology::plan(Mode::Closed),
        Topology::plan(web_and_dns()),
        Topology::plan(all_ports()),
        Topology::plan(Mode::egress_to([address("100.64.0.5")])),
        Topology::plan(to_three_addresses()),
        relayed(web_and_dns()),
        relayed(Mode::egress_to([address("100.64.0.5")])),
    ] {
        topology.apply(&plan);
        let wanted = normalised(&isthmus_proxy_core::RulePlan::build(&plan).to_string());
        assert_eq!(
            normalised(&topology.proxy.check("nft -y list table inet isthmus")),
            wanted
        );
        let json: serde_json::Value = serde_json::from_str(&topology.proxy.check("nft -j list ruleset")).unwrap();
        let tables: Vec<_> = json["nftables"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|item| item.get("table").is_some())
            .collect();
        assert_eq!(tables.len(), 1, "there is no other table than ours: {tables:?}");
    }
}

/// The lines without indentation and gaps, each set's elements on one line in one order. Behind a match on TCP or UDP,
/// `nft` names the port `tcp dport` or `udp dport`, which is the same two bytes.
fn normalised(listing: &str) -> Vec<String> {
    let one_line = listing
        .replace(",\n", ", ")
        .replace("tcp dport @", "th dport @")
        .replace("udp dport @", "th dport @");
    let lines = one_line.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            line.strip_prefix("elements = { ")
                .map_or_else(|| line.to_owned(), sorted_elements)
        })
        .collect()
}

fn sorted_elements(line: &str) -> String {
    let mut elements: Vec<&str> = line.trim_end_matches(" }").split(',').map(str::trim).collect();
    elements.sort_unstable();
    elements.join(", ")
}
