use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{ClassPlan, is_ready, plan};
use crate::proxy_class::{ProxyClass, ProxyClassStatus};

fn class(yaml: &str) -> ProxyClass {
    let mut class: ProxyClass = serde_yaml_ng::from_str(&format!("metadata: {{name: edge}}\nspec: {yaml}")).unwrap();
    class.metadata.generation = Some(1);
    class
}

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

/// Writes what the plan says, as the shell does.
fn judge_at(class: &mut ProxyClass, second: i64) -> ClassPlan {
    let plan = plan(class, false, &at(second));
    if let Some(condition) = &plan.condition {
        class.status = Some(ProxyClassStatus {
            conditions: Some(vec![condition.clone()]),
        });
    }
    plan
}

#[test]
fn class_becomes_ready_once_and_is_left_alone_then() {
    let mut class = class("{}");
    assert!(!is_ready(&class));
    let plan = judge_at(&mut class, 5);
    let condition = plan.condition.unwrap();
    assert_eq!(
        (
            condition.status.as_str(),
            condition.reason.as_str(),
            condition.observed_generation
        ),
        ("True", "ProxyClassValid", Some(1))
    );
    assert!(plan.notes.is_empty() && is_ready(&class));
    assert_eq!(judge_at(&mut class, 9).condition, None);
}

#[test]
fn changed_class_is_not_ready_before_it_is_judged_again() {
    let mut class = class("{}");
    judge_at(&mut class, 5);
    class.metadata.generation = Some(2);
    assert!(!is_ready(&class));
    let condition = judge_at(&mut class, 9).condition.unwrap();
    assert_eq!(
        condition.last_transition_time,
        at(5),
        "nothing has changed but the generation"
    );
    assert!(is_ready(&class));
}

#[test]
fn invalid_class_names_the_field_and_is_told_once() {
    let mut class = class("{statefulSet: {pod: {tailscaleContainer: {image: 'Not An Image'}}}}");
    let plan = judge_at(&mut class, 5);
    let message = plan.condition.unwrap().message;
    assert!(
        message.starts_with("ProxyClass is not valid: spec.statefulSet.pod.tailscaleContainer.image: `Not An Image`"),
        "{message}"
    );
    assert_eq!(plan.notes[0].reason, "ProxyClassInvalid");
    class.metadata.generation = Some(2);
    assert!(judge_at(&mut class, 9).notes.is_empty(), "it was told already");
    assert!(!is_ready(&class));
}

#[test]
fn variables_of_the_proxy_are_told_once_per_transition() {
    let mut class = class("{statefulSet: {pod: {tailscaleContainer: {env: [{name: TS_X}, {name: A}, {name: TS_X}]}}}}");
    let plan = judge_at(&mut class, 5);
    assert_eq!(plan.notes[0].reason, "CustomTSEnvVar");
    assert!(plan.notes[0].message.contains("TS_X,"), "{}", plan.notes[0].message);
    assert!(is_ready(&class));
    class.metadata.generation = Some(2);
    assert!(judge_at(&mut class, 9).notes.is_empty());
}
