//! The messages by which nodes find direct paths to each other.

use std::net::SocketAddr;

use crate::key::NodeKey;

/// Names one ping; random, so that nobody can answer a ping that did not reach him.
pub type TransactionId = [u8; 12];

/// A disco message, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Asks whether datagrams get through.
    Ping {
        /// Names the ping.
        id: TransactionId,
        /// The WireGuard key that the sender claims; peers from before 2022 send none.
        node: Option<NodeKey>,
    },
    /// Answers a ping.
    Pong {
        /// The ping's name.
        id: TransactionId,
        /// Where the ping came from, as the answerer saw it.
        observed: SocketAddr,
    },
    /// Asks, over a relay, to ping back at these endpoints.
    CallMeMaybe {
        /// All endpoints of the sender.
        endpoints: Vec<SocketAddr>,
    },
}
