//! From wire types to domain types.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use isthmus_tailnet_wire::control as wire;
use isthmus_tailnet_wire::time::GoTime;

use super::{Capabilities, Obstacle, OwnNode, Peer, RegionId, User};
use crate::addresses::{AddressRange, AddressSet};
use crate::filter::{Destination, PortRange, Rule};
use crate::key::{DiscoKey, NodeKey};

impl From<wire::Node> for OwnNode {
    fn from(node: wire::Node) -> Self {
        let mut addresses = single_addresses(&node.addresses);
        addresses.sort_by_key(IpAddr::is_ipv6);
        let services = services(&node.cap_map);
        Self {
            stable_id: node.stable_id,
            name: node.name,
            addresses,
            allowed: node
                .allowed_ips
                .unwrap_or(node.addresses)
                .iter()
                .map(IpNet::trunc)
                .collect(),
            key: node_key(&node.key),
            key_expires: system_time(node.key_expiry),
            expired: node.expired,
            machine_authorized: node.machine_authorized,
            tags: node.tags,
            capabilities: capabilities(node.capabilities, node.cap_map),
            services,
            user: node.user,
        }
    }
}

impl From<wire::Node> for Peer {
    fn from(node: wire::Node) -> Self {
        let obstacle = obstacle(&node);
        let addresses = single_addresses(&node.addresses);
        let allowed = match node.allowed_ips {
            // A node without a signed key routes nothing, whatever else is said of it.
            Some(allowed) if !node.unsigned_peer_api_only => allowed.0,
            Some(_) | None => node.addresses.0,
        };
        Self {
            id: node.id,
            stable_id: node.stable_id,
            name: node.name,
            key: node_key(&node.key),
            disco: disco_key(&node.disco_key),
            addresses,
            allowed: allowed.iter().map(IpNet::trunc).collect(),
            endpoints: node.endpoints.0,
            home: home(node.home_derp, &node.legacy_derp),
            online: node.online,
            last_seen: node.last_seen.and_then(system_time),
            os: node.hostinfo.os,
            version: node.cap,
            capabilities: capabilities(node.capabilities, node.cap_map),
            tags: node.tags,
            key_expires: system_time(node.key_expiry),
            jailed: node.is_jailed,
            obstacle,
            user: node.user,
        }
    }
}

/// The home region of a peer, in its present form or the one of old servers, `127.3.3.40:<region>`.
pub(super) fn home(region: i64, legacy: &str) -> Option<RegionId> {
    let legacy = || legacy.rsplit_once(':').and_then(|(_, region)| region.parse().ok());
    let region = RegionId::try_from(region).ok().filter(|region| *region != 0);
    region.or_else(legacy).filter(|region| *region != 0)
}

/// Capabilities of both forms.
pub(super) fn capabilities(names: Vec<String>, map: wire::CapMap) -> Capabilities {
    let bare = names.into_iter().map(|name| (name, Vec::new()));
    let full = map.into_iter().map(|(name, arguments)| {
        let arguments = arguments.unwrap_or_default();
        (name, arguments.iter().map(ToString::to_string).collect())
    });
    bare.chain(full).collect()
}

/// The Services that a node is to host.
fn services(capabilities: &wire::CapMap) -> BTreeMap<String, Vec<IpAddr>> {
    let arguments = capabilities.get(wire::SERVICE_HOST).and_then(Option::as_ref);
    let members = arguments
        .into_iter()
        .flatten()
        .filter_map(|argument| argument.as_object());
    let services = members.flatten().map(|(name, addresses)| {
        let texts = addresses
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|text| text.as_str());
        let mut addresses: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
        addresses.sort_by_key(IpAddr::is_ipv6);
        (name.clone(), addresses)
    });
    services.collect()
}

impl From<wire::UserProfile> for User {
    fn from(profile: wire::UserProfile) -> Self {
        Self {
            login: profile.login_name,
            name: profile.display_name,
            picture: profile.profile_pic_url,
        }
    }
}

/// What control says against a session with the peer.
fn obstacle(node: &wire::Node) -> Option<Obstacle> {
    let masquerade = node.self_v4_masquerade.is_some() || node.self_v6_masquerade.is_some();
    [
        (node.expired, Obstacle::Expired),
        (node.unsigned_peer_api_only, Obstacle::Unsigned),
        (masquerade, Obstacle::Masquerade),
        (node.is_wireguard_only, Obstacle::WireGuardOnly),
        // The last, because a patch may bring a key and nothing of the others.
        (node.key.is_zero(), Obstacle::NoKey),
    ]
    .into_iter()
    .find_map(|(applies, obstacle)| applies.then_some(obstacle))
}

pub(super) fn node_key(key: &isthmus_tailnet_wire::keys::NodeKey) -> NodeKey {
    NodeKey::from_bytes(*key.as_bytes())
}

pub(super) fn disco_key(key: &isthmus_tailnet_wire::keys::DiscoKey) -> Option<DiscoKey> {
    (!key.is_zero()).then(|| DiscoKey::from_bytes(*key.as_bytes()))
}

pub(super) fn system_time(time: GoTime) -> Option<SystemTime> {
    time.0.map(SystemTime::from)
}

fn single_addresses(nets: &[IpNet]) -> Vec<IpAddr> {
    nets.iter()
        .filter(|net| net.prefix_len() == net.max_prefix_len())
        .map(IpNet::addr)
        .collect()
}

/// Compiles a rule of control. Sources and destinations that are not understood admit nothing; a rule that admits nothing gives nothing.
pub(super) fn rule(rule: &wire::FilterRule) -> Option<Rule> {
    let sources: AddressSet = rule
        .src_ips
        .iter()
        .filter_map(|text| AddressRange::parse(text))
        .collect();
    let destinations: Vec<Destination> = rule.dst_ports.iter().filter_map(destination).collect();
    let protocols: Vec<u8> = rule
        .ip_proto
        .iter()
        .filter_map(|number| u8::try_from(*number).ok())
        .collect();
    let capabilities = rule.src_ips.iter().filter_map(|text| text.strip_prefix("cap:"));
    let capabilities: Vec<String> = capabilities.map(str::to_owned).collect();
    // A list of protocols that are all unknown must not turn into the empty list, which means the default ones.
    let unknown_protocols = protocols.is_empty() && !rule.ip_proto.is_empty();
    let nobody = sources.is_empty() && capabilities.is_empty();
    if nobody || destinations.is_empty() || unknown_protocols {
        return None;
    }
    Some(Rule::new(sources, destinations, protocols).with_capabilities(capabilities))
}

fn destination(to: &wire::NetPortRange) -> Option<Destination> {
    let addresses = match to.bits {
        Some(bits) => AddressRange::from(IpNet::new(to.ip.parse().ok()?, bits).ok()?),
        None => AddressRange::parse(&to.ip)?,
    };
    Some(Destination {
        addresses,
        ports: PortRange {
            first: to.ports.first,
            last: to.ports.last,
        },
    })
}
