//! Applies the messages of a map stream to the map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use isthmus_tailnet_wire::control as wire;

use super::{Dns, Netmap, Obstacle, OwnNode, Peer, PeerId, Region, RegionId, User, UserId, convert, relays};
use crate::filter::Rule;

/// The name of the only part of a filter that comes in its old form.
const BASE_PART: &str = "base";

/// The name that stands for all parts of a filter, and for all warnings.
const ALL: &str = "*";

/// Collects what one map stream has said so far.
///
/// The first message of a stream is complete; of the later ones each names what changed. Absent means unchanged, and so does `null`
/// (except within lists of named parts, where it removes the part); an empty list of filter rules blocks everything, an empty list of
/// warnings clears them, while an empty list of peers says nothing. Lists and order of changes are those of the Go client
/// (`control/controlclient`).
#[derive(Debug, Default)]
pub struct NetmapStore {
    own: Option<OwnNode>,
    domain: String,
    peers: BTreeMap<PeerId, Arc<Peer>>,
    filters: BTreeMap<String, Vec<Rule>>,
    rules: Arc<Vec<Rule>>,
    dns: Arc<Dns>,
    users: BTreeMap<UserId, Arc<User>>,
    health: Vec<String>,
    messages: BTreeMap<String, wire::DisplayMessage>,
    relays: Arc<BTreeMap<RegionId, Region>>,
}

/// What a message says about single peers, in the order in which it is applied.
struct PeerChanges {
    removed: Vec<PeerId>,
    changed: Vec<wire::Node>,
    seen: BTreeMap<PeerId, bool>,
    online: BTreeMap<PeerId, bool>,
    patches: Vec<wire::PeerChange>,
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
    /// Applies one message that came in at `now`.
    ///
    /// # Errors
    /// [`NetmapError::NoOwnNode`] when the map would have no own node.
    pub fn apply(&mut self, message: wire::MapResponse, now: SystemTime) -> Result<MapChange, NetmapError> {
        if message.keep_alive {
            return Ok(MapChange::Nothing);
        }
        if let Some(node) = message.node {
            self.own = Some(OwnNode::from(node));
        }
        if self.own.is_none() {
            return Err(NetmapError::NoOwnNode);
        }
        if message.peers.is_empty() {
            self.change_peers(
                PeerChanges {
                    removed: message.peers_removed,
                    changed: message.peers_changed,
                    seen: message.peer_seen_change,
                    online: message.online_change,
                    patches: message.peers_changed_patch,
                },
                now,
            );
        } else {
            let peers = message.peers.into_iter();
            self.peers = peers.map(|node| (node.id, Arc::new(Peer::from(node)))).collect();
        }
        for profile in message.user_profiles {
            self.users.insert(profile.id, Arc::new(User::from(profile)));
        }
        self.apply_filters(message.packet_filter, message.packet_filters);
        if !message.domain.is_empty() {
            self.domain = message.domain;
        }
        if let Some(dns) = message.dns_config {
            self.dns = Arc::new(Dns::from(dns));
        }
        // A map without regions changes only how they are scored, which this node does by itself.
        if let Some(map) = message.derp_map.filter(|map| !map.regions.is_empty()) {
            self.relays = Arc::new(relays::regions(map));
        }
        self.apply_warnings(message.health, message.display_messages);
        Ok(MapChange::Changed)
    }

    /// This node, once a message described it.
    pub fn own(&self) -> Option<&OwnNode> {
        self.own.as_ref()
    }

    /// The map as it is now; nothing before the first message.
    pub fn netmap(&self) -> Option<Netmap> {
        let messages = self.messages.values().map(|message| match &*message.title {
            "" => message.text.clone(),
            title => format!("{title}: {}", message.text),
        });
        Some(Netmap {
            own: self.own.clone()?,
            domain: self.domain.clone(),
            peers: self.peers.clone(),
            rules: Arc::clone(&self.rules),
            dns: Arc::clone(&self.dns),
            users: self.users_of_nodes(),
            health: self.health.iter().cloned().chain(messages).collect(),
            relays: Arc::clone(&self.relays),
        })
    }

    /// Forgets everything, at the start of a stream: its first message is complete, and what it does not say is not so.
    pub fn start_stream(&mut self) {
        *self = Self::default();
    }

    /// Control never takes a user back, so those are left out whose nodes are gone.
    fn users_of_nodes(&self) -> BTreeMap<UserId, Arc<User>> {
        let own = self.own.iter().map(|own| own.user);
        let ids: BTreeSet<UserId> = own.chain(self.peers.values().map(|peer| peer.user)).collect();
        let known = |id: UserId| Some((id, Arc::clone(self.users.get(&id)?)));
        ids.into_iter().filter_map(known).collect()
    }

    fn change_peers(&mut self, changes: PeerChanges, now: SystemTime) {
        for id in changes.removed {
            self.peers.remove(&id);
        }
        for node in changes.changed {
            self.peers.insert(node.id, Arc::new(Peer::from(node)));
        }
        for (id, seen) in changes.seen {
            self.change(id, |peer| peer.last_seen = seen.then_some(now));
        }
        for (id, online) in changes.online {
            self.change(id, |peer| peer.online = Some(online));
        }
        for patch in changes.patches {
            self.patch(patch);
        }
    }

    fn patch(&mut self, patch: wire::PeerChange) {
        self.change(patch.node_id, |peer| {
            if let Some(key) = patch.key {
                peer.key = convert::node_key(&key);
                peer.obstacle = match peer.obstacle {
                    Some(Obstacle::NoKey) | None => key.is_zero().then_some(Obstacle::NoKey),
                    other => other,
                };
            }
            if patch.cap != 0 {
                peer.version = patch.cap;
            }
            if let Some(capabilities) = patch.cap_map {
                peer.capabilities = convert::capabilities(Vec::new(), capabilities);
            }
            if let Some(seen) = patch.last_seen {
                peer.last_seen = convert::system_time(seen);
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
        if parts.get(ALL).is_some_and(Option::is_none) {
            parts.remove(ALL);
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

    fn apply_warnings(
        &mut self,
        health: Option<Vec<String>>,
        messages: BTreeMap<String, Option<wire::DisplayMessage>>,
    ) {
        if let Some(health) = health {
            self.health = health;
        }
        if messages.get(ALL).is_some_and(Option::is_none) {
            self.messages.clear();
        }
        for (id, message) in messages.into_iter().filter(|(id, _)| id != ALL) {
            match message {
                Some(message) => self.messages.insert(id, message),
                None => self.messages.remove(&id),
            };
        }
    }
}

fn compile(rules: &[wire::FilterRule]) -> Vec<Rule> {
    rules.iter().filter_map(convert::rule).collect()
}
