use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::of_interest;
use crate::reconcile::tests::settings;

fn service(annotations: &Value) -> Service {
    let metadata = json!({
        "name": "web", "namespace": "shop", "annotations": annotations,
        "managedFields": [{"manager": "kubectl", "operation": "Update"}],
    });
    serde_json::from_value(json!({"metadata": metadata, "spec": {"clusterIP": "10.96.0.7"}})).unwrap()
}

#[test]
fn service_that_asks_for_nothing_is_not_kept() {
    let (event, touched) = of_interest(Event::InitApply(service(&json!({}))), &settings());
    assert!(event.is_none() && touched.is_none());
    // It may have asked before.
    let (event, touched) = of_interest(Event::Apply(service(&json!({}))), &settings());
    assert!(matches!(event, Some(Event::Delete(_))) && touched.is_some());
}

#[test]
fn exposed_service_is_kept_without_what_nobody_reads() {
    let annotations = json!({
        "tailscale.com/expose": "true", "kubectl.kubernetes.io/last-applied-configuration": "{}",
    });
    let (event, touched) = of_interest(Event::Apply(service(&annotations)), &settings());
    let Some(Event::Apply(kept)) = event else {
        panic!("not kept")
    };
    assert_eq!(touched.unwrap().name, "web");
    assert!(kept.metadata.managed_fields.is_none());
    assert_eq!(
        kept.metadata.annotations.unwrap().into_keys().collect::<Vec<_>>(),
        ["tailscale.com/expose"]
    );
}
