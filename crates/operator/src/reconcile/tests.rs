mod deletion;
mod stage;

use std::{sync::Arc, time::Instant};

use isthmus_contract::annotation;
use serde_json::{Value, json};

use super::reconcile;
use crate::{
    fake::{Answer, Fake, refusal},
    lease::Term,
};

use stage::*;
pub(crate) use stage::{World, settings, stores};

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
