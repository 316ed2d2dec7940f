//! Routes of subnet routers, and the nodes as a policy sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use isthmus_tailnet_wire::control::NodeId;
use jiff::Timestamp;

use super::{Node, OWNER, Presence, Roster, State, Tailnet, profile};
use crate::policy::{Hosted, Subject};

/// The nodes of a state as a policy sees them.
pub(crate) struct View<'a> {
    nodes: &'a Roster,
    hosted: BTreeMap<NodeId, Vec<Hosted>>,
    routes: BTreeMap<NodeId, Vec<IpNet>>,
    owner: String,
}

impl<'a> View<'a> {
    pub(crate) fn new(state: &'a State, tailnet: &Tailnet) -> Self {
        let mut view = Self {
            nodes: &state.nodes,
            hosted: BTreeMap::new(),
            routes: approved(&state.nodes).map(|node| (node.id, node.routes())).collect(),
            owner: profile(OWNER, &tailnet.domain).login_name,
        };
        view.hosted = state.hosted(&view);
        for (id, services) in &view.hosted {
            let addresses = services.iter().flat_map(|service| service.addresses);
            view.routes.entry(*id).or_default().extend(addresses.map(IpNet::from));
        }
        view
    }

    /// One node.
    pub(crate) fn subject<'b>(&'b self, node: &'b Node) -> Subject<'b> {
        Subject {
            tags: &node.tags,
            user: &self.owner,
            addresses: [IpAddr::V4(node.v4()), IpAddr::V6(node.v6())],
            routes: self.routes(node.id),
            services: self.services(node.id),
        }
    }

    /// The routes that a node carries, and the addresses of the Services that it hosts.
    pub(crate) fn routes(&self, id: NodeId) -> &[IpNet] {
        self.routes.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The Services that a node hosts.
    pub(crate) fn services(&self, id: NodeId) -> &[Hosted] {
        self.hosted.get(&id).map_or(&[], Vec::as_slice)
    }

    /// All nodes but those that wait for approval.
    pub(crate) fn all(&self) -> Vec<Subject<'_>> {
        approved(self.nodes).map(|node| self.subject(node)).collect()
    }
}

fn approved(nodes: &Roster) -> impl Iterator<Item = &Node> {
    nodes.values().filter(|node| !node.is_waiting)
}

impl State {
    /// The node to which each route, and each address of a Service, leads: of those that carry it, one that is online
    /// before others, then one that answers, then the one with the lowest number.
    pub(crate) fn primaries(&self, view: &View<'_>, presence: &Presence, now: Timestamp) -> BTreeMap<IpNet, NodeId> {
        let mut carriers: Vec<&Node> = self.nodes.values().filter(|node| !node.is_expired(now)).collect();
        carriers.sort_by_key(|node| (!presence.is_online(node.id), presence.is_hung(node.id), node.id));
        let mut primaries = BTreeMap::new();
        for node in carriers {
            for route in view.routes(node.id) {
                primaries.entry(*route).or_insert(node.id);
            }
        }
        primaries
    }

    /// Approves the routes that nodes offer now and did not `before`, as far as the policy says so. What was decided by
    /// hand about other routes stays.
    pub(crate) fn approve_announced(&mut self, before: &Self, tailnet: &Tailnet) {
        let Some(policy) = self.policy.clone() else { return };
        let mut approved: Vec<(NodeId, BTreeSet<IpNet>)> = Vec::new();
        let changed = self.nodes.changed_since(&before.nodes);
        let offering: Vec<&Node> = changed.filter(|node| !node.advertised().is_empty()).collect();
        if offering.is_empty() {
            return;
        }
        let view = View::new(self, tailnet);
        for node in offering {
            let known = before.nodes.get(node.id).map(Node::advertised).unwrap_or_default();
            let mut routes = node.advertised();
            routes.retain(|route| !known.contains(route) && policy.approves(*route, view.subject(node)));
            if !routes.is_empty() {
                approved.push((node.id, routes));
            }
        }
        for (id, routes) in approved {
            if let Some(node) = self.nodes.get_mut(id) {
                node.approved.extend(routes);
            }
        }
    }
}
