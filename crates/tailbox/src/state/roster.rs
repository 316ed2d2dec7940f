//! The nodes of a state, shared between its versions.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use isthmus_tailnet_wire::control::NodeId;
use serde::{Deserialize, Serialize};

use super::Node;

/// Nodes by number. Copies share them: a change of one copies that node alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Roster(BTreeMap<NodeId, Arc<Node>>);

impl PartialEq for Roster {
    fn eq(&self, other: &Self) -> bool {
        let same = |one: &Arc<Node>, two: &Arc<Node>| Arc::ptr_eq(one, two) || one == two;
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|((id, one), (other_id, two))| id == other_id && same(one, two))
    }
}

impl Roster {
    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A node by its number.
    pub(crate) fn get(&self, id: NodeId) -> Option<&Node> {
        self.0.get(&id).map(Arc::as_ref)
    }

    /// A node to change.
    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.0.get_mut(&id).map(Arc::make_mut)
    }

    /// Whether there is a node of this number.
    pub(crate) fn contains_key(&self, id: NodeId) -> bool {
        self.0.contains_key(&id)
    }

    /// All nodes by number.
    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &Node> {
        self.0.values().map(Arc::as_ref)
    }

    /// All numbers.
    pub(crate) fn keys(&self) -> btree_map::Keys<'_, NodeId, Arc<Node>> {
        self.0.keys()
    }

    /// All nodes as they are shared.
    pub(super) fn shared(&self) -> btree_map::Values<'_, NodeId, Arc<Node>> {
        self.0.values()
    }

    /// The nodes that are others here than they were `before`.
    pub(super) fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Node> {
        let changed = |node: &&'a Arc<Node>| before.0.get(&node.id).is_none_or(|known| !Arc::ptr_eq(known, node));
        self.0.values().filter(changed).map(Arc::as_ref)
    }

    pub(super) fn insert(&mut self, node: Node) {
        self.0.insert(node.id, Arc::new(node));
    }

    pub(super) fn remove(&mut self, id: NodeId) -> Option<Arc<Node>> {
        self.0.remove(&id)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Node) -> bool) {
        self.0.retain(|_, node| keep(node));
    }
}
