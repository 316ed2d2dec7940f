//! Applies the messages of a map stream to the map.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use isthmus_tailnet_wire::control as wire;

use super::{Netmap, Obstacle, OwnNode, Peer, PeerId, Region, RegionId, convert, relays};
use crate::filter::Rule;

/// The name of the only part of a filter that comes in its old form.
const BASE_PART: &str = "base";

/// The name that stands for all parts of a filter.
const ALL_PARTS: &str = "*";

/// Collects what a map stream has said so far. A new stream begins with full state, so the store outlives its streams.
#[derive(Debug, Default)]
pub struct NetmapStore {
    own: Option<OwnNode>,
    domain: String,
    peers: BTreeMap<PeerId, Arc<Peer>>,
    filters: BTreeMap<String, Vec<Rule>>,
    rules: Arc<Vec<Rule>>,
    cert_domains: Vec<String>,
    records: Arc<BTreeMap<String, BTreeSet<IpAddr>>>,
    health: Vec<String>,
    relays: Arc<BTreeMap<RegionId, Region>>,
}

/// What came of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapChange {
    /// The map may differ from the one before.
    Changed,
    /// The message said nothing about the map.
    Nothing,
}

/// Why a message cannot be applied. The stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetmapError {
    /// No message so far described this node.
    #[error("read the network map: its first message lacks this node")]
    NoOwnNode,
}

impl NetmapStore {
    /// Applies one message.
    ///
    /// # Errors
    /// [`NetmapError::NoOwnNode`] when the map would have no own node.
    pub fn apply(&mut self, message: wire::MapResponse) -> Result<MapChange, NetmapError> {
        if message.keep_alive {
            return Ok(MapChange::Nothing);
        }
        if let Some(node) = message.node {
            self.own = Some(OwnNode::from(node));
        }
        if self.own.is_none() {
            return Err(NetmapError::NoOwnNode);
        }
        self.apply_peers(message.peers, message.peers_changed, &message.peers_removed);
        for patch in message.peers_changed_patch {
            self.patch(patch);
        }
        for (id, online) in message.online_change {
            self.change(id, |peer| peer.online = Some(online));
        }
        self.apply_filters(message.packet_filter, message.packet_filters);
        if !message.domain.is_empty() {
            self.domain = message.domain;
        }
        if let Some(dns) = message.dns_config {
            self.records = Arc::new(convert::records(&dns.extra_records));
            self.cert_domains = dns.cert_domains;
        }
        if let Some(map) = message.derp_map {
            self.relays = Arc::new(relays::regions(map));
        }
        if let Some(health) = message.health {
            self.health = health;
        }
        Ok(MapChange::Changed)
    }

    /// This node, once a message described it.
    pub fn own(&self) -> Option<&OwnNode> {
        self.own.as_ref()
    }

    /// The map as it is now; nothing before the first message.
    pub fn netmap(&self) -> Option<Netmap> {
        Some(Netmap {
            own: self.own.clone()?,
            domain: self.domain.clone(),
            peers: self.peers.clone(),
            rules: Arc::clone(&self.rules),
            cert_domains: self.cert_domains.clone(),
            records: Arc::clone(&self.records),
            health: self.health.clone(),
            relays: Arc::clone(&self.relays),
        })
    }

    /// Forgets the peers, at the start of a stream: the first message lists all peers, and one that lists none means that there are none.
    pub fn start_stream(&mut self) {
        self.peers.clear();
    }

    fn apply_peers(&mut self, all: Vec<wire::Node>, changed: Vec<wire::Node>, removed: &[PeerId]) {
        if !all.is_empty() {
            self.peers.clear();
        }
        for node in all.into_iter().chain(changed) {
            self.peers.insert(node.id, Arc::new(Peer::from(node)));
        }
        for id in removed {
            self.peers.remove(id);
        }
    }

    fn patch(&mut self, patch: wire::PeerChange) {
        self.change(patch.node_id, |peer| {
            if let Some(key) = patch.key {
                peer.key = convert::node_key(&key);
                peer.obstacle = peer.obstacle.filter(|obstacle| *obstacle != Obstacle::Expired);
            }
            if let Some(key) = patch.disco_key {
                peer.disco = convert::disco_key(&key);
            }
            peer.home = convert::home(patch.derp_region, "").or(peer.home);
            if let Some(endpoints) = patch.endpoints {
                peer.endpoints = endpoints.0;
            }
            if let Some(expiry) = patch.key_expiry {
                peer.key_expires = convert::system_time(expiry);
            }
            peer.online = patch.online.or(peer.online);
        });
    }

    fn change(&mut self, id: PeerId, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get_mut(&id) {
            change(Arc::make_mut(peer));
        }
    }

    fn apply_filters(
        &mut self,
        whole: Option<Vec<wire::FilterRule>>,
        parts: Option<BTreeMap<String, Option<Vec<wire::FilterRule>>>>,
    ) {
        if whole.is_none() && parts.is_none() {
            return;
        }
        if let Some(rules) = whole {
            self.filters = BTreeMap::from([(BASE_PART.to_owned(), compile(&rules))]);
        }
        let mut parts = parts.unwrap_or_default();
        if parts.get(ALL_PARTS).is_some_and(Option::is_none) {
            parts.remove(ALL_PARTS);
            self.filters.clear();
        }
        for (name, rules) in parts {
            match rules {
                Some(rules) => self.filters.insert(name, compile(&rules)),
                None => self.filters.remove(&name),
            };
        }
        self.rules = Arc::new(self.filters.values().flatten().cloned().collect());
    }
}

fn compile(rules: &[wire::FilterRule]) -> Vec<Rule> {
    rules.iter().filter_map(convert::rule).collect()
}
