//! Nodes without a direct path.

use std::net::SocketAddr;

use isthmus_testkit::netns::Nat;
use isthmus_testkit::wait;
use nix::sys::signal::Signal;

use super::nat::hide;
use super::world::Tailnet;
use crate::node::{can_run, content, transfer};

pub(super) fn direct_paths(tailnet: &Tailnet) -> usize {
    tailnet.read("log").matches("found a direct path to a peer").count()
}

#[test]
fn nodes_without_a_direct_path_do_not_reach_each_other_without_a_relay() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let tailnet = Tailnet::new("norelay");
    tailnet.cut();
    let (one, two) = (tailnet.start(0, &[]), tailnet.start(1, &[]));
    for _ in 0..5 {
        assert!(!tailnet.pings(0, two.addresses[0]));
    }
    drop(one);
}

#[test]
fn nodes_without_a_direct_path_talk_by_relay_until_there_is_one_and_again_when_it_is_lost() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let tailnet = Tailnet::with_relay("relay");
    tailnet.cut();
    let (one, two) = (tailnet.start(0, &[]), tailnet.start(1, &[]));
    tailnet.wait_until_reached(0, &two);
    tailnet.wait_until_reached(1, &one);
    let [a, b] = &tailnet.machines;
    let content = content();
    let exchange = || {
        let (arrived, peer) = transfer(a, b, SocketAddr::new(two.addresses[0], 7000), &content);
        assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
        assert_eq!(peer.ip(), one.addresses[0]);
    };
    exchange();
    assert_eq!(direct_paths(&tailnet), 0, "there is no direct path");

    tailnet.mend();
    wait::until("the direct path", || {
        tailnet.pings(0, two.addresses[0]);
        (direct_paths(&tailnet) >= 2).then_some(())
    });
    exchange();

    tailnet.cut();
    wait::until("the relay again", || tailnet.pings(0, two.addresses[0]).then_some(()));
    exchange();
}

#[test]
fn node_behind_a_nat_learns_its_public_address_and_is_reached_directly() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let mut tailnet = Tailnet::with_relay("nat");
    let switch = hide(&mut tailnet, 0, Nat::PortFiltered);
    let (one, two) = (tailnet.start(0, &[]), tailnet.start(1, &[]));
    wait::until("the public address", || {
        let endpoints = tailnet.control.endpoints("one");
        endpoints
            .iter()
            .any(|endpoint| endpoint.starts_with("10.9.0.1:"))
            .then_some(())
    });
    tailnet.wait_until_reached(1, &one);
    tailnet.wait_until_reached(0, &two);
    wait::until("direct paths", || (direct_paths(&tailnet) >= 2).then_some(()));
    let content = content();
    let [a, b] = &tailnet.machines;
    let (arrived, peer) = transfer(b, a, SocketAddr::new(one.addresses[0], 7000), &content);
    assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
    assert_eq!(peer.ip(), two.addresses[0]);
    drop(switch);
}

#[test]
fn node_that_starts_while_control_is_away_is_reached_by_relay_at_its_former_home() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let tailnet = Tailnet::with_relay("away");
    tailnet.cut();
    let (one, two) = (tailnet.start(0, &[]), tailnet.start(1, &[]));
    tailnet.wait_until_reached(0, &two);
    wait::until("the homes of both in the cache", || {
        let kept = tailnet.read("state-0/cache/netmap.json");
        let homes = kept.matches(r#""HomeDERP":900"#).count();
        (homes == 2 && kept.contains(r#""DERPMap""#)).then_some(())
    });
    one.process.signal(Signal::SIGKILL);
    let _ = one.process.ended();
    assert!(!tailnet.pings(1, one.addresses[0]), "a killed node answers");

    let [a, b] = &tailnet.machines;
    a.check("nft add table inet away");
    a.check("nft add chain inet away output { type filter hook output priority 0 ; }");
    a.check("nft add rule inet away output ip daddr 10.9.0.9 tcp dport 8080 reject with tcp reset");
    let again = tailnet.start(0, &[]);
    assert_eq!(again.addresses, one.addresses);
    tailnet.wait_until_reached(1, &again);
    tailnet.wait_until_reached(0, &two);
    assert_eq!(tailnet.ask_json(0, "status")["connected"], false, "control is not away");
    let content = content();
    let (arrived, peer) = transfer(b, a, SocketAddr::new(again.addresses[0], 7000), &content);
    assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
    assert_eq!(peer.ip(), two.addresses[0]);
    assert_eq!(direct_paths(&tailnet), 0, "there is no direct path");
    a.check("nft delete table inet away");
    wait::until("control again", || {
        (tailnet.ask_json(0, "status")["connected"] == true).then_some(())
    });
}
