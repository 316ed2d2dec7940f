use insta::{assert_snapshot, with_settings};
use serde::Serialize;

use super::{Child, Login, Proxy, secret, stateful_set, surroundings};
use crate::service_proxy::test_objects::{egress_wanted, ingress_wanted, minted, settings};

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
        Child::HeadlessService(object) => yaml(object),
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
    };
    with_settings!({prepend_module_to_snapshot => false}, { assert_snapshot!(name, text) });
}

#[test]
fn surroundings_are_as_reviewed() {
    let settings = settings();
    for child in surroundings(&proxy(&settings)) {
        check(&child.kind().to_lowercase(), &child);
    }
}

#[test]
fn secret_is_as_reviewed() {
    let settings = settings();
    check(
        "secret_before_login",
        &secret(&proxy(&settings), &ingress_wanted(), &Login::With(minted())),
    );
    check(
        "secret_after_login",
        &secret(&proxy(&settings), &egress_wanted(), &Login::Done),
    );
}

#[test]
fn stateful_set_is_as_reviewed() {
    let settings = settings();
    check("statefulset", &stateful_set(&proxy(&settings), &ingress_wanted()));
}

#[test]
fn another_target_leaves_the_pod_alone() {
    let settings = settings();
    let mut other = ingress_wanted();
    other.direction = match other.direction {
        super::super::Direction::Ingress { ports, .. } => super::super::Direction::Ingress {
            cluster_ip: [10, 96, 9, 9].into(),
            ports,
        },
        egress @ super::super::Direction::Egress { .. } => egress,
    };
    let text = |wanted| {
        let Child::StatefulSet(object) = stateful_set(&proxy(&settings), wanted) else {
            unreachable!()
        };
        yaml(&object)
    };
    assert_eq!(text(&ingress_wanted()), text(&other));
}
