//! What the relay carries, where the kernel forwards nothing: IPv6 in a Pod as the kubelet starts it, and IPv4 where it
//! is asked for.

mod bounds;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use isthmus_contract::proxy_config::{Port, Protocol, ProxyConfig};
use isthmus_proxy::{Relay, RelayLimits, RelayMetrics};
use isthmus_proxy_core::{IngressPorts, Mode, Path, Paths, Plan, RelayPlan, TailnetAddresses};
use isthmus_testkit::netns::Namespace;
use isthmus_testkit::{isolate, require, wait};

use super::topology::{
    Answer, DEVICE, DEVICE6, NODE6, OWN, OWN6, POD, POD6, SERVICE, SERVICE6, Topology, address, ask, ask_udp, connect,
    serve_at, serve_udp, text,
};

/// A topology whose proxy relays both families.
struct Scene {
    topology: Topology,
    relay: Relay,
}

impl Scene {
    fn new(name: &str) -> Self {
        Self::with_limits(name, RelayLimits::default())
    }

    fn with_limits(name: &str, limits: RelayLimits) -> Self {
        let topology = Topology::new(name);
        let start = || Relay::start(limits, RelayMetrics::default()).expect("the relay starts");
        let relay = topology.proxy.enter(start);
        Self { topology, relay }
    }

    /// Puts a plan in place in which the relay carries both families.
    fn apply(&self, mode: Mode) {
        let listeners = self.relay.listeners();
        let plan = Plan {
            paths: Paths {
                v4: listeners.v4.map(Path::Relay),
                v6: listeners.v6.map(Path::Relay),
            },
            tailnet: TailnetAddresses::from_addresses([OWN, OWN6].map(address)),
            pod: [POD, POD6].map(address).into(),
            ..Topology::plan(mode)
        };
        self.relay.follow(RelayPlan::build(&plan));
        self.topology.apply(&plan);
    }

    /// IPv6 is forwarded nowhere in the proxy, before and after.
    fn assert_nothing_is_forwarded(&self) {
        for device in ["all", "tailscale0", "eth0"] {
            let setting = format!("cat /proc/sys/net/ipv6/conf/{device}/forwarding");
            assert_eq!(self.topology.proxy.check(&setting).trim(), "0", "{device}");
        }
    }
}

fn web_and_dns(targets: &[&str]) -> Mode {
    let port = |protocol, port| Port { protocol, port };
    let ports = vec![port(Protocol::Tcp, 80), port(Protocol::Udp, 53)];
    let targets = targets.iter().map(|target| address(target)).collect();
    Mode::from_config(&ProxyConfig::ingress(targets, ports), &BTreeSet::new()).unwrap()
}

fn to_service() -> Mode {
    web_and_dns(&[SERVICE, SERVICE6])
}

fn to_device() -> Mode {
    Mode::egress_to([DEVICE, DEVICE6].map(address))
}

fn open(from: &Namespace, target: &str, port: u16) -> TcpStream {
    let target = SocketAddr::new(address(target), port);
    let stream = from.enter(|| TcpStream::connect_timeout(&target, wait::PATIENCE).unwrap());
    stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    stream
}

fn listen(on: &Namespace, own: &str, port: u16) -> TcpListener {
    on.enter(|| TcpListener::bind((address(own), port)).unwrap())
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    stream
}

#[test]
fn peer_reaches_the_service_over_ipv6_while_nothing_is_forwarded() {
    isolate!();
    let scene = Scene::new("relay-in");
    let (peer, cluster) = (&scene.topology.peer, &scene.topology.cluster);
    serve_at(cluster, "web", SERVICE6, 80);
    serve_udp(cluster, "dns", SERVICE6, 53);
    assert!(
        !matches!(connect(peer, OWN6, 80), Answer::Text(_)),
        "nothing passes before the plan"
    );
    for mode in [to_service(), Mode::ingress_to([address(SERVICE6)], IngressPorts::All)] {
        scene.apply(mode);
        assert_eq!(connect(peer, OWN6, 80), text(&format!("web saw {POD6}")));
        assert_eq!(ask_udp(peer, OWN6, 53), text(&format!("dns saw {POD6}")));
    }
    scene.assert_nothing_is_forwarded();
    scene.apply(Mode::Closed);
    assert_eq!(connect(peer, OWN6, 80), Answer::Silence, "the plan is gone");
}

