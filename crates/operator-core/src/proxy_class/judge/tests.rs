use super::judge;
use crate::proxy_class::{ProxyClass, ProxyClassSpec};

fn findings(yaml: &str) -> Vec<String> {
    let spec: ProxyClassSpec = serde_yaml_ng::from_str(yaml).unwrap();
    judge(&spec, false).iter().map(super::Finding::message).collect()
}

#[test]
fn class_with_every_field_is_valid() {
    let class: ProxyClass = serde_yaml_ng::from_str(include_str!("../every_field.yaml")).unwrap();
    assert_eq!(judge(&class.spec, true), []);
}

#[test]
fn each_mistake_is_named_with_its_field() {
    for (yaml, field) in [
        ("statefulSet: {labels: {a: '-b'}}", "spec.statefulSet.labels[a]: `-b`"),
        ("statefulSet: {labels: {'a b': c}}", "spec.statefulSet.labels: `a b`"),
        (
            "statefulSet: {annotations: {'Ex.com/a': c}}",
            "spec.statefulSet.annotations: `Ex.com/a`",
        ),
        (
            "statefulSet: {pod: {labels: {'/a': c}}}",
            "spec.statefulSet.pod.labels: `/a`",
        ),
        (
            "statefulSet: {pod: {annotations: {'': c}}}",
            "spec.statefulSet.pod.annotations: ``",
        ),
        (
            "statefulSet: {pod: {nodeSelector: {a: 'b c'}}}",
            "spec.statefulSet.pod.nodeSelector[a]: `b c`",
        ),
        (
            "statefulSet: {pod: {tailscaleContainer: {image: 'a b'}}}",
            "spec.statefulSet.pod.tailscaleContainer.image: `a b`",
        ),
        (
            "statefulSet: {pod: {tailscaleInitContainer: {image: ':'}}}",
            "spec.statefulSet.pod.tailscaleInitContainer.image: `:`",
        ),
        (
            "statefulSet: {pod: {tailscaleContainer: {env: [{name: A}, {name: 1A}]}}}",
            "spec.statefulSet.pod.tailscaleContainer.env[1].name: `1A`",
        ),
        (
            "statefulSet: {pod: {tailscaleInitContainer: {debug: {enable: true}}}}",
            "spec.statefulSet.pod.tailscaleInitContainer.debug: ",
        ),
        (
            "metrics: {enable: true, serviceMonitor: {enable: true}}",
            "spec.metrics.serviceMonitor: the cluster does not know",
        ),
        (
            "metrics: {enable: true, serviceMonitor: {enable: false, labels: {a: '!'}}}",
            "spec.metrics.serviceMonitor.labels[a]: `!`",
        ),
        (
            "staticEndpoints: {nodePort: {ports: []}}",
            "spec.staticEndpoints.nodePort.ports: name at least one",
        ),
        (
            "staticEndpoints: {nodePort: {ports: [{port: 5, endPort: 4}]}}",
            "spec.staticEndpoints.nodePort.ports[0]: let endPort",
        ),
        (
            "staticEndpoints: {nodePort: {ports: [{port: 5, endPort: 9}, {port: 9}]}}",
            "spec.staticEndpoints.nodePort.ports[1]: it overlaps ports[0]",
        ),
    ] {
        let findings = findings(yaml);
        assert_eq!(findings.len(), 1, "{yaml}: {findings:?}");
        assert!(findings[0].starts_with(field), "{yaml}: {findings:?}");
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let yaml = "{statefulSet: {labels: {a: '-'}}, metrics: {enable: false, serviceMonitor: {enable: true}}}";
    assert_eq!(findings(yaml).len(), 3);
}
