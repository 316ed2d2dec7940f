//! The data plane: packets between the TUN and WireGuard peers.

mod hooks;
mod snapshot;

pub use hooks::{Datagram, Hooks, PeerEvent};
pub use snapshot::{Path, PeerConfig, Snapshot};
