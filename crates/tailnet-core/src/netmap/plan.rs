//! What follows from a map: who may send what, and where packets go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use super::{Netmap, Peer};
use crate::addresses::AddressSet;
use crate::filter::{FilterPlan, Rule, SenderAccess};
use crate::key::NodeKey;

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

    /// Where packets for this side may be addressed to, and come from: the node's own addresses, and of the routes that it
    /// `offers` those that control approved. What it does not offer is never carried, whatever control says.
    pub fn own_nets(&self, offers: &BTreeSet<IpNet>) -> Vec<IpNet> {
        let addresses = self.own.addresses.iter().copied().map(IpNet::from);
        let routes = self.own.allowed.iter().copied().filter(|net| offers.contains(net));
        addresses.chain(routes).collect()
    }

    /// The peers that are online, may open something here, and have a session at `now`: those that may be waiting for this node.
    pub fn expecting_peers(&self, policy: RoutePolicy, now: SystemTime) -> Vec<NodeKey> {
        let rules = self.resolved_rules();
        let admits = |source: &IpAddr| {
            let own = self.own.addresses.iter();
            own.clone()
                .any(|own| rules.iter().any(|rule| rule.opens_anything(*source, *own)))
        };
        self.usable_peers(policy, now)
            .into_iter()
            .filter(|(peer, _)| peer.online == Some(true) && !peer.jailed && peer.addresses.iter().any(admits))
            .map(|(peer, _)| peer.key)
            .collect()
    }

    /// What the packet filter of a node that `offers` routes has to enforce at `now`.
    pub fn filter_plan(&self, policy: RoutePolicy, offers: &BTreeSet<IpNet>, now: SystemTime) -> FilterPlan {
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
            local: self.own_nets(offers).into_iter().collect(),
            rules: self.resolved_rules(),
            senders,
        }
    }

    /// The rules, with the addresses of those peers that hold the capabilities which rules name.
    fn resolved_rules(&self) -> Vec<Rule> {
        let holders = |capability: &str| {
            let peers = self.peers.values();
            let holders = peers.filter(|peer| peer.capabilities.contains_key(capability));
            holders.flat_map(|peer| peer.addresses.iter().copied()).collect()
        };
        self.rules.iter().map(|rule| rule.resolve(holders)).collect()
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
