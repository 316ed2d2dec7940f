//! What a node tells about its paths and its network.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netcheck::NetworkReport;
use isthmus_tailnet_core::paths::WhyNotDirect;

use crate::dataplane::{Path, PeerTraffic};

/// What a node knows of its paths and its network at one moment.
#[derive(Debug, Clone, Default)]
pub struct NodeReport {
    /// The peers that traffic is exchanged with.
    pub peers: BTreeMap<NodeKey, PeerReport>,
    /// The network around the node.
    pub network: NetworkReport,
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerReport {
    /// The way of datagrams to the peer; nothing when there is none.
    pub path: Option<Path>,
    /// Since when they go this way.
    pub since: SystemTime,
    /// Round trip over the direct path, as the last ping took it.
    pub latency: Option<Duration>,
    /// Why the way is not a direct one; nothing when it is.
    pub why_not_direct: Option<WhyNotDirect>,
    /// Last handshake, and what came and went.
    pub traffic: PeerTraffic,
}

/// How a peer is pinged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingKind {
    /// By disco: outside of the tunnel, answered by the peer's node.
    Disco,
    /// By TSMP: through the tunnel, answered by the peer's node.
    Tsmp,
    /// By ICMP: through the tunnel, answered by the peer's machine, if the tailnet's policy and the machine let it.
    Icmp,
}

/// The answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingAnswer {
    /// From the ping to its answer.
    pub latency: Duration,
    /// The way the answer came; for TSMP and ICMP the way the ping went.
    pub path: Option<Path>,
}

/// Why a ping has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// The peer did not answer.
    #[error("ping the peer: it does not answer")]
    NoAnswer,
    /// The node is being stopped.
    #[error("ping the peer: the node has stopped")]
    Stopped,
}
