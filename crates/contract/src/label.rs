//! Labels of the objects the operator owns.

/// Marks an object as ours; the value is [`MANAGED_VALUE`].
pub const MANAGED: &str = "tailscale.com/managed";
/// The value of [`MANAGED`].
pub const MANAGED_VALUE: &str = "true";
/// Name of the user's object the child belongs to.
pub const PARENT_RESOURCE: &str = "tailscale.com/parent-resource";
/// Namespace of the user's object the child belongs to.
pub const PARENT_RESOURCE_NAMESPACE: &str = "tailscale.com/parent-resource-ns";
/// Kind of the user's object, in the short form of [`PARENT_TYPE_SERVICE`].
pub const PARENT_RESOURCE_TYPE: &str = "tailscale.com/parent-resource-type";
/// [`PARENT_RESOURCE_TYPE`] of the children of a Service.
pub const PARENT_TYPE_SERVICE: &str = "svc";
/// UID of the user's object the child belongs to. Tells a re-created parent from the one that is gone.
pub const PARENT_UID: &str = "isthmus.dev/parent-uid";
/// On the objects for a proxy's metrics: the proxy's name.
pub const METRICS_TARGET: &str = "tailscale.com/metrics-target";
/// On the objects for a proxy's metrics: what kind of proxy it is.
pub const PROXY_TYPE: &str = "ts_proxy_type";
/// On the objects for a proxy's metrics: name of the user's object.
pub const PROXY_PARENT_NAME: &str = "ts_proxy_parent_name";
/// On the objects for a proxy's metrics: namespace of the user's object.
pub const PROXY_PARENT_NAMESPACE: &str = "ts_proxy_parent_namespace";
/// On the objects for a proxy's metrics: what Prometheus calls the job.
pub const PROMETHEUS_JOB: &str = "ts_prom_job";
/// On Pods of standalone proxies: UID of the user's object. Selected by StatefulSet and headless Service.
pub const APP: &str = "app";
