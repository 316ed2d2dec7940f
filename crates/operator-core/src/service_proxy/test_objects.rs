//! Objects for the tests of this module: a Service, its proxy at every stage, and what surrounds them.

use std::collections::BTreeMap;

use isthmus_contract::{
    annotation,
    device_config::AuthKey,
    finalizer, load_balancer,
    proxy_config::{EgressTarget, IngressTarget, Port, Protocol},
    proxy_status::ProxyStatus,
    secret_key,
};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, PodCondition, PodStatus, Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};

use super::{Action, Child, Children, Direction, Input, MintedKey, Wanted, desired, plan};
use crate::{proxy_class::Choice, settings::Settings};

/// The time in all tests.
pub(super) const NOW: i64 = 1_000_000;

pub(crate) fn settings() -> Settings {
    Settings {
        namespace: "isthmus".to_owned(),
        proxy_image: "isthmus:test".to_owned(),
        proxy_image_pull_policy: Some("IfNotPresent".to_owned()),
        proxy_priority_class: None,
        proxy_default_class: None,
        proxy_tags: vec!["tag:k8s".to_owned()],
        default_load_balancer: false,
        login_server: "http://10.0.0.1:8080".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        cluster_id: "1a2b3c4d-0000-0000-0000-000000000000".to_owned(),
    }
}

pub(super) fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

pub(super) fn minted() -> MintedKey {
    MintedKey {
        id: "k1".to_owned(),
        tags: "tag:k8s".to_owned(),
        key: AuthKey::new("tskey-auth-k1-xyz"),
        expires: at(NOW + 3600),
    }
}

pub(super) fn ingress_wanted() -> Wanted {
    Wanted {
        direction: Direction::Ingress {
            target: IngressTarget::ClusterIps(vec![[10, 96, 0, 7].into()]),
            ports: Some(vec![Port {
                protocol: Protocol::Tcp,
                port: 80,
            }]),
        },
        hostname: "shop-web".to_owned(),
        tags: vec!["tag:k8s".to_owned()],
        health_port: 9002,
    }
}

pub(super) fn egress_wanted() -> Wanted {
    Wanted {
        direction: Direction::Egress {
            target: EgressTarget::Ip([100, 64, 0, 5].into()),
        },
        ..ingress_wanted()
    }
}

/// The StatefulSet of a proxy without a class.
pub(crate) fn bare_stateful_set() -> StatefulSet {
    let (input, settings) = (input(exposed()), settings());
    let proxy = desired::Proxy::new(&input, &settings);
    let Child::StatefulSet(set) = desired::stateful_set(&proxy, &ingress_wanted()) else {
        unreachable!()
    };
    *set
}

