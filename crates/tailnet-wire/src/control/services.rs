//! Tailscale Services: what a host advertises, and what the server assigns to it.

use crate::object::wire_struct;

/// The capability by which a server tells a host the Services it carries: one argument, an object from the name of a Service
/// (`svc:…`) to its addresses.
pub const SERVICE_HOST: &str = "service-host";

wire_struct! {
    /// A Tailscale Service as its host offers it.
    pub struct VipService {
        /// `svc:` and a DNS label.
        always "Name" => name: String,
        /// Ports: `tcp:443`, `udp:53-54`, `80` for both protocols, `*` for all.
        always "Ports" => ports: Vec<String>,
        /// Whether the host wants to carry it now.
        always "Active" => active: bool,
    }
}

wire_struct! {
    /// Answer of a node to the server's `GET /vip-services`.
    pub struct C2nVipServices {
        /// The Services, ordered by name.
        always "VIPServices" => services: Vec<VipService>,
        /// The same hash as in the node's [`Hostinfo`](super::Hostinfo): of the JSON of the list with a line feed behind it, as SHA-256 in
        /// hexadecimal digits; empty for an empty list.
        always "ServicesHash" => hash: String,
    }
}
