//! Pointing a user's egress Service at its proxy, and giving it back.
//!
//! The original of what is changed is kept in an annotation, written in the same request as the change.

use isthmus_contract::annotation;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A merge patch for the user's Service, valid only for the version it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecPatch {
    /// The patch.
    pub body: Value,
}

/// What the Service was before.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Original {
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selector: Option<BTreeMap<String, String>>,
    /// Only `None`, of a headless Service; other addresses are the cluster's to give.
    #[serde(rename = "clusterIP", default, skip_serializing_if = "Option::is_none")]
    cluster_ip: Option<String>,
}

/// Whether the Service carries the mark of having been pointed at a proxy.
pub fn is_redirected(service: &Service) -> bool {
    original(service).is_some()
}

fn original(service: &Service) -> Option<&String> {
    service.metadata.annotations.as_ref()?.get(annotation::ORIGINAL_SPEC)
}

/// The patch that makes `service` an alias of `external_name`; `None` when it is one.
pub(super) fn redirect(service: &Service, external_name: &str) -> Option<SpecPatch> {
    let default = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&default);
    let is_alias = spec.type_.as_deref() == Some("ExternalName")
        && spec.external_name.as_deref() == Some(external_name)
        && spec.selector.as_ref().is_none_or(BTreeMap::is_empty);
    if is_alias && original(service).is_some() {
        return None;
    }
    let kept = original(service).cloned().unwrap_or_else(|| keep(spec));
    let spec = json!({"type": "ExternalName", "externalName": external_name, "selector": null});
    Some(patch(service, &json!(kept), &spec))
}

/// The patch that gives `service` back as it was; `None` when it was never changed.
pub(super) fn restore(service: &Service) -> Option<SpecPatch> {
    let original: Original = serde_json::from_str(original(service)?).unwrap_or_default();
    let mut spec = json!({
        "type": original.kind,
        "externalName": original.external_name,
        "selector": original.selector,
    });
    if original.cluster_ip.is_some() {
        spec["clusterIP"] = json!(original.cluster_ip);
    }
    Some(patch(service, &Value::Null, &spec))
}

fn keep(spec: &ServiceSpec) -> String {
    let original = Original {
        kind: spec.type_.clone(),
        external_name: spec.external_name.clone(),
        selector: spec.selector.clone(),
        cluster_ip: spec.cluster_ip.clone().filter(|ip| ip == "None"),
    };
    serde_json::to_string(&original).expect("a struct of strings always serialises")
}

fn patch(service: &Service, original: &Value, spec: &Value) -> SpecPatch {
    let metadata = &service.metadata;
    SpecPatch {
        body: json!({
            "metadata": {
                "uid": metadata.uid,
                "resourceVersion": metadata.resource_version,
                "annotations": {annotation::ORIGINAL_SPEC: original},
            },
            "spec": spec,
        }),
    }
}

#[cfg(test)]
mod tests;
