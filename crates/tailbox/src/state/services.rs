//! Tailscale Services: names with addresses of their own, which nodes host together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use isthmus_tailnet_wire::control::{C2nVipServices, NodeId};
use serde::{Deserialize, Serialize};

use super::{Node, State, View, addresses};
use crate::policy::{Hosted, is_service};

/// The port of a Service whose hosts may offer any ports.
const ANY_PORT: &str = "do-not-validate";

/// A Tailscale Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Service {
    /// `svc:` and its label.
    pub(crate) name: String,
    /// Its distance from the start of the address ranges.
    pub(crate) address: u32,
    /// For people.
    pub(crate) comment: String,
    /// For programs.
    pub(crate) annotations: BTreeMap<String, String>,
    /// The ports that each host has to offer: `tcp:443`, or `do-not-validate` for any.
    pub(crate) ports: Vec<String>,
    /// Its tags, by which a policy may speak of it.
    pub(crate) tags: Vec<String>,
    /// What was decided by hand about nodes that want to host it.
    #[serde(default)]
    decisions: BTreeMap<NodeId, bool>,
}

/// What a Tailscale Service shall be.
#[derive(Clone, Debug, Default)]
pub struct ServiceSpec {
    /// `svc:` and a DNS label.
    pub name: String,
    /// Its addresses. For a new Service none, to let this server choose, or one of IPv4; for a known one those it has.
    pub addresses: Vec<IpAddr>,
    /// For people.
    pub comment: String,
    /// For programs.
    pub annotations: BTreeMap<String, String>,
    /// The ports that each host has to offer: `tcp:443`, `udp:53-54`, or `do-not-validate` for any.
    pub ports: Vec<String>,
    /// Tags, by which a policy may speak of it.
    pub tags: Vec<String>,
}

/// Why a Service is not as it shall be. The text reaches the caller of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The name is no name of a Service.
    #[error("name {0:?} is not svc: and a DNS label of lower-case letters, digits and inner hyphens")]
    BadName(String),
    /// A node has the name.
    #[error("name {0:?} is taken by a device")]
    NameTaken(String),
    /// A port is not understood.
    #[error("port {0:?} is neither tcp: or udp: with a port or range, nor do-not-validate")]
    BadPort(String),
    /// A known Service cannot move.
    #[error("addrs must be the addresses that the service has: an update repeats them")]
    OtherAddresses,
    /// The address is no free one of the tailnet.
    #[error("addrs: {0} cannot be chosen: give no address, or one of the tailnet's IPv4 range that is free")]
    BadAddress(IpAddr),
    /// Nothing is left.
    #[error("all addresses of the tailnet are given out")]
    NoAddress,
}

/// How a node stands to a Service that it wants to host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Approval {
    /// The policy says that it may.
    Automatic,
    /// Somebody said so.
    Manual,
    /// Nobody did, or somebody said that it may not.
    Missing,
}

impl Service {
    /// Its label below the tailnet's domain.
    pub(crate) fn label(&self) -> &str {
        self.name.trim_start_matches("svc:")
    }

    /// Its fully qualified name, without the final dot.
    pub(crate) fn fqdn(&self, domain: &str) -> String {
        format!("{}.{domain}", self.label())
    }

    /// Its IPv4 address.
    pub(crate) fn v4(&self) -> Ipv4Addr {
        addresses::v4(self.address)
    }

    /// Its IPv6 address.
    pub(crate) fn v6(&self) -> Ipv6Addr {
        addresses::v6(self.address)
    }

    /// Both addresses.
    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.v4().into(), self.v6().into()]
    }

    /// Whether a node offers it now, with all of its ports.
    pub(crate) fn is_offered_by(&self, node: &Node) -> bool {
        let mut offers = node.offered.iter();
        offers.any(|offer| offer.name == self.name && offer.active && self.fits(&offer.ports))
    }

    fn fits(&self, offered: &[String]) -> bool {
        let any = self.ports.iter().any(|port| port == ANY_PORT);
        any || self
            .ports
            .iter()
            .all(|port| offered.iter().any(|offer| covers(offer, port)))
    }
}

impl State {
    /// Makes a Service or changes it.
    pub(crate) fn put_service(&mut self, spec: ServiceSpec) -> Result<Service, ServiceError> {
        if !is_service(&spec.name) {
            return Err(ServiceError::BadName(spec.name));
        }
        if let Some(port) = spec
            .ports
            .iter()
            .find(|port| *port != ANY_PORT && range(port).is_none())
        {
            return Err(ServiceError::BadPort(port.clone()));
        }
        let (address, decisions) = match self.services.get(&spec.name) {
            Some(known) => (known.same_addresses(&spec.addresses)?, known.decisions.clone()),
            None => (self.new_address(&spec)?, BTreeMap::new()),
        };
        let service = Service {
            address,
            comment: spec.comment,
            annotations: spec.annotations,
            ports: spec.ports,
            tags: spec.tags,
            decisions,
            name: spec.name,
        };
        self.services.insert(service.name.clone(), service.clone());
        Ok(service)
    }

