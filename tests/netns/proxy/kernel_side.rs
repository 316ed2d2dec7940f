//! What the kernel does between the rules: devices that vanish, segments out of nowhere, rules that change.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use isthmus_contract::proxy_config::{Port, Protocol, ProxyConfig};
use isthmus_proxy_core::{Mode, RulePlan};
use isthmus_testkit::{isolate, require, wait};

use super::topology::{Answer, DEVICE, OWN, POD, SERVICE, Topology, address, connect, serve, text};

/// A connection over which both ends hold a socket.
struct Held {
    client: TcpStream,
    server: TcpStream,
}

fn to_device() -> Mode {
    Mode::egress_to([address(DEVICE)])
}

fn to_service(ports: &[u16]) -> Mode {
    let ports = ports
        .iter()
        .map(|port| Port {
            protocol: Protocol::Tcp,
            port: *port,
        })
        .collect();
    Mode::from_config(&ProxyConfig::ingress(vec![address(SERVICE)], ports), &BTreeSet::new()).unwrap()
}

/// Opens a connection from the peer to port 80 of the Service and keeps it.
fn hold_ingress(topology: &Topology) -> Held {
    let listener = topology.cluster.enter(|| TcpListener::bind((SERVICE, 80)).unwrap());
    let target = SocketAddr::new(address(OWN), 80);
    let client = topology
        .peer
        .enter(|| TcpStream::connect_timeout(&target, wait::PATIENCE).unwrap());
    let (server, _) = listener.accept().unwrap();
    let mut held = Held { client, server };
    held.exchange();
    held
}

impl Held {
    /// Sends a byte there and one back.
    fn exchange(&mut self) {
        let mut byte = [0];
        self.client.set_read_timeout(Some(wait::PATIENCE)).unwrap();
        self.server.set_read_timeout(Some(wait::PATIENCE)).unwrap();
        self.client.write_all(b"a").unwrap();
        self.server.read_exact(&mut byte).unwrap();
        self.server.write_all(b"b").unwrap();
        self.client.read_exact(&mut byte).unwrap();
    }
}

#[test]
fn nothing_leaves_in_clear_when_tun_is_down() {
    isolate!();
    if !require::program("tcpdump") {
        return;
    }
    let topology = Topology::new("tun-down");
    serve(&topology.peer, "device", 80);
    topology.apply(&Topology::plan(to_device()));
    assert_eq!(connect(&topology.cluster, POD, 80), text("device saw 100.64.0.3"));
    // What the default route leads to would answer as the device does.
    topology.cluster.ip(&format!("addr add {DEVICE}/32 dev lo"));
    serve(&topology.cluster, "impostor", 80);
    let capture = topology.cluster.spawn({
        let mut command = std::process::Command::new("tcpdump");
        command.args(["-n", "-l", "-i", "eth0", "--immediate-mode", "net 100.64.0.0/10"]);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null());
        command
    });
    for gone in ["link set tailscale0 down", "link del tailscale0"] {
        topology.proxy.ip(gone);
        let answer = connect(&topology.cluster, POD, 80);
        assert!(
            matches!(answer, Answer::Unreachable | Answer::Refused),
            "{gone}: {answer:?}"
        );
        assert!(!topology.apply(&Topology::plan(to_device())).tun_is_up);
        for _ in 0..20 {
            assert_eq!(
                connect(&topology.cluster, POD, 80),
                Answer::Refused,
                "{gone}, and the plan applied again"
            );
        }
    }
    // The capture has seen everything once it has seen this.
    topology.proxy.run("ping -c 1 -W 1 -s 99 100.127.0.1");
    let seen = read_until(capture, "100.127.0.1");
    assert_eq!(
        seen.lines().filter(|line| !line.contains("100.127.0.1")).count(),
        0,
        "{seen}"
    );
}

/// Everything a capture printed up to the first line with `last`.
fn read_until(mut capture: isthmus_testkit::netns::Process, last: &str) -> String {
    use std::io::BufRead;
    let output = capture.child().stdout.take().expect("the output is a pipe");
    let mut seen = String::new();
    for line in std::io::BufReader::new(output).lines().map_while(Result::ok) {
        seen.push_str(&line);
        seen.push('\n');
        if line.contains(last) {
            break;
        }
    }
    seen
}

#[test]
fn device_that_comes_back_carries_again() {
    isolate!();
    let topology = Topology::new("tun-back");
    serve(&topology.peer, "device", 80);
    topology.apply(&Topology::plan(to_device()));
    topology.proxy.ip("link set tailscale0 down");
    assert_eq!(connect(&topology.cluster, POD, 80), Answer::Unreachable);
    topology.proxy.ip("link set tailscale0 up");
    topology.apply(&Topology::plan(to_device()));
    assert_eq!(connect(&topology.cluster, POD, 80), text("device saw 100.64.0.3"));
}

#[test]
fn mid_stream_segment_is_reset_not_forwarded() {
    isolate!();
    let topology = Topology::new("mid-stream");
    topology.apply(&Topology::plan(to_service(&[80])));
    let mut held = hold_ingress(&topology);
    // The target changes to one that a listener waits at: what the old connection sends must not get there.
    topology.cluster.ip("addr add 10.96.0.8/32 dev lo");
    let elsewhere = topology.cluster.enter(|| TcpListener::bind("10.96.0.8:80").unwrap());
    elsewhere.set_nonblocking(true).unwrap();
    let port = Port {
        protocol: Protocol::Tcp,
        port: 80,
    };
    let moved = Mode::from_config(
        &ProxyConfig::ingress(vec![address("10.96.0.8")], vec![port]),
        &BTreeSet::new(),
    )
    .unwrap();
    topology.apply(&Topology::plan(moved));
    held.client.write_all(b"mid-stream").unwrap();
    held.client.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    let error = held.client.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(elsewhere.accept().is_err(), "the new target saw a connection");
    held.server.set_nonblocking(true).unwrap();
    let old = held.server.read(&mut [0; 16]);
    assert!(old.is_err(), "the old target got {old:?}");
}

