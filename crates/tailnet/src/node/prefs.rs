//! What of a node can be changed while it runs.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use isthmus_tailnet_core::netmap::Netmap;

use super::{NodeConfig, ServicePort};

/// What of a node can be changed while it runs. Control and peers learn of it at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodePrefs {
    /// The host name the node asks for; control makes the node's name from it.
    pub hostname: String,
    /// Use subnet routes of peers.
    pub accept_routes: bool,
    /// Offer to carry packets for these prefixes. Control has to approve each; whoever runs the node lets its machine
    /// forward.
    pub advertise_routes: BTreeSet<IpNet>,
    /// Offer to host these Tailscale Services (`svc:…`) with these ports. Control has to approve the node, which must be tagged; then
    /// [`OwnNode::services`](isthmus_tailnet_core::netmap::OwnNode) has the Service's addresses, the node's device has them too, and
    /// packets for them come in while control leads them here. Before a shutdown, take a Service out and give control and peers a
    /// moment: they lead new connections to another host then.
    pub advertise_services: BTreeMap<String, Vec<ServicePort>>,
}

impl From<&NodeConfig> for NodePrefs {
    fn from(config: &NodeConfig) -> Self {
        Self {
            hostname: config.hostname.clone(),
            accept_routes: config.accept_routes,
            advertise_routes: config.advertise_routes.iter().map(IpNet::trunc).collect(),
            advertise_services: config.advertise_services.clone(),
        }
    }
}

impl NodePrefs {
    /// Where packets that this node offers to carry may be addressed to: routes, and Services that it hosts.
    pub(crate) fn offers(&self, netmap: &Netmap) -> BTreeSet<IpNet> {
        let services = self.service_addresses(netmap).into_iter().map(IpNet::from);
        self.advertise_routes.iter().copied().chain(services).collect()
    }
}
