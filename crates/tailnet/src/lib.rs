//! A tailnet node: sockets, TUN device, threads and the control connection around `tailnet-core`.

pub mod dataplane;
pub mod node;
pub mod offloads;
pub mod state;
pub mod udp;

mod waker;

pub use node::{LoginState, Node, NodeConfig, NodeError, NodeErrorKind, NodeStatus, TunConfig};
