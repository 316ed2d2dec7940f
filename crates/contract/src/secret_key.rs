//! Keys of a proxy's Secret.
//!
//! The operator writes [`device_config::file_name`](crate::device_config::file_name) and [`PROXY_CONFIG`]; everything
//! else belongs to the proxy.

/// Our own config document: [`ProxyConfig`](crate::proxy_config::ProxyConfig). Written by the operator.
pub const PROXY_CONFIG: &str = "isthmus.json";
/// What the proxy has put in place: [`ProxyStatus`](crate::proxy_status::ProxyStatus). Written by the proxy.
pub const PROXY_STATUS: &str = "isthmus-status.json";

/// Stable id of the device on the tailnet. Present once the proxy is logged in.
pub const DEVICE_ID: &str = "device_id";
/// Name of the device, with a trailing dot.
pub const DEVICE_FQDN: &str = "device_fqdn";
/// Addresses of the device: a JSON list of strings.
pub const DEVICE_IPS: &str = "device_ips";
/// UID of the Pod that wrote the state last.
pub const POD_UID: &str = "pod_uid";
/// Capability version the proxy claims, a decimal number.
pub const CAPABILITY_VERSION: &str = "tailscale_capver";
/// The auth key that did not work, or empty: the proxy asks for another one.
pub const REISSUE_AUTH_KEY: &str = "reissue_authkey";

/// The public half of the node's machine key, `mkey:…`. Written before the first registration, so that a device whose
/// proxy died before it could tell its id is found by it.
pub const MACHINE_PUBLIC_KEY: &str = "isthmus_machinekey_public";
/// The node's machine key, `privkey:…`.
pub const MACHINE_KEY: &str = "_machinekey";
/// Name of the key that holds the profile in use.
pub const CURRENT_PROFILE: &str = "_current-profile";
/// All profiles by id.
pub const PROFILES: &str = "_profiles";
/// Prefix of the keys that hold one profile each.
pub const PROFILE_PREFIX: &str = "profile-";
