use isthmus_contract::{
    annotation,
    proxy_config::{EgressTarget, IngressTarget, Port, Protocol},
};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use proptest::prelude::*;

use super::{Direction, Intent, concerns, intent, is_tag, naming::is_dns_label};
use crate::{
    service_proxy::{
        Wanted,
        test_objects::{egress, egress_wanted, exposed, ingress_wanted, service, settings},
    },
    settings::Settings,
};

fn port(protocol: &str, number: i32) -> ServicePort {
    ServicePort {
        protocol: Some(protocol.to_owned()),
        port: number,
        ..ServicePort::default()
    }
}

fn wanted(service: &Service) -> Wanted {
    let intent = intent(service, &settings());
    if let Intent::Proxy(wanted) = intent {
        wanted
    } else {
        panic!("{intent:?}")
    }
}

fn refusal(service: &Service) -> String {
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
        let service = service(&[(annotation::EXPOSE, value)]);
        assert!(!concerns(&service, &settings()), "{value}");
    }
}

/// A LoadBalancer Service of class `class` with `annotations`.
fn balancer(class: Option<&str>, annotations: &[(&str, &str)]) -> Service {
    let mut service = service(annotations);
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.load_balancer_class = class.map(str::to_owned);
    service
}

#[test]
fn load_balancers_are_taken_by_class_by_default_or_by_annotation() {
    let expose = [(annotation::EXPOSE, "true")];
    let defaulting = Settings {
        default_load_balancer: true,
        ..settings()
    };
    // Class, annotations, whether it is exposed, and whether it is where ours is the default.
    for (class, annotations, taken, taken_by_default) in [
        (Some("tailscale"), [].as_slice(), true, true),
        (None, &[], false, true),
        (Some("example.com/cloud"), &[], false, false),
        (Some("example.com/cloud"), &expose, true, true),
        (None, &expose, true, true),
    ] {
        let service = balancer(class, annotations);
        for (settings, taken) in [(settings(), taken), (defaulting.clone(), taken_by_default)] {
            let found = match intent(&service, &settings) {
                Intent::None => None,
                Intent::Proxy(wanted) => Some(wanted.direction),
                Intent::Invalid(problem) => panic!("{}", problem.message()),
            };
            assert_eq!(
                found,
                taken.then(|| ingress_wanted().direction),
                "{class:?} {annotations:?}"
            );
        }
    }
    let mut former = balancer(None, &[]);
    former.spec.as_mut().unwrap().type_ = Some("ClusterIP".to_owned());
    assert!(!concerns(&former, &defaulting));
}

#[test]
fn load_balancer_with_a_target_is_egress_unless_it_names_our_class() {
    let target = [(annotation::TAILNET_IP, "100.64.0.5")];
    let defaulting = Settings {
        default_load_balancer: true,
        ..settings()
    };
    for class in [None, Some("example.com/cloud")] {
        let intent = intent(&balancer(class, &target), &defaulting);
        assert!(matches!(intent, Intent::Proxy(wanted) if wanted.direction == egress_wanted().direction));
    }
    let message = refusal(&balancer(Some("tailscale"), &target));
    assert!(
        message.starts_with("spec.loadBalancerClass: a Service is either"),
        "{message}"
    );
}

#[test]
fn udp_and_mixed_ports_are_exposed() {
    let mut service = exposed();
    service.spec.as_mut().unwrap().ports = Some(vec![port("UDP", 53), port("TCP", 53)]);
    let listed = |protocol| Port { protocol, port: 53 };
    let Direction::Ingress { ports, .. } = wanted(&service).direction else {
        panic!("it is exposed")
    };
    assert_eq!(ports, Some(vec![listed(Protocol::Udp), listed(Protocol::Tcp)]));
}

#[test]
fn every_cluster_ip_is_a_target() {
    for ips in [&["10.96.0.7", "fd00::7"][..], &["fd00::7"], &["fd00::7", "10.96.0.7"]] {
        let mut service = exposed();
        let spec = service.spec.as_mut().unwrap();
        spec.cluster_ip = Some(ips[0].to_owned());
        spec.cluster_ips = Some(ips.iter().map(|&ip| ip.to_owned()).collect());
        let Direction::Ingress { target, .. } = wanted(&service).direction else {
            panic!("it is exposed")
        };
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(target, IngressTarget::ClusterIps(ips));
    }
}

/// An exposed ExternalName Service.
fn alias(name: Option<&str>, ports: &[ServicePort]) -> Service {
    let mut service = exposed();
    service.spec = Some(ServiceSpec {
        type_: Some("ExternalName".to_owned()),
        external_name: name.map(str::to_owned),
        ports: Some(ports.to_vec()),
        ..ServiceSpec::default()
    });
    service
}

