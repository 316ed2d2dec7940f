//! What follows from a map: who may send what, and where packets go.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use super::{Netmap, Peer};
use crate::addresses::AddressSet;
use crate::filter::{FilterPlan, SenderAccess};

/// Which routes of peers this node uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoutePolicy {
    /// Use subnet routes of peers. Off, only the peers' own addresses and single addresses of the tailnet's ranges are used: that is how
    /// Tailscale Services reach every client. Default routes are never used.
    pub accept_routes: bool,
}

impl RoutePolicy {
    /// Whether packets to and from `net` are exchanged with `peer`.
    pub fn accepts(self, peer: &Peer, net: IpNet) -> bool {
        if net.prefix_len() == 0 {
            return false;
        }
        let single = net.prefix_len() == net.max_prefix_len();
        self.accept_routes || (single && (peer.addresses.contains(&net.addr()) || is_tailnet_address(net.addr())))
    }
}

impl Netmap {
    /// The peers with which a session is possible at `now`, with the prefixes that lead to them.
    pub fn usable_peers(&self, policy: RoutePolicy, now: SystemTime) -> Vec<(Arc<Peer>, Vec<IpNet>)> {
        self.peers
            .values()
            .filter(|peer| peer.obstacle_at(now).is_none())
            .map(|peer| {
                let nets = peer.allowed.iter().copied().filter(|net| policy.accepts(peer, *net));
                (Arc::clone(peer), nets.collect())
            })
            .collect()
    }

    /// What the packet filter has to enforce at `now`.
    pub fn filter_plan(&self, policy: RoutePolicy, now: SystemTime) -> FilterPlan {
        let senders: BTreeMap<_, _> = self
            .usable_peers(policy, now)
            .into_iter()
            .map(|(peer, nets)| {
                let sources: AddressSet = nets.into_iter().collect();
                (
                    peer.key,
                    SenderAccess {
                        sources,
                        jailed: peer.jailed,
                    },
                )
            })
            .collect();
        FilterPlan {
            local: self.own.addresses.iter().copied().map(IpNet::from).collect(),
            rules: Vec::clone(&self.rules),
            senders,
        }
    }
}

/// Whether an address is in the ranges that tailnets assign: 100.64.0.0/10 without ChromeOS's 100.115.92.0/23, and
/// fd7a:115c:a1e0::/48 (as the Go client's `net/tsaddr` has them).
pub fn is_tailnet_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let bits = u32::from(address);
            bits >> 22 == 0x6440_0000 >> 22 && bits >> 9 != 0x6473_5c00 >> 9
        }
        IpAddr::V6(address) => address.segments()[..3] == [0xfd7a, 0x115c, 0xa1e0],
    }
}
