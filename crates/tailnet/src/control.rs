//! The connection to the control server: log in, follow the network map, tell about this node.
//!
//! The connection is ts2021: HTTP/2 inside a Noise session that an HTTP/1.1 upgrade starts. Wire types end here; what leaves this module
//! is the domain's.

mod backoff;
pub(crate) mod c2n;
mod client;
mod dial;
mod early;
mod error;
mod hostinfo;
mod peer_ping;
mod ping;
mod records;
mod register;
mod server;
mod session;
mod stream;
mod updates;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use isthmus_runtime::Secret;
use isthmus_tailnet_core::key::DiscoKey;
use isthmus_tailnet_core::netmap::RegionId;

pub(crate) use backoff::Backoff;
pub(crate) use client::{Client, Progress};
pub use dial::{AuthoritiesError, read_authorities};
pub(crate) use dial::{Connection, Dialer, authorities};
pub(crate) use early::AfterEarly;
pub(crate) use error::ControlError;
pub(crate) use records::Checked;
pub(crate) use server::Server;
pub(crate) use session::{Requester, Session};
pub(crate) use stream::read_message;

/// The capability version that this node claims: the documents of the proxy contract need 109, Headscale 113; 120 invites relay messages
/// that this node does not speak.
pub(crate) const CAPABILITY_VERSION: u16 = 119;

/// What the node tells control about itself and may change while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    /// Key of this run of the node.
    pub(crate) disco: DiscoKey,
    /// Where the node may be reached directly: addresses of its interfaces.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// The same as servers outside see it.
    pub(crate) observed: Vec<SocketAddr>,
    /// The region of the relay at which peers reach the node.
    pub(crate) home: Option<RegionId>,
    /// All addresses of the machine: a connection from another is dead.
    pub(crate) machine: BTreeSet<IpAddr>,
}

impl NodeFacts {
    /// Where the node may be reached directly.
    pub(crate) fn all_endpoints(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().chain(&self.observed).copied().collect()
    }
}

/// What the node tells control about itself and never changes while it runs.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    pub(crate) auth_key: Option<Secret>,
    pub(crate) app: String,
    pub(crate) ephemeral: bool,
}
