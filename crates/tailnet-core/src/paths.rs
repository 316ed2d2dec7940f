//! Which UDP address leads to each peer: found, checked and kept open by disco pings.
//!
//! While a peer shares no relay with this node, this node's own pings are the only thing that opens a way through a NAT in front of it.
//! So every peer that is online is pinged without being asked, and its path is kept warm while idle.
//!
//! A state machine without I/O: time and randomness come in, [`Action`]s come out.

mod action;
mod endpoints;
mod peer;
mod suspicion;
mod why;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::addresses::AddressSet;
use crate::disco::{Message, TransactionId};
use crate::key::{DiscoKey, NodeKey};
use crate::netmap::RegionId;

use action::change;
pub use action::{Action, Route, Target};
pub use endpoints::{MAX_ENDPOINTS, is_probeable};
use peer::PeerPaths;
pub use why::{DirectState, WhyNotDirect};

/// Peers that are pinged for the first time per second, so that joining a large tailnet is no storm.
const NEW_PEERS_PER_SECOND: u32 = 20;

/// A ping that is not answered in this time counts as lost; a late answer is still taken, see [`FORGET_AFTER`].
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The least time in which the path of an active peer has to answer before it is doubted: several times what a loaded machine needs.
const QUICK_LIMIT: Duration = Duration::from_millis(300);

/// A ping is forgotten after this time.
const FORGET_AFTER: Duration = Duration::from_secs(5);

/// How often an idle path is pinged. NATs keep a mapping for 30 seconds at least (Linux conntrack without a reply; RFC 4787 asks for two
/// minutes).
const KEEP_OPEN: Duration = Duration::from_secs(20);

/// How often the path of an active peer is pinged, so that traffic does not run into the void for long.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Lost pings in a row after which a path is given up.
const MAX_LOST: u32 = 4;

/// Pause between searches for a peer without a path: the first, doubled up to the last.
const SEARCH_PAUSE: (Duration, Duration) = (Duration::from_secs(1), KEEP_OPEN);

/// The same for a peer that control says is offline.
const OFFLINE_PAUSE: Duration = Duration::from_mins(1);

/// Least pause between searches that traffic asks for.
const WANTED_PAUSE: Duration = Duration::from_secs(1);

/// A source of random transaction ids.
pub type Random<'a> = &'a mut dyn FnMut() -> TransactionId;

/// A ping whose answer is awaited.
#[derive(Debug, Clone, Copy)]
struct SentPing {
    peer: NodeKey,
    to: SocketAddr,
    at: Instant,
}

/// The paths to all peers.
#[derive(Debug)]
pub struct Paths {
    own: NodeKey,
    forbidden: AddressSet,
    peers: BTreeMap<NodeKey, PeerPaths>,
    /// Where peers can reach this node directly.
    own_endpoints: Vec<SocketAddr>,
    /// The disco keys of all peers.
    runs: BTreeSet<DiscoKey>,
    sent: BTreeMap<TransactionId, SentPing>,
    /// Peers that wait for their first search.
    newcomers: VecDeque<NodeKey>,
    next_newcomer: Option<Instant>,
}

impl Paths {
    /// Paths of a node with this WireGuard key, without peers.
    pub fn new(own: NodeKey) -> Self {
        Self {
            own,
            forbidden: AddressSet::default(),
            peers: BTreeMap::new(),
            own_endpoints: Vec::new(),
            runs: BTreeSet::new(),
            sent: BTreeMap::new(),
            newcomers: VecDeque::new(),
            next_newcomer: None,
        }
    }

    /// Takes the peers of a new network map. `forbidden` holds addresses that are never pinged: this node's own, and those of the tailnet.
    /// A peer with another disco key was restarted and loses its path.
    pub fn update(&mut self, targets: Vec<Target>, forbidden: AddressSet) -> Vec<Action> {
        self.forbidden = forbidden;
        let mut old = std::mem::take(&mut self.peers);
        let mut actions = Vec::new();
        for target in targets {
            let known = old.remove(&target.key);
            let had_path = known.as_ref().is_some_and(|peer| peer.path().is_some());
            let same_run = known.filter(|peer| peer.disco == target.disco);
            let is_new_run = same_run.is_none();
            let mut peer = same_run.unwrap_or_else(|| PeerPaths::new(target.disco));
            let has_news = peer.set_endpoints(&target.endpoints, target.online, &self.forbidden);
            if is_new_run || (has_news && peer.path().is_none()) {
                peer.search_soon();
                if !self.newcomers.contains(&target.key) {
                    self.newcomers.push_back(target.key);
                }
            }
            if is_new_run && had_path {
                actions.push(Action::Path {
                    peer: target.key,
                    path: None,
                });
            }
            self.peers.insert(target.key, peer);
        }
        let peers = &self.peers;
        self.runs = peers.values().map(|peer| peer.disco).collect();
        self.sent.retain(|_, ping| peers.contains_key(&ping.peer));
        self.newcomers.retain(|key| peers.contains_key(key));
        actions
    }

