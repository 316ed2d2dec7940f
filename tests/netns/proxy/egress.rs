//! From the cluster to a device of the tailnet.

use std::net::UdpSocket;

use isthmus_proxy_core::Mode;
use isthmus_testkit::isolate;

use super::topology::{
    Answer, DEVICE, OTHER_DEVICE, POD, Topology, address, ask, ask_udp, connect, serve, serve_udp, text,
};

fn to_device() -> Mode {
    Mode::egress_to([address(DEVICE)])
}

#[test]
fn pod_reaches_the_device_on_any_port_while_ip_forward_is_off() {
    isolate!();
    let topology = Topology::new("egress");
    serve(&topology.peer, "database", 5432);
    serve_udp(&topology.peer, "time", DEVICE, 123);
    assert!(
        !matches!(connect(&topology.cluster, POD, 5432), Answer::Text(_)),
        "nothing passes before the plan"
    );
    topology.apply(&Topology::plan(to_device()));
    assert_eq!(connect(&topology.cluster, POD, 5432), text("database saw 100.64.0.3"));
    assert_eq!(ask_udp(&topology.cluster, POD, 123), text("time saw 100.64.0.3"));
    assert_eq!(
        connect(&topology.cluster, POD, 4444),
        Answer::Refused,
        "the device's own refusal comes through"
    );
    topology.cluster.check(&format!("ping -c 1 -W 5 {POD}"));
}

#[test]
fn own_ports_are_not_carried_to_the_device() {
    isolate!();
    let topology = Topology::new("reserved");
    serve(&topology.proxy, "health", 9002);
    serve_udp(&topology.proxy, "wireguard", POD, 41641);
    serve(&topology.peer, "device", 9003);
    topology.apply(&Topology::plan(to_device()));
    assert_eq!(connect(&topology.cluster, POD, 9002), text("health saw 10.244.1.1"));
    assert_eq!(ask_udp(&topology.cluster, POD, 41641), text("wireguard saw 10.244.1.1"));
    assert_eq!(connect(&topology.cluster, POD, 9003), text("device saw 100.64.0.3"));
}

#[test]
fn pod_using_proxy_as_gateway_reaches_only_targets() {
    isolate!();
    let topology = Topology::new("gateway");
    serve(&topology.peer, "device", 80);
    topology.apply(&Topology::plan(to_device()));
    assert_eq!(connect(&topology.cluster, POD, 80), text("device saw 100.64.0.3"));
    // The cluster's namespace has a route to the whole tailnet by way of the proxy.
    for beyond in [OTHER_DEVICE, "100.64.0.9"] {
        assert_eq!(connect(&topology.cluster, beyond, 80), Answer::Silence, "{beyond}");
        assert_eq!(ask_udp(&topology.cluster, beyond, 80), Answer::Silence, "{beyond}");
    }
}

#[test]
fn peer_reaches_neither_pods_nor_the_proxy_through_an_egress() {
    isolate!();
    let topology = Topology::new("egress-in");
    serve(&topology.cluster, "cluster", 80);
    serve(&topology.proxy, "health", 9002);
    topology.apply(&Topology::plan(to_device()));
    for (target, port) in [
        ("100.64.0.3", 80),
        ("10.244.1.1", 80),
        ("10.96.0.7", 80),
        ("100.64.0.3", 9002),
        (POD, 9002),
    ] {
        assert_eq!(
            connect(&topology.peer, target, port),
            Answer::Silence,
            "{target}:{port}"
        );
    }
}

#[test]
fn target_without_an_address_refuses_at_once() {
    isolate!();
    let topology = Topology::new("no-target");
    serve(&topology.proxy, "sidecar", 8080);
    topology.apply(&Topology::plan(Mode::egress_to([])));
    assert_eq!(connect(&topology.cluster, POD, 5432), Answer::Refused);
    assert_eq!(
        connect(&topology.cluster, POD, 8080),
        Answer::Refused,
        "every port belongs to the target"
    );
    assert_eq!(ask_udp(&topology.cluster, POD, 53), Answer::Refused);
    // The same while the node has no address of its own yet.
    let mut plan = Topology::plan(to_device());
    plan.tailnet = isthmus_proxy_core::TailnetAddresses::default();
    topology.apply(&plan);
    assert_eq!(connect(&topology.cluster, POD, 5432), Answer::Refused);
}

#[test]
fn egress_works_under_every_reverse_path_check() {
    isolate!();
    let topology = Topology::new("rp-filter");
    serve(&topology.peer, "device", 80);
    for strictness in ["0", "1", "2"] {
        for device in ["all", "tailscale0", "eth0"] {
            topology
                .proxy
                .sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), strictness);
        }
        topology.apply(&Topology::plan(to_device()));
        assert_eq!(
            connect(&topology.cluster, POD, 80),
            text("device saw 100.64.0.3"),
            "rp_filter {strictness}"
        );
    }
}

#[test]
fn datagrams_of_a_pod_from_one_port_move_with_the_target() {
    isolate!();
    let topology = Topology::new("udp-moves-out");
    serve_udp(&topology.peer, "old", DEVICE, 123);
    serve_udp(&topology.peer, "new", OTHER_DEVICE, 123);
    let client = topology.cluster.enter(|| UdpSocket::bind("0.0.0.0:1123").unwrap());
    client.connect((POD, 123)).unwrap();
    for (target, name) in [(DEVICE, "old"), (OTHER_DEVICE, "new"), (DEVICE, "old")] {
        topology.apply(&Topology::plan(Mode::egress_to([address(target)])));
        for _ in 0..3 {
            assert_eq!(ask(&client), format!("{name} saw 100.64.0.3"));
        }
    }
}
