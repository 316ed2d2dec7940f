//! Nodes as they are kept, and what map requests change about them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use isthmus_tailnet_wire::control::{CapabilityVersion, Hostinfo, MapRequest, NodeId, VipService};
use isthmus_tailnet_wire::keys::{DiscoKey, MachineKey, NodeKey};
use isthmus_tailnet_wire::time::GoTime;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Attribute, OWNER, Service, State, TAGGED, addresses, names};

/// A node of the tailnet.
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The node's number.
    pub id: NodeId,
    /// Its WireGuard key.
    pub node_key: NodeKey,
    /// The machine it belongs to.
    pub machine: MachineKey,
    /// Its key of path discovery; zero until it told one.
    pub disco_key: DiscoKey,
    /// Where it may be reached directly.
    pub endpoints: Vec<SocketAddr>,
    /// Its home relay region; 0 for none.
    pub home_derp: i64,
    /// The capability version of its client.
    pub version: CapabilityVersion,
    /// About its machine, without the part about its network, which fluctuates.
    pub hostinfo: Hostinfo,
    /// Its tags; empty for a node of the owner.
    pub tags: Vec<String>,
    /// Whether it is removed soon after it disconnects.
    pub ephemeral: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When its key expires; zero for never.
    pub key_expiry: GoTime,
    /// Whether its key is valid beyond that time.
    #[serde(default)]
    pub expiry_disabled: bool,
    /// The routes that it may carry when it offers them.
    #[serde(default)]
    pub approved: BTreeSet<IpNet>,
    /// Whether it waits for somebody's approval: it sees nobody and nobody sees it.
    #[serde(default)]
    pub is_waiting: bool,
    /// When it was last known to be connected.
    pub last_seen: Timestamp,
    /// The Services that it offers to host, as it answered when it was last asked.
    #[serde(default)]
    pub(crate) offered: Vec<VipService>,
    /// The hash that its host info had then.
    #[serde(default)]
    pub(super) offered_hash: String,
    /// What callers of the API noted about it, by key.
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, Attribute>,
    /// The label it wants, from its host name.
    pub(super) wanted_label: String,
    /// The label it has.
    pub(super) label: String,
    /// Whether the label was given by the API and does not follow the host name.
    #[serde(default)]
    pub(super) is_label_given: bool,
    /// Its distance from the start of the address ranges.
    pub(super) address: u32,
}

/// No node of this key belongs to the machine that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node not found")]
pub(crate) struct UnknownNode;

impl Node {
    /// The node's name in management APIs.
    pub fn stable_id(&self) -> String {
        format!("n{}CNTRL", self.id)
    }

    /// Its fully qualified name, with the final dot.
    pub fn fqdn(&self, domain: &str) -> String {
        format!("{}.{domain}.", self.label)
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        addresses::v4(self.address)
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        addresses::v6(self.address)
    }

    /// The user it is shown under.
    pub(crate) fn user(&self) -> i64 {
        if self.tags.is_empty() { OWNER } else { TAGGED }
    }

    /// When its key expires in fact; zero for never.
    pub fn expiry(&self) -> GoTime {
        if self.expiry_disabled {
            GoTime::ZERO
        } else {
            self.key_expiry
        }
    }

    /// Whether its key is expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expiry().0.is_some_and(|expiry| expiry <= now)
    }

    /// Ends its key's life, also that of a key that would live for ever.
    pub(super) fn expire(&mut self, now: Timestamp) {
        self.expiry_disabled = false;
        self.key_expiry = now.into();
    }

    /// The routes that it offers.
    pub fn advertised(&self) -> BTreeSet<IpNet> {
        self.hostinfo.routable_ips.iter().map(IpNet::trunc).collect()
    }

    /// The routes that it offers and may carry.
    pub fn routes(&self) -> Vec<IpNet> {
        self.advertised().intersection(&self.approved).copied().collect()
    }

    /// Whether peers may and could reach it. Peers see a node only then: a client that learns a peer without a path sends its
    /// first handshake into the void and waits five seconds before the next.
    pub(crate) fn is_reachable(&self) -> bool {
        !self.is_waiting && !self.disco_key.is_zero() && (self.home_derp != 0 || !self.endpoints.is_empty())
    }
}

