//! However control splits the way from one map to another into messages, the node ends with the same map.

use isthmus_tailnet_wire::control::{
    CapMap, DerpMap, DerpNode, DerpRegion, DisplayMessage, DnsConfig, DnsRecord, FilterRule, Hostinfo, NetPortRange,
    Node, PortRange, UserProfile,
};
use isthmus_tailnet_wire::keys;
use isthmus_tailnet_wire::time::GoTime;
use proptest::prelude::*;

use super::*;

fn time() -> impl Strategy<Value = GoTime> {
    prop::sample::select(vec![
        "0001-01-01T00:00:00Z",
        "2026-11-22T10:00:00Z",
        "2031-01-01T00:00:00.5Z",
    ])
    .prop_map(|text| text.parse().unwrap())
}

fn capabilities() -> impl Strategy<Value = CapMap> {
    prop::sample::select(vec![
        json!({}),
        json!({"https": null}),
        json!({"a": [{"b": 1}, "c"], "https": []}),
    ])
    .prop_map(|value| serde_json::from_value(value).unwrap())
}

prop_compose! {
    fn any_node(id: i64)(
        (key, disco, home, version) in (0_u8..3, 0_u8..3, 0_i64..3, 0_u32..3),
        (online, last_seen, expiry) in (any::<Option<bool>>(), prop::option::of(time()), time()),
        endpoints in prop::collection::vec(prop::sample::select(vec!["192.0.2.1:1", "[2001:db8::1]:2"]), 0..3),
        routed in any::<Option<bool>>(),
        (expired, jailed, unsigned) in (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1)),
        cap_map in capabilities(),
        (user, os) in (1_i64..3, prop::sample::select(vec!["", "linux"])),
    ) -> Node {
        let address: IpNet = format!("100.64.0.{id}/32").parse().unwrap();
        let route = routed.filter(|routed| *routed).map(|_| "10.0.0.0/8".parse().unwrap());
        Node {
            id,
            name: format!("n{id}.tail.internal."),
            key: keys::NodeKey::from_bytes([key; 32]),
            disco_key: keys::DiscoKey::from_bytes([disco; 32]),
            addresses: vec![address].into(),
            allowed_ips: routed.map(|_| [address].into_iter().chain(route).collect()),
            home_derp: home,
            legacy_derp: if home == 0 { String::new() } else { format!("127.3.3.40:{home}") },
            endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
            cap: version,
            online,
            last_seen,
            key_expiry: expiry,
            expired,
            is_jailed: jailed,
            unsigned_peer_api_only: unsigned,
            cap_map,
            user,
            hostinfo: Hostinfo { os: os.into(), ..Hostinfo::default() },
            ..Node::default()
        }
    }
}

fn any_rules() -> impl Strategy<Value = Vec<FilterRule>> {
    let rule = (0_u16..3).prop_map(|port| FilterRule {
        src_ips: vec!["*".into()],
        dst_ports: vec![NetPortRange {
            ip: "*".into(),
            ports: PortRange {
                first: port,
                last: port,
            },
            ..NetPortRange::default()
        }],
        ..FilterRule::default()
    });
    prop::collection::vec(rule, 0..3)
}

fn any_relays() -> impl Strategy<Value = DerpMap> {
    prop::collection::btree_set(1_i64..4, 1..3).prop_map(|ids| DerpMap {
        regions: ids
            .into_iter()
            .map(|id| {
                let node = DerpNode {
                    host_name: "r".into(),
                    ..DerpNode::default()
                };
                let region = DerpRegion {
                    region_id: id,
                    nodes: vec![node],
                    ..DerpRegion::default()
                };
                (id, region)
            })
            .collect(),
        ..DerpMap::default()
    })
}

