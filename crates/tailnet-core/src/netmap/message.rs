//! A map as the message of control that would make it: so that a map can be kept and read again by the one way in.

use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use ipnet::IpNet;
use isthmus_tailnet_wire::control as wire;
use isthmus_tailnet_wire::keys;
use isthmus_tailnet_wire::time::GoTime;

use super::{Capabilities, Netmap, Obstacle, OwnNode, Peer, User, UserId, relays};
use crate::addresses::AddressRange;
use crate::filter::{Destination, Rule};

impl Netmap {
    /// The first message of a stream that [`NetmapStore`](super::NetmapStore) makes this map of.
    pub fn to_message(&self) -> wire::MapResponse {
        wire::MapResponse {
            node: Some(own_node(&self.own)),
            derp_map: (!self.relays.is_empty()).then(|| relays::to_wire(&self.relays)),
            peers: self.peers.values().map(|peer| peer_node(peer)).collect(),
            packet_filter: Some(self.rules.iter().map(filter_rule).collect()),
            dns_config: Some(wire::DnsConfig::from(&*self.dns)),
            user_profiles: self.users.iter().map(|(id, user)| profile(*id, user)).collect(),
            domain: self.domain.clone(),
            health: Some(self.health.clone()),
            ..wire::MapResponse::default()
        }
    }
}

fn own_node(own: &OwnNode) -> wire::Node {
    wire::Node {
        stable_id: own.stable_id.clone(),
        name: own.name.clone(),
        addresses: own.addresses.iter().copied().map(IpNet::from).collect(),
        allowed_ips: Some(own.allowed.iter().copied().collect()),
        key: keys::NodeKey::from_bytes(*own.key.as_bytes()),
        key_expiry: go_time(own.key_expires),
        expired: own.expired,
        machine_authorized: own.machine_authorized,
        tags: own.tags.clone(),
        cap_map: cap_map(&own.capabilities),
        user: own.user,
        ..wire::Node::default()
    }
}

fn cap_map(capabilities: &Capabilities) -> wire::CapMap {
    let arguments = |texts: &[String]| {
        texts
            .iter()
            .filter_map(|text| serde_json::from_str(text).ok())
            .collect()
    };
    let pairs = capabilities.iter();
    pairs
        .map(|(name, texts)| (name.clone(), Some(arguments(texts))))
        .collect()
}

fn profile(id: UserId, user: &User) -> wire::UserProfile {
    wire::UserProfile {
        id,
        login_name: user.login.clone(),
        display_name: user.name.clone(),
        profile_pic_url: user.picture.clone(),
    }
}

fn peer_node(peer: &Peer) -> wire::Node {
    let masquerade = peer.obstacle == Some(Obstacle::Masquerade);
    wire::Node {
        id: peer.id,
        stable_id: peer.stable_id.clone(),
        name: peer.name.clone(),
        key: keys::NodeKey::from_bytes(*peer.key.as_bytes()),
        disco_key: peer
            .disco
            .map(|key| keys::DiscoKey::from_bytes(*key.as_bytes()))
            .unwrap_or_default(),
        addresses: peer.addresses.iter().copied().map(IpNet::from).collect(),
        allowed_ips: Some(peer.allowed.iter().copied().collect()),
        endpoints: peer.endpoints.iter().copied().collect(),
        home_derp: peer.home.map_or(0, i64::from),
        online: peer.online,
        last_seen: peer.last_seen.map(GoTime::from),
        hostinfo: wire::Hostinfo {
            os: peer.os.clone(),
            ..wire::Hostinfo::default()
        },
        cap: peer.version,
        cap_map: cap_map(&peer.capabilities),
        tags: peer.tags.clone(),
        key_expiry: go_time(peer.key_expires),
        is_jailed: peer.jailed,
        expired: peer.obstacle == Some(Obstacle::Expired),
        unsigned_peer_api_only: peer.obstacle == Some(Obstacle::Unsigned),
        self_v4_masquerade: masquerade.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        is_wireguard_only: peer.obstacle == Some(Obstacle::WireGuardOnly),
        user: peer.user,
        ..wire::Node::default()
    }
}

fn filter_rule(rule: &Rule) -> wire::FilterRule {
    wire::FilterRule {
        src_ips: rule
            .sources()
            .ranges()
            .map(range)
            .chain(rule.capabilities().iter().map(|name| format!("cap:{name}")))
            .collect(),
        dst_ports: rule.destinations().iter().map(net_port_range).collect(),
        ip_proto: rule.protocols().iter().copied().map(i64::from).collect(),
        ..wire::FilterRule::default()
    }
}

fn net_port_range(to: &Destination) -> wire::NetPortRange {
    wire::NetPortRange {
        ip: range(to.addresses),
        ports: wire::PortRange {
            first: to.ports.first,
            last: to.ports.last,
        },
        ..wire::NetPortRange::default()
    }
}

fn range(range: AddressRange) -> String {
    match range {
        AddressRange::Any => "*".to_owned(),
        AddressRange::V4(first, last) => format!("{first}-{last}"),
        AddressRange::V6(first, last) => format!("{first}-{last}"),
    }
}

fn go_time(time: Option<SystemTime>) -> GoTime {
    time.map_or(GoTime::ZERO, GoTime::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::NetmapStore;
    use super::super::tests::{map, now, peer};

    #[test]
    fn map_is_the_same_after_it_was_kept_as_a_message() {
        let mut odd: Vec<_> = (4..9).map(peer).collect();
        odd[0]["Expired"] = json!(true);
        odd[1]["IsJailed"] = json!(true);
        odd[1]["KeyExpiry"] = json!("2031-02-03T04:05:06.000000007Z");
        odd[2]["SelfNodeV4MasqAddrForThisPeer"] = json!("100.64.0.99");
        odd[3]["IsWireGuardOnly"] = json!(true);
        odd[4]["AllowedIPs"] = json!(["100.64.0.8/32", "10.0.0.0/8", "fd00::/64"]);
        odd[4]["DiscoKey"] = json!(null);
        odd[0]["User"] = json!(7);
        odd[0]["CapMap"] = json!({"bare": null, "with/arguments": [{"a": 1}, "b"]});
        odd[0]["LastSeen"] = json!("2026-11-22T10:00:00Z");
        odd[0]["Hostinfo"] = json!({"OS": "linux"});
        odd[0]["Cap"] = json!(130);
        odd[0]["HomeDERP"] = json!(7);
        let more = json!({
            "UserProfiles": [{"ID": 7, "LoginName": "a@example.com", "DisplayName": "A"}],
            "PeersChanged": odd, "Health": ["all is not well"],
            "PacketFilters": {
                "one": [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}], "IPProto": [6, 132]}],
                "two": [{"SrcIPs": ["10.0.0.0/8", "fd00::/8", "cap:trusted"], "DstPorts": [{"IP": "100.64.0.1", "Ports": {"First": 1, "Last": 9}}]}],
            },
            "DERPMap": {"Regions": {"7": {"RegionID": 7, "RegionCode": "x", "RegionName": "X", "Nodes": [{"Name": "7a", "RegionID": 7, "HostName": "r"}]}}},
            "DNSConfig": {"CertDomains": ["me.tail.internal"], "ExtraRecords": [{"Name": "web.tail.internal", "Value": "100.64.0.8"}]},
        });
        let map = map(&[more]);
        let text = serde_json::to_string(&map.to_message()).unwrap();
        let mut store = NetmapStore::default();
        store.apply(serde_json::from_str(&text).unwrap(), now()).unwrap();
        assert_eq!(store.netmap().unwrap(), map);
    }
}
