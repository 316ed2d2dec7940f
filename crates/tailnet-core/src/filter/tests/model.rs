//! A plain reference model of the filter: rules stay text, every question is a linear search, flows are a list. It shares no code with
//! the filter, and random histories must get the same verdicts from both.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use proptest::prelude::*;

use super::packets::{Fragment, Kind, PacketSpec};
use super::{AddressRange, AddressSet, BTreeMap, Destination, Filter, FilterPlan, PacketFilter, PortRange, Rule};
use super::{NodeKey, SenderAccess, Verdict};

#[derive(Debug, Clone)]
struct TextRule {
    sources: Vec<&'static str>,
    destinations: Vec<(&'static str, u16, u16)>,
    protocols: Vec<u8>,
}

#[derive(Debug, Clone)]
struct World {
    local: Vec<&'static str>,
    rules: Vec<TextRule>,
    peers: Vec<(Vec<&'static str>, bool)>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    In { peer: usize, packet: PacketSpec },
    Out { packet: PacketSpec },
    Wait { seconds: u64 },
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Accept,
    Consume,
    Drop,
}

struct Model {
    world: World,
    flows: Vec<(u8, SocketAddr, SocketAddr, Duration)>,
}

fn text_holds(text: &str, address: IpAddr) -> bool {
    if text == "*" {
        return true;
    }
    if let Some((first, last)) = text.split_once('-') {
        let (first, last): (IpAddr, IpAddr) = (first.parse().unwrap(), last.parse().unwrap());
        return first.is_ipv4() == address.is_ipv4() && first <= address && address <= last;
    }
    match text.parse::<IpNet>() {
        Ok(net) => net.contains(&address),
        Err(_) => text.parse::<IpAddr>().unwrap() == address,
    }
}

fn any_holds(texts: &[&str], address: IpAddr) -> bool {
    texts.iter().any(|text| text_holds(text, address))
}

impl Model {
    fn inbound(&mut self, peer: usize, packet: &PacketSpec, now: Duration) -> Outcome {
        let (sources, jailed) = self.world.peers[peer].clone();
        let overlapping = matches!(packet.fragment, Fragment::Later(offset) if offset < 10);
        if overlapping || !any_holds(&sources, packet.source) || !any_holds(&self.world.local, packet.destination) {
            return Outcome::Drop;
        }
        if matches!(packet.fragment, Fragment::Later(_)) {
            return Outcome::Accept;
        }
        let allowed = match packet.kind {
            Kind::TcpAnswer | Kind::TcpLater | Kind::EchoReply | Kind::Unreachable => true,
            Kind::Other(99) => return Outcome::Consume,
            Kind::Udp | Kind::Sctp => self.known_flow(packet, now) || (!jailed && self.ruled(packet)),
            Kind::TcpOpen | Kind::EchoRequest | Kind::Other(_) => !jailed && self.ruled(packet),
        };
        if allowed { Outcome::Accept } else { Outcome::Drop }
    }

    fn ruled(&self, packet: &PacketSpec) -> bool {
        let protocol = packet.protocol();
        self.world.rules.iter().any(|rule| {
            let named =
                rule.protocols.contains(&protocol) || (rule.protocols.is_empty() && [1, 6, 17, 58].contains(&protocol));
            any_holds(&rule.sources, packet.source)
                && rule.destinations.iter().any(|(to, first, last)| {
                    let ports = match packet.kind {
                        Kind::EchoRequest => true,
                        Kind::Other(_) => named && *first == 0 && *last == 65535,
                        Kind::TcpOpen
                        | Kind::TcpAnswer
                        | Kind::TcpLater
                        | Kind::Udp
                        | Kind::Sctp
                        | Kind::EchoReply
                        | Kind::Unreachable => {
                            named && *first <= packet.destination_port && packet.destination_port <= *last
                        }
                    };
                    ports && text_holds(to, packet.destination)
                })
        })
    }

    fn known_flow(&mut self, packet: &PacketSpec, now: Duration) -> bool {
        let key = (
            packet.protocol(),
            SocketAddr::new(packet.source, packet.source_port),
            SocketAddr::new(packet.destination, packet.destination_port),
        );
        let found = self.flows.iter_mut().find(|flow| (flow.0, flow.1, flow.2) == key);
        match found {
            Some(flow) if now <= flow.3 + Duration::from_mins(3) => {
                flow.3 = now;
                true
            }
            _ => false,
        }
    }

