//! How peers are reached now, and since when.

use std::collections::BTreeMap;
use std::time::SystemTime;

use isthmus_tailnet_core::key::NodeKey;

use super::Engine;
use crate::dataplane::Path;

/// The ways to all peers.
pub(super) type Ways = BTreeMap<NodeKey, Way>;

/// The way to a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) path: Option<Path>,
    pub(super) since: SystemTime,
}

impl Engine {
    /// Notes and logs which ways have changed.
    pub(super) fn note_ways(&mut self) {
        let now = SystemTime::now();
        let mut ways = Ways::new();
        for (peer, _) in &self.applied.peers {
            let path = self.path_to(peer);
            let before = self.applied.ways.get(&peer.key).copied();
            let way = match before {
                Some(before) if before.path == path => before,
                _ => Way { path, since: now },
            };
            if before.and_then(|before| before.path) != path {
                log(&peer.key, path);
                tracing::debug!(peer = ?peer.key, ?path, name = peer.name, "the way to a peer changed");
            }
            ways.insert(peer.key, way);
        }
        self.applied.ways = ways;
    }
}

fn log(peer: &NodeKey, path: Option<Path>) {
    match path {
        Some(Path::Direct(_)) => tracing::info!(?peer, "found a direct path to a peer"),
        Some(Path::Relay(region)) => tracing::info!(?peer, region, "a peer is reached by relay"),
        None => tracing::info!(?peer, "no path to a peer"),
    }
}
