//! Which nodes are connected right now. Not part of the snapshot: after a restart, nobody is.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_tailnet_wire::control::NodeId;
use jiff::{SignedDuration, Timestamp};

use super::State;

/// Open map streams by node, and when the last one of a node ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presence {
    streams: BTreeMap<NodeId, Streams>,
    left: BTreeMap<NodeId, Timestamp>,
    /// Those that are connected and do not answer.
    hung: BTreeSet<NodeId>,
    /// How many map streams were opened since the start.
    opened: u64,
}

/// The open map streams of one node.
#[derive(Clone, Copy, Debug, Default)]
struct Streams {
    count: usize,
    /// The number of the one that was opened last.
    newest: u64,
}

impl Presence {
    /// A map stream of a node opens; gives its number.
    pub(crate) fn connect(&mut self, id: NodeId) -> u64 {
        self.opened += 1;
        let streams = self.streams.entry(id).or_default();
        streams.count += 1;
        streams.newest = self.opened;
        self.left.remove(&id);
        self.opened
    }

    /// Whether no other stream of the node was opened after this one.
    pub(crate) fn is_newest(&self, id: NodeId, stream: u64) -> bool {
        self.streams.get(&id).is_none_or(|streams| streams.newest == stream)
    }

    /// A map stream of a node ends. A client that reconnects may have two for a moment.
    pub(crate) fn disconnect(&mut self, id: NodeId, now: Timestamp) {
        let Some(streams) = self.streams.get_mut(&id) else {
            return;
        };
        streams.count -= 1;
        if streams.count == 0 {
            self.streams.remove(&id);
            self.left.insert(id, now);
        }
    }

    /// Whether a map stream of the node is open.
    pub(crate) fn is_online(&self, id: NodeId) -> bool {
        self.streams.contains_key(&id)
    }

    /// When the node was last connected, if it was and is not since this process runs.
    pub(crate) fn left(&self, id: NodeId) -> Option<Timestamp> {
        self.left.get(&id).copied()
    }

    /// Notes which nodes do not answer; whether they are others than before.
    pub(crate) fn note_hung(&mut self, hung: BTreeSet<NodeId>) -> bool {
        let changed = self.hung != hung;
        self.hung = hung;
        changed
    }

    /// Whether a node did not answer when it was asked last.
    pub(crate) fn is_hung(&self, id: NodeId) -> bool {
        self.hung.contains(&id)
    }

    /// Forgets nodes that are gone.
    pub(crate) fn retain(&mut self, known: &BTreeSet<NodeId>) {
        self.left.retain(|id, _| known.contains(id));
    }
}

impl State {
    /// Writes down when nodes that left were last connected.
    pub(crate) fn note_departures(&mut self, presence: &Presence) {
        for (id, left) in &presence.left {
            let differs = self.nodes.get(*id).is_some_and(|node| node.last_seen != *left);
            if let Some(node) = self.nodes.get_mut(*id).filter(|_| differs) {
                node.last_seen = *left;
            }
        }
    }

    /// Removes ephemeral nodes that are away for longer than the grace. Nobody could connect before the start, so no
    /// absence is counted from an earlier time.
    pub(crate) fn remove_departed(
        &mut self,
        presence: &Presence,
        started: Timestamp,
        grace: SignedDuration,
        now: Timestamp,
    ) {
        self.nodes.retain(|node| {
            let away = now.duration_since(node.last_seen.max(started));
            !node.ephemeral || presence.is_online(node.id) || away <= grace
        });
    }
}
