//! A handle to a running node, for whoever asks it things while somebody else owns it.

use isthmus_tailnet_core::key::NodeKey;
use tokio::sync::{mpsc, oneshot, watch};

use super::{NodeReport, NodeStatus, PingAnswer, PingError, PingKind};
use crate::engine::Ask;

/// Asks a running node. Cheap to clone; it does not keep the node running.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    status: watch::Receiver<NodeStatus>,
    asks: mpsc::Sender<Ask>,
}

impl NodeHandle {
    pub(crate) const fn new(status: watch::Receiver<NodeStatus>, asks: mpsc::Sender<Ask>) -> Self {
        Self { status, asks }
    }

    /// The node's status now and in the future.
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// How peers are reached, and what the network is like; nothing once the node has stopped.
    pub async fn report(&self) -> Option<NodeReport> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Report(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Pings a peer by the way that traffic goes, and looks for a direct one when it goes by relay.
    ///
    /// # Errors
    /// When the peer is not known or does not answer within five seconds, or the node has stopped.
    pub async fn ping(&self, peer: NodeKey, kind: PingKind) -> Result<PingAnswer, PingError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Ping { peer, kind, reply };
        self.asks.send(ask).await.map_err(|_| PingError::Stopped)?;
        answer.await.map_err(|_| PingError::NoAnswer)
    }
}