#[test]
fn pod_reaches_the_device_over_ipv6_on_any_port_while_nothing_is_forwarded() {
    isolate!();
    let scene = Scene::new("relay-out");
    let (peer, cluster) = (&scene.topology.peer, &scene.topology.cluster);
    serve_at(peer, "database", DEVICE6, 5432);
    serve_udp(peer, "time", DEVICE6, 123);
    assert!(
        !matches!(connect(cluster, POD6, 5432), Answer::Text(_)),
        "nothing passes before the plan"
    );
    scene.apply(to_device());
    assert_eq!(connect(cluster, POD6, 5432), text(&format!("database saw {OWN6}")));
    assert_eq!(ask_udp(cluster, POD6, 123), text(&format!("time saw {OWN6}")));
    assert_eq!(
        connect(cluster, POD6, 4444),
        Answer::Refused,
        "the device's own refusal comes through"
    );
    scene.assert_nothing_is_forwarded();
}

#[test]
fn relay_carries_ipv4_under_every_reverse_path_check() {
    isolate!();
    let scene = Scene::new("relay-v4");
    let Topology {
        peer, cluster, proxy, ..
    } = &scene.topology;
    serve_at(cluster, "web", SERVICE, 80);
    serve_udp(cluster, "dns", SERVICE, 53);
    serve_at(peer, "device", DEVICE, 5432);
    for strictness in ["0", "1", "2"] {
        for device in ["all", "tailscale0", "eth0"] {
            proxy.sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), strictness);
        }
        scene.apply(to_service());
        assert_eq!(
            connect(peer, OWN, 80),
            text("web saw 10.244.1.5"),
            "rp_filter {strictness}"
        );
        assert_eq!(
            ask_udp(peer, OWN, 53),
            text("dns saw 10.244.1.5"),
            "rp_filter {strictness}"
        );
        scene.apply(to_device());
        assert_eq!(
            connect(cluster, POD, 5432),
            text("device saw 100.64.0.3"),
            "rp_filter {strictness}"
        );
    }
}

#[test]
fn relay_admits_nothing_outside_the_plan() {
    isolate!();
    let scene = Scene::new("relay-closed");
    let Topology {
        peer, cluster, proxy, ..
    } = &scene.topology;
    let listeners = scene.relay.listeners().v6.unwrap();
    serve_at(cluster, "web", SERVICE6, 80);
    serve_at(cluster, "admin", SERVICE6, 8081);
    serve_at(cluster, "node", NODE6, 80);
    serve_at(proxy, "health", "::", 9002);
    scene.apply(to_service());
    assert_eq!(
        connect(peer, OWN6, 80),
        text(&format!("web saw {POD6}")),
        "the way in is open"
    );
    for (target, port) in [
        (OWN6, 8081),
        (OWN6, 9002),
        (OWN6, listeners.tcp),
        (POD6, 80),
        (NODE6, 80),
        (SERVICE6, 80),
        (SERVICE6, 8081),
    ] {
        assert_eq!(connect(peer, target, port), Answer::Silence, "{target}:{port}");
        assert_eq!(ask_udp(peer, target, port), Answer::Silence, "{target}:{port}");
    }
    // A Pod that uses the proxy as its gateway to the proxy's own tailnet address, and one that tries the listener.
    assert!(!matches!(connect(cluster, OWN6, 80), Answer::Text(_)));
    assert_eq!(connect(cluster, POD6, listeners.tcp), Answer::Refused);
    assert_eq!(
        connect(proxy, "::1", listeners.tcp),
        Answer::Refused,
        "not even another container of the Pod"
    );
    assert_eq!(
        scene.relay.metrics().outside_plan.get(),
        1,
        "only the last one came as far as the relay"
    );
}

