//! Network maps: what a node is told about the tailnet.

use std::collections::BTreeMap;

use ipnet::IpNet;
use isthmus_tailnet_wire::control::{
    CapMap, Debug, DnsConfig, DnsRecord, FilterRule, MapResponse, NetPortRange, Node as WireNode, NodeId, PortRange,
    SERVICE_HOST, UserProfile,
};
use jiff::Timestamp;

use super::{Node, OWNER, Presence, State, TAGGED, Tailnet, View, addresses};
use crate::policy::Subject;

/// The capability of nodes that may get certificates.
const HTTPS: &str = "https";

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
        let view = View::new(self, context.tailnet);
        let primaries = self.primaries(&view, context.presence, context.now);
        let me = view.subject(viewer);
        let related = |peer: &Node| match self.policy.as_deref() {
            Some(policy) => policy.relates(me, view.subject(peer)),
            None => true,
        };
        let visible = |peer: &&Node| {
            peer.id != viewer.id && peer.is_reachable() && !viewer.is_expired(context.now) && related(peer)
        };
        let domain = &context.tailnet.domain;
        let own = WireNode {
            cap_map: self.capabilities(me),
            ..wire_node(
                viewer,
                me.routes,
                &primary_of(me.routes, viewer.id, &primaries),
                context,
            )
        };
        Some(MapResponse {
            node: Some(own),
            derp_map: Some(context.tailnet.derp_map.clone()),
            peers: self
                .nodes
                .values()
                .filter(visible)
                .map(|peer| {
                    let led = primary_of(view.routes(peer.id), peer.id, &primaries);
                    wire_node(peer, &led, &led, context)
                })
                .collect(),
            dns_config: Some(DnsConfig {
                domains: vec![domain.clone()],
                proxied: true,
                cert_domains: self.cert_domains(viewer.id, context.tailnet),
                extra_records: self.records(context.tailnet),
                ..DnsConfig::default()
            }),
            domain: domain.clone(),
            collect_services: Some(false),
            packet_filters: Some(BTreeMap::from([("base".to_owned(), Some(self.filter_for(me, &view)))])),
            user_profiles: vec![profile(OWNER, domain), profile(TAGGED, domain)],
            // Clients of this server have no business with anybody's log service.
            debug: Some(Debug {
                disable_log_tail: true,
                ..Debug::default()
            }),
            ..MapResponse::default()
        })
    }

    fn filter_for(&self, node: Subject<'_>, view: &View<'_>) -> Vec<FilterRule> {
        match self.policy.as_deref() {
            Some(policy) => policy.filter_for(node, &view.all()),
            None => vec![allow_all()],
        }
    }

    /// What a node may do, and the Services that it is to host.
    fn capabilities(&self, node: Subject<'_>) -> CapMap {
        let policy = self.policy.as_deref();
        let named = policy.into_iter().flat_map(|policy| policy.attributes(node));
        let mut capabilities: CapMap = named.map(|name| (name.to_owned(), None)).collect();
        if self.settings.https {
            capabilities.insert(HTTPS.to_owned(), None);
        }
        if !node.services.is_empty() {
            let services = node.services.iter();
            let services = services.map(|service| (service.name.clone(), service.addresses));
            let argument = serde_json::json!(services.collect::<BTreeMap<_, _>>());
            capabilities.insert(SERVICE_HOST.to_owned(), Some(vec![argument]));
        }
        capabilities
    }

    /// The names, without final dot, for which a node may get certificates: its own and those of the Services that it
    /// hosts.
    pub(crate) fn cert_domains(&self, id: NodeId, tailnet: &Tailnet) -> Vec<String> {
        let Some(node) = self.nodes.get(&id).filter(|_| self.settings.https) else {
            return Vec::new();
        };
        let own = node.fqdn(&tailnet.domain).trim_end_matches('.').to_owned();
        let view = View::new(self, tailnet);
        let hosted = view.services(id).iter();
        let hosted = hosted.filter_map(|hosted| self.services.get(&hosted.name));
        std::iter::once(own)
            .chain(hosted.map(|service| service.fqdn(&tailnet.domain)))
            .collect()
    }

    /// Records beside those of nodes: of the configuration, and of Services.
    fn records(&self, tailnet: &Tailnet) -> Vec<DnsRecord> {
        let services = self.services.values().flat_map(|service| {
            service.addresses().map(|address| DnsRecord {
                name: service.fqdn(&tailnet.domain),
                value: address.to_string(),
                ..DnsRecord::default()
            })
        });
        tailnet.extra_records.iter().cloned().chain(services).collect()
    }
}

/// Of a node's routes those that lead to it.
fn primary_of(routes: &[IpNet], id: NodeId, primaries: &BTreeMap<IpNet, NodeId>) -> Vec<IpNet> {
    let primary = |route: &&IpNet| primaries.get(route) == Some(&id);
    routes.iter().filter(primary).copied().collect()
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

/// A node as others are told about it, with the routes that its WireGuard peers may exchange with it. The node itself
/// learns all that it may carry; others only those that lead to it.
fn wire_node(node: &Node, routes: &[IpNet], primary: &[IpNet], context: MapContext<'_>) -> WireNode {
    let online = context.presence.is_online(node.id);
    let last_seen = context.presence.left(node.id).unwrap_or(node.last_seen);
    let addresses = addresses::prefixes(node.address);
    let allowed: Vec<IpNet> = addresses.iter().chain(routes).copied().collect();
    WireNode {
        id: node.id,
        stable_id: node.stable_id(),
        name: node.fqdn(&context.tailnet.domain),
        user: node.user(),
        key: node.node_key,
        key_expiry: node.expiry(),
        machine: node.machine,
        disco_key: node.disco_key,
        addresses: addresses.into(),
        allowed_ips: Some(allowed.into()),
        primary_routes: primary.to_vec().into(),
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
