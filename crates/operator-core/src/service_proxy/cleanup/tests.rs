use isthmus_contract::{annotation, condition::ProxyReason};

use crate::service_proxy::{
    Action, ControlProblem, Input, plan,
    test_objects::{NOW, at, come_up, egress, exposed, ingress_wanted, input, service, settings, settle},
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
            "delete device",
            "revoke",
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

#[test]
fn tailnet_that_is_away_is_waited_for_with_a_reason() {
    let mut input = deleted();
    only_rest(&mut input);
    input.problem = Some(ControlProblem {
        message: "the server does not answer".to_owned(),
        hopeless: false,
    });
    let plan = plan(&input, &settings());
    let verdict = plan.verdict.unwrap();
    assert_eq!(
        (verdict.reason, verdict.message.as_str()),
        (ProxyReason::Failed, "the server does not answer")
    );
    assert!(matches!(plan.actions[0], Action::DeleteDevice(_)));
}

#[test]
fn hopeless_deletion_ends_and_lists_what_stays() {
    let mut refused = deleted();
    refused.problem = Some(ControlProblem {
        message: "refused".to_owned(),
        hopeless: true,
    });
    let mut abandoned = deleted();
    abandoned
        .service
        .metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert(annotation::ABANDON.to_owned(), "true".to_owned());
    for mut input in [refused, abandoned] {
        only_rest(&mut input);
        let plan = plan(&input, &settings());
        assert!(
            !plan
                .actions
                .iter()
                .any(|action| matches!(action, Action::DeleteDevice(_) | Action::RevokeAuthKey(_)))
        );
        assert!(matches!(plan.actions.last(), Some(Action::ReleaseFinalizer)));
        assert!(
            plan.notes[0].message.contains("shop-web.tail.net (n1)"),
            "{}",
            plan.notes[0].message
        );
    }
}

#[test]
fn deleted_service_that_is_not_ours_is_left_alone() {
    let mut input = input(service(&[]));
    input.service.metadata.deletion_timestamp = Some(at(NOW));
    assert!(plan(&input, &settings()).actions.is_empty());
}
