//! Packets and verdicts as the documents say them, without a thought for speed and without code of the filter.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use isthmus_tailnet_core::addresses::{AddressRange, AddressSet};
use isthmus_tailnet_core::filter::{Body, Destination, FilterPlan, Header, PortRange, Rule, SenderAccess};
use isthmus_tailnet_core::key::NodeKey;

/// What matters of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Opening(u16, u16),
    Later(u16, u16),
    Datagram(u16, u16),
    Answer,
    Request,
    Fragment,
    Other,
}

impl From<Header> for Seen {
    fn from(header: Header) -> Self {
        let what = match header.body {
            Body::Tcp {
                source_port,
                destination_port,
                opens: true,
            } => What::Opening(source_port, destination_port),
            Body::Tcp {
                source_port,
                destination_port,
                opens: false,
            } => What::Later(source_port, destination_port),
            Body::Datagram {
                source_port,
                destination_port,
            } => What::Datagram(source_port, destination_port),
            Body::IcmpAnswer => What::Answer,
            Body::IcmpRequest => What::Request,
            Body::LaterFragment => What::Fragment,
            Body::Opaque => What::Other,
        };
        Self {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            what,
        }
    }
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]))
}

/// The length that an IP packet says it has, if it is there.
pub(super) fn length(packet: &[u8]) -> Option<usize> {
    let length = match packet.first()? >> 4 {
        4 => usize::from(word(packet, 2)?),
        6 => 40 + usize::from(word(packet, 4)?),
        _ => return None,
    };
    (length <= packet.len() && length > 0).then_some(length)
}

/// Where the header of a packet without extensions ends.
pub(super) fn transport(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 4 {
        usize::from(packet[0] & 15) * 4
    } else {
        40
    }
}

/// Reads a packet: RFC 791 and 8200, with the bounds that the filter documents.
pub(super) fn read(packet: &[u8]) -> Option<Seen> {
    let packet = &packet[..length(packet)?];
    if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 15) * 4;
        if header < 20 || packet.len() < header {
            return None;
        }
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).expect("four bytes"));
        let offset = usize::from(word(packet, 6)? & 0x1fff) * 8;
        let what = body(packet[9], &packet[header..], offset)?;
        return Some(Seen {
            source: address(12),
            destination: address(16),
            protocol: packet[9],
            what,
        });
    }
    let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("sixteen bytes"));
    let (mut next, mut at) = (packet[6], 40);
    for _ in 0..=8 {
        let rest = packet.get(at..)?;
        match next {
            0 | 43 | 60 => {
                next = *rest.first()?;
                at += usize::from(*rest.get(1)?) * 8 + 8;
                if rest.len() < 8 || at > packet.len() {
                    return None;
                }
            }
            44 => {
                let offset = usize::from(word(rest, 2)? & 0xfff8);
                let after = rest.get(8..)?;
                next = rest[0];
                at += 8;
                if offset != 0 {
                    let what = body(next, after, offset)?;
                    return Some(Seen {
                        source: address(8),
                        destination: address(24),
                        protocol: next,
                        what,
                    });
                }
            }
            _ => {
                let what = body(next, rest, 0)?;
                return Some(Seen {
                    source: address(8),
                    destination: address(24),
                    protocol: next,
                    what,
                });
            }
        }
    }
    None
}

fn body(protocol: u8, payload: &[u8], offset: usize) -> Option<What> {
    if offset != 0 {
        return (offset >= 80).then_some(What::Fragment);
    }
    let ports = || Some((word(payload, 0)?, word(payload, 2)?));
    match protocol {
        6 => {
            let flags = *payload.get(13).filter(|_| payload.len() >= 20)?;
            let (from, to) = ports()?;
            Some(if flags & 0x12 == 0x02 {
                What::Opening(from, to)
            } else {
                What::Later(from, to)
            })
        }
        17 | 132 => {
            let (from, to) = ports().filter(|_| payload.len() >= 8)?;
            Some(What::Datagram(from, to))
        }
        1 => icmp(payload, &[0, 3, 11, 12]),
        58 => icmp(payload, &[1, 2, 3, 4, 129]),
        _ => Some(What::Other),
    }
}

fn icmp(payload: &[u8], answers: &[u8]) -> Option<What> {
    let kind = payload.first().filter(|_| payload.len() >= 8)?;
    Some(if answers.contains(kind) {
        What::Answer
    } else {
        What::Request
    })
}

/// The peers: the second is jailed.
pub(super) const PEERS: [NodeKey; 2] = [NodeKey::from_bytes([1; 32]), NodeKey::from_bytes([2; 32])];

