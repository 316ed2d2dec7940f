//! Derives the rules from a plan.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{
    Action, BaseChain, Chain, ChainType, Direction, Hook, MARK_FROM_TAILNET, MARK_TO_TAILNET, Match, PortSet, Rule,
    RulePlan, TRACK_EGRESS, TRACK_INGRESS, TRACK_RELAYED,
};
use crate::mode::{IngressPorts, Mode};
use crate::plan::{Plan, Way};
use crate::routes::Family;

const LOOPBACK: &str = "lo";
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The ports that peers reach.
const SERVED: &str = "served";

/// Priorities of nftables by their names.
const MANGLE: i32 = -150;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;
/// Right behind the translation of destinations, where the first packet of a flow already has its flow's mark.
const BEHIND_DSTNAT: i32 = DSTNAT + 10;

impl RulePlan {
    /// Derives all rules from a plan.
    pub fn build(plan: &Plan) -> Self {
        Self {
            sets: vec![build_served(plan)],
            chains: vec![
                Chain {
                    name: "from_tailnet",
                    base: None,
                    rules: build_ingress(plan),
                },
                Chain {
                    name: "from_cluster",
                    base: None,
                    rules: build_egress(plan),
                },
                base(
                    "translate",
                    ChainType::Nat,
                    Hook::Prerouting,
                    DSTNAT,
                    build_translate(plan),
                ),
                base(
                    "mark",
                    ChainType::Filter,
                    Hook::Prerouting,
                    BEHIND_DSTNAT,
                    build_mark(plan).into_iter().chain(build_relayed(plan)).collect(),
                ),
                base("input", ChainType::Filter, Hook::Input, FILTER, build_input(plan)),
                base("clamp", ChainType::Filter, Hook::Forward, MANGLE, build_clamp(plan)),
                build_forward(plan),
                base("remark", ChainType::Route, Hook::Output, MANGLE, build_remark()),
                base("output", ChainType::Filter, Hook::Output, FILTER, build_output(plan)),
                base("source", ChainType::Nat, Hook::Postrouting, SRCNAT, build_source(plan)),
            ],
        }
    }
}

fn base(name: &'static str, chain_type: ChainType, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        base: Some(BaseChain {
            chain_type,
            hook,
            priority,
            drops: false,
        }),
        rules,
    }
}

fn rule(matches: impl IntoIterator<Item = Match>, actions: impl IntoIterator<Item = Action>) -> Rule {
    Rule {
        matches: matches.into_iter().collect(),
        actions: actions.into_iter().collect(),
    }
}

fn from_tun(plan: &Plan) -> Match {
    Match::From(plan.tun.name.clone())
}

fn to_tun(plan: &Plan) -> Match {
    Match::To(plan.tun.name.clone())
}

/// A packet of the cluster's side: neither the tailnet's device nor the Pod talking to itself.
fn from_cluster(plan: &Plan) -> [Match; 2] {
    [
        Match::NotFrom(plan.tun.name.clone()),
        Match::NotFrom(LOOPBACK.to_owned()),
    ]
}

fn build_served(plan: &Plan) -> PortSet {
    let elements = match &plan.mode {
        Mode::Ingress(ingress) => match &ingress.ports {
            IngressPorts::Listed(ports) => ports.clone(),
            IngressPorts::All => BTreeSet::new(),
        },
        Mode::Closed | Mode::Egress(_) => BTreeSet::new(),
    };
    PortSet { name: SERVED, elements }
}

fn build_translate(plan: &Plan) -> Vec<Rule> {
    vec![
        rule([from_tun(plan)], [Action::Jump("from_tailnet")]),
        rule(from_cluster(plan), [Action::Jump("from_cluster")]),
    ]
}

fn build_ingress(plan: &Plan) -> Vec<Rule> {
    if !matches!(plan.mode, Mode::Ingress(_)) {
        return Vec::new();
    }
    let ways = plan.kernel_ways();
    ways.iter()
        .flat_map(|way| build_way_in(way, served(plan).as_ref()))
        .collect()
}

/// Of TCP only the opening segment is translated: a segment from the middle of an unknown connection stays addressed to
/// the Pod, where `input` answers it with a reset.
fn build_way_in(way: &Way, served: Option<&Match>) -> Vec<Rule> {
    let to_own = Match::Destination(way.own);
    let echo = if way.own.is_ipv6() { ICMPV6 } else { ICMP };
    [
        vec![to_own.clone(), Match::OpensTcp],
        vec![to_own, Match::NotIpProtocol(TCP), Match::NotIpProtocol(echo)],
    ]
    .into_iter()
    .flat_map(|matches| {
        let matches: Vec<Match> = matches.into_iter().chain(served.cloned()).collect();
        spread(&matches, TRACK_INGRESS, &way.targets)
    })
    .collect()
}