fn any_dns() -> impl Strategy<Value = DnsConfig> {
    (any::<bool>(), 0_u8..3).prop_map(|(proxied, record)| DnsConfig {
        proxied,
        domains: vec!["tail.internal".into()],
        extra_records: vec![DnsRecord {
            name: "web.tail.internal".into(),
            value: format!("100.100.1.{record}"),
            ..DnsRecord::default()
        }],
        ..DnsConfig::default()
    })
}

fn any_messages() -> impl Strategy<Value = BTreeMap<String, Option<DisplayMessage>>> {
    let message = "[a-c]".prop_map(|text| {
        Some(DisplayMessage {
            text,
            ..DisplayMessage::default()
        })
    });
    prop::collection::btree_map("[a-c]", message, 0..3)
}

fn any_peers() -> impl Strategy<Value = Vec<Node>> {
    let ids = prop::collection::btree_set(2_i64..7, 0..5);
    ids.prop_flat_map(|ids| ids.into_iter().map(any_node).collect::<Vec<_>>())
}

fn any_health() -> impl Strategy<Value = Option<Vec<String>>> {
    prop::option::of(prop::collection::vec("[xy]".prop_map(String::from), 0..2))
}

fn any_parts() -> impl Strategy<Value = Option<BTreeMap<String, Option<Vec<FilterRule>>>>> {
    prop::option::of(prop::collection::btree_map(
        prop::sample::select(vec!["base".to_owned(), "more".to_owned()]),
        prop::option::of(any_rules()),
        0..3,
    ))
}

prop_compose! {
    fn any_map()(
        own in any_node(1),
        peers in any_peers(),
        (packet_filter, packet_filters) in (prop::option::of(any_rules()), any_parts()),
        (relays, dns, health, display_messages) in (any_relays(), any_dns(), any_health(), any_messages()),
        names in prop::array::uniform2("[a-c]@example.com"),
    ) -> MapResponse {
        let profiles = (1..).zip(names).map(|(id, login_name)| UserProfile { id, login_name, ..UserProfile::default() });
        MapResponse {
            node: Some(own),
            peers,
            derp_map: Some(relays),
            dns_config: Some(dns),
            domain: "tail.internal".into(),
            packet_filter,
            packet_filters,
            user_profiles: profiles.collect(),
            health,
            display_messages,
            ..MapResponse::default()
        }
    }
}

/// As the message arrives: absent, `null` and empty have to survive the way through JSON.
fn sent(message: &MapResponse) -> MapResponse {
    serde_json::from_slice(&serde_json::to_vec(message).unwrap()).unwrap()
}

fn netmap_of(map: &MapResponse) -> Netmap {
    let mut store = NetmapStore::default();
    store.apply(sent(map), now()).unwrap();
    store.netmap().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn deltas_lead_to_the_same_map_as_the_full_map_of_the_end(maps in prop::collection::vec(any_map(), 1..6)) {
        let mut store = NetmapStore::default();
        store.apply(sent(&maps[0]), now()).unwrap();
        for pair in maps.windows(2) {
            if let Some(delta) = pair[0].delta(&pair[1]) {
                prop_assert!(delta.peers.is_empty());
                store.apply(sent(&delta), now()).unwrap();
            } else {
                prop_assert_eq!(netmap_of(&pair[0]), netmap_of(&pair[1]));
            }
            prop_assert_eq!(store.netmap().unwrap(), netmap_of(&pair[1]));
        }
    }

    #[test]
    fn change_of_one_member_of_a_peer_that_patches_can_say_is_a_patch(map in any_map(), online: bool, disco in 3_u8..5) {
        prop_assume!(!map.peers.is_empty());
        let mut next = map.clone();
        next.peers[0].online = Some(online);
        next.peers[0].disco_key = keys::DiscoKey::from_bytes([disco; 32]);
        let delta = map.delta(&next).unwrap();
        prop_assert_eq!(delta.peers_changed_patch.len(), 1);
        prop_assert!(delta.peers_changed.is_empty() && delta.peers_removed.is_empty() && delta.node.is_none());
    }
}
