mod deletion;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_contract::{
    annotation,
    condition::PROXY_READY,
    finalizer,
    proxy_config::{Port, Protocol, ProxyConfig},
    proxy_status::ProxyStatus,
    secret_key,
};
use isthmus_operator_core::{
    proxy_class::Choice,
    service_proxy::{Children, Input},
    settings::Settings,
};
use isthmus_runtime::Secret as SecretText;
use isthmus_tailnet_api as tailnet;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Pod, Service},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Client, Resource,
    runtime::{
        reflector::{self, Store},
        watcher::Event,
    },
};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::reconcile;
use crate::{
    apply::Writer,
    changes::Changes,
    context::{Context, Memory},
    fake::{Answer, Fake, refusal},
    lease::Term,
    metrics::Metrics,
    proxy_class::Classes,
    watch::Stores,
};

const SERVICE: &str = "PATCH /api/v1/namespaces/shop/services/web";
const STATUS: &str = "PATCH /api/v1/namespaces/shop/services/web/status";
const EVENT: &str = "POST /apis/events.k8s.io/v1/namespaces/shop/events";
const TOKEN: &str = "POST /api/v2/oauth/token";
const KEYS: &str = "POST /api/v2/tailnet/-/keys";

/// The proxy's name comes from the Service's UID.
const NAME: &str = "ts-web-";

/// What the caches hold, by object.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) service: Option<Service>,
    pub(crate) children: Children,
}

fn service(change: impl FnOnce(&mut Value)) -> Service {
    let mut object = json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "0c3a", "resourceVersion": "7",
            "annotations": {annotation::EXPOSE: "true"},
        },
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.7", "ports": [{"port": 80, "protocol": "TCP"}]},
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

fn store<K>(objects: impl IntoIterator<Item = K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
    store
}

pub(crate) fn stores(world: &World) -> Stores {
    let children = world.children.clone();
    Stores {
        services: store(world.service.clone()),
        headless_services: children.headless_service.into_iter().collect(),
        secrets: children.secret.into_iter().collect(),
        service_accounts: children.service_account.into_iter().collect(),
        roles: children.role.into_iter().collect(),
        role_bindings: children.role_binding.into_iter().collect(),
        stateful_sets: children.stateful_set.into_iter().map(|set| *set).collect(),
        pods: children.pod.into_iter().collect(),
        classes: Classes::of([]),
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        namespace: "isthmus".to_owned(),
        proxy_image: "isthmus:test".to_owned(),
        proxy_image_pull_policy: None,
        proxy_priority_class: None,
        proxy_default_class: None,
        proxy_tags: vec!["tag:k8s".to_owned()],
        default_load_balancer: false,
        login_server: "http://10.0.0.1:8080".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        cluster_id: "1a2b3c4d".to_owned(),
    }
}

fn context(fake: &Fake, world: &World) -> Arc<Context> {
    let client = Client::try_from(kube::Config::new(fake.url.parse().unwrap())).unwrap();
    let tailnet = tailnet::Config {
        base_url: fake.url.clone(),
        credentials: tailnet::Credentials::Fixed {
            client_id: "id".to_owned(),
            client_secret: SecretText::new("s"),
        },
        user_agent: "test".to_owned(),
        timeout: Duration::from_secs(10),
        tls: tailnet::client_config(None).unwrap(),
    };
    Arc::new(Context {
        writer: Writer::new(client.clone(), "isthmus".to_owned()),
        client,
        tailnet: tailnet::Client::new(tailnet).unwrap(),
        stores: stores(world),
        settings: settings(),
        metrics: Metrics::register(&mut Registry::default()),
        instance: "operator-0".to_owned(),
        term: Term::until(Instant::now() + Duration::from_hours(1)),
        changes: Changes::default(),
        memory: Memory::default(),
    })
}

fn look(fake: &Fake, world: &World) -> impl Future<Output = Vec<(String, Value)>> {
    let service = Arc::new(world.service.clone().unwrap());
    let looking = reconcile(service, context(fake, world));
    let fake = fake.clone();
    Box::pin(async move {
        tokio::time::timeout(Duration::from_secs(30), looking)
            .await
            .expect("the reconcile ends")
            .unwrap();
        fake.finish()
    })
}

