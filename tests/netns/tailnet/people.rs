//! A node as a device for people: what it tells them, and the names it resolves.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use isthmus_testkit::netns::{Namespace, Nat};
use isthmus_testkit::wait;

use super::nat::hide;
use super::world::Tailnet;
use crate::node::can_run;
use crate::whole_proxy::name_server::NameServer;

/// Where a node resolves names.
const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(100, 100, 100, 100)), 53);

/// Types and codes of RFC 1035.
const A: u16 = 1;
const PTR: u16 = 12;
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;

#[test]
fn node_tells_people_how_it_reaches_a_peer_and_why_not_directly() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let tailnet = Tailnet::with_relay("people");
    let (text, success) = tailnet.ask(0, "status");
    assert!(!success && text.contains("cannot reach a running node"), "{text}");
    tailnet.cut();
    let nodes = [tailnet.start(0, &[]), tailnet.start(1, &[])];
    tailnet.wait_until_reached(0, &nodes[1]);

    let status = tailnet.ask_json(0, "status");
    assert_eq!(
        (&status["login"], &status["connected"]),
        (&"running".into(), &true.into())
    );
    let peer = &status["peers"][0];
    assert_eq!(peer["name"], "two.tail.internal");
    assert_eq!(peer["way"]["relay"]["name"], "The tailbox's relay");
    assert!(
        peer["since"].is_string() && peer["sent_bytes"].as_u64() > Some(0),
        "{peer}"
    );
    let why = peer["why_not_direct"].as_str().unwrap();
    assert!(why.contains("are not answered"), "{why}");
    let (pinged, _) = tailnet.ask(0, "ping two --count 1");
    assert!(
        pinged.contains("by relay The tailbox's relay (900)") && pinged.contains("not direct: "),
        "{pinged}"
    );

    tailnet.mend();
    let (pinged, success) = tailnet.ask(0, "ping two.tail.internal --count 40");
    let last = pinged.lines().last().unwrap_or_default();
    assert!(success && last.contains("direct by "), "{pinged}");
    let (tunnelled, success) = tailnet.ask(0, &format!("ping {} --tsmp --count 3", nodes[1].addresses[0]));
    assert!(success, "{tunnelled}");
    let peer = tailnet.ask_json(0, "status")["peers"][0].clone();
    assert!(
        peer["way"]["direct"].is_string() && peer["why_not_direct"].is_null(),
        "{peer}"
    );

    let whois = tailnet.ask_json(0, &format!("whois {}:22", nodes[1].addresses[0]));
    assert_eq!(whois["name"], "two.tail.internal");
    let (text, success) = tailnet.ask(0, "whois 192.0.2.1");
    assert!(!success && text.contains("no device"), "{text}");
    let second = tailnet.spawn(0, &[], &["--tun", "second0"]);
    assert!(!second.ended().success(), "two nodes use one state folder");
    assert!(tailnet.read("log").contains("another node runs with the state"));
}

#[test]
fn node_tells_people_of_a_hard_nat_and_of_blocked_udp() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let mut tailnet = Tailnet::with_relay("netcheck");
    let switches = [hide(&mut tailnet, 0, Nat::Hard), hide(&mut tailnet, 1, Nat::Blocked)];
    let nodes = [tailnet.start(0, &[]), tailnet.start(1, &[])];
    let hard = wait::until("the check of the network behind a hard NAT", || {
        let network = tailnet.ask_json(0, "netcheck");
        (!network["mapping_varies_by_destination"].is_null()).then_some(network)
    });
    assert_eq!(
        (&hard["udp"], &hard["mapping_varies_by_destination"]),
        (&true.into(), &true.into())
    );
    assert!(hard["ipv4"].as_str().unwrap().starts_with("10.9.0.1:"), "{hard}");
    assert_eq!(hard["home"]["id"], 900);
    assert!(hard["latencies"][0]["latency_ms"].as_f64() > Some(0.0), "{hard}");
    let blocked = wait::until("the check of the network without UDP", || {
        let network = tailnet.ask_json(1, "netcheck");
        (network["udp"] == false).then_some(network)
    });
    assert_eq!(blocked["home"]["id"], 900, "the relay is found without UDP");
    tailnet.wait_until_reached(1, &nodes[0]);
    let peer = tailnet.ask_json(1, "status")["peers"][0].clone();
    assert!(peer["why_not_direct"].as_str().unwrap().contains("UDP"), "{peer}");
    drop(switches);
}

