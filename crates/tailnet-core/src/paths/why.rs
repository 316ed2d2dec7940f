//! Why a peer is not reached directly.

use std::time::Duration;

use super::Paths;
use crate::key::NodeKey;
use crate::netcheck::NetworkReport;

/// What is known of the direct way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectState {
    /// Round trip over the direct path; nothing without one.
    pub latency: Option<Duration>,
    /// Why there is no direct path that answers; nothing when there is one.
    pub obstacle: Option<WhyNotDirect>,
}

/// Why a peer is not reached directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WhyNotDirect {
    /// The peer has no disco key.
    #[error("the peer does not speak disco")]
    NoDisco,
    /// The direct path did not answer the last pings.
    #[error("the direct path does not answer at the moment")]
    Silent,
    /// No server outside answers this node by UDP.
    #[error("UDP does not get out of this machine's network")]
    UdpBlocked,
    /// Control says that the peer is not there.
    #[error("the peer is offline")]
    Offline,
    /// Neither control nor the peer named an address.
    #[error("no endpoint of the peer is known")]
    NoEndpoints,
    /// Pings were sent to all endpoints of the peer.
    #[error("pings to {endpoints} endpoints of the peer are not answered{}", hint(*.mapping_varies))]
    Unanswered {
        /// How many endpoints.
        endpoints: usize,
        /// Whether a NAT in front of this node maps by destination; see [`NetworkReport`].
        mapping_varies: Option<bool>,
    },
}

fn hint(mapping_varies: Option<bool>) -> &'static str {
    match mapping_varies {
        Some(true) => "; the NAT in front of this machine is a hard one (it maps by destination)",
        Some(false) => "; the NAT in front of this machine is easy, if there is one: look at the peer's side",
        None => "",
    }
}

impl Paths {
    /// What is known of the direct way to a peer, in a network like this.
    pub fn direct_state(&self, peer: &NodeKey, network: &NetworkReport) -> DirectState {
        let Some(state) = self.peers.get(peer) else {
            return DirectState {
                latency: None,
                obstacle: Some(WhyNotDirect::NoDisco),
            };
        };
        let endpoints = state.known_endpoints();
        let obstacle = match state.route() {
            Some(route) if route.doubted => Some(WhyNotDirect::Silent),
            Some(_) => None,
            None if network.udp == Some(false) => Some(WhyNotDirect::UdpBlocked),
            None if state.is_offline() => Some(WhyNotDirect::Offline),
            None if endpoints == 0 => Some(WhyNotDirect::NoEndpoints),
            None => Some(WhyNotDirect::Unanswered {
                endpoints,
                mapping_varies: network.mapping_varies,
            }),
        };
        DirectState {
            latency: state.latency(),
            obstacle,
        }
    }
}
