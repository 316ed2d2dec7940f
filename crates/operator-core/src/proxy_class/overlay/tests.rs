use insta::{assert_snapshot, with_settings};
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Container};

use super::shape;
use crate::{
    proxy_class::{ProxyClass, ProxyClassSpec},
    service_proxy::test_objects::bare_stateful_set,
};

fn shaped(yaml: &str) -> StatefulSet {
    let spec: ProxyClassSpec = serde_yaml_ng::from_str(yaml).unwrap();
    let mut set = bare_stateful_set();
    shape(&mut set, &spec);
    set
}

fn container(yaml: &str) -> Container {
    let yaml = format!("statefulSet: {{pod: {{tailscaleContainer: {yaml}}}}}");
    shaped(&yaml).spec.unwrap().template.spec.unwrap().containers.remove(0)
}

#[test]
fn class_with_every_field_is_laid_over_as_reviewed() {
    let class: ProxyClass = serde_yaml_ng::from_str(include_str!("../every_field.yaml")).unwrap();
    let mut set = bare_stateful_set();
    shape(&mut set, &class.spec);
    let text = serde_yaml_ng::to_string(&set).unwrap();
    with_settings!({prepend_module_to_snapshot => false}, { assert_snapshot!("every_field", text) });
}

#[test]
fn class_that_concerns_only_the_node_leaves_the_pod_alone() {
    assert_eq!(
        shaped("{tailscale: {acceptRoutes: true}, metrics: {enable: true}}"),
        bare_stateful_set()
    );
    assert_eq!(
        shaped("statefulSet: {pod: {nodeName: '', tailscaleContainer: {image: ''}}}"),
        bare_stateful_set()
    );
}

#[test]
fn labels_of_the_operator_win() {
    let set = shaped("statefulSet: {pod: {labels: {app: theirs, tailscale.com/managed: 'no', team: net}}}");
    let labels = set.spec.unwrap().template.metadata.unwrap().labels.unwrap();
    assert_eq!(
        (labels["app"].as_str(), labels["tailscale.com/managed"].as_str()),
        ("0c3a", "true")
    );
    assert_eq!(labels["team"], "net");
}

#[test]
fn security_stays_where_the_class_is_silent() {
    let context = container("{securityContext: {capabilities: {add: [NET_ADMIN, NET_RAW]}}}")
        .security_context
        .unwrap();
    let capabilities = context.capabilities.unwrap();
    assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
    assert_eq!(capabilities.add.unwrap(), ["NET_ADMIN", "NET_RAW"]);
    assert_eq!(context.read_only_root_filesystem, Some(true));
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
}

#[test]
fn privileged_container_may_escalate_as_the_api_server_wants_it() {
    let context = container("{securityContext: {privileged: true}}")
        .security_context
        .unwrap();
    assert_eq!(
        (context.privileged, context.allow_privilege_escalation),
        (Some(true), None)
    );
}

#[test]
fn request_of_ours_beyond_the_limit_is_dropped() {
    let resources = container("{resources: {limits: {cpu: 5m, memory: 64Mi}}}")
        .resources
        .unwrap();
    let requests = resources.requests.unwrap();
    assert!(!requests.contains_key("cpu"));
    assert_eq!(requests["memory"].0, "24Mi");
}
