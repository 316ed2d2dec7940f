//! What is the same for every object of one operator.

/// The operator's settings, checked at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Namespace of the operator and of all proxies.
    pub namespace: String,
    /// Image of the proxies; it holds the binary `/isthmus`.
    pub proxy_image: String,
    /// Pull policy of that image; the cluster's default when absent.
    pub proxy_image_pull_policy: Option<String>,
    /// Priority class of the proxies' Pods.
    pub proxy_priority_class: Option<String>,
    /// The proxy class of Services that name none.
    pub proxy_default_class: Option<String>,
    /// Tags of devices whose objects name none.
    pub proxy_tags: Vec<String>,
    /// Whether LoadBalancer Services without a class are exposed as well.
    pub default_load_balancer: bool,
    /// URL of the control server the proxies log in at, without a trailing slash.
    pub login_server: String,
    /// DNS domain of the cluster, such as `cluster.local`.
    pub cluster_domain: String,
    /// What tells this cluster from others: the UID of the namespace `kube-system`.
    pub cluster_id: String,
}
