//! The operator's shell: watches, gathering, applying, events, the lease.
//!
//! Decisions are made in `isthmus-operator-core`; here objects are read and written. Two places write: `apply` objects
//! of Kubernetes, `lease` the leader's Lease.

mod apply;
mod cache;
mod changes;
mod context;
mod devices;
mod error;
mod events;
#[cfg(test)]
mod fake;
mod gather;
mod kept;
mod lease;
mod metrics;
mod proxy_class;
mod queue;
mod reconcile;
mod run;
mod sweep;
mod watch;

pub use error::Error;
pub use run::{Config, RunError, run};
