use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::{is_redirected, redirect, restore};
use crate::service_proxy::test_objects::{egress, merge, service};

const NAME: &str = "ts-web-b2c4d.isthmus.svc.cluster.local";
const NAMESPACE: &str = "isthmus";

fn redirected(mut service: Service) -> Service {
    let patch = redirect(&service, NAME, NAMESPACE).unwrap();
    merge(&mut service, &patch.body);
    service
}

#[test]
fn redirect_names_the_version_it_was_made_from() {
    let patch = redirect(&egress(), NAME, NAMESPACE).unwrap();
    assert_eq!(patch.body["metadata"]["uid"], "0c3a");
    assert_eq!(patch.body["metadata"]["resourceVersion"], "7");
    assert_eq!(
        patch.body["spec"],
        json!({"type": "ExternalName", "externalName": NAME, "selector": null, "loadBalancerSourceRanges": null})
    );
}

#[test]
fn redirected_service_needs_no_patch_until_somebody_changes_it() {
    let mut service = redirected(egress());
    assert!(is_redirected(&service));
    assert_eq!(redirect(&service, NAME, NAMESPACE), None);
    service.spec.as_mut().unwrap().external_name = Some("placeholder".to_owned());
    assert!(redirect(&service, NAME, NAMESPACE).is_some());
}

#[test]
fn second_redirect_keeps_the_first_original() {
    let mut service = redirected(egress());
    service.spec.as_mut().unwrap().external_name = Some("ts-web-x2x4x.isthmus.svc.cluster.local".to_owned());
    let mut service = redirected(service);
    let patch = restore(&service, NAMESPACE).unwrap();
    merge(&mut service, &patch.body);
    assert_eq!(service.spec.unwrap().external_name.as_deref(), Some("placeholder"));
}

/// What the API server drops from a Service that becomes an alias.
fn become_alias(service: &mut Service) {
    let spec = service.spec.as_mut().unwrap();
    spec.cluster_ip = None;
    spec.cluster_ips = None;
    spec.ip_families = None;
    spec.ip_family_policy = None;
    spec.health_check_node_port = None;
    spec.allocate_load_balancer_node_ports = None;
    spec.load_balancer_class = None;
    spec.external_traffic_policy = None;
    for port in spec.ports.iter_mut().flatten() {
        port.node_port = None;
    }
}

/// Services of every type, as the API server has them.
fn every_type() -> Vec<Service> {
    let base = json!({
        "selector": {"app": "web"}, "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack", "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": [{"name": "a", "port": 80, "protocol": "TCP", "nodePort": 30080}, {"name": "b", "port": 80, "protocol": "UDP"}],
    });
    let types = [
        json!({"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}),
        json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}),
        json!({"type": "NodePort", "externalTrafficPolicy": "Cluster"}),
        json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999,
            "allocateLoadBalancerNodePorts": true, "loadBalancerClass": "example.com/cloud",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
        }),
    ];
    let mut services: Vec<Service> = types
        .into_iter()
        .map(|overlay| {
            let mut service = service(&[]);
            merge(&mut service, &json!({"spec": base}));
            merge(&mut service, &json!({"spec": overlay}));
            service
        })
        .collect();
    services.push(egress());
    services
}

#[test]
fn restored_service_of_every_type_is_as_it_was() {
    for before in every_type() {
        let mut after = redirected(before.clone());
        become_alias(&mut after);
        assert_eq!(redirect(&after, NAME, NAMESPACE), None);
        let patch = restore(&after, NAMESPACE).unwrap();
        merge(&mut after, &patch.body);
        assert_eq!(after.spec, before.spec);
        assert!(!is_redirected(&after));
    }
}

