//! A network that delays, loses, doubles and reorders, with NATs at its edges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Whom a mapping lets in besides those that it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filter {
    /// Everybody: it filters nobody.
    Nobody,
    /// Whoever has an address that was sent to.
    Address,
    /// Whoever has an address and port that were sent to.
    Port,
}

/// What stands between a site and the world. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nat {
    /// Nothing: public addresses.
    None,
    /// One port outside for one inside (endpoint-independent mapping).
    Easy { filter: Filter, lifetime: u64 },
    /// Another port for each destination, which alone may answer.
    Hard { lifetime: u64 },
    /// UDP stays inside.
    NoUdp,
}

impl Nat {
    /// Whether two nodes behind these can reach each other directly when both try.
    pub(crate) fn crosses(self, other: Self) -> bool {
        let opens = |nat| {
            matches!(
                nat,
                Self::None
                    | Self::Easy {
                        filter: Filter::Nobody | Filter::Address,
                        ..
                    }
            )
        };
        match (self, other) {
            (Self::NoUdp, _) | (_, Self::NoUdp) | (Self::Hard { .. }, Self::Hard { .. }) => false,
            (Self::Hard { .. }, easy) | (easy, Self::Hard { .. }) => opens(easy),
            _ => true,
        }
    }
}

/// A mapping of a NAT.
#[derive(Debug, Clone)]
struct Mapping {
    inside: SocketAddr,
    /// Nothing for an easy NAT, whose mappings are for all.
    to: Option<SocketAddr>,
    sent_to: BTreeSet<SocketAddr>,
    used: u64,
}

/// The sites and their NATs.
pub(crate) struct Network {
    sites: Vec<(Nat, BTreeMap<u16, Mapping>)>,
    cut: BTreeSet<(usize, usize)>,
    next_port: u16,
}

/// The server that tells who asks how the world sees him.
pub(crate) const STUN: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 200)), 3478),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 201)), 3478),
];

/// What becomes of a datagram: its source as the receiver sees it, and the socket it comes to.
pub(crate) struct Arrival {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

fn public(site: usize) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, u8::try_from(site + 1).unwrap()).into()
}

fn site_of(address: IpAddr) -> Option<(usize, bool)> {
    let IpAddr::V4(address) = address else { return None };
    match address.octets() {
        [203, 0, 113, site @ 1..100] => Some((usize::from(site) - 1, true)),
        [198, 51, 100, host] => Some((usize::from(host >> 4), false)),
        [10, site, ..] => Some((site.into(), false)),
        _ => None,
    }
}

impl Network {
    pub(crate) fn new(sites: &[Nat]) -> Self {
        Self {
            sites: sites.iter().map(|nat| (*nat, BTreeMap::new())).collect(),
            cut: BTreeSet::new(),
            next_port: 20_000,
        }
    }

    /// The address of a node at a site. Each stay has another.
    pub(crate) fn address(&self, site: usize, node: usize, stay: u8) -> SocketAddr {
        let (site_byte, node) = (u8::try_from(site).unwrap(), u8::try_from(node).unwrap());
        let address = match self.sites[site].0 {
            Nat::None => Ipv4Addr::new(198, 51, 100, (site_byte << 4) + node * 4 + stay % 4),
            Nat::Easy { .. } | Nat::Hard { .. } | Nat::NoUdp => Ipv4Addr::new(10, site_byte, node, stay),
        };
        (address, 41641).into()
    }

    pub(crate) fn nat(&self, site: usize) -> Nat {
        self.sites[site].0
    }

    pub(crate) fn forget(&mut self, site: usize) {
        self.sites[site].1.clear();
    }

    /// Cuts the way between two sites; within one there is nothing to cut.
    pub(crate) fn cut(&mut self, a: usize, b: usize, is_cut: bool) {
        for pair in [(a, b), (b, a)].into_iter().filter(|_| a != b) {
            if is_cut {
                self.cut.insert(pair);
            } else {
                self.cut.remove(&pair);
            }
        }
    }

    pub(crate) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a, b))
    }

    /// Sends a datagram from a site's socket; nothing when it gets nowhere.
    pub(crate) fn send(&mut self, site: usize, from: SocketAddr, to: SocketAddr, now: u64) -> Option<Arrival> {
        let target = site_of(to.ip());
        if let Some((other, false)) = target
            && other == site
        {
            return Some(Arrival { from, to });
        }
        let from = self.leave(site, from, to, now)?;
        if STUN.contains(&to) {
            return Some(Arrival { from, to });
        }
        let (other, is_nat) = target?;
        if self.is_cut(site, other) || other >= self.sites.len() {
            return None;
        }
        let to = if is_nat {
            self.enter(other, from, to, now)?
        } else {
            (self.sites[other].0 == Nat::None).then_some(to)?
        };
        Some(Arrival { from, to })
    }

    /// The answer of a server outside to a datagram that came to it.
    pub(crate) fn answer(&mut self, server: SocketAddr, to: SocketAddr, now: u64) -> Option<SocketAddr> {
        let (site, is_nat) = site_of(to.ip())?;
        if is_nat {
            self.enter(site, server, to, now)
        } else {
            Some(to)
        }
    }

    fn leave(&mut self, site: usize, from: SocketAddr, to: SocketAddr, now: u64) -> Option<SocketAddr> {
        let (nat, mappings) = &mut self.sites[site];
        let (lifetime, key) = match nat {
            Nat::None => return Some(from),
            Nat::NoUdp => return None,
            Nat::Easy { lifetime, .. } => (*lifetime, None),
            Nat::Hard { lifetime } => (*lifetime, Some(to)),
        };
        mappings.retain(|_, mapping| mapping.used + lifetime > now);
        let known = mappings
            .iter_mut()
            .find(|(_, mapping)| mapping.inside == from && mapping.to == key);
        let port = if let Some((port, mapping)) = known {
            mapping.used = now;
            mapping.sent_to.insert(to);
            *port
        } else {
            self.next_port = self.next_port.checked_add(1).unwrap_or(20_000);
            let sent_to = BTreeSet::from([to]);
            mappings.insert(
                self.next_port,
                Mapping {
                    inside: from,
                    to: key,
                    sent_to,
                    used: now,
                },
            );
            self.next_port
        };
        Some((public(site), port).into())
    }

    fn enter(&mut self, site: usize, from: SocketAddr, to: SocketAddr, now: u64) -> Option<SocketAddr> {
        let (nat, mappings) = &self.sites[site];
        let mapping = mappings.get(&to.port())?;
        let (filter, lifetime) = match nat {
            Nat::None | Nat::NoUdp => return None,
            Nat::Easy { filter, lifetime } => (*filter, *lifetime),
            Nat::Hard { lifetime } => (Filter::Port, *lifetime),
        };
        let admitted = match filter {
            Filter::Nobody => true,
            Filter::Address => mapping.sent_to.iter().any(|sent| sent.ip() == from.ip()),
            Filter::Port => mapping.sent_to.contains(&from),
        };
        (admitted && mapping.used + lifetime > now).then_some(mapping.inside)
    }
}
