//! What the paths are told, and what they want done.

use std::net::SocketAddr;

use crate::disco::Message;
use crate::key::{DiscoKey, NodeKey};
use crate::netmap::RegionId;

/// A peer as the network map describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The peer's WireGuard key.
    pub key: NodeKey,
    /// The peer's disco key.
    pub disco: DiscoKey,
    /// Where control says it is.
    pub endpoints: Vec<SocketAddr>,
    /// Whether control says it is online; nothing for unknown.
    pub online: Option<bool>,
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Seal a message for a disco key and send it.
    Send {
        /// Where to.
        to: SocketAddr,
        /// Whom to seal it for.
        disco: DiscoKey,
        /// The message.
        message: Message,
    },
    /// Seal a message for a disco key and send it to the peer by its relay.
    Relay {
        /// The peer.
        peer: NodeKey,
        /// The relay's region; the peer's home when there is none.
        by: Option<RegionId>,
        /// Whom to seal it for.
        disco: DiscoKey,
        /// The message.
        message: Message,
    },
    /// Send the peer's datagrams there from now on; nowhere when there is no path.
    Path {
        /// The peer.
        peer: NodeKey,
        /// Its path.
        path: Option<SocketAddr>,
    },
    /// Whether the peer's path is doubted has changed; see [`Route`].
    Doubt {
        /// The peer.
        peer: NodeKey,
    },
}

/// A direct path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub address: SocketAddr,
    /// It does not answer at the moment: a relay, where there is one, is the better way until it does.
    pub doubted: bool,
}

/// What is to be done when the route to a peer is another one.
pub(super) fn change(peer: NodeKey, before: Option<Route>, after: Option<Route>) -> Option<Action> {
    let address = |route: Option<Route>| route.map(|route| route.address);
    if address(before) != address(after) {
        let path = address(after);
        return Some(Action::Path { peer, path });
    }
    (before != after).then_some(Action::Doubt { peer })
}