    /// Takes this node's own endpoints, which peers are asked to ping.
    pub fn set_own_endpoints(&mut self, endpoints: &[SocketAddr]) {
        self.own_endpoints = endpoints.iter().copied().take(MAX_ENDPOINTS).collect();
    }

    /// Whether a message of this sender is worth opening.
    pub fn knows(&self, sender: &DiscoKey) -> bool {
        self.runs.contains(sender)
    }

    /// The path to a peer.
    pub fn path(&self, peer: &NodeKey) -> Option<SocketAddr> {
        self.peers.get(peer).and_then(PeerPaths::path)
    }

    /// Notes with which peers traffic flows: their paths are checked more often.
    pub fn set_active(&mut self, active: &[NodeKey]) {
        let active: BTreeSet<&NodeKey> = active.iter().collect();
        for (key, peer) in &mut self.peers {
            peer.is_active = active.contains(key);
        }
    }

    /// Traffic waits for a path to `peer`: searches at once, at most once a second.
    pub fn wanted(&mut self, peer: &NodeKey, now: Instant, random: Random<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(state) = self.peers.get_mut(peer)
            && state.may_search_for_traffic(now)
        {
            let to = state.begin_search(now);
            self.search(*peer, &to, now, random, &mut actions);
        }
        actions
    }

    /// Takes a message that was opened with the key of `sender` and came by a relay of a region, which vouches for `peer`. A ping is
    /// answered by the same relay; an answer is for who asked, and says nothing of paths.
    pub fn receive_relayed(
        &mut self,
        (peer, region): (&NodeKey, RegionId),
        sender: &DiscoKey,
        message: &Message,
        now: Instant,
        random: Random<'_>,
    ) -> Vec<Action> {
        let Some(state) = self.peers.get_mut(peer).filter(|state| state.disco == *sender) else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        match message {
            Message::CallMeMaybe { endpoints } if state.may_be_called(now) => {
                let to = state.called(endpoints, &self.forbidden, now);
                self.ping(*peer, &to, now, random, &mut actions);
            }
            Message::Ping { id, node } if node.is_none_or(|node| node == *peer) => {
                let observed = relay_address(region);
                actions.push(Action::Relay {
                    peer: *peer,
                    by: Some(region),
                    disco: *sender,
                    message: Message::Pong { id: *id, observed },
                });
            }
            Message::CallMeMaybe { .. } | Message::Ping { .. } | Message::Pong { .. } => {}
        }
        actions
    }

    /// Takes a message that was opened with the key of `sender` and came in a datagram from `from`. What does not come from a peer is
    /// ignored.
    pub fn receive(
        &mut self,
        from: SocketAddr,
        sender: &DiscoKey,
        message: &Message,
        now: Instant,
        random: Random<'_>,
    ) -> Vec<Action> {
        match message {
            Message::Ping { id, node } => self.receive_ping(from, sender, *id, *node, now, random),
            Message::Pong { id, .. } => self.receive_pong(sender, *id, now),
            // Only over a relay does it prove that the peer, not somebody on the way, wants to be pinged there.
            Message::CallMeMaybe { .. } => Vec::new(),
        }
    }

