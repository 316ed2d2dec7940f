//! Tailscale Services: who hosts them, where they lead, and the API for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isthmus_runtime::Secret;
use isthmus_tailbox::{AskError, Config, OauthClientConfig, Tailbox};
use isthmus_tailnet_wire::control::{
    C2nVipServices, Hostinfo, MapRequest, MapResponse, Node, PingRequest, SERVICE_HOST, VipService,
};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::caller;
use crate::client::{Client, within};

const SERVICES: &str = "/api/v2/tailnet/-/vip-services";
const WEB: &str = "/api/v2/tailnet/-/vip-services/svc:web";
const POLICY: &str = r#"{"tagOwners": {"tag:k8s-operator": [], "tag:k8s": ["tag:k8s-operator"]},
    "acls": [{"action": "accept", "src": ["*"], "dst": ["svc:web:443", "*:22"]}],
    "autoApprovers": {"services": {"svc:web": ["tag:k8s"]}}}"#;

async fn tailbox(policy: &str) -> Tailbox {
    tailbox_with(policy, Config::default()).await
}

async fn tailbox_with(policy: &str, config: Config) -> Tailbox {
    let client = OauthClientConfig {
        id: "operator".into(),
        secret: Secret::new("very secret"),
        tags: ["tag:k8s-operator".to_owned(), "tag:k8s".to_owned()].into(),
    };
    Tailbox::start(Config {
        oauth_clients: vec![client],
        policy: Some(policy.to_owned()),
        ..config
    })
    .await
    .unwrap()
}

/// A node that answers what control asks.
struct Host {
    client: Arc<Client>,
    offers: Arc<Mutex<C2nVipServices>>,
    /// Whether it answers nothing, while its connection stays open.
    hangs: Arc<AtomicBool>,
    /// The node's own maps.
    own: watch::Receiver<Option<Node>>,
    reading: JoinHandle<()>,
}

impl Host {
    async fn start(tailbox: &Tailbox, name: &str, tags: &[&str], endpoint: &str) -> Self {
        let client = Arc::new(Client::join_with(tailbox, name, tags).await);
        client.tell_endpoints(&[endpoint]).await;
        let mut stream = client.stream().await;
        let offers = Arc::new(Mutex::new(C2nVipServices::default()));
        let (sender, own) = watch::channel(None);
        let hangs = Arc::<AtomicBool>::default();
        let reading = tokio::spawn({
            let (client, offers, hangs) = (Arc::clone(&client), Arc::clone(&offers), Arc::clone(&hangs));
            async move {
                while let Some(message) = stream.next().await {
                    let MapResponse { node, ping_request, .. } = message;
                    if node.is_some() {
                        sender.send_replace(node);
                    }
                    if let Some(ping) = ping_request.filter(|_| !hangs.load(Ordering::Relaxed)) {
                        let offers = offers.lock().unwrap().clone();
                        answer(&client, &ping, &offers).await;
                    }
                }
            }
        });
        Self {
            client,
            offers,
            hangs,
            own,
            reading,
        }
    }

    /// Offers these Services from now on, each with port 443.
    async fn offer(&self, names: &[&str]) {
        let services: Vec<VipService> = names
            .iter()
            .map(|name| VipService {
                name: (*name).to_owned(),
                ports: vec!["tcp:443".to_owned()],
                active: true,
            })
            .collect();
        let hash = names.join("+");
        *self.offers.lock().unwrap() = C2nVipServices {
            services,
            hash: hash.clone(),
        };
        let request = MapRequest {
            hostinfo: Some(Hostinfo {
                services_hash: hash,
                ..self.client.hostinfo()
            }),
            endpoints: vec!["192.0.2.9:41641".parse().unwrap()].into(),
            omit_peers: true,
            ..self.client.map_request()
        };
        assert_eq!(self.client.post("/machine/map", &request).await.0, 200);
    }