/// A Service `web` in `shop` with one TCP port, that asks for what `annotations` say.
pub(super) fn service(annotations: &[(&str, &str)]) -> Service {
    let port = ServicePort {
        port: 80,
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    let annotations = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Service {
        metadata: ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some("0c3a".to_owned()),
            resource_version: Some("7".to_owned()),
            annotations: Some(annotations.collect()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("10.96.0.7".to_owned()),
            ports: Some(vec![port]),
            selector: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

pub(crate) fn exposed() -> Service {
    service(&[(annotation::EXPOSE, "true")])
}

/// A LoadBalancer Service of our class.
pub(super) fn load_balancer() -> Service {
    let mut service = service(&[]);
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.load_balancer_class = Some(load_balancer::CLASS.to_owned());
    service
}

/// An ExternalName Service that leads to 100.64.0.5.
pub(super) fn egress() -> Service {
    let mut service = service(&[(annotation::TAILNET_IP, "100.64.0.5")]);
    service.spec = Some(ServiceSpec {
        type_: Some("ExternalName".to_owned()),
        external_name: Some("placeholder".to_owned()),
        ..ServiceSpec::default()
    });
    service
}

/// Nothing exists of the proxy yet.
pub(crate) fn input(service: Service) -> Input {
    Input {
        service,
        class: Choice::Without,
        children: Children::default(),
        taken_names: std::collections::BTreeSet::new(),
        minted: None,
        tagged: None,
        problem: None,
        now: at(NOW),
    }
}

/// Does to `input` what the shell does: carries out the plan, with `minted` for the key, until it is empty.
pub(crate) fn settle(input: &mut Input) -> Vec<&'static str> {
    let mut done = Vec::new();
    for _ in 0..5 {
        let plan = plan(input, &settings());
        if plan.actions.is_empty() {
            break;
        }
        for action in plan.actions {
            done.push(carry_out(action, input));
        }
    }
    input.minted = None;
    input.tagged = None;
    done
}

fn carry_out(action: Action, input: &mut Input) -> &'static str {
    match action {
        Action::HoldFinalizer => {
            input.service.metadata.finalizers = Some(vec![finalizer::DEVICE.to_owned()]);
            "hold finalizer"
        }
        Action::ReleaseFinalizer => {
            input.service.metadata.finalizers = None;
            "release finalizer"
        }
        Action::PatchSpec(patch) => {
            merge(&mut input.service, &patch.body);
            "patch spec"
        }
        Action::NoteRefusal(patch) => {
            merge(&mut input.service, &patch.body);
            "note refusal"
        }
        Action::Apply(child) => {
            let kind = child.kind();
            let before = input.children.secret.as_ref().and_then(|secret| secret.data.clone());
            input.children.absorb(*child);
            if kind == "Secret" {
                // Keys of others stay.
                let data = input.children.secret.as_mut().unwrap().data.get_or_insert_default();
                for (key, value) in before.unwrap_or_default() {
                    data.entry(key).or_insert(value);
                }
            }
            kind
        }
        Action::Delete(child) => {
            input.children.lose(&child);
            if child.kind() == "StatefulSet" {
                input.children.stateful_set = None;
                input.children.pod = None;
            }
            "delete"
        }
        Action::Orphan(_) => {
            input.children.stateful_set = None;
            "orphan"
        }
        Action::MintAuthKey(_) => {
            input.minted = Some(minted());
            "mint"
        }
        Action::RevokeAuthKey(_) => "revoke",
        Action::DeleteDevice(_) => "delete device",
        Action::SetDeviceTags { tags, .. } => {
            input.tagged = Some(tags);
            "set tags"
        }
        Action::DeleteDeviceOfMachine(_) => "delete device of machine",
    }
}

/// A JSON merge patch, as the API server does it.
pub(super) fn merge(service: &mut Service, patch: &serde_json::Value) {
    fn into(target: &mut serde_json::Value, patch: &serde_json::Value) {
        let serde_json::Value::Object(members) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = serde_json::json!({});
        }
        for (key, value) in members {
            if value.is_null() {
                target.as_object_mut().unwrap().remove(key);
            } else {
                into(&mut target[key.as_str()], value);
            }
        }
    }
    let mut value = serde_json::to_value(&*service).unwrap();
    into(&mut value, patch);
    *service = serde_json::from_value(value).unwrap();
}

/// Puts a text into the proxy's Secret, as the proxy does.
pub(super) fn report(input: &mut Input, key: &str, text: &str) {
    let secret = input.children.secret.as_mut().unwrap();
    secret
        .data
        .get_or_insert_default()
        .insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
}

/// The Pod runs, whether ready or not.
pub(super) fn pod(ready: bool) -> Pod {
    let condition = PodCondition {
        type_: "Ready".to_owned(),
        status: if ready { "True" } else { "False" }.to_owned(),
        ..PodCondition::default()
    };
    Pod {
        metadata: ObjectMeta {
            uid: Some("pod-1".to_owned()),
            ..ObjectMeta::default()
        },
        status: Some(PodStatus {
            conditions: Some(vec![condition]),
            ..PodStatus::default()
        }),
        ..Pod::default()
    }
}

/// The proxy is logged in, holds its target and is ready.
pub(super) fn come_up(input: &mut Input, wanted: &Wanted) {
    input.children.pod = Some(pod(true));
    report(input, secret_key::DEVICE_ID, "n1");
    report(input, secret_key::DEVICE_FQDN, "shop-web.tail.net.");
    report(input, secret_key::DEVICE_IPS, r#"["100.64.0.9"]"#);
    let status = ProxyStatus::new("pod-1", Some(wanted.proxy_config()), None);
    report(input, secret_key::PROXY_STATUS, &status.render());
}
