//! The tailnet at one moment, as all maps of that moment are made from it.
//!
//! A picture is made once for a change, however many nodes look at it, and shares what did not change with the one before. So
//! what differs between two pictures is found by comparing pointers, and a map stream need remember no more than the picture
//! that it told last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;
use isthmus_tailnet_wire::control::{DnsRecord, Node as WireNode, NodeId};
use isthmus_tailnet_wire::keys::NodeKey;
use jiff::Timestamp;

use super::{Node, OWNER, Presence, State, Tailnet, View, maps, profile};
use crate::policy::{Hosted, Policy, Sources, Subject};

/// The tailnet at one moment.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Counts pictures: a later one has a higher number.
    pub(crate) number: u64,
    /// When it was made.
    pub(crate) made: Timestamp,
    pub(super) tailnet: Arc<Tailnet>,
    pub(super) common: Arc<Common>,
    pub(super) standings: BTreeMap<NodeId, Arc<Standing>>,
    keys: BTreeSet<NodeKey>,
    /// The number of the picture before, and the nodes that differ from it.
    changes: (u64, Vec<NodeId>),
}

/// What is the same for all nodes.
#[derive(Debug, PartialEq)]
pub(super) struct Common {
    pub(super) policy: Option<Arc<Policy>>,
    /// Whom each rule of the policy lets in.
    pub(super) sources: Sources,
    /// Whether nodes may get certificates.
    pub(super) https: bool,
    /// Records beside those of nodes.
    pub(super) records: Vec<DnsRecord>,
    /// The login name of the user that untagged nodes belong to.
    pub(super) owner: String,
}

/// One node among the others.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) node: Arc<Node>,
    /// The routes that it carries, and the addresses of the Services that it hosts.
    pub(super) routes: Vec<IpNet>,
    /// Of these the ones that lead to it.
    pub(super) primary: Vec<IpNet>,
    /// The Services that it hosts.
    pub(super) services: Vec<Hosted>,
    pub(super) online: bool,
    pub(super) last_seen: Timestamp,
    pub(super) expired: bool,
    /// As its peers are told about it, and the same in JSON.
    shown: OnceLock<(WireNode, String)>,
}

impl Standing {
    fn is_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.node, &other.node)
            && (self.online, self.last_seen, self.expired) == (other.online, other.last_seen, other.expired)
            && self.routes == other.routes
            && self.primary == other.primary
            && self.services == other.services
    }

    /// Whether it may not use the tailnet now.
    pub(super) fn is_shut_out(&self) -> bool {
        self.expired || self.node.is_waiting
    }

    /// The node as a policy sees it.
    pub(super) fn subject<'a>(&'a self, owner: &'a str) -> Subject<'a> {
        Subject {
            tags: &self.node.tags,
            user: owner,
            addresses: [self.node.v4().into(), self.node.v6().into()],
            routes: &self.routes,
            services: &self.services,
        }
    }

    /// The node as its peers are told about it, all of them the same.
    pub(super) fn shown(&self, tailnet: &Tailnet) -> &WireNode {
        &self.shown_twice(tailnet).0
    }

    /// The same in JSON.
    pub(super) fn json(&self, tailnet: &Tailnet) -> &str {
        &self.shown_twice(tailnet).1
    }

    fn shown_twice(&self, tailnet: &Tailnet) -> &(WireNode, String) {
        self.shown.get_or_init(|| {
            let node = maps::wire_node(self, &self.primary, &tailnet.domain);
            let json = serde_json::to_string(&node).expect("a node has only text for member names");
            (node, json)
        })
    }
}

impl Picture {
    /// A picture of a state, later than `before`.
    pub(crate) fn new(
        number: u64,
        before: Option<&Self>,
        tailnet: &Arc<Tailnet>,
        state: &State,
        presence: &Presence,
        made: Timestamp,
    ) -> Self {
        let view = View::new(state, tailnet);
        let primaries = state.primaries(&view, presence, made);
        let mut standings = BTreeMap::new();
        for node in state.nodes.shared() {
            let routes = view.routes(node.id).to_vec();
            let leads = |route: &&IpNet| primaries.get(route) == Some(&node.id);
            let online = presence.is_online(node.id);
            let standing = Standing {
                primary: routes.iter().filter(leads).copied().collect(),
                routes,
                services: view.services(node.id).to_vec(),
                online,
                last_seen: presence.left(node.id).unwrap_or(node.last_seen),
                expired: node.is_expired(made),
                node: Arc::clone(node),
                shown: OnceLock::new(),
            };
            let known = before.and_then(|before| before.standings.get(&node.id));
            let known = known.filter(|known| known.is_like(&standing));
            standings.insert(node.id, known.map_or_else(|| Arc::new(standing), Arc::clone));
        }
        let common = Common {
            policy: state.policy.clone(),
            sources: state
                .policy
                .as_deref()
                .map(|policy| policy.sources(&view.all()))
                .unwrap_or_default(),
            https: state.settings.https,
            records: state.records(tailnet),
            owner: profile(OWNER, &tailnet.domain).login_name,
        };
        let known = before.map(|before| &before.common).filter(|known| ***known == common);
        let mut picture = Self {
            number,
            made,
            tailnet: Arc::clone(tailnet),
            common: known.map_or_else(|| Arc::new(common), Arc::clone),
            keys: standings.values().map(|standing| standing.node.node_key).collect(),
            standings,
            changes: (0, Vec::new()),
        };
        if let Some(before) = before {
            picture.changes = (before.number, picture.compare(before));
        }
        picture
    }

    /// Whether a node has this key.
    pub(crate) fn is_known(&self, key: NodeKey) -> bool {
        self.keys.contains(&key)
    }

    /// The key of a node, or `None` when it is gone.
    pub(crate) fn key_of(&self, id: NodeId) -> Option<NodeKey> {
        self.standings.get(&id).map(|standing| standing.node.node_key)
    }

    /// The connected nodes that share a route, or the address of a Service, with another one.
    pub(crate) fn rivals(&self) -> BTreeSet<NodeId> {
        let mut carriers = BTreeMap::<IpNet, Vec<NodeId>>::new();
        for (id, standing) in self.standings.iter().filter(|(_, standing)| standing.online) {
            for route in &standing.routes {
                carriers.entry(*route).or_default().push(*id);
            }
        }
        let shared = carriers.into_values().filter(|carriers| carriers.len() > 1);
        shared.flatten().collect()
    }

    /// The nodes that differ from an earlier picture, those that are gone or new included.
    pub(super) fn changed_since(&self, from: &Self) -> Vec<NodeId> {
        let (number, changed) = &self.changes;
        if *number == from.number {
            changed.clone()
        } else {
            self.compare(from)
        }
    }

    fn compare(&self, from: &Self) -> Vec<NodeId> {
        let same = |id: &NodeId, standing: &Arc<Standing>| {
            from.standings.get(id).is_some_and(|known| Arc::ptr_eq(known, standing))
        };
        let changed = self.standings.iter().filter(|(id, standing)| !same(id, standing));
        let gone = from.standings.keys().filter(|id| !self.standings.contains_key(id));
        changed.map(|(id, _)| *id).chain(gone.copied()).collect()
    }
}
