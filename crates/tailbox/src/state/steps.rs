//! What a map stream has to be told to get from one picture to a later one.

use std::sync::Arc;

use isthmus_tailnet_wire::control::{MapResponse, NodeId};

use super::Picture;

/// The difference between what a node was told by one picture and what another shows it.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// What changed beside the peers.
    own: Option<MapResponse>,
    /// The peers that may have changed, whether the node saw them, and whether it sees them now.
    peers: Vec<(NodeId, bool, bool)>,
}

impl Step {
    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_none() && self.peers.is_empty()
    }

    /// The peers that changed, if they are all that did: every node with the same ones is told the same.
    pub(crate) fn peers_alone(&self) -> Option<&[(NodeId, bool, bool)]> {
        self.own.is_none().then_some(&self.peers[..])
    }
}

impl Picture {
    /// What differs for a node from a picture that it was told before; none when it is gone, or was not there.
    ///
    /// The difference is to what was told, not to what there was a moment ago: a stream that lags still ends with the map of the end.
    pub(crate) fn step(&self, from: &Self, id: NodeId) -> Option<Step> {
        let (was, is) = (from.standings.get(&id)?, self.standings.get(&id)?);
        let same_node = Arc::ptr_eq(was, is);
        let same_common = Arc::ptr_eq(&from.common, &self.common);
        let own = if same_node && same_common {
            None
        } else {
            from.own(was).delta(&self.own(is))
        };
        let may_see_others = !same_node || (!same_common && from.common.policy != self.common.policy);
        let looked_at: Vec<NodeId> = if may_see_others {
            let gone = from.standings.keys().filter(|id| !self.standings.contains_key(id));
            self.standings.keys().chain(gone).copied().collect()
        } else {
            self.changed_since(from)
        };
        let changed = |peer: &NodeId| match (from.standings.get(peer), self.standings.get(peer)) {
            (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
            (old, new) => old.is_some() || new.is_some(),
        };
        let peers = looked_at.into_iter().filter_map(|peer| {
            let (saw, sees) = (from.shows(was, peer), self.shows(is, peer));
            let told = saw != sees || (saw && changed(&peer));
            told.then_some((peer, saw, sees))
        });
        Some(Step {
            peers: peers.collect(),
            own,
        })
    }

    /// The message for a step; none when its peers changed in nothing that others are told.
    pub(crate) fn message(&self, from: &Self, step: &Step) -> Option<MapResponse> {
        let (old, new) = (
            from.those_of(step.peers.iter().filter(|(_, saw, _)| *saw)),
            self.those_of(step.peers.iter().filter(|(_, _, sees)| *sees)),
        );
        let peers = old.delta(&new);
        if peers.is_none() && step.own.is_none() {
            return None;
        }
        let peers = peers.unwrap_or_default();
        Some(MapResponse {
            peers_changed: peers.peers_changed,
            peers_removed: peers.peers_removed,
            peers_changed_patch: peers.peers_changed_patch,
            peer_seen_change: peers.peer_seen_change,
            control_time: Some(self.made.into()),
            ..step.own.clone().unwrap_or_default()
        })
    }

    fn those_of<'a>(&self, peers: impl Iterator<Item = &'a (NodeId, bool, bool)>) -> MapResponse {
        let standings = peers.filter_map(|(id, ..)| self.standings.get(id));
        MapResponse {
            peers: standings
                .map(|standing| standing.shown(&self.tailnet).clone())
                .collect(),
            ..MapResponse::default()
        }
    }
}
