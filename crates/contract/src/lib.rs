//! The words operator and proxy share: annotations, labels, conditions, config documents and state keys.
//!
//! What one half writes and the other reads is named here and nowhere else. Names under `tailscale.com/` are the ones
//! users know from the Tailscale Kubernetes operator, with the same meaning; names under `isthmus.dev/` are our own.
//!
//! Targets (cluster IPs, tailnet IPs) travel in [`proxy_config::ProxyConfig`] inside the proxy's Secret, never in the
//! Pod template: a template change is a restart.

pub mod annotation;
pub mod condition;
pub mod device_config;
pub mod env;
pub mod field_manager;
pub mod finalizer;
pub mod label;
pub mod load_balancer;
pub mod name;
pub mod port;
pub mod probe;
pub mod proxy_config;
pub mod proxy_status;
pub mod secret_key;