fn path(kind: &str, name: &str) -> &'static str {
    let (group, plural) = match kind {
        "StatefulSet" => ("/apis/apps/v1", "statefulsets"),
        "Role" => ("/apis/rbac.authorization.k8s.io/v1", "roles"),
        "RoleBinding" => ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
        "Secret" => ("/api/v1", "secrets"),
        "ServiceAccount" => ("/api/v1", "serviceaccounts"),
        "Service" => ("/api/v1", "services"),
        "Pod" => ("/api/v1", "pods"),
        other => panic!("unknown kind {other}"),
    };
    // Test data lives as long as the test program.
    format!("{group}/namespaces/isthmus/{plural}{name}").leak()
}

fn step(method: &str, kind: &str, name: &str) -> &'static str {
    format!("{method} {}", path(kind, name)).leak()
}

const LISTED: [&str; 7] = [
    "Service",
    "Secret",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "StatefulSet",
    "Pod",
];

/// The live look that comes before what cannot be undone.
fn live(children: &Children) -> Vec<(&'static str, Answer)> {
    let one = |object: Value| {
        if object.is_null() {
            Answer::Empty
        } else {
            Answer::List(vec![object])
        }
    };
    let json = |kind: &str| match kind {
        "Service" => json!(children.headless_service),
        "Secret" => json!(children.secret),
        "ServiceAccount" => json!(children.service_account),
        "Role" => json!(children.role),
        "RoleBinding" => json!(children.role_binding),
        "StatefulSet" => json!(children.stateful_set),
        _ => json!(children.pod),
    };
    LISTED
        .iter()
        .map(|kind| (step("GET", kind, ""), one(json(kind))))
        .collect()
}

fn proxy_name() -> String {
    let input = Input {
        class: Choice::Without,
        service: service(|_| {}),
        children: Children::default(),
        taken_names: std::collections::BTreeSet::new(),
        minted: None,
        tagged: None,
        problem: None,
        now: Time(Timestamp::now()),
    };
    input.proxy_name()
}

fn apply(kind: &str) -> (&'static str, Answer) {
    let name = if kind == "Secret" {
        format!("/{}-0", proxy_name())
    } else {
        format!("/{}", proxy_name())
    };
    (step("PATCH", kind, &name), Answer::Echo)
}

fn token() -> (&'static str, Answer) {
    (
        TOKEN,
        Answer::Json(200, json!({"access_token": "t", "expires_in": 3600})),
    )
}

fn key() -> (&'static str, Answer) {
    (KEYS, Answer::Json(200, json!({"id": "k1", "key": "tskey-auth-k1-xyz"})))
}

fn body<T: DeserializeOwned>(seen: &[(String, Value)], request: &str) -> T {
    let (_, body) = seen
        .iter()
        .find(|(asked, _)| asked == request)
        .unwrap_or_else(|| panic!("no {request}"));
    serde_json::from_value(with_identity(body)).unwrap()
}

fn with_identity(body: &Value) -> Value {
    let mut body = body.clone();
    body["metadata"]["uid"] = json!("child");
    body["metadata"]["resourceVersion"] = json!("9");
    body
}

/// Expects everything that a new exposed Service causes, and gives back what then exists.
async fn created(fake: &Fake) -> World {
    let mut world = World {
        service: Some(service(|_| {})),
        ..World::default()
    };
    fake.expect([(SERVICE, finalizer_answer())]);
    fake.expect(["Service", "ServiceAccount", "Role", "RoleBinding"].map(apply));
    fake.expect([token(), key()]);
    fake.expect(["Secret", "StatefulSet"].map(apply));
    fake.expect([status_answer()]);
    let seen = look(fake, &world).await;
    let status: Value = seen.last().unwrap().1["status"]["conditions"].clone();
    world.service = Some(service(|service| {
        service["metadata"]["finalizers"] = json!([finalizer::DEVICE]);
        service["status"] = json!({"conditions": status});
    }));
    let named = |kind: &str| apply(kind).0.to_owned();
    world.children = Children {
        headless_service: body(&seen, &named("Service")),
        secret: body(&seen, &named("Secret")),
        service_account: body(&seen, &named("ServiceAccount")),
        role: body(&seen, &named("Role")),
        role_binding: body(&seen, &named("RoleBinding")),
        stateful_set: body(&seen, &named("StatefulSet")),
        pod: None,
        ..Children::default()
    };
    world
}

