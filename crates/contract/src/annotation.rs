//! Annotations on objects of users, and the ones the operator puts there itself.

/// Exposes a Service to the tailnet when the value is exactly `true`.
pub const EXPOSE: &str = "tailscale.com/expose";
/// Device name wanted on the tailnet: one DNS label. Without it `<namespace>-<name>` is used.
pub const HOSTNAME: &str = "tailscale.com/hostname";
/// Comma-separated ACL tags of the device, for example `tag:web,tag:prod`.
pub const TAGS: &str = "tailscale.com/tags";
/// Egress target by tailnet IP, as users write it today.
pub const TAILNET_IP: &str = "tailscale.com/tailnet-ip";
/// Egress target by tailnet IP: the spelling of the proxy's environment.
pub const TAILNET_TARGET_IP: &str = "tailscale.com/tailnet-target-ip";
/// Egress target by tailnet IP: the oldest spelling.
pub const TS_TAILNET_TARGET_IP: &str = "tailscale.com/ts-tailnet-target-ip";
/// Every spelling of the egress target by tailnet IP; all mean the same.
pub const TAILNET_IP_SPELLINGS: [&str; 3] = [TAILNET_TARGET_IP, TAILNET_IP, TS_TAILNET_TARGET_IP];
/// Egress target by MagicDNS name.
pub const TAILNET_FQDN: &str = "tailscale.com/tailnet-fqdn";
/// Name of the proxy group that is to serve the object; its mere presence takes a Service away from standalone proxies.
pub const PROXY_GROUP: &str = "tailscale.com/proxy-group";
/// Name of the proxy class that shapes the proxy's Pod.
pub const PROXY_CLASS: &str = "tailscale.com/proxy-class";

/// Lets the deletion of the object finish although its device could not be removed from the tailnet, when `true`.
pub const ABANDON: &str = "isthmus.dev/abandon";
/// On a user's object whose device cannot be removed: since when the tailnet has refused the operator's credentials, as
/// RFC 3339.
pub const REFUSED_SINCE: &str = "isthmus.dev/credentials-refused-since";
/// What an egress Service looked like before the operator pointed it at a proxy, as JSON; removed when it is restored.
pub const ORIGINAL_SPEC: &str = "isthmus.dev/original-spec";
/// On a proxy's Secret: the id of the auth key that its config holds, so that an unused key can be revoked.
pub const AUTH_KEY_ID: &str = "isthmus.dev/auth-key-id";
/// On a proxy's Secret: when the last auth key that was made for it ends, in seconds since 1970. It stays when the key has
/// done its work, so that another one is not made too soon.
pub const AUTH_KEY_EXPIRY: &str = "isthmus.dev/auth-key-expiry";
/// On a proxy's Secret: the tags that auth key gives, comma-separated and sorted.
pub const AUTH_KEY_TAGS: &str = "isthmus.dev/auth-key-tags";
/// On a proxy's Secret: the tags its device is known to carry, comma-separated and sorted.
pub const DEVICE_TAGS: &str = "isthmus.dev/device-tags";
/// On every owned object: a hash of what the operator applied last, so that fields it no longer wants are noticed.
pub const APPLIED_HASH: &str = "isthmus.dev/applied-hash";