    /// The address of a new Service: the one that is wanted, or the next.
    fn new_address(&mut self, spec: &ServiceSpec) -> Result<u32, ServiceError> {
        let label = spec.name.trim_start_matches("svc:");
        if self.nodes.values().any(|node| node.label == label) {
            return Err(ServiceError::NameTaken(label.to_owned()));
        }
        if let Some(other) = spec.addresses.iter().find(|address| address.is_ipv6()) {
            return Err(ServiceError::BadAddress(*other));
        }
        let Some(wanted) = spec.addresses.first() else {
            return self.allocate_address().ok_or(ServiceError::NoAddress);
        };
        let index = match wanted {
            IpAddr::V4(address) => addresses::index_of(*address),
            IpAddr::V6(_) => None,
        };
        index
            .filter(|index| spec.addresses.len() == 1 && self.is_free(*index))
            .ok_or(ServiceError::BadAddress(*wanted))
    }

    /// Whether neither a node nor a Service has the address.
    pub(super) fn is_free(&self, address: u32) -> bool {
        self.nodes.values().all(|node| node.address != address)
            && self.services.values().all(|service| service.address != address)
    }

    /// Notes what a node answered about the Services that it offers.
    pub(crate) fn note_offers(&mut self, id: NodeId, answer: C2nVipServices) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.offered = answer.services;
            node.offered_hash = answer.hash;
        }
    }

    /// The nodes whose offers are not known as they are now.
    pub(crate) fn unknown_offers(&self) -> BTreeSet<NodeId> {
        let changed = |node: &&Node| node.hostinfo.services_hash != node.offered_hash;
        self.nodes.values().filter(changed).map(|node| node.id).collect()
    }

    /// Decides by hand whether a node may host a Service; whether both are known.
    pub(crate) fn decide_host(&mut self, service: &str, id: NodeId, approved: bool) -> bool {
        match self.services.get_mut(service) {
            Some(service) if self.nodes.contains_key(id) => {
                service.decisions.insert(id, approved);
                true
            }
            Some(_) | None => false,
        }
    }

    /// How a node stands to a Service. Only tagged nodes may host.
    pub(crate) fn approval(&self, service: &Service, node: &Node, view: &View<'_>) -> Approval {
        let automatic = self
            .policy
            .as_deref()
            .is_some_and(|policy| policy.approves_host(&service.name, &service.tags, view.subject(node)));
        match service.decisions.get(&node.id) {
            _ if node.tags.is_empty() || node.is_waiting => Approval::Missing,
            Some(true) => Approval::Manual,
            None if automatic => Approval::Automatic,
            Some(false) | None => Approval::Missing,
        }
    }

    /// The Services that each node hosts.
    pub(super) fn hosted(&self, view: &View<'_>) -> BTreeMap<NodeId, Vec<Hosted>> {
        let mut hosted = BTreeMap::<_, Vec<_>>::new();
        for service in self.services.values() {
            let offering = self.nodes.values().filter(|node| service.is_offered_by(node));
            for node in offering.filter(|node| self.approval(service, node, view) != Approval::Missing) {
                hosted.entry(node.id).or_default().push(Hosted {
                    name: service.name.clone(),
                    tags: service.tags.clone(),
                    addresses: service.addresses(),
                });
            }
        }
        hosted
    }
}

impl Service {
    /// The address of a Service that an update repeats. IPv4 alone will do.
    fn same_addresses(&self, given: &[IpAddr]) -> Result<u32, ServiceError> {
        let own = self.addresses();
        let same = given.contains(&own[0]) && given.iter().all(|address| own.contains(address));
        same.then_some(self.address).ok_or(ServiceError::OtherAddresses)
    }
}

/// Ports of a protocol: `tcp:443` or `tcp:80-90`.
fn range(text: &str) -> Option<(&str, u16, u16)> {
    let (protocol, ports) = text.split_once(':')?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (matches!(protocol, "tcp" | "udp") && first <= last).then_some((protocol, first, last))
}

/// Whether what a host offers covers a port of a Service. Hosts also write `*` and ports without a protocol.
fn covers(offer: &str, port: &str) -> bool {
    let Some((protocol, first, last)) = range(port) else {
        return false;
    };
    let both = format!("{protocol}:{offer}");
    let offered = range(offer).or_else(|| range(&both));
    offer == "*"
        || offer == format!("{protocol}:*")
        || offered.is_some_and(|(offered, from, to)| offered == protocol && from <= first && last <= to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_covers_a_port_by_itself_by_a_range_and_by_everything() {
        for offer in ["tcp:443", "tcp:400-500", "443", "*", "tcp:*", "440-443"] {
            assert!(covers(offer, "tcp:443"), "{offer}");
        }
        for offer in ["udp:443", "tcp:80", "tcp:444-500", "", "udp:*"] {
            assert!(!covers(offer, "tcp:443"), "{offer}");
        }
        assert!(!covers("tcp:443", "tcp:443-444") && covers("tcp:443-445", "tcp:443-444"));
    }
}