    /// Waits for a state of the node's own part of the map.
    async fn until_own(&self, what: &str, condition: impl Fn(&Node) -> bool) -> Node {
        let mut own = self.own.clone();
        let found = within(what, own.wait_for(|node| node.as_ref().is_some_and(&condition))).await;
        found.unwrap().clone().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn answer(client: &Client, ping: &PingRequest, offers: &C2nVipServices) {
    assert!(ping.url_is_noise);
    if ping.types.is_empty() {
        let path = ping.url.find("/machine/").map(|at| &ping.url[at..]).unwrap();
        assert_eq!(client.head(path).await, 200);
        return;
    }
    assert_eq!(ping.types, "c2n");
    let path = ping.url.find("/c2n/").map(|at| &ping.url[at..]).unwrap();
    let body = if ping.payload.0.starts_with(b"GET /vip-services HTTP/1.1\r\n") {
        serde_json::to_vec(offers).unwrap()
    } else {
        ping.payload.0.clone()
    };
    let answer = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &body].concat();
    assert_eq!(client.post_bytes(path, answer.clone()).await.0, 200);
    assert_eq!(
        client.post_bytes(path, answer).await.0,
        404,
        "a token is good for one answer"
    );
}

fn leads_to(node: &Node, address: &str) -> bool {
    let net = format!("{address}/32").parse().unwrap();
    node.primary_routes.contains(&net) && node.allowed_ips.as_ref().is_some_and(|nets| nets.contains(&net))
}

async fn create_web(tailbox: &Tailbox) -> String {
    let caller = caller(tailbox, "").await;
    let (status, service) = caller
        .send(
            "PUT",
            WEB,
            json!({"name": "svc:web", "ports": ["tcp:443"], "tags": ["tag:k8s"]}).to_string(),
        )
        .await;
    assert_eq!(status, 200, "{service}");
    service["addrs"][0].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn service_leads_to_an_approved_host_and_moves_when_it_withdraws_or_is_lost() {
    let tailbox = tailbox(POLICY).await;
    let address = create_web(&tailbox).await;
    let first = Host::start(&tailbox, "first", &["tag:k8s"], "192.0.2.1:41641").await;
    let second = Host::start(&tailbox, "second", &["tag:k8s"], "192.0.2.2:41641").await;
    let viewer = Client::join(&tailbox, "viewer").await;
    viewer.tell_endpoints(&["192.0.2.3:41641"]).await;
    let mut map = viewer.stream().await;
    let start = map.next().await.unwrap();
    let records = start.dns_config.unwrap().extra_records;
    assert!(
        records
            .iter()
            .any(|record| record.name == "web.tail.internal" && record.value == address)
    );
    let peer = map.until_peer("first.tail.internal.", |_| true).await;
    assert!(!leads_to(&peer, &address), "nobody offers the service yet");

    first.offer(&["svc:web"]).await;
    second.offer(&["svc:web"]).await;
    map.until_peer("first.tail.internal.", |peer| leads_to(peer, &address))
        .await;
    for host in [&first, &second] {
        let own = host
            .until_own("the assignment", |node| node.cap_map.contains_key(SERVICE_HOST))
            .await;
        let assigned = &own.cap_map[SERVICE_HOST].as_ref().unwrap()[0];
        assert_eq!(
            assigned["svc:web"][0], address,
            "every approved host is told, that it can take over"
        );
    }
    let peer = map.until_peer("second.tail.internal.", |_| true).await;
    assert!(!leads_to(&peer, &address), "a service leads to one host at a time");

    first.offer(&[]).await;
    map.until_peer("second.tail.internal.", |peer| leads_to(peer, &address))
        .await;
    let peer = map.until_peer("first.tail.internal.", |_| true).await;
    assert!(!leads_to(&peer, &address));

    first.offer(&["svc:web"]).await;
    map.until_peer("first.tail.internal.", |peer| leads_to(peer, &address))
        .await;
    drop(first);
    map.until_peer("second.tail.internal.", |peer| leads_to(peer, &address))
        .await;

    let caller = caller(&tailbox, "").await;
    assert_eq!(caller.delete(WEB).await.0, 200);
    map.until_peer("second.tail.internal.", |peer| !leads_to(peer, &address))
        .await;
    second
        .until_own("the end of the assignment", |node| {
            !node.cap_map.contains_key(SERVICE_HOST)
        })
        .await;
}

#[tokio::test]
async fn service_moves_away_from_a_host_that_hangs_with_an_open_connection_and_back_when_it_answers() {
    let config = Config {
        probe_interval: Duration::from_secs(1),
        ..Config::default()
    };
    let tailbox = tailbox_with(POLICY, config).await;
    let address = create_web(&tailbox).await;
    let first = Host::start(&tailbox, "first", &["tag:k8s"], "192.0.2.1:41641").await;
    let second = Host::start(&tailbox, "second", &["tag:k8s"], "192.0.2.2:41641").await;
    let viewer = Client::join(&tailbox, "viewer").await;
    viewer.tell_endpoints(&["192.0.2.3:41641"]).await;
    let mut map = viewer.stream().await;
    first.offer(&["svc:web"]).await;
    second.offer(&["svc:web"]).await;
    map.until_peer("first.tail.internal.", |peer| leads_to(peer, &address))
        .await;

    first.hangs.store(true, Ordering::Relaxed);
    map.until_peer("second.tail.internal.", |peer| leads_to(peer, &address))
        .await;
    let peer = map
        .until_peer("first.tail.internal.", |peer| !leads_to(peer, &address))
        .await;
    assert_eq!(peer.online, Some(true), "its connection is open");

    first.hangs.store(false, Ordering::Relaxed);
    map.until_peer("first.tail.internal.", |peer| leads_to(peer, &address))
        .await;
}

#[tokio::test]
async fn host_is_used_only_with_approval_tags_and_all_ports() {
    let tailbox = tailbox(r#"{"tagOwners": {"tag:k8s-operator": [], "tag:k8s": ["tag:k8s-operator"]}}"#).await;
    let address = create_web(&tailbox).await;
    let host = Host::start(&tailbox, "host", &["tag:k8s"], "192.0.2.1:41641").await;
    let untagged = Host::start(&tailbox, "untagged", &[], "192.0.2.2:41641").await;
    host.offer(&["svc:web"]).await;
    untagged.offer(&["svc:web"]).await;
    let caller = caller(&tailbox, "").await;
    let hosts = async || caller.get("/api/v2/tailnet/-/services/svc:web/devices").await.1["hosts"].clone();
    within("both offers", async {
        while hosts().await.as_array().is_none_or(|hosts| hosts.len() < 2) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(
        hosts().await[0],
        json!({"stableNodeID": "n1CNTRL", "approvalLevel": "not-approved", "configured": "ready"})
    );
    let approve = async |id: &str, approved: bool| {
        let path = format!("/api/v2/tailnet/-/services/svc:web/device/{id}/approved");
        caller.post(&path, json!({"approved": approved})).await
    };
    let expected = json!({"approved": true, "autoApproved": false});
    assert_eq!(approve("1", true).await, (200, expected));
    host.until_own("the assignment", |node| leads_to(node, &address)).await;
    assert_eq!(
        approve("2", true).await.1["approved"],
        false,
        "a node of a user cannot host"
    );

    let more = json!({"addrs": [address], "ports": ["tcp:443", "tcp:80"]}).to_string();
    assert_eq!(caller.send("PUT", WEB, more).await.0, 200);
    host.until_own("the missing port", |node| !leads_to(node, &address))
        .await;
    assert_eq!(hosts().await[0]["configured"], "needs-configuration");
    let any = json!({"addrs": [address], "ports": ["do-not-validate"]}).to_string();
    assert_eq!(caller.send("PUT", WEB, any).await.0, 200);
    host.until_own("any port", |node| leads_to(node, &address)).await;
    assert_eq!(approve("1", false).await.1["approved"], false);
    host.until_own("the refusal", |node| !leads_to(node, &address)).await;
}

#[tokio::test]
async fn hosts_admit_what_the_policy_opens_of_the_service() {
    let tailbox = tailbox(POLICY).await;
    let address = create_web(&tailbox).await;
    let host = Client::join_with(&tailbox, "host", &["tag:k8s"]).await;
    let (viewer, mut stream) = (Client::join(&tailbox, "viewer").await, host.stream().await);
    let offers = C2nVipServices {
        services: vec![VipService {
            name: "svc:web".into(),
            ports: vec!["*".into()],
            active: true,
        }],
        hash: "h".into(),
    };
    let request = MapRequest {
        hostinfo: Some(Hostinfo {
            services_hash: "h".into(),
            ..host.hostinfo()
        }),
        omit_peers: true,
        ..host.map_request()
    };
    host.post("/machine/map", &request).await;
    let asked = stream
        .until("the question", |message| message.ping_request.is_some())
        .await;
    answer(&host, &asked.ping_request.unwrap(), &offers).await;
    let message = stream
        .until("the filter", |message| message.packet_filters.is_some())
        .await;
    let rules = message.packet_filters.unwrap()["base"].clone().unwrap();
    let open: Vec<_> = rules.iter().flat_map(|rule| &rule.dst_ports).collect();
    let to_service = open.iter().filter(|to| to.ip == address).map(|to| to.ports.first);
    assert_eq!(to_service.collect::<Vec<_>>(), [443]);
    drop(viewer);
}

#[tokio::test]
async fn service_is_made_listed_changed_and_removed_by_the_api() {
    let tailbox = tailbox(POLICY).await;
    let caller = caller(&tailbox, "").await;
    let put = async |path: &str, body: serde_json::Value| caller.send("PUT", path, body.to_string()).await;
    assert_eq!(caller.get(WEB).await.0, 404);
    let given = json!({"name": "svc:web", "comment": "c", "annotations": {"tailscale.com/owner-references": "{}"},
        "ports": ["tcp:443", "udp:53-54"], "tags": ["tag:k8s"]});
    let (status, made) = put(WEB, given.clone()).await;
    assert_eq!((status, &made["annotations"]), (200, &given["annotations"]));
    assert_eq!(made["addrs"].as_array().unwrap().len(), 2);
    assert_eq!(caller.get(SERVICES).await.1, json!({"vipServices": [made]}));

    assert_eq!(put(WEB, given).await.0, 400, "an update repeats the addresses");
    let mut changed = made.clone();
    changed["comment"] = json!("other");
    assert_eq!(put(WEB, changed.clone()).await, (200, changed.clone()));
    assert_eq!(caller.get(WEB).await.1, changed);

    let db = "/api/v2/tailnet/-/vip-services/svc:db";
    for (path, body) in [
        (db, json!({"addrs": made["addrs"]})),
        (db, json!({"addrs": ["192.0.2.1"]})),
        (db, json!({"addrs": ["fd7a:115c:a1e0::77"]})),
        (db, json!({"name": "svc:other"})),
        (db, json!({"ports": ["sctp:1"]})),
        (db, json!({"tags": ["tag:foreign"]})),
        ("/api/v2/tailnet/-/vip-services/web", json!({})),
        ("/api/v2/tailnet/-/vip-services/svc:A.b", json!({})),
    ] {
        let (status, error) = put(path, body.clone()).await;
        assert_eq!((status, &error["status"]), (400, &json!(400)), "{path} {body}");
    }
    let (status, chosen) = put(db, json!({"addrs": ["100.64.0.9"]})).await;
    assert_eq!(
        (status, &chosen["addrs"]),
        (200, &json!(["100.64.0.9", "fd7a:115c:a1e0::9"]))
    );
    for number in 0..10 {
        let node = Client::join(&tailbox, &format!("n{number}")).await;
        drop(node);
    }
    let addresses: Vec<String> = tailbox.nodes().iter().map(|node| node.v4().to_string()).collect();
    assert!(!addresses.contains(&"100.64.0.9".to_owned()), "{addresses:?}");

    assert_eq!(caller.delete(WEB).await.0, 200);
    assert_eq!(caller.delete(WEB).await.0, 404);
}

#[tokio::test]
async fn names_of_devices_and_services_do_not_meet() {
    let tailbox = tailbox(POLICY).await;
    create_web(&tailbox).await;
    drop(Client::join(&tailbox, "web").await);
    assert_eq!(tailbox.nodes()[0].fqdn("tail.internal"), "web-1.tail.internal.");
    drop(Client::join(&tailbox, "db").await);
    let caller = caller(&tailbox, "").await;
    let (status, error) = caller.send("PUT", &format!("{SERVICES}/svc:db"), "{}".into()).await;
    assert!(
        status == 400 && error["message"].as_str().unwrap().contains("taken"),
        "{error}"
    );
    let rename = caller.post("/api/v2/device/2/name", json!({"name": "web"})).await;
    assert_eq!(rename.0, 400);
}

#[tokio::test]
async fn services_need_their_scope() {
    let tailbox = tailbox(POLICY).await;
    let keys = caller(&tailbox, "auth_keys").await;
    assert_eq!(keys.get(SERVICES).await.0, 403);
    let reader = caller(&tailbox, "services:read").await;
    assert_eq!(reader.get(SERVICES).await.0, 200);
    assert_eq!(reader.send("PUT", WEB, "{}".into()).await.0, 403);
    assert_eq!(reader.delete(WEB).await.0, 403);
}

#[tokio::test]
async fn node_answers_what_control_asks_and_silence_is_an_error() {
    let tailbox = tailbox(POLICY).await;
    let host = Host::start(&tailbox, "host", &[], "192.0.2.1:41641").await;
    host.until_own("the map", |_| true).await;
    let answer = within("the answer", tailbox.ask(1, "POST", "/echo", b"hello"))
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with(b"\r\n\r\nhello"));
    assert_eq!(tailbox.ask(7, "GET", "/echo", b"").await, Err(AskError::Unknown(7)));
    drop(host);
    let silent = within("the end of patience", tailbox.ask(1, "GET", "/echo", b"")).await;
    assert_eq!(silent, Err(AskError::Silent(1)));
}
