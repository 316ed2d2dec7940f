//! Deletion ends, whatever the tailnet does.

use isthmus_contract::{annotation, secret_key};
use isthmus_operator_core::service_proxy::Children;
use k8s_openapi::{ByteString, api::core::v1::Service, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::*;

/// A Service that was exposed and is deleted; its Pod has stopped already.
async fn deleted(fake: &Fake) -> World {
    let mut world = created(fake).await;
    come_up(&mut world);
    world.children.stateful_set = None;
    world.children.pod = None;
    world.service.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(Timestamp::now()));
    world
}

fn annotate(world: &mut World, key: &str, value: &str) {
    let metadata = &mut world.service.as_mut().unwrap().metadata;
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(key.to_owned(), value.to_owned());
}

/// Expects that the rest goes and the Service is let go.
fn expect_the_end(fake: &Fake, world: &World) {
    let success = || Answer::Json(200, json!({"kind": "Status", "status": "Success"}));
    fake.expect(
        ["Secret", "Service", "RoleBinding", "Role", "ServiceAccount"].map(|kind| {
            let request = apply(kind).0.replace("PATCH", "DELETE").leak();
            (&*request, success())
        }),
    );
    let mut released = world.service.clone().unwrap();
    released.metadata.finalizers = None;
    fake.expect([(SERVICE, Answer::Json(200, json!(released)))]);
}

fn fails() -> (&'static str, Answer) {
    (TOKEN, Answer::Json(503, json!({"message": "maintenance"})))
}

fn refuses() -> (&'static str, Answer) {
    (TOKEN, Answer::Json(401, json!({"error": "invalid_client"})))
}

#[tokio::test]
async fn deletion_tells_once_why_it_waits_and_ends_when_the_tailnet_is_well_again() {
    let fake = Fake::start().await;
    let mut world = deleted(&fake).await;
    fake.expect(live(&world.children));
    fake.expect([fails(), status_answer(), (EVENT, Answer::Echo)]);
    let told = look(&fake, &world).await;
    let status = told.iter().find(|(asked, _)| asked == STATUS).unwrap();
    world.service.as_mut().unwrap().status = serde_json::from_value(status.1["status"].clone()).unwrap();

    fake.expect(live(&world.children));
    fake.expect([fails()]);
    look(&fake, &world).await;

    fake.expect(live(&world.children));
    fake.expect([
        token(),
        ("DELETE /api/v2/tailnet/-/keys/k1", Answer::Json(404, json!({}))),
        ("DELETE /api/v2/device/n1", Answer::Json(200, json!({}))),
    ]);
    expect_the_end(&fake, &world);
    look(&fake, &world).await;
}

#[tokio::test]
async fn refused_credentials_are_noted_on_the_service_and_end_its_deletion_after_15_minutes() {
    let fake = Fake::start().await;
    let mut world = deleted(&fake).await;
    fake.expect(live(&world.children));
    let answer = Answer::Json(200, json!(world.service));
    fake.expect([refuses(), (SERVICE, answer), status_answer(), (EVENT, Answer::Echo)]);
    let seen = look(&fake, &world).await;
    let (_, note) = seen.iter().find(|(asked, _)| asked == SERVICE).unwrap();
    let since = note["metadata"]["annotations"][annotation::REFUSED_SINCE]
        .as_str()
        .unwrap();
    let since: Timestamp = since.parse().unwrap();
    assert_eq!(note["metadata"]["uid"], "0c3a");

    // Another operator, a quarter of an hour later.
    let long_ago = Timestamp::from_second(since.as_second() - 901).unwrap();
    annotate(&mut world, annotation::REFUSED_SINCE, &long_ago.to_string());
    fake.expect(live(&world.children));
    fake.expect([refuses()]);
    expect_the_end(&fake, &world);
    fake.expect([(EVENT, Answer::Echo)]);
    let seen = look(&fake, &world).await;
    let event = &seen.last().unwrap().1;
    assert_eq!(event["reason"], "DeviceLeftBehind");
    assert!(event["note"].as_str().unwrap().contains("(n1)"), "{event}");
}

#[tokio::test]
async fn abandoned_deletion_ends_at_the_first_failure() {
    let fake = Fake::start().await;
    let mut world = deleted(&fake).await;
    annotate(&mut world, annotation::ABANDON, "true");
    fake.expect(live(&world.children));
    fake.expect([fails()]);
    expect_the_end(&fake, &world);
    fake.expect([(EVENT, Answer::Echo)]);
    let seen = look(&fake, &world).await;
    assert_eq!(seen.last().unwrap().1["reason"], "DeviceLeftBehind");
}

#[tokio::test]
async fn device_whose_proxy_died_before_it_told_its_id_is_found_by_its_machine_key() {
    let fake = Fake::start().await;
    let mut world = deleted(&fake).await;
    let secret = world.children.secret.as_mut().unwrap();
    let data = secret.data.as_mut().unwrap();
    data.remove(secret_key::DEVICE_ID);
    data.insert(
        secret_key::MACHINE_PUBLIC_KEY.to_owned(),
        ByteString(b"mkey:abc".to_vec()),
    );
    let devices = json!({"devices": [
        {"nodeId": "n7", "machineKey": "mkey:other"},
        {"nodeId": "n8", "machineKey": "mkey:abc"},
        {"nodeId": "n9"},
    ]});
    fake.expect(live(&world.children));
    fake.expect([
        token(),
        ("DELETE /api/v2/tailnet/-/keys/k1", Answer::Json(200, json!({}))),
        ("GET /api/v2/tailnet/-/devices", Answer::Json(200, devices)),
        ("DELETE /api/v2/device/n8", Answer::Json(200, json!({}))),
    ]);
    expect_the_end(&fake, &world);
    look(&fake, &world).await;
}

#[tokio::test]
async fn finalizer_without_anything_behind_it_goes_at_once() {
    let fake = Fake::start().await;
    let mut world = deleted(&fake).await;
    world.children = Children::default();
    fake.expect(live(&world.children));
    let mut released = world.service.clone().unwrap();
    released.metadata.finalizers = None;
    fake.expect([(SERVICE, Answer::Json(200, json!(released)))]);
    look(&fake, &world).await;
}

#[tokio::test]
async fn second_key_of_a_leader_rests_on_the_live_secret() {
    let fake = Fake::start().await;
    let mut world = World {
        service: Some(service(|_| {})),
        ..World::default()
    };
    let context = context(&fake, &world);
    fake.expect([(SERVICE, finalizer_answer())]);
    fake.expect(["Service", "ServiceAccount", "Role", "RoleBinding"].map(apply));
    fake.expect([token(), key()]);
    fake.expect(["Secret", "StatefulSet"].map(apply));
    fake.expect([status_answer()]);
    let cached = Arc::new(world.service.clone().unwrap());
    reconcile(cached.clone(), context.clone()).await.unwrap();
    let seen = fake.finish();
    let secret = apply("Secret").0.to_owned();
    world.children.secret = body(&seen, &secret);

    // The caches still show nothing of it.
    fake.expect([(
        step("GET", "Secret", ""),
        Answer::List(vec![json!(world.children.secret)]),
    )]);
    fake.expect([(SERVICE, finalizer_answer())]);
    fake.expect(["Service", "ServiceAccount", "Role", "RoleBinding", "StatefulSet"].map(apply));
    fake.expect([status_answer()]);
    reconcile(cached, context).await.unwrap();
    fake.finish();
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
