mod model;

use proptest::prelude::*;

use self::model::{Packet, Verdict, walk};
use super::RulePlan;
use crate::mode::{Egress, Mode};
use crate::plan::Plan;
use crate::plan::tests::{address, listed_ingress, plan};
use crate::routes::RoutePlan;

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
    insta::assert_snapshot!(rendered(&plan(Mode::ingress_to_all_ports("10.96.0.7").unwrap())));
}

#[test]
fn rules_of_an_egress() {
    insta::assert_snapshot!(rendered(&plan(Mode::egress_to("100.64.0.5").unwrap())));
}

#[test]
fn rules_of_an_egress_without_a_target() {
    insta::assert_snapshot!(rendered(&plan(Mode::Egress(Egress { target: None }))));
}

#[test]
fn chains_and_maps_are_the_same_for_every_plan() {
    let skeleton = |mode| {
        let rules = RulePlan::build(&plan(mode));
        let chains: Vec<_> = rules.chains.iter().map(|chain| (chain.name, chain.base)).collect();
        let maps: Vec<_> = rules.maps.iter().map(|map| (map.name, map.ipv6)).collect();
        (chains, maps)
    };
    let closed = skeleton(Mode::Closed);
    assert_eq!(skeleton(listed_ingress()), closed);
    assert_eq!(skeleton(Mode::egress_to("fd7a:115c:a1e0::5").unwrap()), closed);
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Closed),
        Just(listed_ingress()),
        Just(Mode::ingress_to_all_ports("10.96.0.7").unwrap()),
        Just(Mode::egress_to("100.64.0.5").unwrap()),
        Just(Mode::Egress(Egress { target: None })),
    ]
}

fn any_first_packet() -> impl Strategy<Value = Packet> {
    let device = prop_oneof![Just("tailscale0"), Just("eth0"), Just("eth1")];
    let destination = prop_oneof![
        Just("100.64.0.3"),
        Just("10.244.1.5"),
        Just("10.96.0.7"),
        Just("100.64.0.5"),
        Just("10.96.0.1")
    ];
    let protocol = prop_oneof![Just(1u8), Just(6), Just(17), Just(132), Just(50)];
    let port = prop_oneof![Just(80u16), Just(53), Just(443), Just(9002), Just(41641), any::<u16>()];
    (device, destination, protocol, port, any::<bool>()).prop_map(|(device, destination, protocol, port, opens)| {
        Packet::first(
            device,
            address("192.0.2.7"),
            address(destination),
            protocol,
            port,
            opens,
        )
    })
}

proptest! {
    /// The plain statement of "nothing passes but the plan", against a walk through the rules.
    #[test]
    fn first_packet_passes_only_as_the_plan_says(mode in any_mode(), packet in any_first_packet()) {
        let plan = plan(mode.clone());
        let opens = packet.protocol != 6 || packet.opens_tcp;
        let from_tailnet = packet.from == "tailscale0";
        let wanted = match &mode {
            Mode::Ingress(ingress) => {
                let served = match &ingress.ports {
                    crate::IngressPorts::All => packet.protocol != 1,
                    crate::IngressPorts::Listed(_) => {
                        matches!((packet.protocol, packet.port), (6, 80 | 443) | (17, 53))
                    }
                };
                (from_tailnet && packet.destination == address("100.64.0.3") && served && opens)
                    .then_some((address("10.96.0.7"), "eth0"))
            }
            Mode::Egress(Egress { target: Some(target) }) => {
                let reserved = matches!((packet.protocol, packet.port), (6, 9002) | (17, 41641));
                (!from_tailnet && packet.destination == address("10.244.1.5") && !reserved && opens)
                    .then_some((*target, "tailscale0"))
            }
            Mode::Closed | Mode::Egress(Egress { target: None }) => None,
        };
        let verdict = walk(&RulePlan::build(&plan), packet, &["100.64.0.3", "10.244.1.5"].map(address));
        match wanted {
            Some((target, device)) => prop_assert_eq!(verdict, Verdict::Forwarded { target, device }),
            None => prop_assert!(!matches!(verdict, Verdict::Forwarded { .. }), "{:?}", verdict),
        }
    }

    #[test]
    fn tailnet_reaches_no_socket_of_the_pod(mode in any_mode(), packet in any_first_packet()) {
        let own = ["100.64.0.3", "10.244.1.5"].map(address);
        let packet = Packet { from: "tailscale0", ..packet };
        let echo = packet.protocol == 1 && packet.destination == own[0];
        let verdict = walk(&RulePlan::build(&plan(mode)), packet, &own);
        prop_assert_eq!(verdict == Verdict::Delivered, echo);
    }
}
