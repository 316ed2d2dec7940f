//! The CustomResourceDefinition of `ProxyClass`, made from the types.

use isthmus_contract::condition::PROXY_CLASS_READY;
use k8s_openapi::Resource as _;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value, json};

use super::{ProxyClass, ProxyClassSpec, ProxyClassStatus};

/// Formats of JSON Schema that the API server does not know.
const FOREIGN_FORMATS: [&str; 2] = ["uint16", "uint8"];

/// The CustomResourceDefinition.
pub fn definition() -> Value {
    let plural = ProxyClass::URL_PATH_SEGMENT;
    let group = ProxyClass::GROUP;
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "names": {
                "kind": ProxyClass::KIND,
                "listKind": format!("{}List", ProxyClass::KIND),
                "plural": plural,
                "singular": ProxyClass::KIND.to_lowercase(),
            },
            "scope": "Cluster",
            "versions": [version()],
        },
    })
}

fn version() -> Value {
    let reason = format!(r#".status.conditions[?(@.type == "{PROXY_CLASS_READY}")].reason"#);
    json!({
        "name": ProxyClass::VERSION,
        "served": true,
        "storage": true,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {
                "name": "Status", "type": "string", "jsonPath": reason,
                "description": "Whether Services can use the class",
            },
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "schema": {"openAPIV3Schema": {
            "description": "How the Pods of proxies look. A Service names its class by the label or annotation \
                `tailscale.com/proxy-class`; the operator has a default class for the others.",
            "type": "object",
            "required": ["spec"],
            "properties": {
                "spec": structural::<ProxyClassSpec>(),
                "status": structural::<ProxyClassStatus>(),
            },
        }},
    })
}

/// The schema of `T` in the form the API server takes.
fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    restrict(&mut schema);
    schema
}

/// Leaves out what a structural schema cannot say: null, defaults, titles, foreign formats.
fn restrict(schema: &mut Value) {
    let Some(keywords) = schema.as_object_mut() else {
        return;
    };
    for keyword in ["$schema", "title", "default"] {
        keywords.remove(keyword);
    }
    if let Some(Value::Array(types)) = keywords.get("type") {
        let kind = types.iter().find(|kind| *kind != "null").cloned();
        keywords.insert("type".to_owned(), kind.unwrap_or_default());
    }
    let format = keywords.get("format").and_then(Value::as_str);
    if format.is_some_and(|format| FOREIGN_FORMATS.contains(&format)) {
        keywords.remove("format");
    }
    if let Some(description) = keywords.get_mut("description") {
        *description = json!(flowing(description.as_str().unwrap_or_default()));
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = keywords.get_mut(keyword) {
            restrict(inner);
        }
    }
    let properties = keywords.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flat_map(Map::values_mut).for_each(restrict);
}

/// Text without the line breaks of its source.
fn flowing(text: &str) -> String {
    let paragraphs = text
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Labels: what the API server takes as the value of one.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([a-zA-Z0-9][-._a-zA-Z0-9]*)?[a-zA-Z0-9])?$",
        },
    })
}

/// The policies a Pod knows.
pub(super) fn dns_policy(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]})
}

/// The policies a container knows.
pub(super) fn image_pull_policy(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["Always", "Never", "IfNotPresent"]})
}

/// A ServiceMonitor needs the Service.
pub(super) fn metrics_rules() -> Value {
    json!([{
        "rule": "!(has(self.serviceMonitor) && self.serviceMonitor.enable && !self.enable)",
        "message": "ServiceMonitor can only be enabled if metrics are enabled",
    }])
}

/// Only the proxy can be debugged.
pub(super) fn pod_rules() -> Value {
    json!([{
        "rule": "!(has(self.tailscaleInitContainer) && has(self.tailscaleInitContainer.debug))",
        "message": "debug settings cannot be configured on the init container",
    }])
}

/// A row of ports goes up.
pub(super) fn port_range_rules() -> Value {
    json!([{
        "rule": "!has(self.endPort) || self.endPort >= self.port",
        "message": "endPort must not be less than port",
    }])
}
