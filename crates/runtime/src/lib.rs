//! What every binary of Isthmus needs: logging, error chains, secrets, readiness guards, shutdown, names and the admin HTTP server.
//!
//! Nothing here knows about Kubernetes or tailnets.

pub mod admin;
pub mod error_chain;
pub mod log;
pub mod readiness;
pub mod resolve;
pub mod secret;
pub mod shutdown;

pub use error_chain::ErrorChain;
pub use readiness::{Readiness, ReadinessGuard};
pub use resolve::Resolver;
pub use secret::Secret;
pub use shutdown::Shutdown;
