//! Requests from the server to a node.

use crate::object::wire_struct;
use crate::text::Base64Bytes;

wire_struct! {
    /// A request from the server in a map response. Clients must not act twice on one `URL`.
    pub struct PingRequest {
        /// Where to answer. Without `Types`, the whole request is a plain HTTP `HEAD` of it.
        always "URL" => url: String,
        /// Whether to answer over the Noise connection; the host of the URL is then a dummy.
        omit "URLIsNoise" => url_is_noise: bool,
        /// Whether the client shall log it.
        omit "Log" => log: bool,
        /// What to do, separated by commas: `c2n`, or the kinds of ping `disco`, `TSMP`, `ICMP`, `peerapi`.
        omit "Types" => types: String,
        /// The peer to ping.
        omit "IP" => ip: String,
        /// For `c2n`, an HTTP/1 request to answer.
        omit "Payload" => payload: Base64Bytes,
    }
}

wire_struct! {
    /// What a node posts to the URL of a [`PingRequest`] after it pinged a peer.
    pub struct PingResponse {
        /// The kind of ping.
        always "Type" => kind: String,
        /// The peer's tailnet address.
        omit "IP" => ip: String,
        /// The peer's node address.
        omit "NodeIP" => node_ip: String,
        /// The peer's name.
        omit "NodeName" => node_name: String,
        /// Why it failed; empty for success.
        omit "Err" => err: String,
        /// Seconds until the answer.
        omit "LatencySeconds" => latency_seconds: f64,
        /// Where the answer came from, when direct.
        omit "Endpoint" => endpoint: String,
        /// The relay region it came over, or 0.
        omit "DERPRegionID" => derp_region_id: i64,
        /// A few letters for that region.
        omit "DERPRegionCode" => derp_region_code: String,
        /// Whether it failed because the address is the node's own.
        omit "IsLocalIP" => is_local_ip: bool,
    }
}
