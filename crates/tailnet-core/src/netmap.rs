//! The network map: what control says about this node, its peers and what they may do.
//!
//! These are domain types. What control sends is read by `isthmus_tailnet_wire` and converted in [`store`], the only place that knows
//! both.

mod convert;
mod dns;
mod message;
mod names;
mod plan;
mod relays;
mod store;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use crate::filter::Rule;
use crate::key::{DiscoKey, NodeKey};

pub use dns::{Dns, Resolver};
pub use plan::{RoutePolicy, is_tailnet_address};
pub use relays::{CertificateCheck, Region, RegionId, Relay, StunServer};
pub use store::{MapChange, NetmapError, NetmapStore};

/// A peer's number: unique within one control server and never used again.
pub type PeerId = i64;

/// The number of a user.
pub type UserId = i64;

/// Capabilities and attributes by name, each with its arguments as JSON texts.
pub type Capabilities = BTreeMap<String, Vec<String>>;

/// The state of the tailnet as this node sees it. Immutable; every message of control makes another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netmap {
    /// This node.
    pub own: OwnNode,
    /// The tailnet's domain as control names it; not necessarily the suffix of node names.
    pub domain: String,
    /// All peers that control lets this node see, also those without a session.
    pub peers: BTreeMap<PeerId, Arc<Peer>>,
    /// What may come in.
    pub rules: Arc<Vec<Rule>>,
    /// How names are resolved.
    pub dns: Arc<Dns>,
    /// The users of the nodes in the map, as far as control named them.
    pub users: BTreeMap<UserId, Arc<User>>,
    /// Warnings of control for the user.
    pub health: Vec<String>,
    /// The relays, by region.
    pub relays: Arc<BTreeMap<RegionId, Region>>,
}

/// This node in the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnNode {
    /// The node's name in management APIs.
    pub stable_id: String,
    /// Fully qualified DNS name with the final dot.
    pub name: String,
    /// The node's own addresses, those of IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// All that control lets the node be: its addresses, and the routes that it may carry when it offers them.
    pub allowed: Vec<IpNet>,
    /// The node key that control knows.
    pub key: NodeKey,
    /// When the key expires; nothing for never.
    pub key_expires: Option<SystemTime>,
    /// Whether control says that the key is expired.
    pub expired: bool,
    /// Whether the machine may use the tailnet.
    pub machine_authorized: bool,
    /// The node's tags.
    pub tags: Vec<String>,
    /// The capabilities and attributes that control gave to the node.
    pub capabilities: Capabilities,
    /// The Tailscale Services (`svc:…`) that control assigned to the node, with their addresses. Packets for them reach the node while it
    /// is the one that control chose among their hosts.
    pub services: BTreeMap<String, Vec<IpAddr>>,
    /// Number of the node's user.
    pub user: UserId,
}

/// A user, as control names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Login name, in the form of an e-mail address.
    pub login: String,
    /// Name for people.
    pub name: String,
    /// Where a picture is; empty for none.
    pub picture: String,
}

/// Another node of the tailnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The peer's number.
    pub id: PeerId,
    /// The peer's name in management APIs.
    pub stable_id: String,
    /// Fully qualified DNS name with the final dot.
    pub name: String,
    /// WireGuard key.
    pub key: NodeKey,
    /// Disco key of the peer's present run; nothing for a peer that does not speak disco.
    pub disco: Option<DiscoKey>,
    /// The peer's own addresses.
    pub addresses: Vec<IpAddr>,
    /// All that may be sent to and come from the peer: its addresses and routes.
    pub allowed: Vec<IpNet>,
    /// Where the peer may be reached directly, as control says; to be sanitised before use.
    pub endpoints: Vec<SocketAddr>,
    /// The region in which the peer can be reached by relay; nothing for none.
    pub home: Option<RegionId>,
    /// Whether the peer is connected to control; nothing for unknown.
    pub online: Option<bool>,
    /// When the peer was last connected to control; nothing while it is, and for unknown.
    pub last_seen: Option<SystemTime>,
    /// Operating system, as Go names it (`linux`); empty for unknown.
    pub os: String,
    /// The capability version of the peer's program; 0 for unknown.
    pub version: u32,
    /// The capabilities that control tells of the peer.
    pub capabilities: Capabilities,
    /// The peer's tags.
    pub tags: Vec<String>,
    /// When the peer's key expires; nothing for never.
    pub key_expires: Option<SystemTime>,
    /// The peer may open no connection to this node.
    pub jailed: bool,
    /// What control says against a session with this peer.
    pub obstacle: Option<Obstacle>,
    /// Number of the peer's user.
    pub user: UserId,
}

/// Why there can be no session with a peer. Such peers stay listed, and traffic for them is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Obstacle {
    /// Control declares the peer's key expired, or its time has come.
    #[error("its key is expired: log it in again")]
    Expired,
    /// The peer's key lacks the signature of tailnet lock: only its peer API may be used, which this node does not speak.
    #[error("its key is not signed: sign it with tailnet lock")]
    Unsigned,
    /// The peer must see another source address than this node's own, which this node cannot do.
    #[error("it needs address masquerading, which is not supported")]
    Masquerade,
    /// The peer speaks WireGuard only, without disco and relays.
    #[error("it is a WireGuard-only peer, which is not supported")]
    WireGuardOnly,
    /// Control sent a peer without a key.
    #[error("it has no key")]
    NoKey,
}

impl Peer {
    /// Why there can be no session with the peer at `now`; nothing when there can be one.
    pub fn obstacle_at(&self, now: SystemTime) -> Option<Obstacle> {
        let expired = self.key_expires.is_some_and(|expires| expires <= now);
        self.obstacle.or(expired.then_some(Obstacle::Expired))
    }
}

impl OwnNode {
    /// The node's name without the final dot.
    pub fn fqdn(&self) -> &str {
        self.name.trim_end_matches('.')
    }

    /// Whether the node's key is expired at `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expired || self.key_expires.is_some_and(|expires| expires <= now)
    }
}

impl Netmap {
    /// The peer with this fully qualified name. Case and a final dot do not matter.
    pub fn peer_by_name(&self, name: &str) -> Option<&Arc<Peer>> {
        let wanted = name.trim_end_matches('.');
        self.peers
            .values()
            .find(|peer| peer.name.trim_end_matches('.').eq_ignore_ascii_case(wanted))
    }

    /// The addresses behind a fully qualified name, those of IPv4 first: of a peer, of this node, or of a record such as a
    /// Tailscale Service has. Case and a final dot do not matter; nothing comes of a name that is not known.
    pub fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        let wanted = name.trim_end_matches('.').to_ascii_lowercase();
        let mut addresses = match self.peer_by_name(&wanted) {
            Some(peer) => peer.addresses.clone(),
            None if self.own.fqdn().eq_ignore_ascii_case(&wanted) => self.own.addresses.clone(),
            None => self.dns.records.get(&wanted).into_iter().flatten().copied().collect(),
        };
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses
    }

    /// The peer that owns this address (not one that only routes it).
    pub fn peer_by_address(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.peers.values().find(|peer| peer.addresses.contains(&address))
    }
}

#[cfg(test)]
mod tests;