fn build_egress(plan: &Plan) -> Vec<Rule> {
    let ways = plan.kernel_ways();
    if !matches!(plan.mode, Mode::Egress(_)) || ways.is_empty() {
        return Vec::new();
    }
    let mut rules = build_reserved(plan);
    for way in &ways {
        for address in plan.pod_of_family(Family::of(way.own)) {
            let to_pod = Match::Destination(address);
            rules.extend(spread(&[to_pod.clone(), Match::OpensTcp], TRACK_EGRESS, &way.targets));
            rules.extend(spread(&[to_pod, Match::NotIpProtocol(TCP)], TRACK_EGRESS, &way.targets));
        }
    }
    rules
}

/// One rule for each target. Each takes its share of the flows that the ones before it left.
fn spread(matches: &[Match], track: u32, targets: &[IpAddr]) -> Vec<Rule> {
    let left = (1..=u32::try_from(targets.len()).unwrap_or(u32::MAX)).rev();
    let shares = left.map(|left| (left > 1).then_some(Match::OneIn(left)));
    let to_target = |(target, share): (&IpAddr, Option<Match>)| {
        rule(
            matches.iter().cloned().chain(share),
            [Action::Track(track), Action::TranslateTo(*target)],
        )
    };
    targets.iter().zip(shares).map(to_target).collect()
}

/// The proxy's own ports stay its own.
fn build_reserved(plan: &Plan) -> Vec<Rule> {
    let own = plan.reserved.iter();
    own.map(|(protocol, port)| rule([Match::Port(protocol, port)], [Action::Accept]))
        .collect()
}

/// Every packet of the tailnet is marked, also those for the Pod itself: the check of the reverse path needs it.
fn build_mark(plan: &Plan) -> Vec<Rule> {
    let not_tun = Match::NotFrom(plan.tun.name.clone());
    let to_tailnet = [Action::Mark(MARK_TO_TAILNET)];
    vec![
        rule([from_tun(plan)], [Action::Mark(MARK_FROM_TAILNET)]),
        rule(
            [
                not_tun.clone(),
                Match::Track(TRACK_INGRESS),
                Match::Direction(Direction::Reply),
            ],
            to_tailnet.clone(),
        ),
        rule(
            [
                not_tun,
                Match::Track(TRACK_EGRESS),
                Match::Direction(Direction::Original),
            ],
            to_tailnet,
        ),
    ]
}

/// Hands to the relay what its plan carries, each packet by itself: no state outlives the plan that made it. Answers to
/// connections of the Pod itself go the other direction and stay with its sockets.
fn build_relayed(plan: &Plan) -> Vec<Rule> {
    let ways = plan.relay_ways();
    let from = match plan.mode {
        Mode::Ingress(_) => vec![from_tun(plan)],
        Mode::Closed | Mode::Egress(_) => from_cluster(plan).to_vec(),
    };
    let mut rules = Vec::new();
    if matches!(plan.mode, Mode::Egress(_)) && !ways.is_empty() {
        rules.extend(build_reserved(plan));
    }
    for (way, ports) in &ways {
        for arrived in arrivals(plan, way) {
            for (number, port) in [(TCP, ports.tcp), (UDP, ports.udp)] {
                let to_pod = [Match::Destination(arrived), Match::Direction(Direction::Original)];
                let ipv6 = arrived.is_ipv6();
                rules.push(rule(
                    from.iter()
                        .cloned()
                        .chain(to_pod)
                        .chain(served(plan))
                        .chain([Match::IpProtocol(number)]),
                    [
                        Action::HandOver { ipv6, port },
                        Action::Track(TRACK_RELAYED),
                        Action::Accept,
                    ],
                ));
            }
        }
    }
    rules
}

/// The addresses of the Pod that stand for the targets of a way.
fn arrivals(plan: &Plan, way: &Way) -> Vec<IpAddr> {
    match plan.mode {
        Mode::Ingress(_) => vec![way.own],
        Mode::Closed | Mode::Egress(_) => plan.pod_of_family(Family::of(way.own)).collect(),
    }
}

/// What says that peers reach a port, when not every one is.
fn served(plan: &Plan) -> Option<Match> {
    match &plan.mode {
        Mode::Ingress(ingress) => match ingress.ports {
            IngressPorts::All => None,
            IngressPorts::Listed(_) => Some(Match::PortIn(SERVED)),
        },
        Mode::Closed | Mode::Egress(_) => None,
    }
}

