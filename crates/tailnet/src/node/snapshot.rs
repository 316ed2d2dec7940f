//! What a node does, in figures: for people and for metrics.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use isthmus_tailnet_core::netmap::{Peer, RegionId};
use tokio::sync::watch;

use super::NodeStatus;
use crate::control::NodeFacts;
use crate::dataplane::{Counts, Meter, PeerTraffic};
use crate::relay::Connected;

/// Gives a node's figures. It does not keep the node running: once that has ended, nothing is active and all counts are 0. Cheap
/// to clone.
#[derive(Debug, Clone)]
pub struct NodeMeter {
    pub(super) plane: Meter,
    pub(super) connected: Connected,
    pub(super) status: watch::Receiver<NodeStatus>,
    pub(super) facts: watch::Receiver<NodeFacts>,
}

/// A node at one moment.
#[derive(Debug, Clone, Default)]
pub struct NodeSnapshot {
    /// How far the login is, the network map, and whether control is connected.
    pub status: NodeStatus,
    /// The region of the relay at which peers reach the node; nothing before it is known, or where there are no relays.
    pub home_relay: Option<RegionId>,
    /// The regions whose relay the node is connected to.
    pub relays: BTreeSet<RegionId>,
    /// What the data plane has done since the node was started.
    pub counts: Counts,
    /// Every peer of the network map, also those that there can be no session with.
    pub peers: Vec<PeerSnapshot>,
}

/// One peer at that moment.
#[derive(Debug, Clone)]
pub struct PeerSnapshot {
    /// What control says of it: name, addresses, whether it is online.
    pub peer: Arc<Peer>,
    /// Path, last handshake and traffic since the node was started. All empty for a peer that there can be no session with.
    pub traffic: PeerTraffic,
}

impl NodeMeter {
    /// The node now. Costs a look at every peer.
    pub fn snapshot(&self) -> NodeSnapshot {
        let (status, reading) = (self.status.borrow().clone(), self.plane.read());
        let peers = status.netmap.iter().flat_map(|netmap| netmap.peers.values());
        let peers = peers.map(|peer| PeerSnapshot {
            peer: Arc::clone(peer),
            traffic: reading
                .as_ref()
                .and_then(|reading| reading.peer(&peer.key))
                .unwrap_or_default(),
        });
        NodeSnapshot {
            peers: peers.collect(),
            home_relay: self.facts.borrow().home,
            relays: self.connected.regions(),
            counts: reading.as_ref().map(|reading| reading.counts).unwrap_or_default(),
            status,
        }
    }
}

impl NodeSnapshot {
    /// How many peers traffic flows with, or did not long ago.
    pub fn active_peers(&self) -> usize {
        self.peers.iter().filter(|peer| peer.traffic.is_active).count()
    }

    /// How long ago the last handshake with any peer was; nothing for never.
    pub fn last_handshake(&self) -> Option<Duration> {
        self.peers.iter().filter_map(|peer| peer.traffic.last_handshake).min()
    }

    /// Whether peers can reach the node by relay now.
    pub fn is_home_relay_connected(&self) -> bool {
        self.home_relay.is_some_and(|home| self.relays.contains(&home))
    }
}
