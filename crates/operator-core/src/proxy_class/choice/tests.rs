use std::{collections::BTreeMap, sync::Arc};

use isthmus_contract::{annotation::PROXY_CLASS, condition::ProxyReason};
use k8s_openapi::{
    api::core::v1::Service,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};

use super::{Choice, chosen_name};
use crate::{
    proxy_class::{ProxyClass, ProxyClassStatus, plan},
    service_proxy::{self, Input, test_objects},
    settings::Settings,
};

fn service(label: Option<&str>, annotation: Option<&str>) -> Service {
    let map = |value: Option<&str>| value.map(|value| BTreeMap::from([(PROXY_CLASS.to_owned(), value.to_owned())]));
    Service {
        metadata: ObjectMeta {
            labels: map(label),
            annotations: map(annotation),
            ..ObjectMeta::default()
        },
        ..Service::default()
    }
}

fn settings(default: Option<&str>) -> Settings {
    Settings {
        proxy_default_class: default.map(str::to_owned),
        ..test_objects::settings()
    }
}

#[test]
fn label_wins_over_annotation_and_annotation_over_default() {
    let of = |label, annotation, default| {
        let (service, settings) = (service(label, annotation), settings(default));
        chosen_name(&service, &settings).map(str::to_owned)
    };
    assert_eq!(of(Some("l"), Some("a"), Some("d")).as_deref(), Some("l"));
    assert_eq!(of(None, Some("a"), Some("d")).as_deref(), Some("a"));
    assert_eq!(of(Some(""), Some(" "), Some("d")).as_deref(), Some("d"));
    assert_eq!(of(None, None, None), None);
}

#[test]
fn class_that_cannot_be_used_says_why() {
    let class = |yaml: &str| {
        let mut class: ProxyClass = serde_yaml_ng::from_str(yaml).unwrap();
        class.metadata.generation = Some(1);
        class
    };
    let choice = |found: Option<ProxyClass>| {
        Choice::of(&service(None, Some("edge")), &settings(None), |name| {
            assert_eq!(name, "edge");
            found.map(Arc::new)
        })
    };
    let why = |choice: Choice| choice.waiting().unwrap().to_owned();
    assert!(why(choice(None)).starts_with("annotation tailscale.com/proxy-class: ProxyClass edge does not exist"));
    let mut edge = class("{metadata: {name: edge}, spec: {statefulSet: {labels: {a: '-'}}}}");
    assert!(why(choice(Some(edge.clone()))).contains("is not ready: the operator has not judged it yet"));
    let condition = plan(&edge, false, &Time(Timestamp::UNIX_EPOCH)).condition;
    edge.status = Some(ProxyClassStatus {
        conditions: condition.map(|condition| vec![condition]),
    });
    assert!(why(choice(Some(edge))).contains("spec.statefulSet.labels[a]"));
}

#[test]
fn service_without_a_class_waits_for_none() {
    let choice = Choice::of(&service(None, None), &settings(None), |_| None::<Arc<ProxyClass>>);
    assert_eq!(choice, Choice::Without);
}

fn ready(yaml: &str) -> Choice {
    Choice::Ready(Box::new(serde_yaml_ng::from_str(yaml).unwrap()))
}

fn device_config(input: &Input) -> String {
    let secret = input.children.secret.as_ref().unwrap();
    let data = secret.data.as_ref().unwrap();
    String::from_utf8(data["cap-107.hujson"].0.clone()).unwrap()
}

#[test]
fn proxy_waits_for_its_class_and_leaves_no_trace_before() {
    let mut input = test_objects::input(test_objects::exposed());
    input.class = Choice::Waiting("ProxyClass edge is not there".to_owned());
    let plan = service_proxy::plan(&input, &settings(None));
    assert!(plan.actions.is_empty());
    let verdict = plan.verdict.unwrap();
    assert_eq!(verdict.reason, ProxyReason::Pending);
    assert_eq!(verdict.message, "ProxyClass edge is not there");
    input.class = ready("{}");
    assert!(test_objects::settle(&mut input).contains(&"StatefulSet"));
}

#[test]
fn what_only_the_config_holds_changes_no_template() {
    let mut input = test_objects::input(test_objects::exposed());
    test_objects::settle(&mut input);
    assert!(device_config(&input).contains(r#""acceptRoutes":false"#));
    input.class = ready("{tailscale: {acceptRoutes: true}}");
    assert_eq!(test_objects::settle(&mut input), ["Secret"]);
    assert!(device_config(&input).contains(r#""acceptRoutes":true"#));
}

#[test]
fn running_proxy_keeps_its_shape_while_its_class_cannot_be_used() {
    let mut input = test_objects::input(test_objects::exposed());
    input.class = ready("{tailscale: {acceptRoutes: true}, statefulSet: {pod: {nodeName: n1}}}");
    test_objects::settle(&mut input);
    input.class = Choice::Waiting("gone".to_owned());
    assert_eq!(test_objects::settle(&mut input), [""; 0], "nothing of it is taken back");
    input.class = Choice::Without;
    assert_eq!(test_objects::settle(&mut input), ["Secret", "StatefulSet"]);
    let pod = input
        .children
        .stateful_set
        .unwrap()
        .spec
        .unwrap()
        .template
        .spec
        .unwrap();
    assert_eq!(pod.node_name, None, "the template is as it was without a class");
}

#[test]
fn metrics_objects_come_and_go_with_the_class() {
    let mut input = test_objects::input(test_objects::exposed());
    test_objects::settle(&mut input);
    input.class = ready("metrics: {enable: true, serviceMonitor: {enable: true}}");
    assert_eq!(
        test_objects::settle(&mut input),
        ["Service", "ServiceMonitor"],
        "and no restart"
    );
    input.class = ready("metrics: {enable: true}");
    assert_eq!(test_objects::settle(&mut input), ["delete"]);
    assert!(input.children.metrics_service.is_some() && input.children.service_monitor.is_none());
    input.class = Choice::Without;
    assert_eq!(test_objects::settle(&mut input), ["delete"]);
    assert!(input.children.metrics_service.is_none() && input.children.headless_service.is_some());
}
