//! Port numbers both halves agree on.

/// TCP port on which a proxy serves health and metrics.
pub const HEALTH: u16 = 9002;
/// TCP port for health and metrics when the Service of the user declares [`HEALTH`] itself.
pub const HEALTH_ALTERNATIVE: u16 = 9003;
/// TCP port on which a proxy shows what it does, where its class asks for that.
pub const DEBUG: u16 = 9001;
/// UDP port of the proxy's WireGuard socket.
pub const WIREGUARD: u16 = 41641;