    fn outbound(&mut self, packet: &PacketSpec, now: Duration) -> Outcome {
        let overlapping = matches!(packet.fragment, Fragment::Later(offset) if offset < 10);
        if overlapping || !any_holds(&self.world.local, packet.source) {
            return Outcome::Drop;
        }
        let whole = !matches!(packet.fragment, Fragment::Later(_));
        if whole && matches!(packet.kind, Kind::Udp | Kind::Sctp) {
            let remote = SocketAddr::new(packet.destination, packet.destination_port);
            let local = SocketAddr::new(packet.source, packet.source_port);
            self.flows
                .retain(|flow| (flow.0, flow.1, flow.2) != (packet.protocol(), remote, local));
            self.flows.push((packet.protocol(), remote, local, now));
        }
        Outcome::Accept
    }
}

impl World {
    fn filter(&self) -> Filter {
        let set = |texts: &[&str]| {
            texts
                .iter()
                .filter_map(|text| AddressRange::parse(text))
                .collect::<AddressSet>()
        };
        let rules = self.rules.iter().map(|rule| {
            let destinations = rule.destinations.iter().map(|(to, first, last)| Destination {
                addresses: AddressRange::parse(to).expect("pool entry"),
                ports: PortRange {
                    first: *first,
                    last: *last,
                },
            });
            Rule::new(set(&rule.sources), destinations.collect(), rule.protocols.clone())
        });
        let senders = self.peers.iter().enumerate().map(|(at, (sources, jailed))| {
            (
                key(at),
                SenderAccess {
                    sources: set(sources),
                    jailed: *jailed,
                },
            )
        });
        Filter::new(FilterPlan {
            local: set(&self.local),
            rules: rules.collect(),
            senders: senders.collect::<BTreeMap<_, _>>(),
        })
    }
}

fn key(at: usize) -> NodeKey {
    NodeKey::from_bytes([u8::try_from(at).expect("few peers"); 32])
}

const RANGES: &[&str] = &[
    "*",
    "100.64.0.1",
    "100.64.0.2",
    "100.64.0.0/30",
    "100.64.0.2-100.64.0.4",
    "100.64.0.3-100.64.0.3",
    "0.0.0.0/0",
    "::/0",
    "fd7a:115c:a1e0::1",
    "fd7a:115c:a1e0::/126",
    "fd7a:115c:a1e0::2-fd7a:115c:a1e0::3",
];
const V4: &[&str] = &["100.64.0.1", "100.64.0.2", "100.64.0.3", "100.64.0.4", "100.64.0.5"];
const V6: &[&str] = &[
    "fd7a:115c:a1e0::1",
    "fd7a:115c:a1e0::2",
    "fd7a:115c:a1e0::3",
    "fd7a:115c:a1e0::4",
];
const PORTS: &[u16] = &[0, 1, 53, 80, 81, 65534, 65535];
const PROTOCOLS: &[u8] = &[1, 6, 17, 47, 58, 99, 132];

fn pick<T: Clone + std::fmt::Debug + 'static>(from: &'static [T]) -> impl Strategy<Value = T> + Clone {
    prop::sample::select(from)
}

fn ranges(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(pick(RANGES), count)
}

fn world() -> impl Strategy<Value = World> {
    let destination = (pick(RANGES), pick(PORTS), pick(PORTS));
    let rule = (
        ranges(0..3),
        prop::collection::vec(destination, 0..3),
        prop::collection::vec(pick(PROTOCOLS), 0..3),
    )
        .prop_map(|(sources, destinations, protocols)| TextRule {
            sources,
            destinations,
            protocols,
        });
    let peer = (ranges(1..3), prop::bool::weighted(0.3));
    (
        ranges(1..3),
        prop::collection::vec(rule, 0..4),
        prop::collection::vec(peer, 1..3),
    )
        .prop_map(|(local, rules, peers)| World { local, rules, peers })
}

fn packet() -> impl Strategy<Value = PacketSpec> {
    let kind = prop_oneof![
        Just(Kind::TcpOpen),
        Just(Kind::TcpAnswer),
        Just(Kind::TcpLater),
        Just(Kind::Udp),
        Just(Kind::Udp),
        Just(Kind::Sctp),
        Just(Kind::EchoRequest),
        Just(Kind::EchoReply),
        Just(Kind::Unreachable),
        Just(Kind::Other(47)),
        Just(Kind::Other(99)),
    ];
    let fragment =
        prop_oneof![6 => Just(Fragment::None), 1 => Just(Fragment::First), 1 => (1u16..40).prop_map(Fragment::Later)];
    let family = prop_oneof![(pick(V4), pick(V4)), (pick(V6), pick(V6))];
    (family, kind, pick(PORTS), pick(PORTS), fragment).prop_map(
        |((source, destination), kind, source_port, destination_port, fragment)| {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            PacketSpec {
                source,
                destination,
                kind,
                source_port,
                destination_port,
                fragment,
            }
        },
    )
}

/// Half of the packets that come in answer one that went out before, else a random history would hardly hold an answer.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0usize..2, packet()).prop_map(|(peer, packet)| vec![Event::In { peer, packet }]),
        2 => packet().prop_map(|packet| vec![Event::Out { packet }]),
        3 => (0usize..2, packet(), 0u64..400).prop_map(|(peer, packet, seconds)| {
            let answer = PacketSpec {
                source: packet.destination,
                destination: packet.source,
                source_port: packet.destination_port,
                destination_port: packet.source_port,
                ..packet
            };
            vec![Event::Out { packet }, Event::Wait { seconds }, Event::In { peer, packet: answer }]
        }),
        1 => (0u64..200).prop_map(|seconds| vec![Event::Wait { seconds }]),
    ];
    prop::collection::vec(event, 1..30).prop_map(|groups| groups.concat())
}

fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Accept => Outcome::Accept,
        Verdict::Consume => Outcome::Consume,
        Verdict::Drop(_) => Outcome::Drop,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn filter_agrees_with_the_plain_model(world in world(), events in events()) {
        let filter = world.filter();
        let start = Instant::now();
        let mut now = Duration::ZERO;
        let mut model = Model { world: world.clone(), flows: Vec::new() };
        for event in events {
            match event {
                Event::Wait { seconds } => now += Duration::from_secs(seconds),
                Event::In { peer, packet } => {
                    let peer = peer % world.peers.len();
                    let verdict = filter.inbound(&key(peer), &packet.bytes(), start + now);
                    prop_assert_eq!(outcome(verdict), model.inbound(peer, &packet, now), "in {:?}", packet);
                }
                Event::Out { packet } => {
                    let verdict = filter.outbound(&packet.bytes(), start + now);
                    prop_assert_eq!(outcome(verdict), model.outbound(&packet, now), "out {:?}", packet);
                }
            }
        }
    }
}
