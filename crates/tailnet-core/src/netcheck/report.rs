//! What is known of the network, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Netcheck;
use crate::netmap::RegionId;

/// What is known of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkReport {
    /// Whether servers answer by UDP; nothing while that is being found out, and where no server is known.
    pub udp: Option<bool>,
    /// This node's IPv4 address and port as a server sees it.
    pub ipv4: Option<SocketAddr>,
    /// This node's IPv6 address and port as a server sees it.
    pub ipv6: Option<SocketAddr>,
    /// Whether servers see different ports or addresses: then a NAT maps by destination, and what one server sees is of no use to peers.
    /// Nothing while fewer than two servers answered.
    pub mapping_varies: Option<bool>,
    /// The region at whose relays peers reach this node.
    pub home: Option<RegionId>,
    /// How long regions take to answer, as far as they do.
    pub latencies: BTreeMap<RegionId, Duration>,
}

impl Netcheck {
    /// What is known now.
    pub fn report(&self, now: Instant) -> NetworkReport {
        let is_over = self.round.is_some_and(|round| round.is_over(now));
        let udp = if self.observed.is_empty() {
            ((is_over || self.was_silent) && !self.servers.is_empty()).then_some(false)
        } else {
            Some(true)
        };
        let seen = |ipv4: bool| {
            let mut newest: Vec<_> = self
                .observed
                .values()
                .filter(|(seen, _)| seen.is_ipv4() == ipv4)
                .collect();
            newest.sort_by_key(|(_, at)| *at);
            newest.last().map(|(seen, _)| *seen)
        };
        let regions = self.heard.keys();
        NetworkReport {
            udp,
            ipv4: seen(true),
            ipv6: seen(false),
            mapping_varies: self.mapping_varies(),
            home: self.home,
            latencies: regions
                .filter_map(|region| Some((*region, self.latency(*region, now)?)))
                .collect(),
        }
    }

    /// Whether two servers of one family see different addresses of this node.
    fn mapping_varies(&self) -> Option<bool> {
        let views = |ipv4: bool| {
            let of_family = self.observed.values().filter(move |(seen, _)| seen.is_ipv4() == ipv4);
            let seen: Vec<SocketAddr> = of_family.map(|(seen, _)| *seen).collect();
            let distinct: BTreeSet<_> = seen.iter().collect();
            (seen.len() > 1).then_some(distinct.len() > 1)
        };
        match (views(true), views(false)) {
            (None, None) => None,
            (v4, v6) => Some(v4 == Some(true) || v6 == Some(true)),
        }
    }
}
