//! What the operator wants the cluster to look like: pure plans from observed inputs.
//!
//! Nothing here reads a clock, a file or the network: observed objects and the time come in, wanted writes, calls,
//! conditions and events go out. The shell around it is the `operator` crate.

pub mod cluster_domain;
pub mod condition;
pub mod drift;
pub mod proxy_class;
mod quantity;
#[cfg(feature = "schema")]
pub mod rights;
pub mod service_monitor;
pub mod service_proxy;
pub mod settings;