    fn receive_ping(
        &mut self,
        from: SocketAddr,
        sender: &DiscoKey,
        id: TransactionId,
        node: Option<NodeKey>,
        now: Instant,
        random: Random<'_>,
    ) -> Vec<Action> {
        let Some(key) = self.peer_of(sender, node) else {
            return Vec::new();
        };
        let mut actions = vec![Action::Send {
            to: from,
            disco: *sender,
            message: Message::Pong { id, observed: from },
        }];
        let is_awaited = self
            .sent
            .values()
            .any(|ping| ping.to == from && ping.at + ANSWER_LIMIT > now);
        let probeable = is_probeable(from, &self.forbidden);
        let Some(peer) = self.peers.get_mut(&key).filter(|_| probeable) else {
            return actions;
        };
        let mut to = Vec::new();
        if peer.heard_from(from, is_awaited, now) {
            to.push(from);
        }
        // A peer that moved is not where it was.
        if peer.path().is_some_and(|path| path != from) {
            to.extend(peer.look_after(now));
        }
        self.ping(key, &to, now, random, &mut actions);
        actions
    }

    fn receive_pong(&mut self, sender: &DiscoKey, id: TransactionId, now: Instant) -> Vec<Action> {
        let Some(ping) = self.sent.get(&id).copied() else {
            return Vec::new();
        };
        let Some(peer) = self.peers.get_mut(&ping.peer).filter(|peer| peer.disco == *sender) else {
            return Vec::new();
        };
        self.sent.remove(&id);
        let before = peer.route();
        peer.answered(ping.to, now.saturating_duration_since(ping.at), now);
        let after = peer.route();
        change(ping.peer, before, after).into_iter().collect()
    }

    /// Does what time demands; to be called about every 250 ms.
    pub fn tick(&mut self, now: Instant, random: Random<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.sent.retain(|_, ping| ping.at + FORGET_AFTER > now);
        let keys: Vec<NodeKey> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            let before = peer.route();
            let to = peer.due(now);
            let route = peer.route();
            actions.extend(change(key, before, route));
            if route.is_none_or(|route| route.doubted) && peer.has_begun_search(now) {
                self.search(key, &to, now, random, &mut actions);
            } else {
                self.ping(key, &to, now, random, &mut actions);
            }
        }
        self.greet_newcomers(now, random, &mut actions);
        actions
    }

    fn greet_newcomers(&mut self, now: Instant, random: Random<'_>, actions: &mut Vec<Action>) {
        let mut next = self.next_newcomer.map_or(now, |next| next.max(now));
        while next <= now {
            let Some(key) = self.newcomers.pop_front() else { break };
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            let to = peer.begin_search(now);
            self.search(key, &to, now, random, actions);
            next += Duration::from_secs(1) / NEW_PEERS_PER_SECOND;
        }
        self.next_newcomer = Some(next);
    }

    /// Pings, and asks the peer by relay to ping as well: that opens the NATs on both sides.
    fn search(&mut self, key: NodeKey, to: &[SocketAddr], now: Instant, random: Random<'_>, actions: &mut Vec<Action>) {
        self.ping(key, to, now, random, actions);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if !self.own_endpoints.is_empty() && peer.may_call(now) {
            actions.push(Action::Relay {
                peer: key,
                by: None,
                disco: peer.disco,
                message: Message::CallMeMaybe {
                    endpoints: self.own_endpoints.clone(),
                },
            });
        }
    }

    fn ping(&mut self, key: NodeKey, to: &[SocketAddr], now: Instant, random: Random<'_>, actions: &mut Vec<Action>) {
        let Some(disco) = self.peers.get(&key).map(|peer| peer.disco) else {
            return;
        };
        for to in to {
            let id = random();
            self.sent.insert(
                id,
                SentPing {
                    peer: key,
                    to: *to,
                    at: now,
                },
            );
            let message = Message::Ping {
                id,
                node: Some(self.own),
            };
            actions.push(Action::Send {
                to: *to,
                disco,
                message,
            });
        }
    }

    /// The peer that a disco key stands for; a claim to be another node is not believed.
    fn peer_of(&self, sender: &DiscoKey, node: Option<NodeKey>) -> Option<NodeKey> {
        if let Some(key) = node {
            return self.peers.get(&key).filter(|peer| peer.disco == *sender).map(|_| key);
        }
        let mut matching = self.peers.iter().filter(|(_, peer)| peer.disco == *sender);
        let (key, _) = matching.next()?;
        matching.next().is_none().then_some(*key)
    }
}

/// How a relay is written where an address is expected, as the Go client does.
pub fn relay_address(region: RegionId) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(127, 3, 3, 40).into(), region)
}

#[cfg(test)]
mod tests;
