use isthmus_contract::{annotation, condition::ProxyReason, secret_key};

use crate::service_proxy::{
    Action, ControlProblem, Input, plan,
    test_objects::{NOW, at, come_up, egress, exposed, ingress_wanted, input, report, service, settings, settle},
};

fn deleted() -> Input {
    let mut input = input(exposed());
    settle(&mut input);
    come_up(&mut input, &ingress_wanted());
    input.service.metadata.deletion_timestamp = Some(at(NOW));
    input
}

fn only_rest(input: &mut Input) {
    input.children.stateful_set = None;
    input.children.pod = None;
}

#[test]
fn deleted_service_loses_its_pod_first() {
    let input = deleted();
    let plan = plan(&input, &settings());
    assert!(matches!(plan.actions.as_slice(), [Action::Delete(child)] if child.kind() == "StatefulSet"));
    assert!(plan.again_after.is_some());
    assert_eq!(plan.verdict.unwrap().reason, ProxyReason::Pending);
}

#[test]
fn pod_that_outlives_its_stateful_set_is_waited_for() {
    let mut input = deleted();
    input.children.stateful_set = None;
    let plan = plan(&input, &settings());
    assert!(plan.actions.is_empty() && plan.again_after.is_some());
}

#[test]
fn then_device_key_objects_and_finalizer_go() {
    let mut input = deleted();
    only_rest(&mut input);
    assert_eq!(
        settle(&mut input),
        [
            "revoke",
            "delete device",
            "delete",
            "delete",
            "delete",
            "delete",
            "delete",
            "release finalizer"
        ]
    );
    assert!(plan(&input, &settings()).actions.is_empty());
}

#[test]
fn cleanup_of_what_never_came_up_releases_the_finalizer() {
    let mut input = input(exposed());
    input.service.metadata.finalizers = Some(vec![isthmus_contract::finalizer::DEVICE.to_owned()]);
    input.service.metadata.deletion_timestamp = Some(at(NOW));
    assert_eq!(settle(&mut input), ["release finalizer"]);
    assert!(plan(&input, &settings()).actions.is_empty());
}

#[test]
fn service_no_longer_exposed_is_cleaned_and_loses_its_condition() {
    let mut input = input(exposed());
    settle(&mut input);
    input.service.metadata.annotations = None;
    let done = settle(&mut input);
    assert_eq!(done.last(), Some(&"release finalizer"));
    assert!(input.children.is_empty());
    assert_eq!(plan(&input, &settings()).verdict, None);
}

#[test]
fn egress_service_gets_its_spec_back() {
    let before = egress();
    let mut input = input(before.clone());
    settle(&mut input);
    let annotations = input.service.metadata.annotations.as_mut().unwrap();
    annotations.remove(annotation::TAILNET_IP);
    assert_eq!(settle(&mut input)[0], "patch spec");
    assert_eq!(input.service.spec, before.spec);
    assert!(
        !input
            .service
            .metadata
            .annotations
            .unwrap()
            .contains_key(annotation::ORIGINAL_SPEC)
    );
}

fn fails(input: &mut Input, refused: bool) {
    input.problem = Some(ControlProblem {
        message: "the server does not do it".to_owned(),
        of_tailnet: true,
        refused,
    });
}

fn annotate(input: &mut Input, key: &str, value: &str) {
    let annotations = input.service.metadata.annotations.get_or_insert_default();
    annotations.insert(key.to_owned(), value.to_owned());
}

fn ends_without_the_tailnet(input: &Input) {
    let plan = plan(input, &settings());
    let asks = |action: &Action| matches!(action, Action::DeleteDevice(_) | Action::RevokeAuthKey(_));
    assert!(!plan.actions.iter().any(asks));
    assert!(matches!(plan.actions.last(), Some(Action::ReleaseFinalizer)));
    let note = &plan.notes[0].message;
    assert!(
        note.contains("shop-web.tail.net (n1)") && note.contains("auth key k1"),
        "{note}"
    );
}

#[test]
fn tailnet_that_is_away_is_waited_for_with_a_reason() {
    let mut input = deleted();
    only_rest(&mut input);
    fails(&mut input, false);
    input.now = at(NOW + 24 * 3600);
    let plan = plan(&input, &settings());
    let verdict = plan.verdict.unwrap();
    assert_eq!(
        (verdict.reason, verdict.message.as_str()),
        (ProxyReason::Failed, "the server does not do it")
    );
    assert!(plan.actions.is_empty());
}

#[test]
fn refused_credentials_end_the_deletion_after_15_minutes_whichever_operator_looks() {
    let mut input = deleted();
    only_rest(&mut input);
    fails(&mut input, true);
    // The next look, perhaps of another operator, starts from what is on the Service.
    assert_eq!(settle(&mut input), ["note refusal"]);
    input.now = at(NOW + 899);
    assert!(plan(&input, &settings()).actions.is_empty());
    input.now = at(NOW + 900);
    ends_without_the_tailnet(&input);
    input.problem = None;
    let asked_again = plan(&input, &settings());
    assert!(
        matches!(asked_again.actions[0], Action::RevokeAuthKey(_)),
        "it asks before it gives up"
    );
}

#[test]
fn abandoned_deletion_asks_once_and_ends() {
    let mut input = deleted();
    only_rest(&mut input);
    annotate(&mut input, annotation::ABANDON, "true");
    assert!(matches!(plan(&input, &settings()).actions[0], Action::RevokeAuthKey(_)));
    fails(&mut input, false);
    ends_without_the_tailnet(&input);
}

#[test]
fn note_about_refused_credentials_goes_when_the_service_is_used_again() {
    let mut input = deleted();
    input.service.metadata.deletion_timestamp = None;
    settle(&mut input);
    annotate(&mut input, annotation::REFUSED_SINCE, "2026-01-01T00:00:00Z");
    assert_eq!(settle(&mut input), ["note refusal"]);
    assert!(input.annotation(annotation::REFUSED_SINCE).is_none());
}

#[test]
fn device_whose_proxy_never_told_its_id_is_removed_by_its_machine_key() {
    let mut input = input(exposed());
    settle(&mut input);
    report(&mut input, secret_key::MACHINE_PUBLIC_KEY, "mkey:abc");
    input.service.metadata.deletion_timestamp = Some(at(NOW));
    only_rest(&mut input);
    let plan = plan(&input, &settings());
    let by_key = |action: &Action| matches!(action, Action::DeleteDeviceOfMachine(key) if key == "mkey:abc");
    assert!(plan.actions.iter().any(by_key));
}

#[test]
fn deleted_service_that_is_not_ours_is_left_alone() {
    let mut input = input(service(&[]));
    input.service.metadata.deletion_timestamp = Some(at(NOW));
    assert!(plan(&input, &settings()).actions.is_empty());
}
