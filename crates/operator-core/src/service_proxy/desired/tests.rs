use insta::{assert_snapshot, with_settings};
use isthmus_contract::{proxy_config::IngressTarget, proxy_status::Family};
use serde::Serialize;

use super::{Child, Login, PodAddresses, Proxy, metrics, secret, stateful_set, surroundings};
use crate::service_proxy::{
    Direction,
    test_objects::{bare_stateful_set, egress_wanted, ingress_wanted, minted, settings},
};

fn proxy(settings: &crate::settings::Settings) -> Proxy<'_> {
    Proxy {
        name: "ts-web-b2c4d".to_owned(),
        pod_name: "ts-web-b2c4d-0".to_owned(),
        parent: "web",
        parent_namespace: "shop",
        parent_uid: "0c3a",
        class: None,
        accept_routes: false,
        settings,
    }
}

fn yaml<T: Serialize>(object: &T) -> String {
    serde_yaml_ng::to_string(object).unwrap()
}

fn check(name: &str, child: &Child) {
    let text = match child {
        Child::HeadlessService(object) | Child::MetricsService(object) => yaml(object),
        Child::Secret(object) => {
            let texts = object
                .data
                .iter()
                .flatten()
                .map(|(key, value)| format!("{key}: {}\n", String::from_utf8(value.0.clone()).unwrap()));
            let texts: String = texts.collect();
            format!("{}---\n{texts}", yaml(&object.metadata))
        }
        Child::ServiceAccount(object) => yaml(object),
        Child::Role(object) => yaml(object),
        Child::RoleBinding(object) => yaml(object),
        Child::StatefulSet(object) => yaml(object),
        Child::ServiceMonitor(object) => yaml(object),
    };
    with_settings!({prepend_module_to_snapshot => false}, { assert_snapshot!(name, text) });
}

#[test]
fn surroundings_are_as_reviewed() {
    let settings = settings();
    for child in surroundings(&proxy(&settings), PodAddresses::Of(Family::V4)) {
        check(&child.kind().to_lowercase(), &child);
    }
}

#[test]
fn headless_service_names_the_families_that_lead_somewhere() {
    let settings = settings();
    let spec = |addresses| {
        let [Child::HeadlessService(service), ..] = surroundings(&proxy(&settings), addresses) else {
            unreachable!()
        };
        let spec = service.spec.unwrap();
        (spec.ip_family_policy.unwrap(), spec.ip_families)
    };
    assert_eq!(spec(PodAddresses::Any), ("SingleStack".to_owned(), None));
    assert_eq!(
        spec(PodAddresses::Of(Family::V6)),
        ("SingleStack".to_owned(), Some(vec!["IPv6".to_owned()]))
    );
    assert_eq!(spec(PodAddresses::Both), ("PreferDualStack".to_owned(), None));
}

#[test]
fn secret_is_as_reviewed() {
    let settings = settings();
    check(
        "secret_before_login",
        &secret(
            &proxy(&settings),
            &ingress_wanted(),
            &Login::With(minted()),
            Some("tag:k8s"),
        ),
    );
    check(
        "secret_after_login",
        &secret(
            &proxy(&settings),
            &egress_wanted(),
            &Login::Done { last_key_ends: None },
            Some("tag:k8s"),
        ),
    );
}

#[test]
fn stateful_set_is_as_reviewed() {
    let settings = settings();
    check("statefulset", &stateful_set(&proxy(&settings), &ingress_wanted()));
}

#[test]
fn metrics_objects_are_as_reviewed() {
    let settings = settings();
    let class = "metrics: {enable: true, serviceMonitor: {enable: true, labels: {prometheus: main, ts_prom_job: x}}}";
    let class = serde_yaml_ng::from_str(class).unwrap();
    let proxy = Proxy {
        class: Some(&class),
        ..proxy(&settings)
    };
    let mut owner = bare_stateful_set();
    owner.metadata.uid = Some("set-1".to_owned());
    let objects = metrics(&proxy, &egress_wanted(), &owner);
    assert_eq!(objects.len(), 2);
    for child in objects {
        check(&format!("metrics_{}", child.kind().to_lowercase()), &child);
    }
}

#[test]
fn another_target_leaves_the_pod_alone() {
    let settings = settings();
    let mut other = ingress_wanted();
    other.direction = Direction::Ingress {
        target: IngressTarget::DnsName("db.example.com".to_owned()),
        ports: None,
    };
    other.tags = vec!["tag:other".to_owned()];
    other.hostname = "other".to_owned();
    let text = |wanted| {
        let Child::StatefulSet(object) = stateful_set(&proxy(&settings), wanted) else {
            unreachable!()
        };
        yaml(&object)
    };
    assert_eq!(text(&ingress_wanted()), text(&other));
}
