//! The life of a proxy: close everything, log in, carry what the configuration says, drain, end.
//!
//! What happens to traffic when a proxy stops:
//!
//! - On SIGTERM it is no longer ready, goes on carrying until its open TCP connections have ended, at most 15 seconds, and then
//!   closes both sides.
//! - When it is killed, the tailnet's device goes with it, and rules and routes stay in the Pod's network namespace: nothing
//!   passes, and what Pods send is refused, never routed elsewhere.
//! - A container that starts again in the same Pod closes both sides first. Connections through its predecessor are reset at
//!   their next segment.

mod drain;
mod serve;
mod start;
mod target;

use std::io;
use std::net::SocketAddr;

use futures_util::future::LocalBoxFuture;
use isthmus_proxy_core::Settings;
use isthmus_runtime::Shutdown;
use isthmus_tailnet::NodeError;
use thiserror::Error;

use crate::kernel::KernelError;
use crate::preflight::PreflightError;

/// Why a proxy ended before it was asked to.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// A right is missing.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The kernel refused even to close everything.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Nothing says what to carry.
    #[error(
        "cannot find out what to carry: set TS_DEST_IP or another target, or put isthmus.json into the Secret that \
         TS_KUBE_SECRET names"
    )]
    NothingToCarry,
    /// Nothing keeps the node's state.
    #[error("cannot keep the node's state: set TS_KUBE_SECRET to a Secret's name, or TS_STATE_DIR to a folder")]
    NowhereForState,
    /// The API server cannot be asked at all.
    #[error(
        "cannot use the API server: give the Pod a ServiceAccount with its token, or set TS_KUBE_SECRET to nothing"
    )]
    Cluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A port is taken.
    #[error(
        "cannot serve health, metrics or debugging at {address}: set TS_LOCAL_ADDR_PORT and TS_DEBUG_ADDR_PORT to free ones"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The node does not start.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Runs a proxy until `shutdown` begins.
///
/// # Errors
///
/// What makes going on pointless: missing rights, contradicting settings, an unusable state. What waiting can mend (an
/// unreachable control or API server, a refused login, a bad document) is no error: it is logged, published and tried again.
#[inline(never)]
pub fn run(settings: Settings, shutdown: Shutdown) -> LocalBoxFuture<'static, Result<(), ProxyError>> {
    // In a box it is compiled in this crate; an `async fn` would be compiled where it is awaited.
    Box::pin(start_and_serve(settings, shutdown))
}

async fn start_and_serve(settings: Settings, shutdown: Shutdown) -> Result<(), ProxyError> {
    let (proxy, node) = tokio::select! {
        started = start::start(settings, shutdown.clone()) => started?,
        () = shutdown.begun() => return Ok(()),
    };
    proxy.serve(node, shutdown).await;
    Ok(())
}
