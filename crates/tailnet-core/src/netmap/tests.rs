mod deltas;

use std::collections::BTreeSet;
use std::time::Duration;

use isthmus_tailnet_wire::control::MapResponse;
use serde_json::{Value, json};

use super::*;
use crate::filter::{DropReason, Filter, PacketFilter, Verdict};

fn message(value: Value) -> MapResponse {
    serde_json::from_value(value).expect("test documents are valid")
}

fn key(number: u8) -> String {
    format!("nodekey:{}", format!("{number:02x}").repeat(32))
}

fn disco(number: u8) -> String {
    format!("discokey:{}", format!("{number:02x}").repeat(32))
}

pub(super) fn peer(number: u8) -> Value {
    let address = format!("100.64.0.{number}/32");
    json!({
        "ID": number, "StableID": format!("n{number}"), "Name": format!("p{number}.tail.internal."), "Key": key(number),
        "DiscoKey": disco(number), "Addresses": [address], "AllowedIPs": [address], "Endpoints": ["192.0.2.7:41641"],
        "MachineAuthorized": true, "Online": true
    })
}

fn first() -> Value {
    json!({
        "Node": {"ID": 1, "StableID": "n1", "Name": "me.tail.internal.", "Key": key(1), "MachineAuthorized": true,
            "Addresses": ["fd7a:115c:a1e0::1/128", "100.64.0.1/32"], "CapMap": {"https": null}},
        "Peers": [peer(2), peer(3)], "Domain": "tail.internal",
        "PacketFilters": {"base": [{"SrcIPs": ["100.64.0.2"], "DstPorts": [{"IP": "*", "Ports": {"First": 80, "Last": 80}}]}]}
    })
}

fn store(more: &[Value]) -> NetmapStore {
    let mut store = NetmapStore::default();
    for value in std::iter::once(&first()).chain(more) {
        store.apply(message(value.clone()), now()).expect("applies");
    }
    store
}

pub(super) fn map(more: &[Value]) -> Netmap {
    store(more).netmap().expect("complete")
}

pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

#[test]
fn first_message_without_own_node_is_refused() {
    let result = NetmapStore::default().apply(message(json!({"Peers": [peer(2)]})), now());
    assert_eq!(result, Err(NetmapError::NoOwnNode));
}

#[test]
fn own_addresses_are_listed_with_ipv4_first() {
    let map = map(&[]);
    assert_eq!(map.own.addresses[0].to_string(), "100.64.0.1");
    assert_eq!(map.own.fqdn(), "me.tail.internal");
    assert!(map.own.capabilities.contains_key("https"));
}

#[test]
fn absent_members_leave_the_map_unchanged() {
    let before = map(&[]);
    assert_eq!(map(&[json!({"KeepAlive": true}), json!({"PopBrowserURL": ""})]), before);
}

#[test]
fn full_list_replaces_peers_and_deltas_change_them() {
    assert_eq!(
        map(&[json!({"Peers": [peer(4)]})])
            .peers
            .keys()
            .copied()
            .collect::<Vec<_>>(),
        [4]
    );
    let delta = json!({"PeersChanged": [peer(5)], "PeersRemoved": [2]});
    assert_eq!(map(&[delta]).peers.keys().copied().collect::<Vec<_>>(), [3, 5]);
}

#[test]
fn changes_of_peers_are_applied_in_the_order_of_the_go_client() {
    let changes = json!({
        "PeersRemoved": [2], "PeersChanged": [peer(2)], "PeerSeenChange": {"2": true, "3": false, "99": true},
        "OnlineChange": {"2": false, "3": false, "99": true},
        "PeersChangedPatch": [{"NodeID": 3, "Online": true, "LastSeen": "2026-11-22T10:00:00Z"}]});
    let map = map(&[changes]);
    assert_eq!(
        map.peers.keys().copied().collect::<Vec<_>>(),
        [2, 3],
        "a removed peer may come back in one message"
    );
    assert_eq!(
        (map.peers[&2].online, map.peers[&2].last_seen),
        (Some(false), Some(now()))
    );
    assert_eq!(map.peers[&3].online, Some(true), "patches are the last");
    assert_ne!(map.peers[&3].last_seen, None);
}

