//! Documents as Go and Rust clients and servers write them, and properties of every type.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::keys::{DiscoKey, MachineKey, NodeKey};

fn key(prefix: &str, digit: &str) -> String {
    format!("{prefix}:{}", digit.repeat(64))
}

fn read<T: DeserializeOwned>(document: &Value) -> T {
    serde_json::from_str(&document.to_string()).unwrap()
}

#[test]
fn map_response_of_a_go_server_is_read() {
    // Raw text, because the point is in what a JSON library would tidy up: escapes, nulls and unknown members.
    let document = format!(
        r#"{{
        "MapSessionHandle":"h","Seq":1,
        "Node":{{"ID":7,"StableID":"n7CNTRL","Name":"web.tail.internal.","User":1,"Key":"{node}","KeyExpiry":"0001-01-01T00:00:00Z",
            "Machine":"{machine}","DiscoKey":"{disco}","Addresses":["100.64.0.7/32","fd7a:115c:a1e0::7/128"],
            "AllowedIPs":null,"Endpoints":null,"DERP":"127.3.3.40:1","HomeDERP":1,"Hostinfo":{{}},
            "Created":"2026-01-01T00:00:00.5Z","Cap":142,"Tags":["tag:k8s"],"PrimaryRoutes":null,"Online":true,"MachineAuthorized":true,
            "CapMap":{{"https":null,"service-host":[{{"svc:web":["100.100.1.1"]}}]}},"ComputedName":"web","NewMember":[{{"a":1}}]}},
        "DERPMap":{{"Regions":{{"1":{{"RegionID":1,"RegionCode":"a","RegionName":"A","Nodes":[{{"Name":"1a","RegionID":1,"HostName":"127.0.0.1",
            "STUNPort":-1,"DERPPort":3340,"CertName":"sha256-raw:00"}}]}}}},"OmitDefaultRegions":true}},
        "Peers":null,"PeersChanged":null,"OnlineChange":{{"9":true}},
        "DNSConfig":{{"Proxied":true,"Domains":["tail.internal"],"Routes":{{"tail.internal.":null}},"Resolvers":null}},
        "PacketFilters":{{"*":null,"base":[{{"SrcIPs":["*"],"DstPorts":[{{"IP":"*","Bits":null,"Ports":{{"First":0,"Last":65535}}}}]}}]}},
        "UserProfiles":[{{"ID":1,"LoginName":"rd@tail.internal","DisplayName":"R\u0026D","Roles":[]}}],
        "Health":[],"SSHPolicy":{{"rules":[]}},"ControlTime":"2026-11-22T10:00:00Z"}}"#,
        node = key("nodekey", "1"),
        machine = key("mkey", "2"),
        disco = key("discokey", "3"),
    );
    let map: MapResponse = serde_json::from_str(&document).unwrap();

    let node = map.node.expect("the document has a node");
    assert_eq!((node.id, node.home_derp, node.cap), (7, 1, 142));
    assert_eq!(node.addresses[1].to_string(), "fd7a:115c:a1e0::7/128");
    assert_eq!(node.allowed_ips, None);
    assert!(node.key_expiry.is_zero());
    assert_eq!(node.cap_map["https"], None);
    assert_eq!(map.user_profiles[0].display_name, "R&D");
    assert_eq!(map.health, Some(vec![]));
    assert_eq!(map.packet_filter, None);
    let filters = map.packet_filters.expect("the document has filters");
    assert_eq!(filters["*"], None);
    assert_eq!(filters["base"].as_ref().map(Vec::len), Some(1));
    assert!(map.online_change[&9]);
    assert_eq!(
        map.dns_config.expect("the document has names").routes["tail.internal."],
        None
    );
    let derp = map.derp_map.expect("the document has relays");
    assert!(derp.omit_default_regions);
    assert_eq!(derp.regions[&1].nodes[0].stun_port, -1);
}

