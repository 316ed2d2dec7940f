//! A tailnet node: sockets, TUN device, threads and the control connection around `tailnet-core`.

pub mod control;
pub mod dataplane;
pub mod dns;
#[doc(hidden)]
pub mod fuzzing;
pub mod interface;
pub mod node;
pub mod offloads;
pub mod state;
pub mod static_peers;
pub mod tun;
pub mod udp;
pub mod wireguard;

mod cache;
mod disco;
mod engine;
mod join;
mod relay;
mod segment;
mod virtio;
mod waker;

pub use node::{
    LoginState, Node, NodeConfig, NodeError, NodeErrorKind, NodeHandle, NodeMeter, NodePrefs, NodeReport, NodeSnapshot,
    NodeStatus, PeerReport, PeerSnapshot, PingAnswer, PingError, PingKind, PublishError, ServicePort, ServicePortError,
    ServiceProtocol, TunConfig,
};