const SOURCES: [&[&str]; 2] = [&["100.64.0.1", "fd7a:115c:a1e0::1", "10.0.0.0/8"], &["100.64.0.2"]];
const LOCAL: &[&str] = &["100.64.0.9", "fd7a:115c:a1e0::9", "192.168.0.0/16"];
/// Source, destination, ports, protocols.
type Line = (&'static str, &'static str, (u16, u16), &'static [u8]);
const RULES: &[Line] = &[
    ("100.64.0.1", "100.64.0.9", (80, 443), &[]),
    ("*", "fd7a:115c:a1e0::9", (53, 53), &[17]),
    ("10.0.0.0/8", "192.168.1.0-192.168.1.99", (0, 65535), &[6, 47]),
    ("100.64.0.2", "*", (0, 65535), &[]),
];

fn range(text: &str) -> AddressRange {
    AddressRange::parse(text).expect("the ranges above are ranges")
}

/// What the filter under test enforces.
pub(super) fn plan() -> FilterPlan {
    let set = |texts: &[&str]| texts.iter().map(|text| range(text)).collect::<AddressSet>();
    let rules = RULES.iter().map(|(from, to, (first, last), protocols)| {
        let to = Destination {
            addresses: range(to),
            ports: PortRange {
                first: *first,
                last: *last,
            },
        };
        Rule::new(set(&[from]), vec![to], protocols.to_vec())
    });
    let access = |at: usize| SenderAccess {
        sources: set(SOURCES[at]),
        jailed: at == 1,
    };
    FilterPlan {
        local: set(LOCAL),
        rules: rules.collect(),
        senders: PEERS.iter().enumerate().map(|(at, key)| (*key, access(at))).collect(),
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Accept,
    Consume,
    Drop,
}

/// Verdicts by the words of the filter's documentation.
#[derive(Default)]
pub(super) struct Model {
    flows: Vec<(u8, SocketAddr, SocketAddr, Duration)>,
}

fn holds(texts: &[&str], address: IpAddr) -> bool {
    texts.iter().any(|text| range(text).contains(address))
}

fn crosses_tailnets(to: IpAddr) -> bool {
    let is_link_local = match to {
        IpAddr::V4(to) => to.is_link_local() || to.is_broadcast(),
        IpAddr::V6(to) => to.is_unicast_link_local(),
    };
    !(is_link_local || to.is_multicast() || to.is_unspecified())
}

impl Model {
    pub(super) fn inbound(&mut self, peer: usize, packet: &[u8], now: Duration) -> Outcome {
        let Some(seen) = read(packet) else { return Outcome::Drop };
        let known = holds(SOURCES[peer], seen.source) && holds(LOCAL, seen.destination);
        if !known || !crosses_tailnets(seen.destination) {
            return Outcome::Drop;
        }
        let allowed = match seen.what {
            What::Other if seen.protocol == 99 => return Outcome::Consume,
            What::Later(..) | What::Answer | What::Fragment => true,
            What::Opening(_, to) => Self::ruled(peer, seen, |first, last| first <= to && to <= last),
            What::Datagram(from, to) => {
                let flow = (
                    seen.protocol,
                    SocketAddr::new(seen.source, from),
                    SocketAddr::new(seen.destination, to),
                );
                self.is_answer(flow, now) || Self::ruled(peer, seen, |first, last| first <= to && to <= last)
            }
            What::Request => Self::ruled(peer, seen, |_, _| true),
            What::Other => Self::ruled(peer, seen, |first, last| (first, last) == (0, 65535)),
        };
        if allowed { Outcome::Accept } else { Outcome::Drop }
    }

    fn ruled(peer: usize, seen: Seen, ports: impl Fn(u16, u16) -> bool) -> bool {
        peer == 0
            && RULES.iter().any(|(from, to, (first, last), protocols)| {
                let usual = protocols.is_empty() && [1, 6, 17, 58].contains(&seen.protocol);
                let named = seen.what == What::Request || usual || protocols.contains(&seen.protocol);
                named && holds(&[from], seen.source) && holds(&[to], seen.destination) && ports(*first, *last)
            })
    }

    fn is_answer(&mut self, key: (u8, SocketAddr, SocketAddr), now: Duration) -> bool {
        let flow = self.flows.iter_mut().find(|flow| (flow.0, flow.1, flow.2) == key);
        let fresh = flow.filter(|flow| now <= flow.3 + Duration::from_mins(3));
        fresh.map(|flow| flow.3 = now).is_some()
    }

    pub(super) fn outbound(&mut self, packet: &[u8], now: Duration) -> Outcome {
        let Some(seen) = read(packet) else { return Outcome::Drop };
        if !holds(LOCAL, seen.source) || !crosses_tailnets(seen.destination) {
            return Outcome::Drop;
        }
        if let What::Datagram(from, to) = seen.what {
            let flow = (
                seen.protocol,
                SocketAddr::new(seen.destination, to),
                SocketAddr::new(seen.source, from),
            );
            self.flows.retain(|known| (known.0, known.1, known.2) != flow);
            self.flows.push((flow.0, flow.1, flow.2, now));
        }
        Outcome::Accept
    }
}

/// The one's complement sum (RFC 1071) of bytes, and of words that were summed before.
pub(super) fn sum(bytes: &[u8], words: &[u16]) -> u16 {
    let bytes = bytes
        .chunks(2)
        .map(|pair| (u64::from(pair[0]) << 8) | pair.get(1).copied().map_or(0, u64::from));
    let mut sum: u64 = bytes.sum::<u64>() + words.iter().copied().map(u64::from).sum::<u64>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}