#[test]
fn map_request_of_a_rust_client_is_read() {
    let request: MapRequest = read(&json!({
        "Version": 130, "NodeKey": key("nodekey", "1"), "DiscoKey": key("discokey", "3"), "Stream": true, "Compress": null,
        "HostInfo": {"Os": "linux", "IpnVersion": "0.6.1", "HostName": "laptop", "RoutableIps": ["10.0.0.0/8"],
            "NetInfo": {"PreferredDerp": 4, "WorkingUdp": true}},
        "Endpoints": ["192.168.1.2:41641", "[2001:db8::1]:41641"]
    }));
    let hostinfo = request.hostinfo.expect("the document has a host info");
    assert_eq!((hostinfo.os.as_str(), hostinfo.hostname.as_str()), ("linux", "laptop"));
    assert_eq!(hostinfo.ipn_version, "0.6.1");
    assert_eq!(hostinfo.routable_ips[0].to_string(), "10.0.0.0/8");
    let net_info = hostinfo.net_info.expect("the document has a net info");
    assert_eq!((net_info.preferred_derp, net_info.working_udp), (4, Some(true)));
    assert_eq!(request.endpoints.len(), 2);
}

#[test]
fn register_request_is_written_with_the_names_of_go() {
    let request = RegisterRequest {
        version: 119,
        node_key: NodeKey::from_bytes([0x11; 32]),
        auth: Some(RegisterAuth {
            auth_key: "tskey-auth-x".into(),
        }),
        hostinfo: Some(Hostinfo {
            os: "linux".into(),
            ipn_version: "1".into(),
            ..Hostinfo::default()
        }),
        ephemeral: true,
        ..RegisterRequest::default()
    };
    assert_eq!(
        serde_json::to_value(&request).unwrap(),
        json!({
            "Version": 119, "NodeKey": key("nodekey", "1"), "OldNodeKey": key("nodekey", "0"), "Auth": {"AuthKey": "tskey-auth-x"},
            "Expiry": "0001-01-01T00:00:00Z", "Followup": "", "Hostinfo": {"OS": "linux", "IPNVersion": "1"}, "Ephemeral": true
        })
    );
    assert!(!format!("{request:?}").contains("tskey"));
}

#[test]
fn node_is_written_with_what_go_needs() {
    let node = Node {
        id: 1,
        stable_id: "n1CNTRL".into(),
        name: "a.tail.internal.".into(),
        user: 1,
        key: NodeKey::from_bytes([0x11; 32]),
        machine: MachineKey::from_bytes([0x22; 32]),
        disco_key: DiscoKey::from_bytes([0x33; 32]),
        addresses: vec!["100.64.0.1/32".parse().unwrap()].into(),
        allowed_ips: Some(vec!["100.64.0.1/32".parse().unwrap()].into()),
        home_derp: 1,
        online: Some(false),
        machine_authorized: true,
        ..Node::default()
    };
    assert_eq!(
        serde_json::to_value(&node).unwrap(),
        json!({
            "ID": 1, "StableID": "n1CNTRL", "Name": "a.tail.internal.", "User": 1, "Key": key("nodekey", "1"),
            "KeyExpiry": "0001-01-01T00:00:00Z", "Machine": key("mkey", "2"), "DiscoKey": key("discokey", "3"),
            "Addresses": ["100.64.0.1/32"], "AllowedIPs": ["100.64.0.1/32"], "HomeDERP": 1, "Hostinfo": {},
            "Created": "0001-01-01T00:00:00Z", "Online": false, "MachineAuthorized": true
        })
    );
}

#[test]
fn peer_change_tells_absent_from_empty() {
    let change: PeerChange = read(&json!({"NodeID": 3, "Endpoints": [], "Online": false}));
    assert_eq!(change.endpoints, Some(vec![].into()));
    assert_eq!(change.online, Some(false));
    assert!(change.key.is_none() && change.cap_map.is_none());
    assert_eq!(
        serde_json::to_value(&change).unwrap(),
        json!({"NodeID": 3, "Endpoints": [], "Online": false})
    );
}

#[test]
fn ping_request_without_optional_members_is_read() {
    let ping: PingRequest = read(&json!({"URL": "http://127.0.0.1:8080/machine/ping-response?id=1"}));
    assert!(!ping.url_is_noise && ping.types.is_empty() && ping.payload.0.is_empty());
    let ping: PingRequest =
        read(&json!({"URL": "https://x/c2n/t", "URLIsNoise": true, "Types": "c2n", "Payload": "R0VUIC8="}));
    assert_eq!(ping.payload.0, b"GET /");
}