#[test]
fn full_list_makes_all_other_changes_of_peers_moot() {
    let map = map(&[
        json!({"Peers": [peer(2)], "PeersChanged": [peer(5)], "PeersRemoved": [2], "OnlineChange": {"2": false}}),
    ]);
    assert_eq!(map.peers.keys().copied().collect::<Vec<_>>(), [2]);
    assert_eq!(map.peers[&2].online, Some(true));
}

#[test]
fn peer_without_key_is_usable_once_a_patch_brings_one() {
    let mut bare = peer(2);
    bare["Key"] = json!(null);
    let none = json!({"PeersChanged": [bare]});
    assert_eq!(
        map(std::slice::from_ref(&none)).peers[&2].obstacle,
        Some(Obstacle::NoKey)
    );
    let given =
        json!({"PeersChangedPatch": [{"NodeID": 2, "Key": key(9), "Cap": 130, "CapMap": {"a": [1]}, "DERPRegion": 4}]});
    let changed = &map(&[none, given]).peers[&2];
    assert_eq!((changed.obstacle, changed.version, changed.home), (None, 130, Some(4)));
    assert_eq!(changed.capabilities["a"], ["1"]);
}

#[test]
fn warnings_are_changed_by_id_and_cleared_as_a_whole() {
    let told = json!({"DisplayMessages": {"a": {"Title": "One", "Text": "first"}, "b": {"Text": "second"}}, "Health": ["old"]});
    let health = |more: Value| map(&[told.clone(), more]).health;
    assert_eq!(health(json!({})), ["old", "One: first", "second"]);
    assert_eq!(health(json!({"DisplayMessages": {}, "Health": null})).len(), 3);
    assert_eq!(
        health(json!({"DisplayMessages": {"a": null}, "Health": []})),
        ["second"]
    );
    assert_eq!(
        health(json!({"DisplayMessages": {"*": null, "c": {"Text": "third"}}})),
        ["old", "third"]
    );
}

#[test]
fn services_to_host_are_read_from_the_capability_for_it() {
    let mut own = first()["Node"].clone();
    own["CapMap"] =
        json!({"service-host": [{"svc:web": ["fd7a:115c:a1e0::5", "100.64.0.5", "odd"], "svc:odd": "text"}]});
    let services = map(&[json!({"Node": own})]).own.services;
    assert_eq!(
        services["svc:web"],
        [
            "100.64.0.5".parse::<IpAddr>().unwrap(),
            "fd7a:115c:a1e0::5".parse().unwrap()
        ]
    );
    assert!(services["svc:odd"].is_empty());
}

#[test]
fn users_of_nodes_are_kept_and_renamed() {
    let mut node = peer(2);
    node["User"] = json!(7);
    let told = json!({"PeersChanged": [node], "UserProfiles": [{"ID": 7, "LoginName": "a@example.com"}, {"ID": 8, "LoginName": "b@example.com"}]});
    let users = |more: Value| map(&[told.clone(), more]).users;
    assert_eq!(
        users(json!({})).keys().copied().collect::<Vec<_>>(),
        [7],
        "nobody's node is in the map of 8"
    );
    assert_eq!(
        users(json!({"UserProfiles": [{"ID": 7, "LoginName": "c@example.com"}]}))[&7].login,
        "c@example.com"
    );
    assert!(users(json!({"PeersRemoved": [2]})).is_empty());
}

#[test]
fn new_stream_starts_from_nothing() {
    let mut store = store(&[json!({"Health": ["old"], "DNSConfig": {"CertDomains": ["a"]}})]);
    store.start_stream();
    assert_eq!(
        store.apply(message(json!({"Peers": [peer(4)]})), now()),
        Err(NetmapError::NoOwnNode)
    );
    store.start_stream();
    store.apply(message(json!({"Node": first()["Node"]})), now()).unwrap();
    let map = store.netmap().unwrap();
    assert!(map.peers.is_empty() && map.rules.is_empty() && map.health.is_empty() && map.dns.cert_domains.is_empty());
}

#[test]
fn patch_changes_only_what_it_names() {
    let patch = json!({"PeersChangedPatch": [
        {"NodeID": 2, "DiscoKey": disco(9), "Endpoints": ["192.0.2.9:1"], "Online": false}, {"NodeID": 99, "Online": true}]});
    let map = map(&[patch]);
    let (changed, other) = (&map.peers[&2], &map.peers[&3]);
    assert_eq!(changed.disco, Some(DiscoKey::from_bytes([9; 32])));
    assert_eq!(changed.endpoints, ["192.0.2.9:1".parse().unwrap()]);
    assert_eq!(changed.online, Some(false));
    assert_eq!(changed.name, "p2.tail.internal.");
    assert_eq!(other.disco, Some(DiscoKey::from_bytes([3; 32])));
}

