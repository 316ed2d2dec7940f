//! Network maps: what a node is told about the tailnet.

use std::collections::BTreeMap;

use ipnet::IpNet;
use isthmus_tailnet_wire::control::{
    CapMap, Debug, DnsConfig, DnsRecord, FilterRule, MapResponse, NetPortRange, Node as WireNode, NodeId, PortRange,
    SERVICE_HOST, UserProfile,
};

use super::picture::{Picture, Standing};
use super::{OWNER, State, TAGGED, Tailnet, addresses};
use crate::policy::Subject;

/// The capability of nodes that may get certificates.
const HTTPS: &str = "https";

impl Picture {
    /// The full map of a node, or `None` when it is gone.
    #[cfg(test)]
    pub(crate) fn map(&self, id: NodeId) -> Option<MapResponse> {
        let peers = self.peers(id).map(|peer| peer.shown(&self.tailnet).clone());
        Some(MapResponse {
            peers: peers.collect(),
            ..self.first_part(id)?
        })
    }

    /// The full map of a node in JSON, or `None` when it is gone. Each peer is written once for all who see it.
    pub(crate) fn map_json(&self, id: NodeId) -> Option<Vec<u8>> {
        let mut json = serde_json::to_vec(&self.first_part(id)?).ok()?;
        let closed = json.pop();
        debug_assert_eq!(closed, Some(b'}'), "a message is an object with members");
        json.extend_from_slice(br#","Peers":["#);
        for (index, peer) in self.peers(id).enumerate() {
            if index > 0 {
                json.push(b',');
            }
            json.extend_from_slice(peer.json(&self.tailnet).as_bytes());
        }
        json.extend_from_slice(b"]}");
        Some(json)
    }

    fn first_part(&self, id: NodeId) -> Option<MapResponse> {
        Some(MapResponse {
            control_time: Some(self.made.into()),
            ..self.own(self.standings.get(&id)?)
        })
    }

    /// A node as it is told about itself.
    pub(crate) fn own_node(&self, id: NodeId) -> Option<WireNode> {
        let viewer = self.standings.get(&id)?;
        Some(WireNode {
            cap_map: self.capabilities(viewer.subject(&self.common.owner)),
            ..wire_node(viewer, &viewer.routes, &self.tailnet.domain)
        })
    }

    /// All of a node's map but its peers.
    pub(super) fn own(&self, viewer: &Standing) -> MapResponse {
        let domain = &self.tailnet.domain;
        MapResponse {
            node: self.own_node(viewer.node.id),
            derp_map: Some(self.tailnet.derp_map.clone()),
            dns_config: Some(DnsConfig {
                domains: vec![domain.clone()],
                proxied: true,
                cert_domains: self.cert_domains(viewer.node.id),
                extra_records: self.common.records.clone(),
                ..DnsConfig::default()
            }),
            domain: domain.clone(),
            collect_services: Some(false),
            packet_filters: Some(BTreeMap::from([("base".to_owned(), Some(self.filter_for(viewer)))])),
            user_profiles: vec![profile(OWNER, domain), profile(TAGGED, domain)],
            // Clients of this server have no business with anybody's log service.
            debug: Some(Debug {
                disable_log_tail: true,
                ..Debug::default()
            }),
            ..MapResponse::default()
        }
    }

    fn peers(&self, id: NodeId) -> impl Iterator<Item = &Standing> {
        let viewer = self.standings.get(&id);
        let all = self.standings.values();
        all.map(AsRef::as_ref)
            .filter(move |peer| viewer.is_some_and(|viewer| self.shows(viewer, peer.node.id)))
    }

    /// Whether a node sees another. One that is expired or waits for approval sees none.
    pub(super) fn shows(&self, viewer: &Standing, peer: NodeId) -> bool {
        let Some(peer) = self.standings.get(&peer).filter(|_| !viewer.is_shut_out()) else {
            return false;
        };
        let owner = &self.common.owner;
        let related = |policy: &crate::policy::Policy| policy.relates(viewer.subject(owner), peer.subject(owner));
        peer.node.id != viewer.node.id && peer.node.is_reachable() && self.common.policy.as_deref().is_none_or(related)
    }

    fn filter_for(&self, viewer: &Standing) -> Vec<FilterRule> {
        let common = &self.common;
        match common.policy.as_deref() {
            _ if viewer.node.is_waiting => Vec::new(),
            Some(policy) => policy.filter_for(viewer.subject(&common.owner), &common.sources),
            None => vec![allow_all()],
        }
    }

    /// What a node may do, and the Services that it is to host.
    fn capabilities(&self, node: Subject<'_>) -> CapMap {
        let policy = self.common.policy.as_deref();
        let named = policy.into_iter().flat_map(|policy| policy.attributes(node));
        let mut capabilities: CapMap = named.map(|name| (name.to_owned(), None)).collect();
        if self.common.https {
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
    pub(crate) fn cert_domains(&self, id: NodeId) -> Vec<String> {
        let standing = self.standings.get(&id).filter(|standing| !standing.node.is_waiting);
        let Some(standing) = standing.filter(|_| self.common.https) else {
            return Vec::new();
        };
        let domain = &self.tailnet.domain;
        let own = standing.node.fqdn(domain).trim_end_matches('.').to_owned();
        let hosted = standing.services.iter();
        let hosted = hosted.map(|service| format!("{}.{domain}", service.label()));
        std::iter::once(own).chain(hosted).collect()
    }
}

impl State {
    /// Records beside those of nodes: of the configuration, and of Services.
    pub(super) fn records(&self, tailnet: &Tailnet) -> Vec<DnsRecord> {
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
pub(super) fn wire_node(standing: &Standing, routes: &[IpNet], domain: &str) -> WireNode {
    let node = &standing.node;
    let addresses = addresses::prefixes(node.address);
    let allowed: Vec<IpNet> = addresses.iter().chain(routes).copied().collect();
    WireNode {
        id: node.id,
        stable_id: node.stable_id(),
        name: node.fqdn(domain),
        user: node.user(),
        key: node.node_key,
        key_expiry: node.expiry(),
        machine: node.machine,
        disco_key: node.disco_key,
        addresses: addresses.into(),
        allowed_ips: Some(allowed.into()),
        primary_routes: standing.primary.clone().into(),
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
        last_seen: (!standing.online).then(|| standing.last_seen.into()),
        online: Some(standing.online),
        machine_authorized: !node.is_waiting,
        expired: standing.expired,
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
