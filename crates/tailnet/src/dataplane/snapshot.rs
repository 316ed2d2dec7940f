//! What the data plane is told: own addresses, peers, their paths, the filter.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use isthmus_tailnet_core::filter::PacketFilter;
use isthmus_tailnet_core::key::{DiscoKey, NodeKey};
use isthmus_tailnet_core::netmap::RegionId;

/// All that the data plane works by. A new snapshot replaces the old one whole; the sessions of peers that are in both,
/// with the same disco key, live on.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Where inner packets may be addressed to and come from on this side: own addresses, hosted Services, approved
    /// routes. Anything else is dropped in both directions.
    pub own: Vec<IpNet>,
    /// The peers. Of two peers with the same prefix the first gets the packets.
    pub peers: Vec<PeerConfig>,
    /// Judges every inner packet that passed the address checks; without one all of them pass.
    pub filter: Option<Arc<dyn PacketFilter>>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// The peer's WireGuard key.
    pub key: NodeKey,
    /// The peer's disco key. When it changes the peer was restarted, and its session is dropped at once.
    pub disco: Option<DiscoKey>,
    /// Inner destinations behind the peer, and the only inner sources it may use.
    pub allowed_ips: Vec<IpNet>,
    /// Where datagrams to the peer go. Without a path packets wait, and [`PeerEvent::PathWanted`] is sent.
    ///
    /// [`PeerEvent::PathWanted`]: super::PeerEvent::PathWanted
    pub path: Option<Path>,
    /// Send to where the peer's last authentic handshake message came from while `path` is none.
    pub roams: bool,
    /// Seconds of silence after which a keep-alive is sent; none for peers that are spoken to only when needed.
    pub keepalive: Option<u16>,
}

/// A way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Straight to a UDP address.
    Direct(SocketAddr),
    /// By a relay of this region.
    Relay(RegionId),
}

/// Where a datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Straight from a UDP address.
    Direct(SocketAddr),
    /// By a relay, which vouches for the sender.
    Relayed {
        /// The relay's region.
        region: RegionId,
        /// The sender.
        by: NodeKey,
    },
}

impl Origin {
    /// The address by which handshakes are limited. Relayed ones have one for all of a region, as the Go client writes it.
    pub(super) fn address(self) -> SocketAddr {
        match self {
            Self::Direct(address) => address,
            Self::Relayed { region, .. } => SocketAddr::new(Ipv4Addr::new(127, 3, 3, 40).into(), region),
        }
    }
}

impl PeerConfig {
    /// A peer with this key that has nothing else yet.
    pub fn new(key: NodeKey) -> Self {
        Self {
            key,
            disco: None,
            allowed_ips: Vec::new(),
            path: None,
            roams: false,
            keepalive: None,
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("own", &self.own)
            .field("peers", &self.peers)
            .field("filter", &self.filter.is_some())
            .finish()
    }
}
