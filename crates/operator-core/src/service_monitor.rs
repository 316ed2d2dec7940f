//! `ServiceMonitor`, the custom resource by which the Prometheus operator finds what to scrape.

use k8s_openapi::{Metadata, NamespaceResourceScope, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Says to Prometheus which Services serve metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMonitor {
    /// Always that of the resource.
    #[serde(default = "api_version")]
    pub api_version: String,
    /// Always that of the resource.
    #[serde(default = "kind")]
    pub kind: String,
    /// Name, labels, owner.
    pub metadata: ObjectMeta,
    /// What is scraped, and how; the shape belongs to the Prometheus operator.
    #[serde(default)]
    pub spec: Value,
}

impl ServiceMonitor {
    /// A ServiceMonitor with this spec.
    pub fn new(metadata: ObjectMeta, spec: Value) -> Self {
        Self {
            api_version: api_version(),
            kind: kind(),
            metadata,
            spec,
        }
    }
}

impl Resource for ServiceMonitor {
    const API_VERSION: &'static str = "monitoring.coreos.com/v1";
    const GROUP: &'static str = "monitoring.coreos.com";
    const KIND: &'static str = "ServiceMonitor";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "servicemonitors";
    type Scope = NamespaceResourceScope;
}

impl Metadata for ServiceMonitor {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

fn api_version() -> String {
    ServiceMonitor::API_VERSION.to_owned()
}

fn kind() -> String {
    ServiceMonitor::KIND.to_owned()
}
