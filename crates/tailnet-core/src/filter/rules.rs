//! Allow rules, compiled for lookup. What no rule allows is not allowed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::addresses::{AddressRange, AddressSet};
use crate::filter::header::protocol;

/// The protocols of a rule that names none: TCP, UDP and ICMP of both families, as in the Go client.
const DEFAULT_PROTOCOLS: [u8; 4] = [protocol::TCP, protocol::UDP, protocol::ICMP, protocol::ICMPV6];

/// Allows traffic from some sources to some destinations of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    sources: AddressSet,
    /// Peers with one of these capabilities are sources as well, once [`Rule::resolve`] made addresses of them.
    capabilities: Vec<String>,
    destinations: Vec<Destination>,
    protocols: Vec<u8>,
}

/// Addresses and ports that a rule opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// The addresses.
    pub addresses: AddressRange,
    /// The ports.
    pub ports: PortRange,
}

/// A range of ports, both ends included. A range that ends before it starts holds no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// Whether `port` is in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl Rule {
    /// A rule that allows `protocols` (when empty: TCP, UDP and ICMP) from `sources` to `destinations`.
    pub fn new(sources: AddressSet, destinations: Vec<Destination>, protocols: Vec<u8>) -> Self {
        let protocols = if protocols.is_empty() {
            DEFAULT_PROTOCOLS.to_vec()
        } else {
            protocols
        };
        Self {
            sources,
            capabilities: Vec::new(),
            destinations,
            protocols,
        }
    }

    /// The same rule, which also admits the addresses of peers with one of these capabilities.
    #[must_use]
    pub fn with_capabilities(self, capabilities: Vec<String>) -> Self {
        Self { capabilities, ..self }
    }

    /// The capabilities that make a peer one of the sources.
    pub fn capabilities(&self) -> &[String] {
        &self.capabilities
    }

    /// The rule for a filter: with the addresses of those who hold its capabilities.
    #[must_use]
    pub fn resolve(&self, mut holders: impl FnMut(&str) -> Vec<IpAddr>) -> Self {
        if self.capabilities.is_empty() {
            return self.clone();
        }
        let held = self.capabilities.iter().flat_map(|capability| holders(capability));
        let held = held.map(|address| AddressRange::from(IpNet::from(address)));
        Self {
            sources: self.sources.ranges().chain(held).collect(),
            capabilities: Vec::new(),
            destinations: self.destinations.clone(),
            protocols: self.protocols.clone(),
        }
    }

    /// Whom it allows.
    pub fn sources(&self) -> &AddressSet {
        &self.sources
    }

    /// What it opens to them.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The numbers of the protocols it allows.
    pub fn protocols(&self) -> &[u8] {
        &self.protocols
    }

    /// Whether the rule allows `protocol` from `source` to `destination`:`port`.
    pub(crate) fn allows(&self, protocol: u8, source: IpAddr, destination: IpAddr, port: u16) -> bool {
        self.protocols.contains(&protocol)
            && self.sources.contains(source)
            && self
                .destinations
                .iter()
                .any(|to| to.ports.contains(port) && to.addresses.contains(destination))
    }

    /// Whether the rule opens anything from `source` to `destination`. This is what admits an echo request.
    pub(crate) fn opens_anything(&self, source: IpAddr, destination: IpAddr) -> bool {
        self.sources.contains(source) && self.destinations.iter().any(|to| to.addresses.contains(destination))
    }

    /// Whether the rule names `protocol` and opens all ports: what a protocol without ports needs.
    pub(crate) fn allows_portless(&self, protocol: u8, source: IpAddr, destination: IpAddr) -> bool {
        self.protocols.contains(&protocol)
            && self.sources.contains(source)
            && self
                .destinations
                .iter()
                .any(|to| to.ports == PortRange::ALL && to.addresses.contains(destination))
    }
}