fn build_input(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![
        rule([Match::From(LOOPBACK.to_owned())], [Action::Accept]),
        rule([Match::Known, Match::Direction(Direction::Reply)], [Action::Accept]),
    ];
    if !plan.relay_ways().is_empty() {
        let to_relay = [Match::Track(TRACK_RELAYED), Match::Direction(Direction::Original)];
        rules.push(rule(to_relay, [Action::Accept]));
    }
    for own in plan.tailnet.iter() {
        let echo = Match::EchoRequest { ipv6: own.is_ipv6() };
        rules.push(rule([from_tun(plan), Match::Destination(own), echo], [Action::Accept]));
    }
    rules.push(rule([from_tun(plan), Match::OpensTcp], [Action::Drop]));
    rules.push(rule(
        [from_tun(plan), Match::IpProtocol(TCP), Match::New],
        [Action::Reset],
    ));
    rules.push(rule([from_tun(plan)], [Action::Drop]));
    if matches!(plan.mode, Mode::Egress(_)) {
        rules.extend(build_input_of_egress(plan));
    }
    rules
}

/// Every port of the Pod belongs to the target. What gets here was not translated, because there is no target to send
/// it to or because it is not the start of a connection.
fn build_input_of_egress(plan: &Plan) -> Vec<Rule> {
    let mut rules = build_reserved(plan);
    for address in &plan.pod {
        let to_pod = Match::Destination(*address);
        rules.push(rule(
            [to_pod.clone(), Match::IpProtocol(TCP), Match::New],
            [Action::Reset],
        ));
        rules.push(rule(
            [to_pod, Match::NotIpProtocol(ICMPV6), Match::New],
            [Action::RefusePort],
        ));
    }
    rules
}

fn build_clamp(plan: &Plan) -> Vec<Rule> {
    [(IpAddr::V4([0; 4].into()), 40), (IpAddr::V6([0; 16].into()), 60)]
        .into_iter()
        .flat_map(|(family, headers)| {
            let clamp = Action::ClampSegment(plan.tun.mtu.saturating_sub(headers));
            [from_tun(plan), to_tun(plan)].map(|device| {
                rule(
                    [Match::Family { ipv6: family.is_ipv6() }, device, Match::TcpSyn],
                    [clamp.clone()],
                )
            })
        })
        .collect()
}

/// The heart of "nothing passes but the plan": only translated flows of ours and their replies, each only from the side
/// and to the side that it belongs to.
fn build_forward(plan: &Plan) -> Chain {
    let not_to_tun = Match::NotTo(plan.tun.name.clone());
    let not_from_tun = Match::NotFrom(plan.tun.name.clone());
    let inwards = [from_tun(plan), not_to_tun];
    let outwards = [not_from_tun, to_tun(plan)];
    let pass = |way: &[Match; 2], track, direction| {
        let flow = [Match::Track(track), Match::Translated, Match::Direction(direction)];
        rule(way.iter().cloned().chain(flow), [Action::Accept])
    };
    let rules = vec![
        pass(&inwards, TRACK_INGRESS, Direction::Original),
        pass(&outwards, TRACK_INGRESS, Direction::Reply),
        pass(&outwards, TRACK_EGRESS, Direction::Original),
        pass(&inwards, TRACK_EGRESS, Direction::Reply),
    ];
    let mut chain = base("forward", ChainType::Filter, Hook::Forward, FILTER, rules);
    chain.base = chain.base.map(|base| BaseChain { drops: true, ..base });
    chain
}

/// What the kernel itself says about a flow of ours towards the tailnet (an ICMP error, a reset) takes the tailnet's
/// table like the flow. Without this it would take the Pod's default route, with a peer's address in the clear.
fn build_remark() -> Vec<Rule> {
    let to_tailnet = [Action::Mark(MARK_TO_TAILNET)];
    vec![
        rule(
            [Match::Track(TRACK_INGRESS), Match::Direction(Direction::Reply)],
            to_tailnet.clone(),
        ),
        rule(
            [Match::Track(TRACK_EGRESS), Match::Direction(Direction::Original)],
            to_tailnet,
        ),
    ]
}

/// Packets from the node's tailnet address leave by the tailnet or not at all.
fn build_output(plan: &Plan) -> Vec<Rule> {
    let elsewhere = [Match::NotTo(plan.tun.name.clone()), Match::NotTo(LOOPBACK.to_owned())];
    plan.tailnet
        .iter()
        .map(|own| {
            rule(
                [Match::Source(own)].into_iter().chain(elsewhere.clone()),
                [Action::Drop],
            )
        })
        .collect()
}

fn build_source(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![rule(
        [Match::Track(TRACK_INGRESS), Match::NotTo(plan.tun.name.clone())],
        [Action::Masquerade],
    )];
    if matches!(plan.mode, Mode::Egress(_)) {
        for way in plan.kernel_ways() {
            let family = Match::Family {
                ipv6: way.own.is_ipv6(),
            };
            rules.push(rule(
                [Match::Track(TRACK_EGRESS), to_tun(plan), family],
                [Action::TranslateFrom(way.own)],
            ));
        }
    }
    rules
}
