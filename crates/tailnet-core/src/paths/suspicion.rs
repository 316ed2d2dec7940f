//! What speaks against paths, beside pings that are not answered.

use std::net::SocketAddr;
use std::time::Instant;

use super::peer::PeerPaths;
use super::{Action, Paths, Random, Route};
use crate::disco::TransactionId;
use crate::key::NodeKey;

impl Paths {
    /// The path to a peer and what is thought of it.
    pub fn route(&self, peer: &NodeKey) -> Option<Route> {
        self.peers.get(peer).and_then(PeerPaths::route)
    }

    /// The peer that is, or was, at an address; nothing when several claim to be.
    pub fn peer_at(&self, address: SocketAddr) -> Option<NodeKey> {
        let mut claiming = self.peers.iter().filter(|(_, peer)| peer.is_at(address));
        let (key, _) = claiming.next()?;
        claiming.next().is_none().then_some(*key)
    }

    /// Pings the path to a peer for who wants to know, which counts as any ping; gives the ping's name. Nothing comes of a peer
    /// without a path.
    pub fn ask(&mut self, peer: &NodeKey, now: Instant, random: Random<'_>) -> Option<(TransactionId, Vec<Action>)> {
        let to = self.path(peer)?;
        let id = random();
        let mut actions = Vec::new();
        self.ping(*peer, &[to], now, &mut || id, &mut actions);
        Some((id, actions))
    }

    /// Nothing comes back from a peer that is sent to, or it sends by relay: looks whether its path lives.
    pub fn suspect(&mut self, peer: &NodeKey, now: Instant, random: Random<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let to = self.peers.get_mut(peer).and_then(|state| state.suspect(now));
        if let Some(to) = to {
            self.ping(*peer, &[to], now, random, &mut actions);
        }
        actions
    }

    /// The machine's addresses changed: looks at all paths, and tells peers by pinging them where this node is now.
    pub fn unsettle(&mut self, now: Instant, random: Random<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let keys: Vec<NodeKey> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            if let Some(to) = peer.unsettle(now) {
                self.ping(key, &[to], now, random, &mut actions);
            }
            if !self.newcomers.contains(&key) {
                self.newcomers.push_back(key);
            }
        }
        actions
    }
}
