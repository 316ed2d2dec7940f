//! Finds out whether cluster IPs are reached by packets, or by sockets alone.
//!
//! Some network plugins (Cilium with socket load balancing) replace a cluster IP by an address behind it when a socket
//! connects, and leave packets to cluster IPs alone: what a peer sends through the proxy is never answered. Behind the
//! proxy's translation such a packet looks like one of the Pod's own, so the Pod's own tell: a connection whose packets
//! leave with the cluster IP and are answered from it shows that packets reach it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::nftables::PacketFilter;

/// How long one connection may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// Asks until there is an answer, and says so when it is that packets do not reach cluster IPs.
pub(super) async fn run(address: SocketAddr, redirected: watch::Sender<bool>) {
    loop {
        match ask(address).await {
            Some(true) => {
                tracing::info!(
                    "cluster IPs are led elsewhere when a socket connects, before there are packets: the relay carries"
                );
                redirected.send_replace(true);
                return;
            }
            Some(false) => {
                tracing::debug!("packets reach cluster IPs");
                return;
            }
            None => sleep(PAUSE).await,
        }
    }
}

/// Whether a connection is led elsewhere before it becomes packets. None: there was no connection, or nothing tracked it.
async fn ask(address: SocketAddr) -> Option<bool> {
    let filter = PacketFilter::open().ok()?;
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await.ok()?.ok()?;
    let ends = filter.connection_from(stream.local_addr().ok()?).await.ok()??;
    Some(ends.asked_for != address.ip() || ends.answered_by != address.ip())
}
