//! Derives the rules from a plan.

use std::net::{IpAddr, SocketAddr};

use super::{
    Action, BaseChain, Chain, ChainType, Direction, Element, Hook, MARK_FROM_TAILNET, MARK_TO_TAILNET, Map, Match,
    Protocol, Rule, RulePlan, TRACK_EGRESS, TRACK_INGRESS,
};
use crate::mode::{Ingress, IngressPorts, Mode};
use crate::plan::Plan;

const LOOPBACK: &str = "lo";
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

const SERVED_V4: &str = "served4";
const SERVED_V6: &str = "served6";

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
            maps: vec![build_map(plan, false), build_map(plan, true)],
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
                    build_mark(plan),
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

fn build_map(plan: &Plan, ipv6: bool) -> Map {
    let elements = match plan.open_ingress() {
        Some((
            Ingress {
                target,
                ports: IngressPorts::Listed(ports),
            },
            _,
        )) if target.is_ipv6() == ipv6 => ports
            .iter()
            .map(|&(protocol, port)| Element {
                key: (protocol, port),
                value: SocketAddr::new(*target, port),
            })
            .collect(),
        _ => Vec::new(),
    };
    Map {
        name: if ipv6 { SERVED_V6 } else { SERVED_V4 },
        ipv6,
        elements,
    }
}

fn build_translate(plan: &Plan) -> Vec<Rule> {
    vec![
        rule([from_tun(plan)], [Action::Jump("from_tailnet")]),
        rule(from_cluster(plan), [Action::Jump("from_cluster")]),
    ]
}

/// Of TCP only the opening segment is translated: a segment from the middle of an unknown connection stays addressed to
/// the Pod, where `input` answers it with a reset.
fn build_ingress(plan: &Plan) -> Vec<Rule> {
    let Some((ingress, own)) = plan.open_ingress() else {
        return Vec::new();
    };
    let to_own = Match::Destination(own);
    let echo = if own.is_ipv6() { ICMPV6 } else { ICMP };
    let other = [Match::NotIpProtocol(TCP), Match::NotIpProtocol(echo)];
    let actions = match ingress.ports {
        IngressPorts::All => vec![Action::Track(TRACK_INGRESS), Action::TranslateTo(ingress.target)],
        IngressPorts::Listed(_) => vec![Action::TranslateByMap {
            map: if own.is_ipv6() { SERVED_V6 } else { SERVED_V4 },
            ipv6: own.is_ipv6(),
            track: TRACK_INGRESS,
        }],
    };
    vec![
        rule([to_own.clone(), Match::OpensTcp], actions.clone()),
        rule([to_own].into_iter().chain(other), actions),
    ]
}

fn build_egress(plan: &Plan) -> Vec<Rule> {
    let Some((target, _)) = plan.open_egress() else {
        return Vec::new();
    };
    let actions = [Action::Track(TRACK_EGRESS), Action::TranslateTo(target)];
    let mut rules = build_reserved(plan).to_vec();
    for address in plan.pod.iter().filter(|address| address.is_ipv6() == target.is_ipv6()) {
        let to_pod = Match::Destination(*address);
        rules.push(rule([to_pod.clone(), Match::OpensTcp], actions.clone()));
        rules.push(rule([to_pod, Match::NotIpProtocol(TCP)], actions.clone()));
    }
    rules
}

/// The proxy's own ports stay its own.
fn build_reserved(plan: &Plan) -> [Rule; 2] {
    [
        rule([Match::Port(Protocol::Udp, plan.reserved.wireguard)], [Action::Accept]),
        rule([Match::Port(Protocol::Tcp, plan.reserved.health)], [Action::Accept]),
    ]
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

fn build_input(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![
        rule([Match::From(LOOPBACK.to_owned())], [Action::Accept]),
        rule([Match::Known, Match::Direction(Direction::Reply)], [Action::Accept]),
    ];
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
    let mut rules = build_reserved(plan).to_vec();
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
    if let Some((_, own)) = plan.open_egress() {
        let family = Match::Family { ipv6: own.is_ipv6() };
        rules.push(rule(
            [Match::Track(TRACK_EGRESS), to_tun(plan), family],
            [Action::TranslateFrom(own)],
        ));
    }
    rules
}
