use std::collections::BTreeMap;

use isthmus_tailnet::dataplane::PeerTraffic;
use isthmus_tailnet_core::netmap::NetmapStore;
use isthmus_tailnet_core::paths::WhyNotDirect;
use serde_json::json;

use super::super::text;
use super::*;

fn netmap() -> Netmap {
    let node = |number: u8, more: serde_json::Value| {
        let address = format!("100.64.0.{number}/32");
        let mut node = json!({
            "ID": number, "StableID": format!("n{number}"), "Name": format!("p{number}.tail.internal."),
            "Key": format!("nodekey:{}", format!("{number:02x}").repeat(32)), "Addresses": [address], "AllowedIPs": [address],
            "MachineAuthorized": true, "User": 7,
        });
        for (key, value) in more.as_object().unwrap() {
            node[key] = value.clone();
        }
        node
    };
    let routes = json!({"AllowedIPs": ["100.64.0.3/32", "10.7.0.0/16", "0.0.0.0/0"], "Tags": ["tag:router"]});
    let message = json!({
        "Node": node(1, json!({})), "Peers": [node(2, json!({})), node(3, routes)], "Domain": "tail.internal",
        "UserProfiles": [{"ID": 7, "LoginName": "ann@example.com", "DisplayName": "Ann"}],
        "DERPMap": {"Regions": {"9": {"RegionID": 9, "RegionCode": "x", "RegionName": "Home town",
            "Nodes": [{"Name": "9a", "RegionID": 9, "HostName": "192.0.2.1"}]}}},
    });
    let mut store = NetmapStore::default();
    store
        .apply(serde_json::from_value(message).unwrap(), SystemTime::UNIX_EPOCH)
        .unwrap();
    store.netmap().unwrap()
}

fn found(address: &str) -> Option<Whois> {
    whois(&netmap(), address.parse().unwrap())
}

#[test]
fn address_leads_to_its_device_and_user() {
    let ann = found("100.64.0.2").unwrap();
    assert_eq!(
        (ann.device.name.as_str(), ann.device.id.as_str()),
        ("p2.tail.internal", "n2")
    );
    assert_eq!(
        (ann.device.user.as_deref(), ann.user_name.as_deref()),
        (Some("ann@example.com"), Some("Ann"))
    );
    assert_eq!(found("100.64.0.1").unwrap().device.name, "p1.tail.internal");
    assert_eq!(
        text::whois(&ann).lines().last(),
        Some("User:       ann@example.com (Ann)")
    );
}

#[test]
fn routed_address_leads_to_its_tagged_router_which_has_no_user() {
    let router = found("10.7.1.1").unwrap();
    assert_eq!(
        (router.device.id.as_str(), router.route.as_deref()),
        ("n3", Some("10.7.0.0/16"))
    );
    assert_eq!((router.device.user, router.user_name), (None, None));
    assert_eq!(found("8.8.8.8"), None, "a default route tells nothing");
}

#[test]
fn status_says_how_each_peer_is_reached_and_why_not_directly() {
    let netmap = netmap();
    let relayed = PeerReport {
        path: Some(Path::Relay(9)),
        since: SystemTime::UNIX_EPOCH,
        latency: None,
        why_not_direct: Some(WhyNotDirect::UdpBlocked),
        traffic: PeerTraffic::default(),
    };
    let direct = PeerReport {
        path: Some(Path::Direct("192.0.2.3:41641".parse().unwrap())),
        latency: Some(Duration::from_micros(1500)),
        why_not_direct: None,
        traffic: PeerTraffic {
            last_handshake: Some(Duration::from_secs(12)),
            ..PeerTraffic::default()
        },
        ..relayed
    };
    let keys: Vec<_> = netmap.peers.values().map(|peer| peer.key).collect();
    let report = NodeReport {
        peers: BTreeMap::from([(keys[0], relayed), (keys[1], direct)]),
        network: NetworkReport::default(),
    };
    let node = NodeStatus {
        login: LoginState::Running,
        netmap: Some(netmap.into()),
        connected: true,
    };
    let status = status(&node, &report, SystemTime::UNIX_EPOCH);
    let printed = text::status(&status);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "p1.tail.internal  100.64.0.1  running, connected to control");
    assert_eq!(
        lines[1],
        "p2.tail.internal  100.64.0.2       by relay Home town (9), since 1970-01-01T00:00:00Z; \
         not direct: UDP does not get out of this machine's network"
    );
    assert_eq!(
        lines[2],
        "p3.tail.internal  100.64.0.3       direct by 192.0.2.3:41641, 1.5 ms, since 1970-01-01T00:00:00Z, \
         handshake 12 s ago, 0 bytes in, 0 out"
    );
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["peers"][1]["way"]["direct"], "192.0.2.3:41641");
    assert_eq!(json["peers"][0]["way"]["relay"]["name"], "Home town");
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
}

#[test]
fn netcheck_lists_regions_nearest_first_and_says_what_is_not_known() {
    let mut report = NetworkReport {
        udp: Some(true),
        ipv4: Some("203.0.113.1:7".parse().unwrap()),
        home: Some(9),
        ..NetworkReport::default()
    };
    report.latencies.insert(9, Duration::from_millis(12));
    let network = network(&report, Some(&netmap()));
    let printed = text::network(&network);
    for expected in [
        "UDP:          yes",
        "seen as 203.0.113.1:7",
        "unknown: fewer",
        "Home town (9): 12.0 ms",
    ] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
}
