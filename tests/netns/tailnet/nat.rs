//! What path two nodes find, whatever is in front of each.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use isthmus_testkit::netns::{Nat, Switch};
use isthmus_testkit::wait;

use super::world::{RunningNode, Tailnet};
use crate::node::{can_run, content, transfer};

/// How long two nodes keep to the relay before it counts: they have searched several times by then.
const SEARCHES: Duration = Duration::from_secs(4);

/// The path that two nodes find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Direct,
    Relayed,
}

/// Puts a machine behind a router: its place is taken by a host that only the router leads to.
pub(super) fn hide(tailnet: &mut Tailnet, which: usize, nat: Nat) -> Option<Switch> {
    if nat == Nat::None {
        return None;
    }
    let hidden = tailnet.net.namespace(&format!("hidden{which}"));
    let router = std::mem::replace(&mut tailnet.machines[which], hidden);
    let number = u8::try_from(which + 7).unwrap();
    let switch = tailnet.net.hide(&tailnet.machines[which], &router, number, nat);
    tailnet.routers.push(router);
    Some(switch)
}

/// Whether both nodes send directly.
fn are_direct(tailnet: &Tailnet) -> bool {
    let log = tailnet.read("log");
    log.matches("found a direct path to a peer").count() >= 2
}

fn pairing(one: Nat, two: Nat, expected: Found) {
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let mut tailnet = Tailnet::with_relay("nat");
    let switches = [hide(&mut tailnet, 0, one), hide(&mut tailnet, 1, two)];
    let nodes = [tailnet.start(0, &[]), tailnet.start(1, &[])];
    tailnet.wait_until_reached(0, &nodes[1]);
    let found = settle(&tailnet, &nodes, expected);
    eprintln!("{one} - {two}: {found:?}");
    assert_eq!(found, expected, "{one} - {two}");
    exchange(&tailnet, &nodes);
    drop(switches);
}

/// The path after the nodes had time to search, with traffic that asks for one.
fn settle(tailnet: &Tailnet, nodes: &[RunningNode; 2], expected: Found) -> Found {
    let begun = Instant::now();
    let limit = match expected {
        Found::Direct => wait::PATIENCE,
        Found::Relayed => SEARCHES,
    };
    while begun.elapsed() < limit {
        if are_direct(tailnet) {
            return Found::Direct;
        }
        assert!(
            tailnet.pings(0, nodes[1].addresses[0]),
            "a ping is lost while a path is searched"
        );
        thread::sleep(Duration::from_millis(100));
    }
    Found::Relayed
}

fn exchange(tailnet: &Tailnet, nodes: &[RunningNode; 2]) {
    let content = content();
    for (from, to) in [(0, 1), (1, 0)] {
        let [source, destination] = [from, to].map(|which| nodes[which].addresses[0]);
        let machines = [from, to].map(|which| &tailnet.machines[which]);
        let (arrived, peer) = transfer(machines[0], machines[1], SocketAddr::new(destination, 7000), &content);
        assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
        assert_eq!(peer.ip(), source);
    }
}

#[test]
fn machine_without_nat_is_reached_directly_from_one_without() {
    isthmus_testkit::isolate!();
    pairing(Nat::None, Nat::None, Found::Direct);
}

#[test]
fn machine_without_nat_is_reached_directly_from_an_easy_one_open_to_addresses() {
    isthmus_testkit::isolate!();
    pairing(Nat::None, Nat::AddressFiltered, Found::Direct);
}

#[test]
fn machine_without_nat_is_reached_directly_from_an_easy_one_open_to_ports() {
    isthmus_testkit::isolate!();
    pairing(Nat::None, Nat::PortFiltered, Found::Direct);
}

#[test]
fn machine_without_nat_is_reached_directly_from_a_hard_one() {
    isthmus_testkit::isolate!();
    pairing(Nat::None, Nat::Hard, Found::Direct);
}

#[test]
fn machine_without_nat_is_reached_by_relay_from_a_blocked_one() {
    isthmus_testkit::isolate!();
    pairing(Nat::None, Nat::Blocked, Found::Relayed);
}

#[test]
fn easy_nats_open_to_addresses_are_crossed_directly() {
    isthmus_testkit::isolate!();
    pairing(Nat::AddressFiltered, Nat::AddressFiltered, Found::Direct);
}

#[test]
fn easy_nats_open_to_addresses_and_to_ports_are_crossed_directly() {
    isthmus_testkit::isolate!();
    pairing(Nat::AddressFiltered, Nat::PortFiltered, Found::Direct);
}

#[test]
fn easy_nat_open_to_addresses_and_a_hard_one_are_crossed_directly() {
    isthmus_testkit::isolate!();
    pairing(Nat::AddressFiltered, Nat::Hard, Found::Direct);
}

#[test]
fn easy_nats_open_to_ports_are_crossed_directly() {
    isthmus_testkit::isolate!();
    pairing(Nat::PortFiltered, Nat::PortFiltered, Found::Direct);
}

#[test]
fn easy_nat_open_to_ports_and_a_hard_one_need_the_relay() {
    isthmus_testkit::isolate!();
    pairing(Nat::PortFiltered, Nat::Hard, Found::Relayed);
}

#[test]
fn easy_nat_and_a_blocked_machine_need_the_relay() {
    isthmus_testkit::isolate!();
    pairing(Nat::PortFiltered, Nat::Blocked, Found::Relayed);
}

#[test]
fn hard_nats_need_the_relay() {
    isthmus_testkit::isolate!();
    pairing(Nat::Hard, Nat::Hard, Found::Relayed);
}

#[test]
fn hard_nat_and_a_blocked_machine_need_the_relay() {
    isthmus_testkit::isolate!();
    pairing(Nat::Hard, Nat::Blocked, Found::Relayed);
}

#[test]
fn blocked_machines_need_the_relay() {
    isthmus_testkit::isolate!();
    pairing(Nat::Blocked, Nat::Blocked, Found::Relayed);
}
