//! Requests for the network map and the answers on its stream.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{
    CapabilityVersion, DerpMap, DnsConfig, FilterRule, Hostinfo, Node, NodeId, PeerChange, PingRequest, UserProfile,
};
use crate::keys::{DiscoKey, NodeKey};
use crate::object::wire_struct;
use crate::text::TextList;
use crate::time::GoTime;

wire_struct! {
    /// Body of `POST /machine/map`.
    ///
    /// With `Stream` the answer is a stream of [`MapResponse`]s that stays open. Without it, the request only updates
    /// what the server knows about the node, and must not disturb an open stream.
    pub struct MapRequest {
        /// The client's capability version.
        always "Version" => version: CapabilityVersion,
        /// `zstd`, or empty for none. Go asks for it always, and then decompresses every answer.
        always "Compress" => compress: String,
        /// Whether the server shall send keep-alives.
        always "KeepAlive" => keep_alive: bool,
        /// The node, which must belong to the machine of the Noise connection.
        always "NodeKey" => node_key: NodeKey,
        /// Key of path discovery.
        always "DiscoKey" => disco_key: DiscoKey,
        /// Whether the answer is a stream.
        always "Stream" => stream: bool,
        /// About the machine; absent means unchanged on some servers and "forget it" on others, so send it always.
        omit "Hostinfo" => hostinfo: Option<Hostinfo>,
        /// A session to resume; empty for none.
        omit "MapSessionHandle" => map_session_handle: String,
        /// The last sequence number seen in that session.
        omit "MapSessionSeq" => map_session_seq: i64,
        /// Where the node may be reached directly.
        omit "Endpoints" => endpoints: TextList<SocketAddr>,
        /// How each of `Endpoints` was found: 1 local, 2 STUN, 3 port mapping, 4 STUN with the local port, 5 explicit.
        omit "EndpointTypes" => endpoint_types: Vec<i64>,
        /// Head of the tailnet lock chain; empty for none.
        omit "TKAHead" => tka_head: String,
        /// Old form of a request that changes nothing.
        omit "ReadOnly" => read_only: bool,
        /// Whether peers shall be left out of the answer.
        omit "OmitPeers" => omit_peers: bool,
        /// Switches for debugging.
        omit "DebugFlags" => debug_flags: Vec<String>,
    }
}

wire_struct! {
    /// One message of a map stream. An absent member means "unchanged", except in keep-alives, which change nothing.
    pub struct MapResponse {
        /// Name of the session, to resume it; only in the first message.
        omit "MapSessionHandle" => map_session_handle: String,
        /// Number of the message within its session.
        omit "Seq" => seq: i64,
        /// Whether the message only shows that the server lives.
        omit "KeepAlive" => keep_alive: bool,
        /// A request to the client.
        omit "PingRequest" => ping_request: Option<PingRequest>,
        /// A page to show to the user; empty for none.
        omit "PopBrowserURL" => pop_browser_url: String,
        /// The client's own node; must be in the first message.
        omit "Node" => node: Option<Node>,
        /// The relays.
        omit "DERPMap" => derp_map: Option<DerpMap>,
        /// All peers, ordered by id. Absent and empty both mean that this message does not replace the list.
        omit "Peers" => peers: Vec<Node>,
        /// Peers that are new or changed as a whole, applied after the removals.
        omit "PeersChanged" => peers_changed: Vec<Node>,
        /// Peers that are gone.
        omit "PeersRemoved" => peers_removed: Vec<NodeId>,
        /// Peers changed in part, applied after all other changes of peers.
        omit "PeersChangedPatch" => peers_changed_patch: Vec<PeerChange>,
        /// Peers whose last-seen time is now (`true`) or not told any more (`false`); applied before `OnlineChange`.
        omit "PeerSeenChange" => peer_seen_change: BTreeMap<NodeId, bool>,
        /// Peers that came online or went offline.
        omit "OnlineChange" => online_change: BTreeMap<NodeId, bool>,
        /// Names and resolvers.
        omit "DNSConfig" => dns_config: Option<DnsConfig>,
        /// The tailnet's domain.
        omit "Domain" => domain: String,
        /// Whether the client shall report its services.
        omit "CollectServices" => collect_services: Option<bool>,
        /// The whole packet filter, in its old form. Empty blocks everything; absent means unchanged.
        omit "PacketFilter" => packet_filter: Option<Vec<FilterRule>>,
        /// Parts of the packet filter by name; the filter is their union in the order of names. `null` for a name
        /// removes that part, `null` for the name `*` removes all parts before the others are applied.
        omit "PacketFilters" => packet_filters: Option<BTreeMap<String, Option<Vec<FilterRule>>>>,
        /// Owners of nodes that were not sent before or changed.
        omit "UserProfiles" => user_profiles: Vec<UserProfile>,
        /// Warnings to show. Empty clears them; absent means unchanged.
        omit "Health" => health: Option<Vec<String>>,
        /// Warnings by id, for clients from capability version 117 on, in place of `Health`. `null` for an id removes that
        /// warning, `null` for the id `*` removes all before the others are taken.
        omit "DisplayMessages" => display_messages: BTreeMap<String, Option<DisplayMessage>>,
        /// The server's clock.
        omit "ControlTime" => control_time: Option<GoTime>,
        /// Settings for debugging.
        omit "Debug" => debug: Option<Debug>,
        /// About newer versions of the client.
        omit "ClientVersion" => client_version: Option<ClientVersion>,
    }
}

wire_struct! {
    /// A warning of the server to the user of a node.
    pub struct DisplayMessage {
        /// One line.
        always "Title" => title: String,
        /// Sentences.
        always "Text" => text: String,
        /// `high`, `medium` or `low`.
        omit "Severity" => severity: String,
        /// Whether it is about a node that cannot connect.
        omit "ImpactsConnectivity" => impacts_connectivity: bool,
    }
}

wire_struct! {
    /// Settings for debugging in a map response.
    pub struct Debug {
        /// Seconds that the client shall wait before it goes on.
        omit "SleepSeconds" => sleep_seconds: f64,
        /// Whether the client shall stop to upload logs.
        omit "DisableLogTail" => disable_log_tail: bool,
        /// Exit code with which the client shall end.
        omit "Exit" => exit: Option<i64>,
    }
}

wire_struct! {
    /// What the server knows about newer versions of the client.
    pub struct ClientVersion {
        /// Whether the client's version is the newest.
        omit "RunningLatest" => running_latest: bool,
        /// The newest version.
        omit "LatestVersion" => latest_version: String,
        /// Whether it fixes a security problem.
        omit "UrgentSecurityUpdate" => urgent_security_update: bool,
    }
}
