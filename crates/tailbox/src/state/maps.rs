//! Network maps: what a node is told about the tailnet.

use std::collections::BTreeMap;

use isthmus_tailnet_wire::control::{
    Debug, DnsConfig, FilterRule, MapResponse, NetPortRange, Node as WireNode, NodeId, PortRange, UserProfile,
};
use jiff::Timestamp;

use super::{Node, OWNER, Presence, State, TAGGED, Tailnet, addresses};

/// What a map is made from beside the state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapContext<'a> {
    /// What is fixed.
    pub(crate) tailnet: &'a Tailnet,
    /// Who is connected.
    pub(crate) presence: &'a Presence,
    /// The time.
    pub(crate) now: Timestamp,
}

impl State {
    /// The full map of a node, or `None` when it is gone. An expired node sees no peers.
    pub(crate) fn full_map(&self, viewer: NodeId, context: MapContext<'_>) -> Option<MapResponse> {
        let viewer = self.nodes.get(&viewer)?;
        let visible = |peer: &&Node| peer.id != viewer.id && peer.is_reachable() && !viewer.is_expired(context.now);
        let domain = &context.tailnet.domain;
        Some(MapResponse {
            node: Some(wire_node(viewer, context)),
            derp_map: Some(context.tailnet.derp_map.clone()),
            peers: self
                .nodes
                .values()
                .filter(visible)
                .map(|peer| wire_node(peer, context))
                .collect(),
            dns_config: Some(DnsConfig {
                domains: vec![domain.clone()],
                proxied: true,
                ..DnsConfig::default()
            }),
            domain: domain.clone(),
            collect_services: Some(false),
            packet_filters: Some(BTreeMap::from([("base".to_owned(), Some(vec![allow_all()]))])),
            user_profiles: vec![profile(OWNER, domain), profile(TAGGED, domain)],
            // Clients of this server have no business with anybody's log service.
            debug: Some(Debug {
                disable_log_tail: true,
                ..Debug::default()
            }),
            ..MapResponse::default()
        })
    }
}

/// A user as nodes are told about it.
pub(crate) fn profile(user: i64, domain: &str) -> UserProfile {
    let (login_name, display_name) = match user {
        TAGGED => ("tagged-devices".to_owned(), "Tagged Devices".to_owned()),
        _ => (format!("owner@{domain}"), "Owner".to_owned()),
    };
    UserProfile {
        id: user,
        login_name,
        display_name,
        ..UserProfile::default()
    }
}

fn wire_node(node: &Node, context: MapContext<'_>) -> WireNode {
    let online = context.presence.is_online(node.id);
    let last_seen = context.presence.left(node.id).unwrap_or(node.last_seen);
    let addresses = addresses::prefixes(node.address);
    WireNode {
        id: node.id,
        stable_id: node.stable_id(),
        name: node.fqdn(&context.tailnet.domain),
        user: node.user(),
        key: node.node_key,
        key_expiry: node.key_expiry,
        machine: node.machine,
        disco_key: node.disco_key,
        addresses: addresses.clone().into(),
        allowed_ips: Some(addresses.into()),
        endpoints: node.endpoints.clone().into(),
        legacy_derp: if node.home_derp == 0 {
            String::new()
        } else {
            format!("127.3.3.40:{}", node.home_derp)
        },
        home_derp: node.home_derp,
        hostinfo: node.hostinfo.clone(),
        created: node.created.into(),
        cap: node.version,
        tags: node.tags.clone(),
        last_seen: (!online).then(|| last_seen.into()),
        online: Some(online),
        machine_authorized: true,
        expired: node.is_expired(context.now),
        ..WireNode::default()
    }
}

fn allow_all() -> FilterRule {
    FilterRule {
        src_ips: vec!["*".to_owned()],
        dst_ports: vec![NetPortRange {
            ip: "*".to_owned(),
            ports: PortRange {
                first: 0,
                last: u16::MAX,
            },
            ..NetPortRange::default()
        }],
        ..FilterRule::default()
    }
}
