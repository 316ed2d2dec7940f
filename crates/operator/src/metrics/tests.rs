use std::{collections::BTreeSet, time::Duration};

use isthmus_tailnet_api::{Call, Observer as _};
use k8s_openapi::api::core::v1::Service;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;

use super::{Metrics, PREFIX};
use crate::{
    changes::Changes,
    reconcile::tests::{World, settings, stores},
};

const DOCUMENTED: &str = include_str!("../../../../docs/metrics.md");

fn encoded(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

/// Names as samples have them, from `# TYPE name kind`.
fn names(text: &str) -> BTreeSet<String> {
    let kinds = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    kinds
        .map(|(name, kind)| {
            if kind == "counter" {
                format!("{name}_total")
            } else {
                name.to_owned()
            }
        })
        .collect()
}

#[test]
fn documented_metrics_are_those_that_there_are() {
    let mut registry = Registry::with_prefix(PREFIX);
    let metrics = Metrics::register(&mut registry);
    metrics.watch(settings(), stores(&World::default()), Changes::default());
    metrics.reconciled(Some("refused"), Duration::ZERO);
    metrics.wrote_condition();
    metrics.asked(Call::Token, Some(200));
    let documented: BTreeSet<String> = DOCUMENTED
        .split('`')
        .filter(|word| word.starts_with(PREFIX) && !word.contains(['*', '{']))
        .map(str::to_owned)
        .collect();
    assert_eq!(names(&encoded(&registry)), documented);
}

#[test]
fn services_are_counted_by_state() {
    let mut registry = Registry::with_prefix(PREFIX);
    let metrics = Metrics::register(&mut registry);
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "annotations": {"tailscale.com/expose": "true"}},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]},
        "status": {"conditions": [{
            "type": "TailscaleProxyReady", "status": "False", "reason": "ProxyFailed", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    }))
    .unwrap();
    let world = World {
        service: Some(service),
        ..World::default()
    };
    metrics.watch(settings(), stores(&world), Changes::default());
    let text = encoded(&registry);
    let line = r#"isthmus_operator_managed{kind="Service",state="failed"} 1"#;
    assert!(text.lines().any(|found| found == line), "{text}");
}

#[test]
fn tailnet_that_fails_is_not_reachable() {
    let mut registry = Registry::with_prefix(PREFIX);
    let metrics = Metrics::register(&mut registry);
    let reachable = |status| {
        metrics.asked(Call::DeleteDevice, status);
        encoded(&registry)
            .lines()
            .any(|line| line == "isthmus_operator_tailnet_reachable 1")
    };
    assert!(reachable(Some(404)));
    assert!(!reachable(Some(503)));
    assert!(!reachable(None));
    assert!(encoded(&registry).contains(r#"tailnet_requests_total{call="delete_device",code="none"} 1"#));
}
