//! Changes of devices and of the policy by the API, and what nodes learn of them.

use isthmus_runtime::Secret;
use isthmus_tailbox::{AuthKeySpec, Config, OauthClientConfig, StartError, Tailbox};
use isthmus_tailnet_wire::control::{Hostinfo, MapRequest, Node, PortRange};
use serde_json::json;

use crate::api::{caller, key_request};
use crate::client::{Client, MapStream};
use crate::http_call::call;

const KEYS: &str = "/api/v2/tailnet/-/keys";
const ACL: &str = "/api/v2/tailnet/-/acl";

async fn tailbox(policy: Option<&str>) -> Tailbox {
    let client = OauthClientConfig {
        id: "operator".into(),
        secret: Secret::new("very secret"),
        tags: ["tag:k8s-operator".to_owned()].into(),
    };
    Tailbox::start(Config {
        oauth_clients: vec![client],
        policy: policy.map(str::to_owned),
        ..Config::default()
    })
    .await
    .unwrap()
}

/// Two nodes that see each other, and the stream of the first.
async fn pair(tailbox: &Tailbox) -> (Client, Client, MapStream) {
    let (a, b) = (Client::join(tailbox, "a").await, Client::join(tailbox, "b").await);
    a.tell_endpoints(&["192.0.2.1:41641"]).await;
    b.tell_endpoints(&["192.0.2.2:41641"]).await;
    let mut stream = a.stream().await;
    stream.until_peer("b.tail.internal.", |_| true).await;
    (a, b, stream)
}

async fn advertise(client: &Client, routes: &[&str]) {
    let hostinfo = Hostinfo {
        routable_ips: routes.iter().map(|route| route.parse().unwrap()).collect(),
        ..client.hostinfo()
    };
    let request = MapRequest {
        endpoints: vec!["192.0.2.2:41641".parse().unwrap()].into(),
        hostinfo: Some(hostinfo),
        omit_peers: true,
        ..client.map_request()
    };
    assert_eq!(client.post("/machine/map", &request).await.0, 200);
}

fn allowed(node: &Node) -> Vec<String> {
    node.allowed_ips
        .iter()
        .flat_map(|nets| nets.iter())
        .map(ToString::to_string)
        .collect()
}

#[tokio::test]
async fn tags_set_by_api_reach_peers_and_end_the_expiry_of_the_key() {
    let tailbox = tailbox(None).await;
    let (_a, _b, mut at_a) = pair(&tailbox).await;
    let caller = caller(&tailbox, "").await;
    let (status, answer) = caller
        .post("/api/v2/device/2/tags", json!({"tags": ["tag:k8s-operator"]}))
        .await;
    assert_eq!(status, 200, "{answer}");
    let peer = at_a.until_peer("b.tail.internal.", |peer| !peer.tags.is_empty()).await;
    assert_eq!(peer.tags, ["tag:k8s-operator"]);
    assert!(peer.key_expiry.is_zero());
    let device = caller.get("/api/v2/device/2").await.1;
    assert_eq!(
        (&device["tags"], &device["keyExpiryDisabled"]),
        (&json!(["tag:k8s-operator"]), &json!(true))
    );
}

#[tokio::test]
async fn tags_that_the_policy_does_not_permit_are_refused_for_keys_and_devices() {
    let policy = r#"{"tagOwners": {"tag:k8s-operator": [], "tag:k8s": ["tag:k8s-operator"], "tag:prod": []}}"#;
    let tailbox = tailbox(Some(policy)).await;
    Client::join(&tailbox, "a").await;
    let caller = caller(&tailbox, "").await;
    for (tag, status) in [
        ("tag:k8s", 200),
        ("tag:k8s-operator", 200),
        ("tag:prod", 400),
        ("tag:none", 400),
    ] {
        let key = caller.post(KEYS, key_request(&[tag])).await;
        let device = caller.post("/api/v2/device/1/tags", json!({"tags": [tag]})).await;
        assert_eq!((key.0, device.0), (status, status), "{tag}");
        if status == 400 {
            let words = format!("requested tags [{tag}] are invalid or not permitted");
            assert_eq!(
                (&key.1["message"], &device.1["message"]),
                (&json!(words), &json!(words))
            );
        }
    }
    assert_eq!(tailbox.nodes()[0].tags, ["tag:k8s-operator"]);
    assert_eq!(caller.post("/api/v2/device/1/tags", json!({"tags": []})).await.0, 400);
}

