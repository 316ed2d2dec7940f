//! LoadBalancer Services: what users write to get one of ours.

/// `spec.loadBalancerClass` of the Services that the operator exposes.
pub const CLASS: &str = "tailscale";
