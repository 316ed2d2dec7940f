use isthmus_contract::{
    annotation,
    proxy_config::{Port, Protocol},
};
use proptest::prelude::*;

use super::{Direction, Intent, concerns, intent, is_dns_label, is_tag};
use crate::service_proxy::{
    Wanted,
    test_objects::{egress, egress_wanted, exposed, ingress_wanted, service, settings},
};

fn wanted(service: &k8s_openapi::api::core::v1::Service) -> Wanted {
    let intent = intent(service, &settings());
    if let Intent::Proxy(wanted) = intent {
        wanted
    } else {
        panic!("{intent:?}")
    }
}

fn refusal(service: &k8s_openapi::api::core::v1::Service) -> String {
    let intent = intent(service, &settings());
    if let Intent::Invalid(problem) = intent {
        problem.message()
    } else {
        panic!("{intent:?}")
    }
}

fn refused(annotations: &[(&str, &str)], words: &[&str]) {
    let message = refusal(&service(annotations));
    for word in words {
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn exposed_service_is_understood() {
    assert_eq!(wanted(&exposed()), ingress_wanted());
}

#[test]
fn every_spelling_of_the_target_means_the_same() {
    assert_eq!(wanted(&egress()), egress_wanted());
    for key in [
        "tailscale.com/tailnet-target-ip",
        "tailscale.com/tailnet-ip",
        "tailscale.com/ts-tailnet-target-ip",
    ] {
        assert_eq!(
            wanted(&service(&[(key, " 100.64.0.5 ")])).direction,
            egress_wanted().direction
        );
    }
    refused(
        &[
            (annotation::TAILNET_IP, "100.64.0.5"),
            (annotation::TS_TAILNET_TARGET_IP, "100.64.0.6"),
        ],
        &["another target", "keep one"],
    );
}

#[test]
fn expose_must_be_exactly_true() {
    for value in ["false", "True", "yes", ""] {
        assert!(!concerns(&service(&[(annotation::EXPOSE, value)])), "{value}");
    }
}

#[test]
fn hostname_and_tags_are_the_users_when_given() {
    let wanted = wanted(&service(&[
        (annotation::EXPOSE, "true"),
        (annotation::HOSTNAME, "shop"),
        (annotation::TAGS, "tag:web, tag:prod-2"),
    ]));
    assert_eq!(wanted.hostname, "shop");
    assert_eq!(wanted.tags, ["tag:web", "tag:prod-2"]);
}

#[test]
fn health_port_moves_only_for_egress_services_that_declare_it() {
    let mut service = egress();
    let port = k8s_openapi::api::core::v1::ServicePort {
        port: 9002,
        ..Default::default()
    };
    service.spec.as_mut().unwrap().ports = Some(vec![port.clone()]);
    assert_eq!(wanted(&service).health_port, 9003);
    let mut service = exposed();
    service.spec.as_mut().unwrap().ports = Some(vec![port]);
    assert_eq!(wanted(&service).health_port, 9002);
    let ports = vec![Port {
        protocol: Protocol::Tcp,
        port: 9002,
    }];
    assert!(matches!(wanted(&service).direction, Direction::Ingress { ports: found, .. } if found == ports));
}

#[test]
fn wishes_that_exclude_each_other_are_refused() {
    refused(
        &[(annotation::EXPOSE, "true"), (annotation::TAILNET_IP, "100.64.0.5")],
        &["annotation tailscale.com/expose"],
    );
}

#[test]
fn targets_that_are_no_device_are_refused_with_the_fix() {
    for text in [
        "db.tail.net",
        "fd7a::5",
        "127.0.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "0.0.0.0",
        "100.64.0.5/32",
    ] {
        refused(
            &[(annotation::TAILNET_IP, text)],
            &["annotation tailscale.com/tailnet-ip", text, "IPv4 address"],
        );
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    refused(
        &[(annotation::TAILNET_FQDN, "db.tail.ts.net")],
        &["tailnet-fqdn", "tailscale.com/tailnet-ip"],
    );
    refused(
        &[(annotation::EXPOSE, "true"), (annotation::PROXY_GROUP, "")],
        &["proxy-group", "remove it"],
    );
    refused(
        &[(annotation::EXPOSE, "true"), (annotation::HOSTNAME, "Shop_1")],
        &["hostname", "Shop_1"],
    );
    refused(
        &[(annotation::EXPOSE, "true"), (annotation::TAGS, "web")],
        &["tags", "`web`", "tag:web"],
    );
}

#[test]
fn service_that_has_no_address_cannot_be_exposed() {
    let change = |change: fn(&mut k8s_openapi::api::core::v1::ServiceSpec)| {
        let mut service = exposed();
        change(service.spec.as_mut().unwrap());
        refusal(&service)
    };
    assert!(change(|spec| spec.cluster_ip = Some("None".to_owned())).starts_with("spec.clusterIP: a headless"));
    assert!(change(|spec| spec.cluster_ip = Some("fd00::7".to_owned())).contains("put IPv4 first in spec.ipFamilies"));
    assert!(change(|spec| spec.type_ = Some("ExternalName".to_owned())).starts_with("spec.type"));
    assert!(change(|spec| spec.ports = None).starts_with("spec.ports"));
    let udp = change(|spec| spec.ports.as_mut().unwrap()[0].protocol = Some("UDP".to_owned()));
    assert!(udp.starts_with("spec.ports[0].protocol: UDP is not supported"), "{udp}");
}

#[test]
fn long_names_make_a_hostname_that_fits() {
    let mut service = exposed();
    service.metadata.namespace = Some("n".repeat(62));
    let hostname = wanted(&service).hostname;
    assert!(is_dns_label(&hostname), "{hostname}");
}

proptest! {
    #[test]
    fn no_annotation_text_brings_the_operator_down(key in 0..7_usize, text in "\\PC*") {
        let keys = [
            annotation::EXPOSE, annotation::HOSTNAME, annotation::TAGS, annotation::TAILNET_IP,
            annotation::TAILNET_TARGET_IP, annotation::TAILNET_FQDN, annotation::PROXY_GROUP,
        ];
        for service in [service(&[(keys[key], &text)]), service(&[(annotation::EXPOSE, "true"), (keys[key], &text)])] {
            if let Intent::Proxy(wanted) = intent(&service, &settings()) {
                prop_assert!(is_dns_label(&wanted.hostname));
                prop_assert!(wanted.tags.iter().all(|tag| is_tag(tag)));
            }
        }
    }
}
