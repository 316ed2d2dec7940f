//! The proxy's shell: preflight, nftables, routes, config watching, health.

mod kernel;
mod nftables;
mod routes;

pub use kernel::{Kernel, KernelError};
pub use nftables::{NftablesError, PacketFilter};
pub use routes::{Routed, RoutesError, Routing};
