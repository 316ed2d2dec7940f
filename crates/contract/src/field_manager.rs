//! Field managers of server-side apply, and of the patches beside it.

/// The controller of Services that have a proxy of their own.
pub const SERVICE_PROXY: &str = "isthmus-service-proxy";
/// The controller of proxy classes.
pub const PROXY_CLASS: &str = "isthmus-proxy-class";
/// The proxy, on its own Secret.
pub const PROXY: &str = "isthmus-proxy";
/// The leader election.
pub const LEASE: &str = "isthmus-lease";
