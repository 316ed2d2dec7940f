//! What one map stream has been told, and what it must be told next.

use isthmus_tailnet_wire::control::{MapResponse, NodeId};
use jiff::Timestamp;

/// One map stream.
#[derive(Debug, Default)]
pub(crate) struct MapSession {
    last: Option<MapResponse>,
}

impl MapSession {
    /// Whether the client was sent a map.
    pub(crate) fn is_begun(&self) -> bool {
        self.last.is_some()
    }

    /// The last message to a client whose node was removed, if it was sent a map: its own node with an expired key. A Go
    /// client would otherwise ask for the map of the removed node for ever; this makes it ask for a login.
    pub(crate) fn farewell(&mut self, now: Timestamp) -> Option<MapResponse> {
        let mut node = self.last.take()?.node?;
        node.key_expiry = now.into();
        node.expired = true;
        Some(MapResponse {
            node: Some(node),
            ..MapResponse::default()
        })
    }

    /// The messages that bring the client from the last map to this one; none when nothing changed.
    ///
    /// Every change is a full map, with two exceptions that clients need. An empty list of peers reads as "unchanged",
    /// so the removal of the last peers is spelled out. And a node key must be gone from its old node id before it
    /// appears under another.
    pub(crate) fn advance(&mut self, mut map: MapResponse) -> Vec<MapResponse> {
        if self.last.as_ref() == Some(&map) {
            return Vec::new();
        }
        let last = self.last.replace(map.clone());
        let told = last.map(|last| last.peers).unwrap_or_default();
        if map.peers.is_empty() {
            map.peers_removed = told.iter().map(|peer| peer.id).collect();
            return vec![map];
        }
        let moved: Vec<NodeId> = told
            .iter()
            .filter(|old| map.peers.iter().any(|new| new.key == old.key && new.id != old.id))
            .map(|old| old.id)
            .collect();
        if moved.is_empty() {
            return vec![map];
        }
        vec![
            MapResponse {
                peers_removed: moved,
                ..MapResponse::default()
            },
            map,
        ]
    }
}

#[cfg(test)]
mod tests {
    use isthmus_tailnet_wire::control::Node;
    use isthmus_tailnet_wire::keys::NodeKey;

    use super::*;

    fn map(peers: &[(NodeId, u8)]) -> MapResponse {
        let peers = peers.iter().map(|&(id, key)| Node {
            id,
            key: NodeKey::from_bytes([key; 32]),
            ..Node::default()
        });
        MapResponse {
            domain: "tail.internal".into(),
            peers: peers.collect(),
            ..MapResponse::default()
        }
    }

    #[test]
    fn nothing_is_sent_when_nothing_changed() {
        let mut session = MapSession::default();
        assert_eq!(session.advance(map(&[(1, 1)])).len(), 1);
        assert_eq!(session.advance(map(&[(1, 1)])), []);
    }

    #[test]
    fn removal_of_the_last_peer_is_spelled_out() {
        let mut session = MapSession::default();
        session.advance(map(&[(1, 1), (2, 2)]));
        let messages = session.advance(map(&[]));
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].peers_removed, [1, 2]);
    }

    #[test]
    fn node_key_leaves_its_old_id_before_it_appears_under_another() {
        let mut session = MapSession::default();
        session.advance(map(&[(1, 7), (2, 2)]));
        let messages = session.advance(map(&[(2, 2), (3, 7)]));
        assert_eq!(messages[0].peers_removed, [1]);
        assert!(messages[0].peers.is_empty());
        assert_eq!(messages[1].peers.len(), 2);
    }
}
