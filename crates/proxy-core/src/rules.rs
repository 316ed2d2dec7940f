//! The rule plan: one nftables table, derived whole from a [`Plan`](crate::Plan).
//!
//! Chains and sets are the same for every plan, and only rules and elements differ. So a change of plan replaces
//! rules inside living chains, and no packet ever meets a chain whose rules are gone.

mod build;
mod text;

use std::collections::BTreeSet;
use std::net::IpAddr;

use isthmus_contract::proxy_config;

/// The name of the table, in family `inet`.
pub const TABLE_NAME: &str = "isthmus";

/// The packet mark of everything that came in from the tailnet.
pub const MARK_FROM_TAILNET: u32 = 0x6973_0001;
/// The packet mark of what is to leave by the tailnet.
pub const MARK_TO_TAILNET: u32 = 0x6973_0002;
/// What the connection marks of all flows of the proxy have in common, in the bits of [`TRACK_MASK`].
pub const TRACK: u32 = 0x6973_0010;
/// Which bits of a connection mark tell the proxy's flows from others.
pub const TRACK_MASK: u32 = 0xffff_fff0;
/// The connection mark of flows that peers opened to the cluster.
pub const TRACK_INGRESS: u32 = 0x6973_0011;
/// The connection mark of flows that Pods opened to the tailnet.
pub const TRACK_EGRESS: u32 = 0x6973_0012;
/// The connection mark of flows that were handed to the relay, from either side.
pub const TRACK_RELAYED: u32 = 0x6973_0013;

/// Every rule of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulePlan {
    /// The sets, by name.
    pub sets: Vec<PortSet>,
    /// The chains. A chain that is jumped to stands before the one that jumps.
    pub chains: Vec<Chain>,
}

/// A set of `l4proto . port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSet {
    /// Its name.
    pub name: &'static str,
    /// Its elements.
    pub elements: BTreeSet<(Protocol, u16)>,
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this number, if it is one of these.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| protocol.number() == number)
    }
}

impl From<proxy_config::Protocol> for Protocol {
    fn from(protocol: proxy_config::Protocol) -> Self {
        match protocol {
            proxy_config::Protocol::Tcp => Self::Tcp,
            proxy_config::Protocol::Udp => Self::Udp,
        }
    }
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where the kernel enters it; none for a chain that others jump to.
    pub base: Option<BaseChain>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// Where the kernel enters a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// What the chain may do.
    pub chain_type: ChainType,
    /// The hook.
    pub hook: Hook,
    /// The priority at the hook; smaller is earlier.
    pub priority: i32,
    /// Whether packets that no rule decided are dropped.
    pub drops: bool,
}

/// The type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of each tracked flow.
    Nat,
    /// Looks the route up again when it changed the mark.
    Route,
}

/// A netfilter hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the route is looked up.
    Prerouting,
    /// To the Pod itself.
    Input,
    /// Through the Pod.
    Forward,
    /// From the Pod itself.
    Output,
    /// After the route is known.
    Postrouting,
}

/// One rule: all matches hold, then all actions happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What a packet must be.
    pub matches: Vec<Match>,
    /// What happens to it, in order.
    pub actions: Vec<Action>,
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It came in by this device.
    From(String),
    /// It came in by another device.
    NotFrom(String),
    /// It leaves by this device.
    To(String),
    /// It leaves by another device.
    NotTo(String),
    /// Its source address.
    Source(IpAddr),
    /// Its destination address.
    Destination(IpAddr),
    /// Its transport and destination port.
    Port(Protocol, u16),
    /// Its transport and destination port are in the set of this name.
    PortIn(&'static str),
    /// Chance, with a probability of one in this many; at least 2.
    OneIn(u32),
    /// Its IP protocol number.
    IpProtocol(u8),
    /// It has another IP protocol number.
    NotIpProtocol(u8),
    /// Its IP version.
    Family {
        /// IPv6.
        ipv6: bool,
    },
    /// A TCP segment with SYN and without ACK, RST and FIN: the first of a connection.
    OpensTcp,
    /// A TCP segment that carries SYN and no RST: both announcements of a segment size.
    TcpSyn,
    /// An ICMP or, when true, ICMPv6 echo request.
    EchoRequest {
        /// ICMPv6.
        ipv6: bool,
    },
    /// Connection tracking has not seen its flow before.
    New,
    /// Connection tracking knows its flow, or the flow that it reports an error of.
    Known,
    /// The direction within its flow.
    Direction(Direction),
    /// Its flow's destination was translated.
    Translated,
    /// The mark of its flow.
    Track(u32),
}

/// The direction of a packet within its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// As the flow's initiator sends.
    Original,
    /// As the other side answers.
    Reply,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sets the packet's mark.
    Mark(u32),
    /// Sets the flow's mark.
    Track(u32),
    /// Hands the packet to the relay, which listens at this port of the family's loopback address, and leaves the packet as
    /// it is. When nothing listens there, the rule ends.
    HandOver {
        /// IPv6.
        ipv6: bool,
        /// The relay's port.
        port: u16,
    },
    /// Translates the destination to this address and keeps the port.
    TranslateTo(IpAddr),
    /// Translates the source to this address.
    TranslateFrom(IpAddr),
    /// Translates the source to the address of the device it leaves by.
    Masquerade,
    /// Lowers the announced segment size to this many bytes.
    ClampSegment(u16),
    /// Goes on in this chain and comes back.
    Jump(&'static str),
    /// Lets it pass.
    Accept,
    /// Drops it.
    Drop,
    /// Answers with a TCP reset.
    Reset,
    /// Answers with "port unreachable".
    RefusePort,
}

#[cfg(test)]
mod tests;
