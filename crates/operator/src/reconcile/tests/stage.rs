//! What a look at a Service finds, and how the API server and the tailnet answer it.

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
    fake::{Answer, Fake},
    lease::Term,
    metrics::Metrics,
    proxy_class::Classes,
    watch::Stores,
};

pub(crate) const SERVICE: &str = "PATCH /api/v1/namespaces/shop/services/web";
pub(crate) const STATUS: &str = "PATCH /api/v1/namespaces/shop/services/web/status";
pub(crate) const EVENT: &str = "POST /apis/events.k8s.io/v1/namespaces/shop/events";
pub(crate) const TOKEN: &str = "POST /api/v2/oauth/token";
pub(crate) const KEYS: &str = "POST /api/v2/tailnet/-/keys";

/// The proxy's name comes from the Service's UID.
pub(crate) const NAME: &str = "ts-web-";

/// What the caches hold, by object.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) service: Option<Service>,
    pub(crate) children: Children,
}

pub(crate) fn service(change: impl FnOnce(&mut Value)) -> Service {
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

pub(crate) fn store<K>(objects: impl IntoIterator<Item = K>) -> Store<K>
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

pub(crate) fn context(fake: &Fake, world: &World) -> Arc<Context> {
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

pub(crate) fn look(fake: &Fake, world: &World) -> impl Future<Output = Vec<(String, Value)>> {
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

pub(crate) fn path(kind: &str, name: &str) -> &'static str {
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

pub(crate) fn step(method: &str, kind: &str, name: &str) -> &'static str {
    format!("{method} {}", path(kind, name)).leak()
}

pub(crate) const LISTED: [&str; 7] = [
    "Service",
    "Secret",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "StatefulSet",
    "Pod",
];

/// The live look that comes before what cannot be undone.
pub(crate) fn live(children: &Children) -> Vec<(&'static str, Answer)> {
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

pub(crate) fn proxy_name() -> String {
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

pub(crate) fn apply(kind: &str) -> (&'static str, Answer) {
    let name = if kind == "Secret" {
        format!("/{}-0", proxy_name())
    } else {
        format!("/{}", proxy_name())
    };
    (step("PATCH", kind, &name), Answer::Echo)
}

pub(crate) fn token() -> (&'static str, Answer) {
    (
        TOKEN,
        Answer::Json(200, json!({"access_token": "t", "expires_in": 3600})),
    )
}

pub(crate) fn key() -> (&'static str, Answer) {
    (KEYS, Answer::Json(200, json!({"id": "k1", "key": "tskey-auth-k1-xyz"})))
}

pub(crate) fn body<T: DeserializeOwned>(seen: &[(String, Value)], request: &str) -> T {
    let (_, body) = seen
        .iter()
        .find(|(asked, _)| asked == request)
        .unwrap_or_else(|| panic!("no {request}"));
    serde_json::from_value(with_identity(body)).unwrap()
}

pub(crate) fn with_identity(body: &Value) -> Value {
    let mut body = body.clone();
    body["metadata"]["uid"] = json!("child");
    body["metadata"]["resourceVersion"] = json!("9");
    body
}

/// Expects everything that a new exposed Service causes, and gives back what then exists.
pub(crate) async fn created(fake: &Fake) -> World {
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
pub(crate) fn status_answer() -> (&'static str, Answer) {
    (STATUS, Answer::Json(200, json!(service(|_| {}))))
}

pub(crate) fn finalizer_answer() -> Answer {
    let held = service(|service| service["metadata"]["finalizers"] = json!([finalizer::DEVICE]));
    Answer::Json(200, json!(held))
}

pub(crate) fn condition(seen: &[(String, Value)]) -> (String, String) {
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

pub(crate) fn come_up(world: &mut World) {
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
