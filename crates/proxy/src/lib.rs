//! The proxy's shell: preflight, nftables, routes, config watching, health.
//!
//! [`run()`] is a whole proxy. [`Kernel`] is its part that changes the network namespace, without a tailnet or a cluster.

mod cached_state;
mod config_watch;
mod debug;
mod health;
mod kernel;
mod kube_state;
mod metrics;
mod name_watch;
mod nftables;
mod paths;
mod preflight;
mod publisher;
mod relay;
mod routes;
mod run;

pub use kernel::{Kernel, KernelError};
pub use kube_state::SecretStore;
pub use nftables::{NftablesError, PacketFilter};
pub use paths::PathChoice;
pub use preflight::{PreflightError, check_rights};
pub use relay::{Relay, RelayError, RelayLimits, RelayMetrics};
pub use routes::{Routed, RoutesError, Routing};
pub use run::{ProxyError, run};