#[test]
fn peer_is_unusable_when_expired_unsigned_masqueraded_or_wireguard_only() {
    let cases = [
        (json!({"Expired": true}), Obstacle::Expired),
        (json!({"KeyExpiry": "2020-01-01T00:00:00Z"}), Obstacle::Expired),
        (json!({"UnsignedPeerAPIOnly": true}), Obstacle::Unsigned),
        (
            json!({"SelfNodeV4MasqAddrForThisPeer": "100.64.9.9"}),
            Obstacle::Masquerade,
        ),
        (json!({"IsWireGuardOnly": true}), Obstacle::WireGuardOnly),
    ];
    for (members, expected) in cases {
        let mut node = peer(2);
        node.as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        let map = map(&[json!({"PeersChanged": [node]})]);
        assert_eq!(map.peers[&2].obstacle_at(now()), Some(expected));
        let usable = map.usable_peers(RoutePolicy::default(), now());
        assert_eq!(
            usable.iter().map(|(peer, _)| peer.id).collect::<Vec<_>>(),
            [3],
            "{expected:?}"
        );
        assert!(
            !map.filter_plan(RoutePolicy::default(), &BTreeSet::new(), now())
                .senders
                .contains_key(&NodeKey::from_bytes([2; 32]))
        );
    }
}

#[test]
fn filter_parts_are_replaced_and_cleared_by_name() {
    let rule = |port: u16| json!({"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": port, "Last": port}}]});
    let added = json!({"PacketFilters": {"more": [rule(1), rule(2)]}});
    assert_eq!(map(std::slice::from_ref(&added)).rules.len(), 3);
    assert_eq!(
        map(&[added.clone(), json!({"PacketFilters": {"base": null}})])
            .rules
            .len(),
        2
    );
    assert_eq!(
        map(&[added.clone(), json!({"PacketFilters": {"*": null, "base": [rule(3)]}})])
            .rules
            .len(),
        1
    );
    assert_eq!(map(&[added.clone(), json!({"PacketFilter": []})]).rules.len(), 0);
    assert_eq!(map(&[added, json!({"PacketFilter": null})]).rules.len(), 3);
}

#[test]
fn rule_with_only_unknown_words_admits_nothing() {
    let unknown = json!({"PacketFilters": {"base": [
        {"SrcIPs": ["role:new"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]},
        {"SrcIPs": ["*"], "IPProto": [300], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]},
        {"SrcIPs": ["*"], "CapGrant": [{"Dsts": ["100.64.0.1/32"], "CapMap": {"x": null}}]}]}});
    assert!(map(&[unknown]).rules.is_empty());
}

