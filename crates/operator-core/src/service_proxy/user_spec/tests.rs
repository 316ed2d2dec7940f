use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::{is_redirected, redirect, restore};
use crate::service_proxy::test_objects::{egress, merge, service};

const NAME: &str = "ts-web-b2c4d.isthmus.svc.cluster.local";

fn redirected(mut service: Service) -> Service {
    let patch = redirect(&service, NAME).unwrap();
    merge(&mut service, &patch.body);
    service
}

#[test]
fn redirect_names_the_version_it_was_made_from() {
    let patch = redirect(&egress(), NAME).unwrap();
    assert_eq!(patch.body["metadata"]["uid"], "0c3a");
    assert_eq!(patch.body["metadata"]["resourceVersion"], "7");
    assert_eq!(
        patch.body["spec"],
        json!({"type": "ExternalName", "externalName": NAME, "selector": null})
    );
}

#[test]
fn redirected_service_needs_no_patch_until_somebody_changes_it() {
    let mut service = redirected(egress());
    assert!(is_redirected(&service));
    assert_eq!(redirect(&service, NAME), None);
    service.spec.as_mut().unwrap().external_name = Some("placeholder".to_owned());
    assert!(redirect(&service, NAME).is_some());
}

#[test]
fn second_redirect_keeps_the_first_original() {
    let mut service = redirected(egress());
    service.spec.as_mut().unwrap().external_name = Some("elsewhere".to_owned());
    let mut service = redirected(service);
    let patch = restore(&service).unwrap();
    merge(&mut service, &patch.body);
    assert_eq!(service.spec.unwrap().external_name.as_deref(), Some("placeholder"));
}

#[test]
fn restored_service_is_as_it_was() {
    for mut before in [egress(), service(&[])] {
        // Given by the cluster, which takes it away from an alias.
        before.spec.as_mut().unwrap().cluster_ip = None;
        let mut after = redirected(before.clone());
        let patch = restore(&after).unwrap();
        merge(&mut after, &patch.body);
        assert_eq!(after.spec, before.spec);
        assert!(!is_redirected(&after));
    }
}

#[test]
fn service_never_redirected_is_not_restored() {
    assert_eq!(restore(&egress()), None);
}