impl State {
    /// The node with this key.
    pub(super) fn node_by_key(&self, key: NodeKey) -> Option<&Node> {
        self.nodes.values().find(|node| node.node_key == key)
    }

    /// Whether a node has this key.
    pub(crate) fn is_known(&self, key: NodeKey) -> bool {
        self.node_by_key(key).is_some()
    }

    /// The node with this key, if it belongs to this machine. That the machine holds its key is proven by the Noise
    /// handshake; that it holds the node's is not, so a node key alone opens nothing.
    pub(crate) fn node_of_machine(&self, machine: MachineKey, key: NodeKey) -> Result<&Node, UnknownNode> {
        self.node_by_key(key)
            .filter(|node| node.machine == machine)
            .ok_or(UnknownNode)
    }

    /// Takes over what a map request tells about its node. What a request does not mention stays as it is: streams of
    /// some clients carry nothing, and an update must not need to repeat what a stream said.
    pub(crate) fn update_node(&mut self, id: NodeId, request: &MapRequest) {
        if request.read_only {
            return;
        }
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        node.version = request.version;
        if !request.disco_key.is_zero() {
            node.disco_key = request.disco_key;
        }
        if !request.endpoints.is_empty() || !request.stream {
            node.endpoints = request.endpoints.to_vec();
        }
        if let Some(hostinfo) = &request.hostinfo {
            self.update_hostinfo(id, hostinfo);
        }
    }

    /// Takes over a node's host info, and renames the node when its host name changed.
    pub(super) fn update_hostinfo(&mut self, id: NodeId, hostinfo: &Hostinfo) {
        let wanted = names::wanted_label(&hostinfo.hostname);
        let renamed = self.nodes.get(id).filter(|node| node.wanted_label != wanted);
        let label = renamed
            .filter(|node| !node.is_label_given)
            .map(|_| self.free_label(&wanted, id));
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if let Some(net_info) = &hostinfo.net_info {
            node.home_derp = net_info.preferred_derp;
        }
        node.hostinfo = Hostinfo {
            net_info: None,
            ..hostinfo.clone()
        };
        // Who offers nothing need not be asked what.
        if node.hostinfo.services_hash.is_empty() {
            node.offered.clear();
            node.offered_hash.clear();
        }
        node.wanted_label = wanted;
        if let Some(label) = label {
            node.label = label;
        }
    }

    /// A label that no other node than `id`, and no Service, has.
    pub(super) fn free_label(&self, wanted: &str, id: NodeId) -> String {
        let taken: BTreeSet<&str> = self
            .nodes
            .values()
            .filter(|node| node.id != id)
            .map(|node| node.label.as_str())
            .chain(self.services.values().map(Service::label))
            .collect();
        names::free_label(wanted, &taken)
    }

    /// A new number and address for a node, or `None` when the addresses are used up.
    pub(super) fn allocate(&mut self) -> Option<(NodeId, u32)> {
        let address = self.allocate_address()?;
        self.last_node_id += 1;
        Some((self.last_node_id, address))
    }

    /// The next address that was never given out, or `None` when they are used up.
    pub(super) fn allocate_address(&mut self) -> Option<u32> {
        loop {
            self.last_address = addresses::next_address(self.last_address)?;
            // Somebody may have chosen one ahead.
            if self.is_free(self.last_address) {
                return Some(self.last_address);
            }
        }
    }

    /// Forgets a node; whether it was known.
    pub(crate) fn remove_node(&mut self, id: NodeId) -> bool {
        self.nodes.remove(id).is_some()
    }

    /// The number of the node with this name in management APIs: its stable id or its number.
    pub(crate) fn find_device(&self, name: &str) -> Option<NodeId> {
        let number = name
            .strip_prefix('n')
            .and_then(|rest| rest.strip_suffix("CNTRL"))
            .unwrap_or(name);
        let id = number.parse().ok()?;
        self.nodes.contains_key(id).then_some(id)
    }
}