#[test]
fn alias_exposes_its_name_with_the_ports_it_declares_or_all() {
    for (ports, wanted_ports) in [
        (vec![], None),
        (
            vec![port("TCP", 5432)],
            Some(vec![Port {
                protocol: Protocol::Tcp,
                port: 5432,
            }]),
        ),
    ] {
        let wanted = wanted(&alias(Some("DB.Example.com."), &ports));
        let target = IngressTarget::DnsName("db.example.com".to_owned());
        assert_eq!(
            wanted.direction,
            Direction::Ingress {
                target,
                ports: wanted_ports
            }
        );
    }
    for (name, words) in [
        (None, "it is empty"),
        (Some(""), "it is empty"),
        (Some("10.0.0.5"), "`10.0.0.5` is an IP address"),
        (Some("localhost"), "`localhost` is not a full DNS name"),
    ] {
        let message = refusal(&alias(name, &[]));
        assert!(
            message.starts_with("spec.externalName: ") && message.contains(words),
            "{message}"
        );
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
    let port = port("TCP", 9002);
    service.spec.as_mut().unwrap().ports = Some(vec![port.clone()]);
    assert_eq!(wanted(&service).health_port, 9003);
    let mut service = exposed();
    service.spec.as_mut().unwrap().ports = Some(vec![port]);
    assert_eq!(wanted(&service).health_port, 9002);
    let ports = vec![Port {
        protocol: Protocol::Tcp,
        port: 9002,
    }];
    assert!(matches!(wanted(&service).direction, Direction::Ingress { ports: Some(found), .. } if found == ports));
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
    for (text, words) in [
        (
            "db.tail.net",
            "is not an IP address; write it in tailscale.com/tailnet-fqdn",
        ),
        ("junk", "is not an IP address; give the IP address of a tailnet device"),
        ("100.64.0.5:80", "is not an IP address"),
        ("127.0.0.1", "cannot be a device"),
        ("169.254.169.254", "cannot be a device"),
        ("224.0.0.1", "cannot be a device"),
        ("0.0.0.0", "cannot be a device"),
        ("::1", "cannot be a device"),
        ("fe80::1", "cannot be a device"),
        ("::ffff:100.64.0.5", "cannot be a device"),
        ("100.64.0.5/32", "is a range; give one address, such as 100.64.0.5"),
        ("fd7a:115c:a1e0::/48", "is a range"),
    ] {
        for key in annotation::TAILNET_IP_SPELLINGS {
            refused(&[(key, text)], &[&format!("annotation {key}: `{text}` {words}")]);
        }
    }
}

fn egress_target(annotations: &[(&str, &str)]) -> EgressTarget {
    let direction = wanted(&service(annotations)).direction;
    if let Direction::Egress { target } = direction {
        target
    } else {
        panic!("{direction:?}")
    }
}

#[test]
fn target_may_be_an_address_of_either_family() {
    let v6 = EgressTarget::Ip("fd7a:115c:a1e0::5".parse().unwrap());
    assert_eq!(egress_target(&[(annotation::TAILNET_IP, "fd7a:115c:a1e0:0::5")]), v6);
    let two_spellings = [
        (annotation::TAILNET_IP, "fd7a:115c:a1e0::5"),
        (annotation::TAILNET_TARGET_IP, "FD7A:115C:A1E0:0:0:0:0:5"),
    ];
    assert_eq!(egress_target(&two_spellings), v6);
}

#[test]
fn target_may_be_a_name_of_any_tailnet_in_any_case() {
    for text in ["db.tail1234.ts.net", "DB.Tail1234.ts.net.", " db.tail1234.TS.net "] {
        let name = EgressTarget::Fqdn("db.tail1234.ts.net".to_owned());
        assert_eq!(egress_target(&[(annotation::TAILNET_FQDN, text)]), name);
    }
    for text in ["db.vpn.example.org", "db.internal", "10-1-1-1-via-7.tail1234.ts.net"] {
        let name = EgressTarget::Fqdn(text.to_owned());
        assert_eq!(egress_target(&[(annotation::TAILNET_FQDN, text)]), name);
    }
    for (text, words) in [
        (
            "db",
            "`db` is not a full DNS name; give the device's name with its tailnet",
        ),
        ("100.64.0.5", "is an IP address; write it in tailscale.com/tailnet-ip"),
        ("db..ts.net", "is not a full DNS name"),
        ("-db.ts.net", "is not a full DNS name"),
        ("*.ts.net", "is not a full DNS name"),
        ("https://db.ts.net", "is not a full DNS name"),
        (".", "is not a full DNS name"),
        (&format!("{}.ts.net", "a".repeat(64)), "is not a full DNS name"),
    ] {
        refused(
            &[(annotation::TAILNET_FQDN, text)],
            &["annotation tailscale.com/tailnet-fqdn", words],
        );
    }
}

#[test]
fn two_targets_are_refused() {
    refused(
        &[
            (annotation::TAILNET_FQDN, "db.tail1234.ts.net"),
            (annotation::TAILNET_IP, "100.64.0.5"),
        ],
        &[
            "annotation tailscale.com/tailnet-fqdn",
            "remove this annotation or tailscale.com/tailnet-ip",
        ],
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    refused(
        &[(annotation::EXPOSE, "true"), (annotation::PROXY_GROUP, "")],
        &["proxy-group", "remove it"],
    );
}

#[test]
fn names_and_tags_that_cannot_be_are_refused() {
    let long = "a".repeat(64);
    for hostname in ["Shop_1", "shop.web", "-shop", long.as_str()] {
        refused(
            &[(annotation::EXPOSE, "true"), (annotation::HOSTNAME, hostname)],
            &["annotation tailscale.com/hostname", hostname, "is not a DNS label"],
        );
    }
    for (tags, tag) in [
        ("web", "`web`"),
        ("tag:web,", "``"),
        ("tag:1", "`tag:1`"),
        ("tag:a b", "`tag:a b`"),
    ] {
        refused(
            &[(annotation::EXPOSE, "true"), (annotation::TAGS, tags)],
            &["annotation tailscale.com/tags", tag, "tag:web"],
        );
    }
}

#[test]
fn service_that_has_no_address_cannot_be_exposed() {
    let change = |change: fn(&mut ServiceSpec)| {
        let mut service = exposed();
        change(service.spec.as_mut().unwrap());
        refusal(&service)
    };
    assert!(change(|spec| spec.cluster_ip = Some("None".to_owned())).starts_with("spec.clusterIP: a headless"));
    assert!(change(|spec| spec.ports = None).starts_with("spec.ports"));
    let sctp = change(|spec| spec.ports = Some(vec![port("TCP", 80), port("SCTP", 9999)]));
    assert!(sctp.starts_with("spec.ports[1].protocol: port 9999 is SCTP"), "{sctp}");
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
