//! What of a node can be changed while it runs.

use std::collections::BTreeSet;

use ipnet::IpNet;

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
}
