//! Walks the first packet of a flow through the rules as the kernel does, for the properties of the plan.

use std::net::IpAddr;

use crate::rules::{Action, Chain, Direction, MARK_TO_TAILNET, Match, RulePlan};

#[derive(Debug, Clone, Copy)]
pub(super) struct Packet {
    pub(super) from: &'static str,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) port: u16,
    pub(super) opens_tcp: bool,
    /// What chance says when it is asked.
    pub(super) luck: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Forwarded { target: IpAddr, device: &'static str },
    HandedOver { port: u16 },
    Delivered,
    Refused,
    Dropped,
}

struct Walk<'a> {
    plan: &'a RulePlan,
    packet: Packet,
    mark: u32,
    track: u32,
    translated: bool,
    handed_over: Option<u16>,
    to: Option<&'static str>,
}

enum Step {
    GoOn,
    Accept,
    Stop(Verdict),
}

/// The fate of a flow's first packet; `local` are the addresses of the Pod itself.
pub(super) fn walk(plan: &RulePlan, packet: Packet, local: &[IpAddr]) -> Verdict {
    let mut walk = Walk {
        plan,
        packet,
        mark: 0,
        track: 0,
        translated: false,
        handed_over: None,
        to: None,
    };
    for chain in ["translate", "mark"] {
        if let Step::Stop(verdict) = walk.chain(chain) {
            return verdict;
        }
    }
    if local.contains(&walk.packet.destination) {
        return match walk.chain("input") {
            Step::Stop(verdict) => verdict,
            Step::GoOn | Step::Accept => match walk.handed_over {
                Some(port) => Verdict::HandedOver { port },
                None => Verdict::Delivered,
            },
        };
    }
    let device = if walk.mark == MARK_TO_TAILNET {
        "tailscale0"
    } else {
        "eth0"
    };
    walk.to = Some(device);
    match walk.chain("forward") {
        Step::Accept => Verdict::Forwarded {
            target: walk.packet.destination,
            device,
        },
        Step::GoOn => Verdict::Dropped,
        Step::Stop(verdict) => verdict,
    }
}

impl Walk<'_> {
    fn chain(&mut self, name: &str) -> Step {
        let plan = self.plan;
        let chain: &Chain = plan
            .chains
            .iter()
            .find(|chain| chain.name == name)
            .expect("every chain exists");
        for rule in &chain.rules {
            if !rule.matches.iter().all(|condition| self.holds(condition)) {
                continue;
            }
            for action in &rule.actions {
                match self.act(action) {
                    Step::GoOn => {}
                    step @ (Step::Accept | Step::Stop(_)) => return step,
                }
            }
        }
        Step::GoOn
    }

    fn holds(&self, condition: &Match) -> bool {
        let packet = &self.packet;
        match condition {
            Match::From(device) => packet.from == device,
            Match::NotFrom(device) => packet.from != device,
            Match::To(device) => self.to.is_some_and(|to| to == device),
            Match::NotTo(device) => self.to.is_some_and(|to| to != device),
            Match::Source(address) => packet.source == *address,
            Match::Destination(address) => packet.destination == *address,
            Match::Port(protocol, port) => (protocol.number(), *port) == (packet.protocol, packet.port),
            Match::PortIn(set) => self.is_in(set),
            Match::OneIn(count) => packet.luck.is_multiple_of(*count),
            Match::IpProtocol(number) => packet.protocol == *number,
            Match::NotIpProtocol(number) => packet.protocol != *number,
            Match::Family { ipv6 } => packet.destination.is_ipv6() == *ipv6,
            Match::OpensTcp | Match::TcpSyn => packet.protocol == 6 && packet.opens_tcp,
            Match::EchoRequest { ipv6 } => packet.protocol == if *ipv6 { 58 } else { 1 },
            Match::New => true,
            Match::Known => false,
            Match::Direction(direction) => *direction == Direction::Original,
            Match::Translated => self.translated,
            Match::Track(track) => self.track == *track,
        }
    }

    fn is_in(&self, set: &str) -> bool {
        let sets = &self.plan.sets;
        let set = sets.iter().find(|s| s.name == set).expect("every set exists");
        let mut elements = set.elements.iter();
        elements.any(|(protocol, port)| (protocol.number(), *port) == (self.packet.protocol, self.packet.port))
    }

    fn act(&mut self, action: &Action) -> Step {
        match action {
            Action::Mark(mark) => self.mark = *mark,
            Action::Track(track) => self.track = *track,
            Action::HandOver { ipv6, port } => {
                assert_eq!(
                    *ipv6,
                    self.packet.destination.is_ipv6(),
                    "the kernel ignores the other family"
                );
                self.handed_over = Some(*port);
            }
            Action::TranslateTo(target) => return self.translate(*target),
            Action::Jump(chain) => return self.chain(chain),
            Action::Accept => return Step::Accept,
            Action::Drop => return Step::Stop(Verdict::Dropped),
            Action::Reset | Action::RefusePort => return Step::Stop(Verdict::Refused),
            Action::TranslateFrom(_) | Action::Masquerade | Action::ClampSegment(_) => {}
        }
        Step::GoOn
    }

    fn translate(&mut self, target: IpAddr) -> Step {
        self.packet.destination = target;
        self.translated = true;
        Step::Accept
    }
}
