mod model;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use self::model::{Packet, Verdict, walk};
use super::{Protocol, RulePlan};
use crate::mode::{IngressPorts, Mode};
use crate::plan::tests::{address, every_port, listed_ingress, plan, relayed, to_device};
use crate::plan::{Path, Paths, Plan};
use crate::relay::RelayPlan;
use crate::routes::{Family, RoutePlan};

fn rendered(plan: &Plan) -> String {
    format!("{}\n{}", RulePlan::build(plan), RoutePlan::build(plan))
}

#[test]
fn rules_of_a_closed_proxy() {
    insta::assert_snapshot!(rendered(&plan(Mode::Closed)));
}

#[test]
fn rules_of_an_ingress_with_listed_ports() {
    insta::assert_snapshot!(rendered(&plan(listed_ingress())));
}

#[test]
fn rules_of_an_ingress_with_all_ports() {
    insta::assert_snapshot!(rendered(&plan(every_port())));
}

#[test]
fn rules_of_an_egress() {
    insta::assert_snapshot!(rendered(&plan(to_device())));
}

#[test]
fn rules_of_an_egress_without_a_target() {
    insta::assert_snapshot!(rendered(&plan(Mode::egress_to([]))));
}

#[test]
fn rules_of_an_ingress_to_a_name_with_several_addresses() {
    insta::assert_snapshot!(rendered(&plan(to_name())));
}

#[test]
fn rules_of_a_relayed_ingress() {
    insta::assert_snapshot!(rendered(&by_relay(listed_ingress())));
}

#[test]
fn rules_of_an_egress_with_ipv6_relayed() {
    let mut plan = plan(to_device());
    plan.paths.v6 = Some(relayed());
    insta::assert_snapshot!(rendered(&plan));
}

fn by_relay(mode: Mode) -> Plan {
    let paths = Paths {
        v4: Some(relayed()),
        v6: Some(relayed()),
    };
    Plan { paths, ..plan(mode) }
}

fn to_name() -> Mode {
    let named = ["192.0.2.7", "192.0.2.8", "192.0.2.9", "2001:db8::7"].map(address);
    let Mode::Ingress(ingress) = listed_ingress() else {
        unreachable!("an ingress")
    };
    Mode::ingress_to(named, ingress.ports)
}

#[test]
fn chains_and_sets_are_the_same_for_every_plan() {
    let skeleton = |mode| {
        let rules = RulePlan::build(&plan(mode));
        let chains: Vec<_> = rules.chains.iter().map(|chain| (chain.name, chain.base)).collect();
        let sets: Vec<_> = rules.sets.iter().map(|set| set.name).collect();
        (chains, sets)
    };
    let closed = skeleton(Mode::Closed);
    assert_eq!(skeleton(listed_ingress()), closed);
    assert_eq!(skeleton(to_name()), closed);
    assert_eq!(skeleton(to_device()), closed);
    let relayed = RulePlan::build(&by_relay(to_device()));
    let chains: Vec<_> = relayed.chains.iter().map(|chain| (chain.name, chain.base)).collect();
    assert_eq!(chains, closed.0);
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Closed),
        Just(listed_ingress()),
        Just(every_port()),
        Just(to_name()),
        Just(to_device()),
        Just(Mode::egress_to([address("100.64.0.5")])),
        Just(Mode::egress_to([])),
    ]
}

/// A plan, with a family that takes another way now and then.
fn any_plan() -> impl Strategy<Value = Plan> {
    let path = || prop_oneof![4 => Just(Some(Path::Kernel)), 2 => Just(Some(relayed())), 1 => Just(None)];
    (any_mode(), path(), path()).prop_map(|(mode, v4, v6)| {
        let mut plan = plan(mode);
        (plan.paths.v4, plan.paths.v6) = (v4, v6);
        plan
    })
}

fn any_first_packet() -> impl Strategy<Value = Packet> {
    let device = prop_oneof![Just("tailscale0"), Just("eth0"), Just("eth1")];
    let destination = prop_oneof![
        Just("100.64.0.3"),
        Just("10.244.1.5"),
        Just("10.96.0.7"),
        Just("100.64.0.5"),
        Just("10.96.0.1"),
        Just("192.0.2.8"),
        Just("fd7a:115c:a1e0::3"),
        Just("fd00:10:244:1::5"),
        Just("fd00:10:96::7"),
        Just("fd7a:115c:a1e0::5"),
    ];
    let protocol = prop_oneof![Just(1u8), Just(6), Just(17), Just(132), Just(50)];
    let port = prop_oneof![Just(80u16), Just(53), Just(443), Just(9002), Just(41641), any::<u16>()];
    let facts = (device, destination, protocol, port, any::<bool>(), any::<u32>());
    facts.prop_map(|(from, destination, protocol, port, opens_tcp, luck)| {
        let destination = address(destination);
        let protocol = if destination.is_ipv6() && protocol == 1 {
            58
        } else {
            protocol
        };
        Packet {
            from,
            source: address(if destination.is_ipv6() {
                "2001:db8::1"
            } else {
                "198.51.100.1"
            }),
            destination,
            protocol,
            port,
            opens_tcp,
            luck,
        }
    })
}