#[test]
fn subnet_routes_are_used_only_when_accepted_and_default_routes_never() {
    let mut node = peer(2);
    node["AllowedIPs"] = json!([
        "100.64.0.2/32",
        "10.0.0.0/8",
        "100.100.1.1/32",
        "0.0.0.0/0",
        "192.0.2.1/32"
    ]);
    let map = map(&[json!({"Peers": [node]})]);
    let nets = |accept_routes| {
        let usable = map.usable_peers(RoutePolicy { accept_routes }, now());
        usable[0].1.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(nets(false), ["100.64.0.2/32", "100.100.1.1/32"]);
    assert_eq!(
        nets(true),
        ["100.64.0.2/32", "10.0.0.0/8", "100.100.1.1/32", "192.0.2.1/32"]
    );
}

#[test]
fn plan_admits_what_the_map_allows() {
    let filter = Filter::new(map(&[]).filter_plan(RoutePolicy::default(), &BTreeSet::new(), now()));
    let tcp = |source: u8, port: u8| {
        let packet = syn(source, port);
        filter.inbound(&NodeKey::from_bytes([source; 32]), &packet, std::time::Instant::now())
    };
    assert_eq!(tcp(2, 80), Verdict::Accept);
    assert_eq!(tcp(2, 81), Verdict::Drop(DropReason::NoRule));
    assert_eq!(tcp(3, 80), Verdict::Drop(DropReason::NoRule));
}

#[test]
fn rule_for_a_capability_admits_the_peers_that_hold_it_now() {
    let rule = json!({"PacketFilters": {"base": [
        {"SrcIPs": ["cap:example.com/trusted"], "DstPorts": [{"IP": "*", "Ports": {"First": 80, "Last": 80}}]}]}});
    let given = |capabilities: Value| json!({"PeersChangedPatch": [{"NodeID": 3, "CapMap": capabilities}]});
    let admits = |more: &[Value], source: u8| {
        let filter = Filter::new(map(more).filter_plan(RoutePolicy::default(), &BTreeSet::new(), now()));
        let packet = syn(source, 80);
        filter.inbound(&NodeKey::from_bytes([source; 32]), &packet, std::time::Instant::now()) == Verdict::Accept
    };
    let trusted = given(json!({"example.com/trusted": null}));
    assert!(!admits(std::slice::from_ref(&rule), 3));
    assert!(admits(&[rule.clone(), trusted.clone()], 3) && !admits(&[rule.clone(), trusted.clone()], 2));
    assert!(
        !admits(&[rule, trusted, given(json!({}))], 3),
        "an empty map takes capabilities away"
    );
}

/// The first packet of a connection to this node.
fn syn(source: u8, port: u8) -> Vec<u8> {
    let mut packet = vec![
        0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 100, 64, 0, source, 100, 64, 0, 1,
    ];
    packet.extend([0, 9, 0, port, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    packet
}

#[test]
fn tailnet_ranges_are_those_of_the_go_client() {
    let holds = |text: &str| is_tailnet_address(text.parse().unwrap());
    assert!(holds("100.64.0.0") && holds("100.127.255.255") && holds("fd7a:115c:a1e0:ab12::1"));
    assert!(!holds("100.63.255.255") && !holds("100.128.0.0") && !holds("100.115.92.1") && !holds("fd7a:115c:a1e1::1"));
}

#[test]
fn peer_is_found_by_name_and_address() {
    let map = map(&[]);
    assert_eq!(map.peer_by_name("P2.Tail.Internal").map(|peer| peer.id), Some(2));
    assert_eq!(
        map.peer_by_address("100.64.0.3".parse().unwrap()).map(|peer| peer.id),
        Some(3)
    );
    assert!(map.peer_by_name("p2").is_none());
}

#[test]
fn names_of_records_lead_to_their_addresses() {
    let dns = json!({"DNSConfig": {"ExtraRecords": [
        {"Name": "Web.tail.internal.", "Value": "fd7a:115c:a1e0::99"},
        {"Name": "web.tail.internal", "Type": "A", "Value": "100.100.1.1"},
        {"Name": "web.tail.internal", "Type": "TXT", "Value": "100.100.1.2"},
        {"Name": "odd.tail.internal", "Value": "no address"}]}});
    let map = map(&[dns]);
    let of = |name: &str| {
        map.addresses_of(name)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("WEB.tail.internal."), ["100.100.1.1", "fd7a:115c:a1e0::99"]);
    assert_eq!(of("p2.tail.internal"), ["100.64.0.2"]);
    assert_eq!(of("me.tail.internal"), ["100.64.0.1", "fd7a:115c:a1e0::1"]);
    assert!(of("odd.tail.internal").is_empty() && of("none.tail.internal").is_empty());
}

#[test]
fn only_routes_that_are_offered_and_approved_are_carried() {
    let mut own = first()["Node"].clone();
    own["AllowedIPs"] = json!(["100.64.0.1/32", "10.9.0.0/16", "10.8.0.0/16"]);
    let map = map(&[json!({"Node": own})]);
    let offers = ["10.9.0.0/16", "10.7.0.0/16"].map(|net| net.parse().unwrap()).into();
    let nets = map.own_nets(&offers);
    assert_eq!(
        nets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["100.64.0.1/32", "fd7a:115c:a1e0::1/128", "10.9.0.0/16"]
    );
    assert_eq!(map.own_nets(&BTreeSet::new()).len(), 2);
}

#[test]
fn own_key_is_expired_when_control_says_so_or_its_time_has_come() {
    let with = |member: &str, value: Value| {
        let mut own = first()["Node"].clone();
        own[member] = value;
        map(&[json!({"Node": own})]).own.is_expired(now())
    };
    assert!(with("Expired", json!(true)) && with("KeyExpiry", json!("2020-01-01T00:00:00Z")));
    assert!(!with("KeyExpiry", json!("0001-01-01T00:00:00Z")) && !with("KeyExpiry", json!("2200-01-01T00:00:00Z")));
}