#[tokio::test]
async fn name_given_by_api_reaches_peers_and_outlives_the_host_name() {
    let tailbox = tailbox(None).await;
    let (_a, b, mut at_a) = pair(&tailbox).await;
    let caller = caller(&tailbox, "").await;
    let rename = async |name: &str| caller.post("/api/v2/device/2/name", json!({"name": name})).await.0;
    assert_eq!(rename("database").await, 200);
    at_a.until_peer("database.tail.internal.", |_| true).await;
    b.tell_endpoints(&["192.0.2.2:7"]).await;
    at_a.until_peer("database.tail.internal.", |peer| peer.endpoints[0].port() == 7)
        .await;
    assert_eq!((rename("a").await, rename("not a label").await), (400, 400));
    assert_eq!(rename("other.tail.internal").await, 200);
    at_a.until_peer("other.tail.internal.", |_| true).await;
    assert_eq!(rename("").await, 200);
    at_a.until_peer("b.tail.internal.", |_| true).await;
}

#[tokio::test]
async fn key_that_expires_by_api_is_told_to_its_node_and_to_peers() {
    let tailbox = tailbox(None).await;
    let (_a, b, mut at_a) = pair(&tailbox).await;
    let caller = caller(&tailbox, "").await;
    let mut at_b = b.stream().await;
    assert_eq!(caller.post("/api/v2/device/2/expire", json!({})).await.0, 200);
    at_a.until_peer("b.tail.internal.", |peer| peer.expired).await;
    at_b.until("its own expiry", |map| {
        map.node.as_ref().is_some_and(|node| node.expired)
    })
    .await;
    let switch = json!({"keyExpiryDisabled": true});
    assert_eq!(caller.post("/api/v2/device/2/key", switch).await.0, 200);
    at_a.until_peer("b.tail.internal.", |peer| !peer.expired && peer.key_expiry.is_zero())
        .await;
}

#[tokio::test]
async fn route_leads_to_a_node_only_while_it_is_offered_and_approved() {
    let tailbox = tailbox(None).await;
    let (_a, b, mut at_a) = pair(&tailbox).await;
    let caller = caller(&tailbox, "").await;
    advertise(&b, &["10.9.0.0/16", "10.8.0.0/16"]).await;
    let device = "/api/v2/device/2/routes";
    let peer = at_a
        .until_peer("b.tail.internal.", |peer| peer.hostinfo.routable_ips.len() == 2)
        .await;
    assert_eq!(allowed(&peer), ["100.64.0.2/32", "fd7a:115c:a1e0::2/128"]);

    let (status, routes) = caller.post(device, json!({"routes": ["10.9.0.0/16"]})).await;
    let expected = json!({"advertisedRoutes": ["10.8.0.0/16", "10.9.0.0/16"], "enabledRoutes": ["10.9.0.0/16"]});
    assert_eq!((status, &routes), (200, &expected));
    let peer = at_a
        .until_peer("b.tail.internal.", |peer| !peer.primary_routes.is_empty())
        .await;
    assert_eq!(
        allowed(&peer),
        ["100.64.0.2/32", "fd7a:115c:a1e0::2/128", "10.9.0.0/16"]
    );

    advertise(&b, &[]).await;
    let peer = at_a
        .until_peer("b.tail.internal.", |peer| peer.primary_routes.is_empty())
        .await;
    assert_eq!(allowed(&peer).len(), 2);
    assert_eq!(caller.get(device).await.1["enabledRoutes"], json!(["10.9.0.0/16"]));
    assert_eq!(caller.post(device, json!({"routes": ["10.9.0.1/16"]})).await.0, 400);
}

#[tokio::test]
async fn route_that_the_policy_approves_needs_nobody_and_can_be_taken_back() {
    let policy = r#"{"autoApprovers": {"routes": {"10.0.0.0/8": ["owner@tail.internal"]}}}"#;
    let tailbox = tailbox(Some(policy)).await;
    let (_a, b, mut at_a) = pair(&tailbox).await;
    advertise(&b, &["10.9.0.0/16", "192.168.0.0/16"]).await;
    let peer = at_a
        .until_peer("b.tail.internal.", |peer| !peer.primary_routes.is_empty())
        .await;
    assert_eq!(peer.primary_routes[..], ["10.9.0.0/16".parse().unwrap()]);
    let caller = caller(&tailbox, "").await;
    assert_eq!(
        caller.post("/api/v2/device/2/routes", json!({"routes": []})).await.0,
        200
    );
    at_a.until_peer("b.tail.internal.", |peer| peer.primary_routes.is_empty())
        .await;
    advertise(&b, &["10.9.0.0/16"]).await;
    at_a.until_peer("b.tail.internal.", |peer| {
        peer.hostinfo.routable_ips.len() == 1 && peer.primary_routes.is_empty()
    })
    .await;
}

