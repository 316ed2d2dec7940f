//! What one map stream has been told, and what it must be told next.

use isthmus_tailnet_wire::control::MapResponse;
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

    /// The message that brings the client from the last map to this one; none when nothing changed. The first is the whole map.
    ///
    /// What follows is the difference to what this stream was told, not to what the state was a moment ago: a stream that lags, or
    /// misses states in between, still ends with the map of the end.
    pub(crate) fn advance(&mut self, map: MapResponse) -> Option<MapResponse> {
        match self.last.replace(map.clone()) {
            Some(last) => last.delta(&map),
            None => Some(map),
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_tailnet_wire::control::{Node, NodeId};
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
        assert_eq!(session.advance(map(&[(1, 1)])).unwrap().peers.len(), 1);
        assert_eq!(session.advance(map(&[(1, 1)])), None);
    }

    #[test]
    fn removal_of_the_last_peer_is_spelled_out() {
        let mut session = MapSession::default();
        session.advance(map(&[(1, 1), (2, 2)]));
        let message = session.advance(map(&[])).unwrap();
        assert_eq!(message.peers_removed, [1, 2]);
    }

    #[test]
    fn node_key_leaves_its_old_id_in_the_message_that_brings_it_under_another() {
        let mut session = MapSession::default();
        session.advance(map(&[(1, 7), (2, 2)]));
        let message = session.advance(map(&[(2, 2), (3, 7)])).unwrap();
        assert_eq!(message.peers_removed, [1]);
        assert_eq!(
            message.peers_changed.iter().map(|peer| peer.id).collect::<Vec<_>>(),
            [3]
        );
    }

    #[test]
    fn stream_that_skips_states_ends_with_the_map_of_the_end() {
        let mut session = MapSession::default();
        session.advance(map(&[(1, 1), (2, 2)]));
        // Peer 3 came and went, and peer 1 changed twice, while the stream did not look.
        let message = session.advance(map(&[(1, 9), (2, 2), (4, 4)])).unwrap();
        assert_eq!(
            message.peers_changed.iter().map(|peer| peer.id).collect::<Vec<_>>(),
            [4]
        );
        assert_eq!(message.peers_changed_patch.len(), 1);
        assert_eq!(message.peers_changed_patch[0].key, Some(NodeKey::from_bytes([9; 32])));
    }
}