#[test]
fn server_keys_and_early_noise_use_small_first_letters() {
    let keys = ServerKeys {
        public_key: MachineKey::from_bytes([0x22; 32]),
        ..ServerKeys::default()
    };
    assert_eq!(
        serde_json::to_value(&keys).unwrap(),
        json!({"legacyPublicKey": key("mkey", "0"), "publicKey": key("mkey", "2")})
    );
    let early: EarlyNoise = read(&json!({"nodeKeyChallenge": key("chalpub", "4")}));
    assert_eq!(early.node_key_challenge.as_bytes(), &[0x44; 32]);
}

/// A document that is read, written and read again is the same, and a changed spelling of its names changes nothing.
fn check_round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(document: &Value) {
    if let Ok(first) = serde_json::from_value::<T>(document.clone()) {
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(serde_json::from_str::<T>(&text).unwrap(), first);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(json!(
            "nodekey:1111111111111111111111111111111111111111111111111111111111111111"
        )),
        Just(json!("2026-11-22T10:00:00Z")),
        Just(json!("100.64.0.1/32")),
        Just(json!("10.0.0.1:41641")),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((member_name(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn member_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "Node",
        "peers",
        "PeersChanged",
        "Hostinfo",
        "HOSTINFO",
        "NetInfo",
        "Endpoints",
        "AllowedIPs",
        "KeyExpiry",
        "Key",
        "CapMap",
        "PacketFilters",
        "DNSConfig",
        "Routes",
        "DERPMap",
        "Regions",
        "1",
        "Nodes",
        "Online",
        "ID",
        "NodeKey",
        "Auth",
        "AuthKey",
        "Expiry",
        "Payload",
        "PingRequest",
        "OnlineChange",
        "Tags",
        "Other",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn documents_of_any_shape_never_panic_and_round_trip(document in any_json()) {
        check_round_trip::<MapResponse>(&document);
        check_round_trip::<MapRequest>(&document);
        check_round_trip::<RegisterRequest>(&document);
        check_round_trip::<RegisterResponse>(&document);
        check_round_trip::<Node>(&document);
        check_round_trip::<PeerChange>(&document);
        check_round_trip::<Hostinfo>(&document);
        check_round_trip::<DnsConfig>(&document);
        check_round_trip::<DerpMap>(&document);
        check_round_trip::<FilterRule>(&document);
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = serde_json::from_slice::<MapResponse>(&bytes);
        let _ = serde_json::from_slice::<MapRequest>(&bytes);
        let _ = serde_json::from_slice::<RegisterRequest>(&bytes);
    }

    #[test]
    fn map_requests_round_trip(
        version: u32, key: [u8; 32], disco: [u8; 32], stream: bool, hostname in "\\PC{0,20}",
        endpoints in prop::collection::vec(any::<std::net::SocketAddr>(), 0..5), home in 0_i64..65536, udp: Option<bool>,
    ) {
        // Flow labels and zones of IPv6 socket addresses have no place on the wire.
        let endpoints = endpoints.into_iter().map(|at| std::net::SocketAddr::new(at.ip(), at.port())).collect();
        let request = MapRequest {
            version,
            node_key: NodeKey::from_bytes(key),
            disco_key: DiscoKey::from_bytes(disco),
            stream,
            hostinfo: Some(Hostinfo {
                hostname,
                net_info: Some(NetInfo { preferred_derp: home, working_udp: udp, ..NetInfo::default() }),
                ..Hostinfo::default()
            }),
            endpoints,
            ..MapRequest::default()
        };
        let text = serde_json::to_string(&request).unwrap();
        prop_assert_eq!(&serde_json::from_str::<MapRequest>(&text).unwrap(), &request);
        prop_assert_eq!(&serde_json::from_str::<MapRequest>(&text.replace("\"Hostinfo\"", "\"hostINFO\"")).unwrap(), &request);
    }
}
