//! Which addresses may be pinged at all: peers and control name any address they like.

use std::net::{IpAddr, SocketAddr};

use crate::addresses::AddressSet;
use crate::netmap::is_tailnet_address;

/// Endpoints of one peer that are pinged at most.
pub const MAX_ENDPOINTS: usize = 32;

/// Whether disco may send to `endpoint`: not to loopback, link-local, multicast or unspecified addresses, not into the tailnet itself, and
/// not to what is `forbidden`.
pub fn is_probeable(endpoint: SocketAddr, forbidden: &AddressSet) -> bool {
    let unusable = match endpoint.ip() {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address.octets()[0] == 0
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_multicast()
                || address.is_unspecified()
                || address.to_ipv4_mapped().is_some()
        }
    };
    !unusable && endpoint.port() != 0 && !is_tailnet_address(endpoint.ip()) && !forbidden.contains(endpoint.ip())
}