/// A question, as DNS writes it.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// The code of an answer and the data of its last record, if it has any.
fn read(question: &[u8], answer: &[u8]) -> (u8, Option<Vec<u8>>) {
    assert_eq!(answer[..2], question[..2]);
    let has_records = answer[7] > 0;
    let data = has_records.then(|| answer[question.len() + 12..].to_vec());
    (answer[3] & 0x0f, data)
}

fn resolve(machine: &Namespace, name: &str, kind: u16) -> Option<(u8, Option<Vec<u8>>)> {
    let question = question(name, kind);
    let asked = question.clone();
    let answer = machine.enter(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.send_to(&asked, RESOLVER).ok()?;
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    })?;
    Some(read(&question, &answer))
}

fn resolve_by_tcp(machine: &Namespace, name: &str, kind: u16) -> (u8, Option<Vec<u8>>) {
    let question = question(name, kind);
    let asked = question.clone();
    let answer = machine.enter(move || {
        let mut stream = TcpStream::connect(RESOLVER).unwrap();
        let length = u16::try_from(asked.len()).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        stream.write_all(&asked).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    read(&question, &answer)
}

#[test]
fn names_of_the_tailnet_are_resolved_for_its_machine_alone_and_others_are_passed_on() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let tailnet = Tailnet::new("names");
    let outside = tailnet.net.namespace("outside");
    tailnet.plug(&outside, "10.9.0.8/24");
    let server = NameServer::start(&outside, "10.9.0.8");
    server.set("www.example.com", &["192.0.2.77"]);
    let conf = tailnet.path("resolv.conf");
    std::fs::write(&conf, "nameserver 10.9.0.8\n").unwrap();
    let machine = &tailnet.machines[0];
    assert_eq!(
        resolve(machine, "two.tail.internal", A),
        None,
        "nobody answers before the node runs"
    );
    let (one, two) = (tailnet.start(0, &["--resolv-conf", &conf]), tailnet.start(1, &[]));
    let IpAddr::V4(address) = two.addresses[0] else {
        panic!("the first address is one of IPv4")
    };
    let found = wait::until("the name of the peer", || {
        resolve(machine, "Two.tail.internal", A).filter(|(code, _)| *code == NO_ERROR)
    });
    assert_eq!(found, (NO_ERROR, Some(address.octets().to_vec())));
    assert_eq!(resolve_by_tcp(machine, "two.tail.internal", A), found);
    assert_eq!(
        resolve(machine, "two.tail.internal", 16),
        Some((NO_ERROR, None)),
        "it exists and has no text"
    );
    assert_eq!(resolve(machine, "nobody.tail.internal", A), Some((NO_SUCH_NAME, None)));
    let [a, b, c, d] = address.octets();
    let reverse = format!("{d}.{c}.{b}.{a}.in-addr.arpa");
    let (code, name) = resolve(machine, &reverse, PTR).unwrap();
    assert_eq!(code, NO_ERROR);
    assert_eq!(name.unwrap(), question("two.tail.internal", 0)[12..31]);
    let passed_on = resolve(machine, "www.example.com", A);
    assert_eq!(passed_on, Some((NO_ERROR, Some(vec![192, 0, 2, 77]))));

    outside.ip("route add 100.100.100.100 via 10.9.0.1");
    assert_eq!(
        resolve(&outside, "two.tail.internal", A),
        None,
        "a neighbour is answered"
    );
    tailnet.wait_until_reached(0, &two);
    drop(one);
}