/// The whole Service, as the API server answers; what the test looks at is the request.
fn status_answer() -> (&'static str, Answer) {
    (STATUS, Answer::Json(200, json!(service(|_| {}))))
}

fn finalizer_answer() -> Answer {
    let held = service(|service| service["metadata"]["finalizers"] = json!([finalizer::DEVICE]));
    Answer::Json(200, json!(held))
}

fn condition(seen: &[(String, Value)]) -> (String, String) {
    let (_, body) = seen
        .iter()
        .find(|(asked, _)| asked == STATUS)
        .expect("the condition is written");
    let condition = &body["status"]["conditions"][0];
    assert_eq!(condition["type"], PROXY_READY);
    assert_eq!(
        body["metadata"]["uid"], "0c3a",
        "a deleted Service must not be made again"
    );
    (
        condition["reason"].as_str().unwrap().to_owned(),
        condition["message"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn new_service_gets_everything_and_a_pending_condition() {
    let fake = Fake::start().await;
    let world = created(&fake).await;
    let secret = world.children.secret.unwrap();
    assert!(secret.metadata.name.unwrap().starts_with(NAME));
    let conditions = world.service.unwrap().status.unwrap().conditions.unwrap();
    assert_eq!(
        (conditions[0].status.as_str(), conditions[0].reason.as_str()),
        ("False", "ProxyPending")
    );
}

#[tokio::test]
async fn look_with_nothing_to_do_asks_and_writes_nothing() {
    let fake = Fake::start().await;
    let world = created(&fake).await;
    assert_eq!(look(&fake, &world).await, []);
}

#[tokio::test]
async fn object_edited_by_hand_is_the_only_one_written() {
    let fake = Fake::start().await;
    let mut world = created(&fake).await;
    world.children.role.as_mut().unwrap().rules = None;
    fake.expect([apply("Role")]);
    look(&fake, &world).await;
}

#[tokio::test]
async fn proxy_that_is_up_makes_the_condition_true_and_one_event() {
    let fake = Fake::start().await;
    let mut world = created(&fake).await;
    come_up(&mut world);
    // The key has done its work and leaves the config.
    let keyless = (apply("Secret").0, Answer::Json(200, json!(world.children.secret)));
    fake.expect([keyless, status_answer(), (EVENT, Answer::Echo)]);
    let seen = look(&fake, &world).await;
    assert_eq!(condition(&seen).0, "ProxyCreated");
    assert_eq!(seen.last().unwrap().1["type"], "Normal");
}

fn come_up(world: &mut World) {
    let pod = json!({
        "metadata": {"name": "p", "uid": "pod-1", "labels": world.children.secret.as_ref().unwrap().metadata.labels},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    world.children.pod = Some(serde_json::from_value::<Pod>(pod).unwrap());
    let port = Port {
        protocol: Protocol::Tcp,
        port: 80,
    };
    let applied = ProxyConfig::ingress(vec![[10, 96, 0, 7].into()], vec![port]);
    let status = ProxyStatus::new("pod-1", Some(applied), None).render();
    let reported = [
        (secret_key::DEVICE_ID, "n1".to_owned()),
        (secret_key::DEVICE_FQDN, "shop-web.tail.net.".to_owned()),
        (secret_key::DEVICE_IPS, r#"["100.64.0.9","fd7a::9"]"#.to_owned()),
        (secret_key::PROXY_STATUS, status),
    ];
    let secret = world.children.secret.as_mut().unwrap();
    let data: &mut BTreeMap<_, _> = secret.data.get_or_insert_default();
    data.extend(reported.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))));
}

#[tokio::test]
async fn replica_whose_term_is_over_writes_nothing() {
    let fake = Fake::start().await;
    let mut world = created(&fake).await;
    world.children.role = None;
    let mut context = Arc::into_inner(context(&fake, &world)).unwrap();
    context.term = Term::until(Instant::now());
    let service = Arc::new(world.service.clone().unwrap());
    reconcile(service, Arc::new(context)).await.unwrap();
    assert_eq!(fake.finish(), []);
}

#[tokio::test]
async fn ready_load_balancer_gets_condition_and_addresses_in_one_write() {
    let fake = Fake::start().await;
    let mut world = created(&fake).await;
    come_up(&mut world);
    let spec = world.service.as_mut().unwrap().spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.load_balancer_class = Some("tailscale".to_owned());
    let keyless = (apply("Secret").0, Answer::Json(200, json!(world.children.secret)));
    fake.expect([keyless, status_answer(), (EVENT, Answer::Echo)]);
    let seen = look(&fake, &world).await;
    assert_eq!(condition(&seen).0, "ProxyCreated");
    let (_, written) = seen.iter().find(|(asked, _)| asked == STATUS).unwrap();
    let entries = json!([{"hostname": "shop-web.tail.net"}, {"ip": "100.64.0.9", "ipMode": "Proxy"}]);
    assert_eq!(written["status"]["loadBalancer"]["ingress"], entries);
}

#[tokio::test]
async fn tags_that_the_tailnet_refuses_show_in_its_own_words() {
    let fake = Fake::start().await;
    let mut world = created(&fake).await;
    come_up(&mut world);
    let annotations = world.service.as_mut().unwrap().metadata.annotations.as_mut().unwrap();
    annotations.insert(annotation::TAGS.to_owned(), "tag:web".to_owned());
    let keyless = || (apply("Secret").0, Answer::Json(200, json!(world.children.secret)));
    let words = json!({"message": "requested tags [tag:web] are invalid or not permitted"});
    fake.expect(live(&world.children));
    fake.expect([
        keyless(),
        token(),
        ("POST /api/v2/device/n1/tags", Answer::Json(400, words)),
        status_answer(),
        (EVENT, Answer::Echo),
    ]);
    let seen = look(&fake, &world).await;
    let (reason, message) = condition(&seen);
    assert_eq!(reason, "ProxyFailed");
    assert!(
        message.starts_with("annotation tailscale.com/tags: the tailnet refuses tag:web;")
            && message.contains("are invalid or not permitted"),
        "{message}"
    );
}

#[tokio::test]
async fn changed_tags_are_set_on_the_device_and_noted() {
    let fake = Fake::start().await;
    let mut world = created(&fake).await;
    come_up(&mut world);
    let annotations = world.service.as_mut().unwrap().metadata.annotations.as_mut().unwrap();
    annotations.insert(annotation::TAGS.to_owned(), "tag:web".to_owned());
    let keyless = || (apply("Secret").0, Answer::Json(200, json!(world.children.secret)));
    fake.expect(live(&world.children));
    fake.expect([
        keyless(),
        token(),
        ("POST /api/v2/device/n1/tags", Answer::Json(200, json!(null))),
        keyless(),
        status_answer(),
        (EVENT, Answer::Echo),
    ]);
    let seen = look(&fake, &world).await;
    let (_, secret) = seen.iter().rfind(|(asked, _)| *asked == apply("Secret").0).unwrap();
    assert_eq!(secret["metadata"]["annotations"][annotation::DEVICE_TAGS], "tag:web");
    assert_eq!(condition(&seen).0, "ProxyCreated");
}

#[tokio::test]
async fn conflict_is_looked_at_again_without_a_word() {
    let fake = Fake::start().await;
    let mut world = created(&fake).await;
    world.children.role = None;
    fake.expect([(apply("Role").0, refusal(409, "Conflict", "somebody was faster"))]);
    look(&fake, &world).await;
}

#[tokio::test]
async fn refused_write_shows_in_condition_and_event() {
    let fake = Fake::start().await;
    let mut world = created(&fake).await;
    world.children.stateful_set = None;
    let refused = refusal(403, "Forbidden", "exceeded quota: pods");
    fake.expect([
        (apply("StatefulSet").0, refused),
        status_answer(),
        (EVENT, Answer::Echo),
    ]);
    let seen = look(&fake, &world).await;
    let (reason, message) = condition(&seen);
    assert_eq!(reason, "ProxyFailed");
    assert!(
        message.contains("apply StatefulSet") && message.contains("exceeded quota: pods"),
        "{message}"
    );
    assert_eq!(seen.last().unwrap().1["type"], "Warning");
}

#[tokio::test]
async fn tailnet_that_refuses_the_credentials_shows_in_the_condition() {
    let fake = Fake::start().await;
    let world = World {
        service: Some(service(|_| {})),
        ..World::default()
    };
    fake.expect([(SERVICE, finalizer_answer())]);
    fake.expect(["Service", "ServiceAccount", "Role", "RoleBinding"].map(apply));
    fake.expect([(TOKEN, Answer::Json(401, json!({"error": "invalid_client"})))]);
    fake.expect([status_answer(), (EVENT, Answer::Echo)]);
    let seen = look(&fake, &world).await;
    let (reason, message) = condition(&seen);
    assert_eq!(reason, "ProxyFailed");
    assert!(message.contains("refused the operator's credentials"), "{message}");
}

#[tokio::test]
async fn impossible_wish_is_told_and_nothing_else_is_touched() {
    let fake = Fake::start().await;
    let broken = |service: &mut Value| service["metadata"]["annotations"] = json!({annotation::TAILNET_IP: "x"});
    let world = World {
        service: Some(service(broken)),
        ..World::default()
    };
    fake.expect([status_answer(), (EVENT, Answer::Echo)]);
    let seen = look(&fake, &world).await;
    assert_eq!(condition(&seen).0, "ProxyInvalid");
}

#[tokio::test]
async fn deleted_service_loses_pod_then_device_then_the_rest_then_the_finalizer() {
    let fake = Fake::start().await;
    let mut world = created(&fake).await;
    come_up(&mut world);
    let held = world.service.take().unwrap();
    world.service = Some(Service {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            deletion_timestamp: Some(Time(Timestamp::now())),
            ..held.metadata
        },
        ..held
    });
    fake.expect(live(&world.children));
    let delete = |kind: &str| {
        (
            step(
                "DELETE",
                kind,
                apply(kind)
                    .0
                    .rsplit_once('/')
                    .map_or("", |(_, name)| format!("/{name}").leak()),
            ),
            Answer::Json(200, json!({"kind": "Status", "status": "Success"})),
        )
    };
    fake.expect([delete("StatefulSet"), status_answer()]);
    look(&fake, &world).await;

    world.children.stateful_set = None;
    world.children.pod = None;
    fake.expect(live(&world.children));
    fake.expect([
        token(),
        ("DELETE /api/v2/tailnet/-/keys/k1", Answer::Json(200, json!({}))),
        (
            "DELETE /api/v2/device/n1",
            Answer::Json(404, json!({"message": "no such device"})),
        ),
    ]);
    fake.expect(["Secret", "Service", "RoleBinding", "Role", "ServiceAccount"].map(delete));
    let mut released = world.service.clone().unwrap();
    released.metadata.finalizers = None;
    fake.expect([(SERVICE, Answer::Json(200, json!(released)))]);
    let seen = look(&fake, &world).await;
    assert_eq!(seen.last().unwrap().1["metadata"]["finalizers"], json!([]));
}

#[tokio::test]
async fn deletion_waits_for_a_tailnet_that_is_away_and_says_so() {
    let fake = Fake::start().await;
    let mut world = created(&fake).await;
    come_up(&mut world);
    world.children.stateful_set = None;
    world.children.pod = None;
    world.service.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(Timestamp::now()));
    fake.expect(live(&world.children));
    fake.expect([
        (TOKEN, Answer::Json(503, json!({}))),
        status_answer(),
        (EVENT, Answer::Echo),
    ]);
    let seen = look(&fake, &world).await;
    let (reason, message) = condition(&seen);
    assert_eq!(reason, "ProxyFailed");
    assert!(message.contains("revoke key k1"), "{message}");
}