#[test]
fn own_ports_are_not_relayed_to_the_device() {
    isolate!();
    let scene = Scene::new("relay-reserved");
    let Topology {
        peer, cluster, proxy, ..
    } = &scene.topology;
    serve_at(proxy, "health", "::", 9002);
    serve_udp(proxy, "wireguard", POD6, 41641);
    serve_at(peer, "device", DEVICE6, 9003);
    scene.apply(to_device());
    assert_eq!(connect(cluster, POD6, 9002), text(&format!("health saw {NODE6}")));
    assert_eq!(ask_udp(cluster, POD6, 41641), text(&format!("wireguard saw {NODE6}")));
    assert_eq!(connect(cluster, POD6, 9003), text(&format!("device saw {OWN6}")));
    for (target, port) in [(OWN6, 9003), (OWN6, 9002), (POD6, 9003), (POD6, 9002), (NODE6, 80)] {
        assert_eq!(
            connect(peer, target, port),
            Answer::Silence,
            "{target}:{port} is closed to peers"
        );
    }
}

#[test]
fn connections_of_the_proxy_itself_are_left_alone() {
    isolate!();
    let scene = Scene::new("relay-own");
    let Topology { cluster, proxy, .. } = &scene.topology;
    serve_at(cluster, "api", NODE6, 6443);
    serve_udp(cluster, "dns", NODE6, 53);
    scene.apply(to_device());
    assert_eq!(connect(proxy, NODE6, 6443), text(&format!("api saw {POD6}")));
    assert_eq!(ask_udp(proxy, NODE6, 53), text(&format!("dns saw {POD6}")));
}

#[test]
fn end_and_reset_of_one_side_reach_the_other_through_the_relay() {
    isolate!();
    let scene = Scene::new("relay-ends");
    let Topology { peer, cluster, .. } = &scene.topology;
    scene.apply(to_service());
    let listener = listen(cluster, SERVICE6, 80);
    let mut client = open(peer, OWN6, 80);
    let mut server = accept(&listener);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "question");
    server.write_all(b"answer after the end").unwrap();
    drop(server);
    heard.clear();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "answer after the end");

    let mut client = open(peer, OWN6, 80);
    let server = accept(&listener);
    reset(server);
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let client = open(peer, OWN6, 80);
    let mut server = accept(&listener);
    reset(client);
    assert_eq!(server.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn reset(stream: TcpStream) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    drop(stream);
}

#[test]
fn connection_to_a_removed_target_is_reset_and_others_live_on() {
    isolate!();
    let scene = Scene::new("relay-moves");
    let Topology { peer, cluster, .. } = &scene.topology;
    let other = "fd00:10:96::8";
    cluster.ip(&format!("addr add {other}/128 dev lo nodad"));
    let (old, new) = (listen(cluster, SERVICE6, 80), listen(cluster, other, 80));
    scene.apply(to_service());
    let mut client = open(peer, OWN6, 80);
    let mut server = accept(&old);
    scene.apply(web_and_dns(&[SERVICE, SERVICE6, other]));
    client.write_all(b"a").unwrap();
    server.read_exact(&mut [0]).unwrap();
    scene.apply(web_and_dns(&[SERVICE, other]));
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let _client = open(peer, OWN6, 80);
    let _server = accept(&new);
}

#[test]
fn datagrams_from_one_client_port_move_with_the_target() {
    isolate!();
    let scene = Scene::new("relay-udp-moves");
    let Topology { peer, cluster, .. } = &scene.topology;
    let other = "fd00:10:96::8";
    cluster.ip(&format!("addr add {other}/128 dev lo nodad"));
    serve_udp(cluster, "old", SERVICE6, 53);
    serve_udp(cluster, "new", other, 53);
    let client = peer.enter(|| UdpSocket::bind("[::]:5353").unwrap());
    client.connect((OWN6, 53)).unwrap();
    scene.apply(web_and_dns(&[SERVICE6]));
    for _ in 0..3 {
        assert_eq!(ask(&client), format!("old saw {POD6}"));
    }
    assert_eq!(
        scene.relay.metrics().sessions.get(),
        1,
        "one client port is one session"
    );
    scene.apply(web_and_dns(&[other]));
    assert_eq!(ask(&client), format!("new saw {POD6}"));
}
