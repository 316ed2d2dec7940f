//! Nodes of the network map.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{CapMap, CapabilityVersion, Hostinfo, NodeId, UserId};
use crate::keys::{DiscoKey, MachineKey, NodeKey};
use crate::object::wire_struct;
use crate::text::{Base64Bytes, TextList};
use crate::time::GoTime;

wire_struct! {
    /// A node as the network map shows it: the client itself or a peer.
    pub struct Node {
        /// The node's number; Go clients refuse 0.
        always "ID" => id: NodeId,
        /// The node's name in management APIs.
        always "StableID" => stable_id: String,
        /// Fully qualified DNS name with the final dot.
        always "Name" => name: String,
        /// The owner; a profile for it must be known.
        always "User" => user: UserId,
        /// The user the node is shared by; 0 for none.
        omit "Sharer" => sharer: UserId,
        /// WireGuard key.
        always "Key" => key: NodeKey,
        /// When the key expires; zero for never.
        always "KeyExpiry" => key_expiry: GoTime,
        /// Signature of the key, for tailnet lock.
        omit "KeySignature" => key_signature: Base64Bytes,
        /// The machine the node runs on.
        always "Machine" => machine: MachineKey,
        /// Key of path discovery; zero for none.
        always "DiscoKey" => disco_key: DiscoKey,
        /// The node's own addresses, each as a prefix of one address.
        always "Addresses" => addresses: TextList<IpNet>,
        /// What may be sent to and come from this node. `None` means "its own addresses" (capability version 112).
        always "AllowedIPs" => allowed_ips: Option<TextList<IpNet>>,
        /// Where the node may be reached directly.
        omit "Endpoints" => endpoints: TextList<SocketAddr>,
        /// The home relay for clients before capability version 111, as `127.3.3.40:<region>`.
        omit "DERP" => legacy_derp: String,
        /// Number of the home relay region; 0 for none.
        omit "HomeDERP" => home_derp: i64,
        /// About the machine.
        always "Hostinfo" => hostinfo: Hostinfo,
        /// When the node was made.
        always "Created" => created: GoTime,
        /// The capability version of the node's client; 0 for unknown.
        omit "Cap" => cap: CapabilityVersion,
        /// Tags; a tagged node belongs to no person.
        omit "Tags" => tags: Vec<String>,
        /// Of the allowed addresses, the routes that this node is the primary router of.
        omit "PrimaryRoutes" => primary_routes: TextList<IpNet>,
        /// When the node was last connected; absent while it is online.
        omit "LastSeen" => last_seen: Option<GoTime>,
        /// Whether the node is connected to the control server; absent for unknown.
        omit "Online" => online: Option<bool>,
        /// Whether the machine may use the tailnet.
        omit "MachineAuthorized" => machine_authorized: bool,
        /// Capabilities without arguments, for clients before `CapMap`.
        omit "Capabilities" => capabilities: Vec<String>,
        /// Capabilities with arguments.
        omit "CapMap" => cap_map: CapMap,
        /// Whether only the peer API of this node may be used, because its key is not signed.
        omit "UnsignedPeerAPIOnly" => unsigned_peer_api_only: bool,
        /// Whether the key is expired.
        omit "Expired" => expired: bool,
        /// The IPv4 source address that this peer wants to see instead of ours.
        omit "SelfNodeV4MasqAddrForThisPeer" => self_v4_masquerade: Option<IpAddr>,
        /// The same for IPv6.
        omit "SelfNodeV6MasqAddrForThisPeer" => self_v6_masquerade: Option<IpAddr>,
        /// Whether the peer speaks WireGuard but neither disco nor DERP.
        omit "IsWireGuardOnly" => is_wireguard_only: bool,
        /// Whether the peer may open no connection to us.
        omit "IsJailed" => is_jailed: bool,
    }
}

wire_struct! {
    /// What changed about one peer; `None` means unchanged.
    pub struct PeerChange {
        /// The peer.
        always "NodeID" => node_id: NodeId,
        /// Home relay region; 0 for unchanged.
        omit "DERPRegion" => derp_region: i64,
        /// Capability version; 0 for unchanged.
        omit "Cap" => cap: CapabilityVersion,
        /// Capabilities; an empty map removes all.
        omit "CapMap" => cap_map: Option<CapMap>,
        /// Endpoints.
        omit "Endpoints" => endpoints: Option<TextList<SocketAddr>>,
        /// WireGuard key.
        omit "Key" => key: Option<NodeKey>,
        /// Signature of the key.
        omit "KeySignature" => key_signature: Option<Base64Bytes>,
        /// Key of path discovery.
        omit "DiscoKey" => disco_key: Option<DiscoKey>,
        /// Whether the peer is connected to the control server.
        omit "Online" => online: Option<bool>,
        /// When it was last connected.
        omit "LastSeen" => last_seen: Option<GoTime>,
        /// When its key expires.
        omit "KeyExpiry" => key_expiry: Option<GoTime>,
    }
}