#[tokio::test]
async fn route_of_two_nodes_moves_when_the_first_goes_offline() {
    let policy = r#"{"autoApprovers": {"routes": {"10.0.0.0/8": ["owner@tail.internal"]}}}"#;
    let tailbox = tailbox(Some(policy)).await;
    let (a, b, mut at_a) = pair(&tailbox).await;
    let c = Client::join(&tailbox, "c").await;
    let (at_b, at_c) = (b.stream().await, c.stream().await);
    advertise(&b, &["10.9.0.0/16"]).await;
    advertise(&c, &["10.9.0.0/16"]).await;
    at_a.until_peer("b.tail.internal.", |peer| peer.primary_routes.len() == 1)
        .await;
    drop((at_b, b));
    at_a.until_peer("c.tail.internal.", |peer| !peer.primary_routes.is_empty())
        .await;
    at_a.until_peer("b.tail.internal.", |peer| peer.primary_routes.is_empty())
        .await;
    drop((a, at_c));
}

#[tokio::test]
async fn policy_is_read_replaced_and_guarded_by_its_tag() {
    let tailbox = tailbox(None).await;
    let (_a, _b, mut at_a) = pair(&tailbox).await;
    let caller = caller(&tailbox, "").await;
    let send = async |method: &str, body: &str, guard: &str| {
        let mut request = http::Request::builder()
            .method(method)
            .uri(ACL)
            .header("authorization", &caller.authorization);
        if !guard.is_empty() {
            request = request.header("if-match", guard);
        }
        call(&tailbox, request, body.to_owned()).await
    };
    let closed = "{\"acls\": [], // nobody\n}";
    assert_eq!(send("POST", closed, "\"wrong\"").await.0, 412);
    let (status, answer) = send("POST", "{\"acl\": []}", "").await;
    assert!(status == 400 && String::from_utf8_lossy(&answer).contains("`acl`"));
    assert_eq!(send("POST", closed, "").await.0, 200);
    assert_eq!(send("GET", "", "").await, (200, closed.as_bytes().to_vec()));
    let map = at_a.until("the end of the peer", |map| map.peers_removed == [2]).await;
    assert_eq!(map.packet_filters.unwrap()["base"], Some(Vec::new()));

    let open = r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["autogroup:member:443"]}]}"#;
    assert_eq!(send("POST", open, "").await.0, 200);
    let map = at_a.until("the peer", |map| map.peers_changed.len() == 1).await;
    let rules = map.packet_filters.unwrap()["base"].clone().unwrap();
    assert_eq!(rules[0].dst_ports[0].ports, PortRange { first: 443, last: 443 });
}

#[tokio::test]
async fn tailbox_with_a_policy_that_is_none_does_not_start() {
    let config = Config {
        policy: Some("{\"sections\": 1}".into()),
        ..Config::default()
    };
    assert!(matches!(Tailbox::start(config).await, Err(StartError::Policy(_))));
}

#[tokio::test]
async fn policy_and_edits_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = |policy: Option<&str>| Config {
        state_file: Some(folder.path().join("state.json")),
        policy: policy.map(str::to_owned),
        oauth_clients: vec![OauthClientConfig {
            id: "operator".into(),
            secret: Secret::new("very secret"),
            tags: ["tag:k8s-operator".to_owned()].into(),
        }],
        ..Config::default()
    };
    let policy = r#"{"tagOwners": {"tag:k8s-operator": []}, "acls": []}"#;
    let first = Tailbox::start(config(Some(policy))).await.unwrap();
    let key = first.create_auth_key(AuthKeySpec::default()).await.unwrap();
    let client = Client::connect(&first, "a").await;
    client.register(key.expose()).await;
    let edit = caller(&first, "")
        .await
        .post("/api/v2/device/1/name", json!({"name": "named"}))
        .await;
    assert_eq!(edit.0, 200);
    first.stop().await.unwrap();

    let second = Tailbox::start(config(None)).await.unwrap();
    let caller = caller(&second, "").await;
    assert_eq!(caller.get("/api/v2/device/1").await.1["name"], "named.tail.internal");
    assert_eq!(
        caller
            .post("/api/v2/device/1/tags", json!({"tags": ["tag:k8s"]}))
            .await
            .0,
        400
    );
}