const OWN: [&str; 2] = ["100.64.0.3", "fd7a:115c:a1e0::3"];
const POD: [&str; 2] = ["10.244.1.5", "fd00:10:244:1::5"];

fn local() -> Vec<IpAddr> {
    OWN.iter().chain(&POD).map(|text| address(text)).collect()
}

/// Where the plan says, in plain words, that the first packet of a flow may come out; nothing for nowhere.
fn wanted(plan: &Plan, packet: &Packet) -> Vec<IpAddr> {
    let family = Family::of(packet.destination);
    let carried = match plan.paths.of_family(family) {
        None => false,
        Some(Path::Kernel) => packet.protocol != 6 || packet.opens_tcp,
        // The relay's listener resets a segment from the middle of an unknown connection.
        Some(Path::Relay(_)) => [6, 17].contains(&packet.protocol),
    };
    let from_tailnet = packet.from == "tailscale0";
    let is_in = |list: [&str; 2]| list.map(address).contains(&packet.destination);
    let passes = match &plan.mode {
        Mode::Closed => false,
        Mode::Ingress(ingress) => {
            let served = match &ingress.ports {
                IngressPorts::All => ![1, 58].contains(&packet.protocol),
                IngressPorts::Listed(_) => {
                    matches!((packet.protocol, packet.port), (6, 80 | 443) | (17, 53))
                }
            };
            from_tailnet && is_in(OWN) && served
        }
        Mode::Egress(_) => {
            let reserved = matches!((packet.protocol, packet.port), (6, 9002) | (17, 41641));
            !from_tailnet && is_in(POD) && !reserved
        }
    };
    let targets = plan.mode.targets().filter(|target| Family::of(*target) == family);
    targets.filter(|_| passes && carried).collect()
}

/// Where the relay's own plan leads.
fn relayed_to(plan: &Plan, packet: &Packet) -> Vec<IpAddr> {
    let arrived = SocketAddr::new(packet.destination, packet.port);
    let relay = RelayPlan::build(plan);
    let route = Protocol::from_number(packet.protocol).and_then(|protocol| relay.route(protocol, arrived));
    route.map(|route| route.targets.clone()).unwrap_or_default()
}

proptest! {
    /// The plain statement of "nothing passes but the plan", against a walk through the rules.
    #[test]
    fn first_packet_passes_only_as_the_plan_says(plan in any_plan(), packet in any_first_packet()) {
        let device_out = if packet.from == "tailscale0" { "eth0" } else { "tailscale0" };
        let wanted = wanted(&plan, &packet);
        match walk(&RulePlan::build(&plan), packet, &local()) {
            Verdict::Forwarded { target, device } => {
                prop_assert!(wanted.contains(&target), "{} is not among {:?}", target, wanted);
                prop_assert_eq!(device, device_out);
                prop_assert_eq!(plan.paths.of_family(Family::of(target)), Some(Path::Kernel));
            }
            Verdict::HandedOver { port } => {
                prop_assert_eq!(port, if packet.protocol == 6 { 40006 } else { 40017 });
                prop_assert_eq!(relayed_to(&plan, &packet), wanted);
            }
            other @ (Verdict::Delivered | Verdict::Refused | Verdict::Dropped) => {
                prop_assert!(wanted.is_empty(), "{:?} instead of {:?}", other, wanted);
            }
        }
    }

    /// What the relay would do with a packet that it should never have been given.
    #[test]
    fn relay_carries_nothing_that_the_rules_do_not_hand_over(plan in any_plan(), packet in any_first_packet()) {
        let verdict = walk(&RulePlan::build(&plan), packet, &local());
        let carried = !relayed_to(&plan, &packet).is_empty();
        // Of the side that a packet comes from only the rules know.
        let from_other_side = matches!(plan.mode, Mode::Ingress(_)) != (packet.from == "tailscale0");
        prop_assert!(!carried || from_other_side || matches!(verdict, Verdict::HandedOver { .. }), "{:?}", verdict);
    }

    #[test]
    fn tailnet_reaches_no_socket_of_the_pod(plan in any_plan(), packet in any_first_packet()) {
        let packet = Packet { from: "tailscale0", ..packet };
        let echo = [1, 58].contains(&packet.protocol) && OWN.map(address).contains(&packet.destination);
        let verdict = walk(&RulePlan::build(&plan), packet, &local());
        prop_assert_eq!(verdict == Verdict::Delivered, echo);
    }
}

#[test]
fn every_address_of_a_name_gets_new_flows() {
    let rules = RulePlan::build(&plan(to_name()));
    let reached: BTreeSet<IpAddr> = (0..6)
        .map(|luck| {
            let packet = Packet {
                from: "tailscale0",
                source: address("100.64.0.9"),
                destination: address("100.64.0.3"),
                protocol: 6,
                port: 443,
                opens_tcp: true,
                luck,
            };
            match walk(&rules, packet, &local()) {
                Verdict::Forwarded { target, .. } => target,
                other @ (Verdict::HandedOver { .. } | Verdict::Delivered | Verdict::Refused | Verdict::Dropped) => {
                    panic!("{other:?}")
                }
            }
        })
        .collect();
    assert_eq!(
        reached,
        BTreeSet::from(["192.0.2.7", "192.0.2.8", "192.0.2.9"].map(address))
    );
}