#[test]
fn mid_stream_segment_of_a_pod_is_reset_not_forwarded() {
    isolate!();
    let topology = Topology::new("mid-stream-pod");
    topology.apply(&Topology::plan(to_device()));
    let listener = topology.peer.enter(|| TcpListener::bind((DEVICE, 80)).unwrap());
    let target = SocketAddr::new(address(POD), 80);
    let mut client = topology
        .cluster
        .enter(|| TcpStream::connect_timeout(&target, wait::PATIENCE).unwrap());
    let (_server, _) = listener.accept().unwrap();
    topology.apply(&Topology::plan(Mode::egress_to([])));
    client.write_all(b"mid-stream").unwrap();
    client.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    assert_eq!(
        client.read(&mut [0; 8]).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[test]
fn connection_lives_on_while_other_ports_come_and_go() {
    isolate!();
    let topology = Topology::new("keep");
    topology.apply(&Topology::plan(to_service(&[80])));
    let mut held = hold_ingress(&topology);
    for ports in [&[80, 443][..], &[53, 80], &[80]] {
        topology.apply(&Topology::plan(to_service(ports)));
        held.exchange();
    }
}

#[test]
fn rules_are_replaced_under_traffic_without_losing_a_packet() {
    isolate!();
    let topology = Topology::new("replace");
    topology.apply(&Topology::plan(to_service(&[80])));
    let mut held = hold_ingress(&topology);
    let retransmitted = || {
        let netstat = topology.peer.check("cat /proc/net/snmp");
        let tcp: Vec<Vec<String>> = netstat
            .lines()
            .filter(|line| line.starts_with("Tcp:"))
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect();
        let column = tcp[0].iter().position(|name| name == "RetransSegs").unwrap();
        tcp[1][column].parse::<u64>().unwrap()
    };
    let before = retransmitted();
    let stop = AtomicBool::new(false);
    let exchanges = thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut exchanges = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                held.exchange();
                exchanges += 1;
            }
            exchanges
        });
        topology.in_proxy(async |kernel| {
            for round in 0..300_u16 {
                let rules = RulePlan::build(&Topology::plan(to_service(&[80, 1000 + round])));
                kernel.filter().replace(&rules).await.unwrap();
            }
        });
        stop.store(true, Ordering::Relaxed);
        traffic.join().unwrap()
    });
    assert!(exchanges > 100, "only {exchanges} exchanges happened meanwhile");
    assert_eq!(retransmitted(), before, "of {exchanges} exchanges");
}

#[test]
fn table_of_another_shape_is_replaced_whole() {
    isolate!();
    if !require::program("nft") {
        return;
    }
    let topology = Topology::new("shape");
    topology.proxy.check("nft add table inet isthmus");
    topology
        .proxy
        .check("nft add chain inet isthmus old { type filter hook forward priority 5; policy drop; }");
    topology.proxy.check("nft add table inet another");
    topology.apply(&Topology::plan(to_service(&[80])));
    let listing = topology.proxy.check("nft list ruleset");
    assert!(!listing.contains("chain old"), "{listing}");
    assert!(
        listing.contains("table inet another"),
        "what is not ours stays: {listing}"
    );
}

#[test]
fn segment_size_is_clamped_to_the_tunnel_in_both_directions() {
    isolate!();
    let topology = Topology::new("mss");
    // Both sides believe in a large path, so that only the clamp can teach them.
    topology.peer.ip("link set wg0 mtu 1500");
    topology.apply(&Topology::plan(to_service(&[80])));
    let held = hold_ingress(&topology);
    let mss = |stream: &TcpStream| nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::TcpMaxSeg).unwrap();
    // 1280 - 40 bytes of headers, less 12 of TCP timestamps.
    assert_eq!(mss(&held.client), 1228);
    assert_eq!(mss(&held.server), 1228);
}

#[test]
fn applying_the_same_plan_again_changes_nothing() {
    isolate!();
    let topology = Topology::new("again");
    topology.apply(&Topology::plan(to_service(&[80])));
    let mut held = hold_ingress(&topology);
    let routing = |topology: &Topology| {
        topology.proxy.ip("rule show")
            + &topology.proxy.ip("route show table 7752")
            + &topology.proxy.ip("-6 rule show")
    };
    let before = routing(&topology);
    topology.apply(&Topology::plan(to_service(&[80])));
    assert_eq!(routing(&topology), before);
    held.exchange();
}

#[test]
fn routing_of_an_old_own_address_is_removed() {
    isolate!();
    let topology = Topology::new("readdress");
    topology.apply(&Topology::plan(to_service(&[80])));
    let mut plan = Topology::plan(to_service(&[80]));
    plan.tailnet = isthmus_proxy_core::TailnetAddresses::from_addresses([address("100.64.0.4")]);
    topology.apply(&plan);
    let rules = topology.proxy.ip("rule show");
    assert!(rules.contains("from 100.64.0.4 lookup 7752"), "{rules}");
    assert!(!rules.contains("100.64.0.3"), "{rules}");
}
