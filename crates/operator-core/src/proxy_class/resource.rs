//! The custom resource `ProxyClass`. Its doc comments are what `kubectl explain proxyclass` says.

use std::collections::BTreeMap;

use k8s_openapi::{
    ClusterResourceScope, Metadata, Resource,
    api::core::v1::{
        Affinity, LocalObjectReference, PodDNSConfig, PodSecurityContext, ResourceRequirements, SecurityContext,
        Toleration, TopologySpreadConstraint,
    },
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(feature = "schema")]
use super::schema;

/// How the Pods of proxies look. A Service names its class by the label or annotation `tailscale.com/proxy-class`;
/// the operator has a default class for the others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProxyClass {
    /// Name, labels, generation.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: ProxyClassSpec,
    /// What the operator thinks of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ProxyClassStatus>,
}

impl Resource for ProxyClass {
    const API_VERSION: &'static str = "tailscale.com/v1alpha1";
    const GROUP: &'static str = "tailscale.com";
    const KIND: &'static str = "ProxyClass";
    const VERSION: &'static str = "v1alpha1";
    const URL_PATH_SEGMENT: &'static str = "proxyclasses";
    type Scope = ClusterResourceScope;
}

impl Metadata for ProxyClass {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is wanted of the proxies of this class. What is not said stays as the operator has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProxyClassSpec {
    /// The proxy's StatefulSet and its Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stateful_set: Option<StatefulSet>,
    /// A Service, and on request a ServiceMonitor, for the proxies' metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// The proxy's node on the tailnet. Changes here restart nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tailscale: Option<Tailscale>,
    /// Whether certificates come from the staging environment of Let's Encrypt. Without effect on proxies of
    /// Services, which have no certificates.
    #[serde(default, skip_serializing_if = "is_false")]
    pub use_lets_encrypt_staging_environment: bool,
    /// Addresses outside the cluster at which proxies can be reached directly. Without effect on proxies of single
    /// Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_endpoints: Option<StaticEndpoints>,
}

impl ProxyClassSpec {
    /// Whether the proxy's node uses routes of subnet routers.
    pub fn accepts_routes(&self) -> bool {
        self.tailscale.is_some_and(|node| node.accept_routes)
    }
}

/// The proxy's StatefulSet and its Pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StatefulSet {
    /// Labels of the StatefulSet, beside the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::labels"))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the StatefulSet, beside the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

/// The proxy's Pods. Fields have the names and the meaning they have in a Pod's spec.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::pod_rules())))]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Labels of the Pods, beside the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::labels"))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the Pods, beside the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Which nodes and which company the Pods prefer or need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// The container with the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tailscale_container: Option<Container>,
    /// Accepted, and without effect: these proxies have no init container, because they need no sysctls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tailscale_init_container: Option<Container>,
    /// Security settings of the whole Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurityContext>,
    /// Secrets in the operator's namespace with the credentials for pulling the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,
    /// The one node the Pods run on, past the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints the Pods bear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// How the Pods spread over nodes and zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// The priority class, instead of the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Where the Pods look names up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::dns_policy"))]
    pub dns_policy: Option<String>,
    /// Name servers, search domains and options, beside what the policy gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<PodDNSConfig>,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Environment, beside the operator's own. A variable the operator sets as well gets this value; of two with one
    /// name the last counts. Variables that begin with `TS_` can break the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<EnvVar>>,
    /// The image, instead of the operator's. It must hold the program of this operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When the image is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::image_pull_policy"))]
    pub image_pull_policy: Option<String>,
    /// What the container needs and may use. Requests and limits are taken name by name; what is not named stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Security settings, field by field; what is not said stays as safe as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// Whether the proxy shows what it does at `/debug/` on port 9001. Only the cluster reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<Debug>,
}

/// A variable of a container's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// The name.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")))]
    pub name: String,
    /// The value; `$(NAME)` stands for an earlier variable.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// The switch of the debug server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct Debug {
    /// Whether it is wanted.
    #[serde(default)]
    pub enable: bool,
}

/// Objects by which metrics are found. The proxies serve them at `/metrics` in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::metrics_rules())))]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Whether each proxy gets a Service `<proxy>-metrics` with the port `metrics`.
    pub enable: bool,
    /// A ServiceMonitor for that Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_monitor: Option<ServiceMonitor>,
}

/// A ServiceMonitor for each proxy's metrics. It needs the custom resource of the Prometheus operator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct ServiceMonitor {
    /// Whether it is wanted.
    pub enable: bool,
    /// Labels of the ServiceMonitor, beside the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::labels"))]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The proxy's node on the tailnet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Tailscale {
    /// Whether the proxy uses routes that subnet routers of the tailnet offer. An egress Service needs it to reach an
    /// address behind such a router.
    #[serde(default, skip_serializing_if = "is_false")]
    pub accept_routes: bool,
}

/// Addresses outside the cluster at which proxies can be reached directly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StaticEndpoints {
    /// By ports of the nodes.
    pub node_port: NodePort,
}

/// Ports of the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct NodePort {
    /// The ports to choose from.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub ports: Vec<PortRange>,
    /// Labels of the nodes whose addresses are announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<BTreeMap<String, String>>,
}

/// A row of ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::port_range_rules())))]
#[serde(rename_all = "camelCase")]
pub struct PortRange {
    /// The first port.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    pub port: u16,
    /// The last port; the first alone when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    pub end_port: Option<u16>,
}

/// What the operator thinks of the class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct ProxyClassStatus {
    /// `ProxyClassReady`: whether Services can use the class, and if not, which field to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))
    )]
    pub conditions: Option<Vec<Condition>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
const fn is_false(value: &bool) -> bool {
    !*value
}
