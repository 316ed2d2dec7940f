//! Packet filter rules.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::object::wire_struct;
use crate::text::TextList;

wire_struct! {
    /// A rule that admits packets to this node. It has either `DstPorts` or `CapGrant`.
    pub struct FilterRule {
        /// Sources: `*`, an address, a prefix, a range `a-b`, or `cap:<name>`.
        always "SrcIPs" => src_ips: Vec<String>,
        /// Destinations that the sources may send to.
        omit "DstPorts" => dst_ports: Vec<NetPortRange>,
        /// IP protocol numbers; empty means TCP, UDP and ICMP.
        omit "IPProto" => ip_proto: Vec<i64>,
        /// Application capabilities that the sources have at destinations.
        omit "CapGrant" => cap_grant: Vec<CapGrant>,
    }
}

wire_struct! {
    /// Addresses and ports.
    pub struct NetPortRange {
        /// `*`, an address, a prefix, or a range `a-b`.
        always "IP" => ip: String,
        /// Length of the prefix for old servers that send the address alone.
        omit "Bits" => bits: Option<u8>,
        /// Ports; ignored for protocols without ports.
        always "Ports" => ports: PortRange,
    }
}

wire_struct! {
    /// Ports from first to last, both included.
    pub struct PortRange {
        /// The first port.
        always "First" => first: u16,
        /// The last port.
        always "Last" => last: u16,
    }
}

wire_struct! {
    /// Application capabilities at destinations.
    pub struct CapGrant {
        /// The destinations.
        omit "Dsts" => dsts: TextList<IpNet>,
        /// Names without arguments, of old servers.
        omit "Caps" => caps: Vec<String>,
        /// Names with their arguments in JSON.
        omit "CapMap" => cap_map: BTreeMap<String, Option<Vec<serde_json::Value>>>,
    }
}
