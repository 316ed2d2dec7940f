//! Finalizers the operator puts on objects of users.

/// Held by every object whose deletion has to remove a device from the tailnet first.
pub const DEVICE: &str = "tailscale.com/finalizer";
