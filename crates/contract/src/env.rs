//! Environment and paths the operator gives to a proxy's container.

/// Name of the Secret that holds config and state of the proxy.
pub const KUBE_SECRET: &str = "TS_KUBE_SECRET";
/// Folder with `cap-<N>.hujson` and `isthmus.json`: the mounted copy of the Secret's config keys.
pub const CONFIG_DIR: &str = "TS_EXPERIMENTAL_VERSIONED_CONFIG_DIR";
/// `host:port` of the health and metrics server.
pub const LOCAL_ADDR_PORT: &str = "TS_LOCAL_ADDR_PORT";
/// `host:port` of the server that shows what the proxy does; none when not set.
pub const DEBUG_ADDR_PORT: &str = "TS_DEBUG_ADDR_PORT";
/// Serves `/healthz` when `true`.
pub const ENABLE_HEALTH_CHECK: &str = "TS_ENABLE_HEALTH_CHECK";
/// Serves `/metrics` when `true`.
pub const ENABLE_METRICS: &str = "TS_ENABLE_METRICS";
/// `false`: packets go through a TUN device of the kernel.
pub const USERSPACE: &str = "TS_USERSPACE";
/// What the node says it is, in its Hostinfo.
pub const INTERNAL_APP: &str = "TS_INTERNAL_APP";
/// Address of the Pod.
pub const POD_IP: &str = "POD_IP";
/// Addresses of the Pod, of both families, separated by commas.
pub const POD_IPS: &str = "POD_IPS";
/// Name of the Pod; the Secret of a standalone proxy has the same.
pub const POD_NAME: &str = "POD_NAME";
/// Namespace of the Pod and of its Secret.
pub const POD_NAMESPACE: &str = "POD_NAMESPACE";
/// UID of the Pod.
pub const POD_UID: &str = "POD_UID";
/// UDP port of the WireGuard socket.
pub const WIREGUARD_PORT: &str = "PORT";

/// Which way packets take through the proxy: `auto` (the default), `kernel` or `relay`.
pub const PATH: &str = "ISTHMUS_PATH";

/// Where the config keys of the Secret are mounted; the Pod's name follows.
pub const CONFIG_MOUNT: &str = "/etc/tsconfig";
/// A folder in memory that outlives a container restart but not the Pod.
pub const CACHE_MOUNT: &str = "/var/lib/isthmus";

/// [`INTERNAL_APP`] of a proxy that exposes a Service.
pub const APP_INGRESS: &str = "k8s-operator-ingress-proxy";
/// [`INTERNAL_APP`] of a proxy that leads to a device of the tailnet.
pub const APP_EGRESS: &str = "k8s-operator-egress-proxy";