#[test]
fn addresses_and_ports_that_are_taken_meanwhile_are_given_anew() {
    for before in every_type() {
        let mut after = redirected(before.clone());
        become_alias(&mut after);
        let spec = before.spec.unwrap();
        match restore(&after, NAMESPACE).unwrap().fallback {
            Some(fallback) => {
                let text = fallback["spec"].to_string();
                assert!(
                    !text.contains("10.96.0.7") && !text.contains("30080") && !text.contains("30999"),
                    "{text}"
                );
                assert_eq!(fallback["spec"]["type"], json!(spec.type_));
                assert_eq!(fallback["spec"]["selector"], json!(spec.selector));
            }
            None => assert_eq!(spec.type_.as_deref(), Some("ExternalName")),
        }
    }
}

#[test]
fn what_is_edited_while_redirected_is_kept() {
    let mut service = every_type().remove(2);
    service = redirected(service);
    become_alias(&mut service);
    let spec = service.spec.as_mut().unwrap();
    spec.selector = Some([("app".to_owned(), "new".to_owned())].into());
    spec.ports.as_mut().unwrap().remove(1);
    let mut service = redirected(service);
    assert!(
        service.spec.as_ref().unwrap().selector.is_none(),
        "an alias selects nothing"
    );
    let patch = restore(&service, NAMESPACE).unwrap();
    merge(&mut service, &patch.body);
    let spec = service.spec.unwrap();
    assert_eq!(spec.selector.unwrap()["app"], "new");
    assert_eq!(
        json!(spec.ports),
        json!([{"name": "a", "port": 80, "protocol": "TCP", "nodePort": 30080}])
    );
    assert_eq!(spec.type_.as_deref(), Some("NodePort"));
}

#[test]
fn type_changed_while_redirected_is_the_one_given_back() {
    let mut service = redirected(every_type().remove(3));
    become_alias(&mut service);
    service.spec.as_mut().unwrap().type_ = Some("ClusterIP".to_owned());
    let mut service = redirected(service);
    let patch = restore(&service, NAMESPACE).unwrap();
    merge(&mut service, &patch.body);
    let spec = service.spec.unwrap();
    assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    assert_eq!(spec.selector.unwrap()["app"], "web", "we took it away, not the user");
    assert_eq!(spec.load_balancer_class, None);
}

#[test]
fn alias_that_its_owner_names_while_redirected_is_the_one_given_back() {
    for looked_between in [false, true] {
        let mut service = redirected(every_type().remove(0));
        become_alias(&mut service);
        service.spec.as_mut().unwrap().external_name = Some("db.example.com".to_owned());
        if looked_between {
            service = redirected(service);
        }
        let patch = restore(&service, NAMESPACE).unwrap();
        merge(&mut service, &patch.body);
        let spec = service.spec.as_ref().unwrap();
        assert_eq!(spec.external_name.as_deref(), Some("db.example.com"));
        assert_eq!(spec.type_.as_deref(), Some("ExternalName"));
        assert_eq!(spec.selector.as_ref().unwrap()["app"], "web");
        assert!(!is_redirected(&service));
    }
}

#[test]
fn type_written_together_with_the_end_of_the_redirection_stays() {
    let mut service = redirected(every_type().remove(0));
    become_alias(&mut service);
    merge(
        &mut service,
        &json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": "tailscale"}}),
    );
    let patch = restore(&service, NAMESPACE).unwrap();
    merge(&mut service, &patch.body);
    let spec = service.spec.unwrap();
    assert_eq!(spec.type_.as_deref(), Some("LoadBalancer"));
    assert_eq!(spec.load_balancer_class.as_deref(), Some("tailscale"));
    assert_eq!(spec.selector.unwrap()["app"], "web");
}

#[test]
fn mark_edited_by_hand_still_gives_the_service_back() {
    let mut service = redirected(service(&[]));
    let annotations = service.metadata.annotations.as_mut().unwrap();
    annotations.insert(
        isthmus_contract::annotation::ORIGINAL_SPEC.to_owned(),
        "junk".to_owned(),
    );
    let patch = restore(&service, NAMESPACE).unwrap();
    merge(&mut service, &patch.body);
    assert!(!is_redirected(&service));
}

#[test]
fn service_never_redirected_is_not_restored() {
    assert_eq!(restore(&egress(), NAMESPACE), None);
}
