mod model;
mod packets;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::*;
use crate::addresses::AddressRange;
use packets::{Fragment, Kind, PacketSpec};

const OWN: &str = "100.64.0.1";
const PEER: &str = "100.64.0.2";
const PEER_KEY: NodeKey = NodeKey::from_bytes([2; 32]);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("literal address")
}

fn set(texts: &[&str]) -> AddressSet {
    texts
        .iter()
        .map(|text| AddressRange::parse(text).expect("literal range"))
        .collect()
}

fn rule(sources: &[&str], destination: &str, first: u16, last: u16, protocols: &[u8]) -> Rule {
    let addresses = AddressRange::parse(destination).expect("literal range");
    let ports = PortRange { first, last };
    Rule::new(set(sources), vec![Destination { addresses, ports }], protocols.to_vec())
}

fn filter(rules: Vec<Rule>, jailed: bool) -> Filter {
    let access = SenderAccess {
        sources: set(&[PEER, "fd7a:115c:a1e0::2"]),
        jailed,
    };
    let local = set(&[OWN, "fd7a:115c:a1e0::1"]);
    Filter::new(FilterPlan {
        local,
        rules,
        senders: BTreeMap::from([(PEER_KEY, access)]),
    })
}

fn packet(kind: Kind, source: &str, destination: &str) -> Vec<u8> {
    let (source, destination) = (ip(source), ip(destination));
    PacketSpec {
        source,
        destination,
        kind,
        source_port: 5000,
        destination_port: 80,
        fragment: Fragment::None,
    }
    .bytes()
}

#[test]
fn spoofed_inner_source_is_dropped() {
    let filter = filter(vec![rule(&["*"], "*", 0, 65535, &[])], false);
    let spoofed = packet(Kind::TcpOpen, "100.64.0.9", OWN);
    let verdict = filter.inbound(&PEER_KEY, &spoofed, Instant::now());
    assert_eq!(verdict, Verdict::Drop(DropReason::ForeignSource));
}

#[test]
fn packet_for_foreign_destination_is_dropped_when_every_rule_allows_it() {
    let filter = filter(vec![rule(&["*"], "*", 0, 65535, &[])], false);
    for destination in [
        "10.96.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "127.0.0.1",
    ] {
        let verdict = filter.inbound(&PEER_KEY, &packet(Kind::TcpOpen, PEER, destination), Instant::now());
        assert!(matches!(verdict, Verdict::Drop(_)), "{destination}: {verdict:?}");
    }
}

#[test]
fn packet_of_unknown_sender_is_dropped() {
    let filter = filter(vec![rule(&["*"], "*", 0, 65535, &[])], false);
    let verdict = filter.inbound(
        &NodeKey::from_bytes([9; 32]),
        &packet(Kind::TcpOpen, PEER, OWN),
        Instant::now(),
    );
    assert_eq!(verdict, Verdict::Drop(DropReason::UnknownSender));
}

#[test]
fn jailed_peer_opens_no_flow() {
    let now = Instant::now();
    let filter = filter(vec![rule(&["*"], "*", 0, 65535, &[6, 17, 1, 132, 47])], true);
    for kind in [Kind::TcpOpen, Kind::Udp, Kind::Sctp, Kind::EchoRequest, Kind::Other(47)] {
        let verdict = filter.inbound(&PEER_KEY, &packet(kind, PEER, OWN), now);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoRule), "{kind:?}");
    }
    assert_eq!(filter.outbound(&answerable(Kind::Udp), now), Verdict::Accept);
    assert_eq!(
        filter.inbound(&PEER_KEY, &packet(Kind::Udp, PEER, OWN), now),
        Verdict::Accept
    );
    assert_eq!(
        filter.inbound(&PEER_KEY, &packet(Kind::TcpLater, PEER, OWN), now),
        Verdict::Accept
    );
}

/// A packet of ours whose answer is `packet(kind, PEER, OWN)`.
fn answerable(kind: Kind) -> Vec<u8> {
    let (source, destination) = (ip(OWN), ip(PEER));
    PacketSpec {
        source,
        destination,
        kind,
        source_port: 80,
        destination_port: 5000,
        fragment: Fragment::None,
    }
    .bytes()
}

#[test]
fn answer_passes_without_rule_until_the_flow_is_idle() {
    let (filter, start) = (filter(vec![], false), Instant::now());
    let answer = packet(Kind::Udp, PEER, OWN);
    assert_eq!(
        filter.inbound(&PEER_KEY, &answer, start),
        Verdict::Drop(DropReason::NoRule)
    );
    filter.outbound(&answerable(Kind::Udp), start);
    let later = start + IDLE_LIMIT;
    assert_eq!(filter.inbound(&PEER_KEY, &answer, later), Verdict::Accept);
    let too_late = later + IDLE_LIMIT + Duration::from_secs(1);
    assert_eq!(
        filter.inbound(&PEER_KEY, &answer, too_late),
        Verdict::Drop(DropReason::NoRule)
    );
}

#[test]
fn flows_survive_a_new_plan() {
    let (filter, now) = (filter(vec![], false), Instant::now());
    filter.outbound(&answerable(Kind::Udp), now);
    let replaced = filter.with_plan((*filter.plan).clone());
    assert_eq!(
        replaced.inbound(&PEER_KEY, &packet(Kind::Udp, PEER, OWN), now),
        Verdict::Accept
    );
}

#[test]
fn tsmp_is_consumed_when_local_and_never_accepted() {
    let (filter, now) = (filter(vec![rule(&["*"], "*", 0, 65535, &[99])], false), Instant::now());
    assert_eq!(
        filter.inbound(&PEER_KEY, &packet(Kind::Other(99), PEER, OWN), now),
        Verdict::Consume
    );
    let elsewhere = filter.inbound(&PEER_KEY, &packet(Kind::Other(99), PEER, "100.64.0.7"), now);
    assert_eq!(elsewhere, Verdict::Drop(DropReason::ForeignDestination));
}

#[test]
fn portless_protocol_needs_a_rule_for_all_ports() {
    let now = Instant::now();
    let narrow = filter(vec![rule(&["*"], "*", 1, 65535, &[47])], false);
    assert_eq!(
        narrow.inbound(&PEER_KEY, &packet(Kind::Other(47), PEER, OWN), now),
        Verdict::Drop(DropReason::NoRule)
    );
    let wide = filter(vec![rule(&["*"], "*", 0, 65535, &[47])], false);
    assert_eq!(
        wide.inbound(&PEER_KEY, &packet(Kind::Other(47), PEER, OWN), now),
        Verdict::Accept
    );
}

#[test]
fn outgoing_source_must_be_an_own_address() {
    let (filter, now) = (filter(vec![], false), Instant::now());
    assert_eq!(filter.outbound(&packet(Kind::Udp, OWN, PEER), now), Verdict::Accept);
    let foreign = filter.outbound(&packet(Kind::Udp, "10.0.0.1", PEER), now);
    assert_eq!(foreign, Verdict::Drop(DropReason::ForeignSource));
}
