//! Pointing a user's egress Service at its proxy, and giving it back.
//!
//! The original of what is changed is kept in an annotation, written in the same request as the change. That is more
//! than the patch names: the API server itself drops what an alias cannot have, such as cluster IPs and node ports.

use isthmus_contract::annotation;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use serde_json::{Map, Value, json};

/// What an alias loses. Everything else of a spec stays as it is, and later changes of it are the user's.
const KEPT: [&str; 13] = [
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerSourceRanges",
    PORTS,
    SELECTOR,
    "type",
];
const PORTS: &str = "ports";
const SELECTOR: &str = "selector";
/// What somebody else may have taken meanwhile. The cluster gives another one.
const ALLOCATED: [&str; 3] = ["clusterIP", "clusterIPs", "healthCheckNodePort"];

/// A merge patch for the user's Service, valid only for the version it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecPatch {
    /// The patch.
    pub body: Value,
    /// The patch to send when the API server finds the first one invalid, if there is another way.
    pub fallback: Option<Value>,
}

/// Members of a spec, as the annotation holds them.
type Original = Map<String, Value>;

/// Whether the Service carries the mark of having been pointed at a proxy.
pub fn is_redirected(service: &Service) -> bool {
    mark(service).is_some()
}

fn mark(service: &Service) -> Option<&String> {
    service.metadata.annotations.as_ref()?.get(annotation::ORIGINAL_SPEC)
}

/// A mark that cannot be read, because somebody edited it, says nothing.
fn original(service: &Service) -> Option<Original> {
    Some(serde_json::from_str(mark(service)?).unwrap_or_default())
}

/// The patch that makes `service` an alias of `external_name`, a proxy in `namespace`; `None` when it is one.
pub(super) fn redirect(service: &Service, external_name: &str, namespace: &str) -> Option<SpecPatch> {
    let default = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&default);
    let is_alias = is_alias(spec)
        && spec.external_name.as_deref() == Some(external_name)
        && spec.selector.iter().flatten().next().is_none();
    if is_alias && is_redirected(service) {
        return None;
    }
    let kept = Value::Object(kept(service, spec, namespace)).to_string();
    let spec = json!({
        "type": "ExternalName",
        "externalName": external_name,
        "selector": null,
        // Refused on everything but a load balancer, and not dropped by itself.
        "loadBalancerSourceRanges": null,
    });
    Some(SpecPatch {
        body: patch(service, &json!(kept), &spec),
        fallback: None,
    })
}

fn is_alias(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("ExternalName")
}

/// Whether the spec is what a redirection made of it: an alias of a proxy in this namespace. Any other has been written by
/// somebody since.
fn leads_to_a_proxy(spec: &ServiceSpec, namespace: &str) -> bool {
    let name = spec.external_name.as_deref().unwrap_or_default();
    let mut labels = name.split('.');
    is_alias(spec)
        && labels.next().is_some_and(|first| first.starts_with("ts-"))
        && labels.next() == Some(namespace)
        && labels.next() == Some("svc")
}

/// What to give back later. On a Service that is redirected already, what somebody has written since is newer than what
/// was kept, except that we took the selector away ourselves.
fn kept(service: &Service, spec: &ServiceSpec, namespace: &str) -> Original {
    let now = members(spec);
    let Some(before) = original(service) else {
        return now;
    };
    let selector = now.get(SELECTOR).or_else(|| before.get(SELECTOR)).cloned();
    let mut kept = if leads_to_a_proxy(spec, namespace) { before } else { now };
    kept.extend(selector.map(|selector| (SELECTOR.to_owned(), selector)));
    kept
}

fn members(spec: &ServiceSpec) -> Original {
    let Value::Object(members) = json!(spec) else {
        return Original::new();
    };
    let kept = |(name, value): &(String, Value)| KEPT.contains(&name.as_str()) && *value != json!({});
    members.into_iter().filter(kept).collect()
}

/// The patch that gives `service` back as it was, or as its owner has written it since; `None` when it was never changed.
/// `namespace` is that of the proxies.
pub(super) fn restore(service: &Service, namespace: &str) -> Option<SpecPatch> {
    let mut original = original(service)?;
    let default = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&default);
    if !leads_to_a_proxy(spec, namespace) {
        let selector = kept(service, spec, namespace).remove(SELECTOR).unwrap_or_default();
        return Some(SpecPatch {
            body: patch(service, &Value::Null, &json!({ SELECTOR: selector })),
            fallback: None,
        });
    }
    let ports = original.remove(PORTS);
    let mut spec: Original = KEPT
        .iter()
        .filter(|name| **name != PORTS)
        .map(|name| ((*name).to_owned(), original.get(*name).cloned().unwrap_or_default()))
        .collect();
    let headless = original.get("clusterIP") == Some(&json!("None"));
    let mut fallback = spec.clone();
    if !headless {
        fallback.retain(|name, _| !ALLOCATED.contains(&name.as_str()));
    }
    spec.extend(with_node_ports(service, ports).map(|ports| (PORTS.to_owned(), ports)));
    let fallback = (fallback != spec).then(|| patch(service, &Value::Null, &Value::Object(fallback)));
    Some(SpecPatch {
        body: patch(service, &Value::Null, &Value::Object(spec)),
        fallback,
    })
}

/// The ports of today with the node ports of then; nothing when there were none.
fn with_node_ports(service: &Service, then: Option<Value>) -> Option<Value> {
    let then: Vec<ServicePort> = serde_json::from_value(then?).ok()?;
    let same = |left: &ServicePort, right: &ServicePort| left.port == right.port && left.protocol == right.protocol;
    let mut now = service.spec.as_ref()?.ports.clone()?;
    let mut any = false;
    for port in now.iter_mut().filter(|port| port.node_port.is_none()) {
        port.node_port = then
            .iter()
            .find(|other| same(port, other))
            .and_then(|other| other.node_port);
        any |= port.node_port.is_some();
    }
    any.then(|| json!(now))
}

/// A patch that sets an annotation of ours on `service`, or removes it.
pub(super) fn annotate(service: &Service, key: &str, value: Option<&str>) -> SpecPatch {
    let metadata = &service.metadata;
    SpecPatch {
        body: json!({
            "metadata": {
                "uid": metadata.uid,
                "resourceVersion": metadata.resource_version,
                "annotations": {key: value},
            },
        }),
        fallback: None,
    }
}

fn patch(service: &Service, original: &Value, spec: &Value) -> Value {
    let metadata = &service.metadata;
    json!({
        "metadata": {
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
            "annotations": {annotation::ORIGINAL_SPEC: original},
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests;
