//! Paths of a proxy's health server.

/// 200 once the proxy is logged in and its rules are in place, else 503; the readiness probe asks here.
pub const READY_PATH: &str = "/readyz";
/// 200 while the process works; never tests the network; the liveness probe asks here.
pub const LIVE_PATH: &str = "/livez";
/// 200 when the node has a tailnet address, else 503: the path existing tools ask.
pub const HEALTH_PATH: &str = "/healthz";
/// Metrics in OpenMetrics text.
pub const METRICS_PATH: &str = "/metrics";
