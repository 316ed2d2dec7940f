//! The packet filter: which packets of peers reach this node, and which packets leave it.
//!
//! Verdicts are those of the Go client. The kernel, not this filter, tracks TCP connections: a TCP segment that opens nothing passes, and
//! the kernel answers it with a reset when it belongs to no connection.

mod flows;
mod header;
mod rules;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::addresses::AddressSet;
use crate::key::NodeKey;

pub use flows::{IDLE_LIMIT, MAX_FLOWS};
pub use header::{Body, Header, HeaderError, protocol};
pub use rules::{Destination, PortRange, Rule};

use flows::{Flow, FlowTable};

/// Judges inner packets. One call per packet, or per super-packet: the segments of one share all that a verdict depends on.
pub trait PacketFilter: Send + Sync {
    /// Judges `packet`, decrypted from `sender`'s session, before it goes to the TUN.
    fn inbound(&self, sender: &NodeKey, packet: &[u8], now: Instant) -> Verdict;

    /// Judges `packet`, read from the TUN, before it is routed to a peer. Remembers the flow it opens.
    fn outbound(&self, packet: &[u8], now: Instant) -> Verdict;
}

/// What is to happen with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on.
    Accept,
    /// It is for the node itself (TSMP): it must not reach the TUN.
    Consume,
    /// Drop it without an answer.
    Drop(DropReason),
}

/// Why a packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The packet cannot be read.
    Malformed(Malformed),
    /// The sender is no peer with a session.
    UnknownSender,
    /// The inner source is not an address of the sender (inbound) or of this node (outbound).
    ForeignSource,
    /// The inner destination is not an address of this node.
    ForeignDestination,
    /// The destination is multicast, broadcast or link-local: such packets do not cross a tailnet.
    NotRoutable,
    /// No rule allows it, and it answers nothing.
    NoRule,
}

/// Why a packet cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Malformed {
    /// See [`HeaderError::Truncated`].
    Truncated,
    /// See [`HeaderError::NotIp`].
    NotIp,
    /// See [`HeaderError::OverlappingFragment`].
    OverlappingFragment,
    /// See [`HeaderError::TooManyExtensions`].
    TooManyExtensions,
}

impl DropReason {
    /// The reason as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnknownSender => "unknown_sender",
            Self::ForeignSource => "foreign_source",
            Self::ForeignDestination => "foreign_destination",
            Self::NotRoutable => "not_routable",
            Self::NoRule => "no_rule",
        }
    }
}

impl From<HeaderError> for DropReason {
    fn from(error: HeaderError) -> Self {
        Self::Malformed(match error {
            HeaderError::Truncated => Malformed::Truncated,
            HeaderError::NotIp => Malformed::NotIp,
            HeaderError::OverlappingFragment => Malformed::OverlappingFragment,
            HeaderError::TooManyExtensions => Malformed::TooManyExtensions,
        })
    }
}

/// What a filter enforces.
#[derive(Debug, Clone, Default)]
pub struct FilterPlan {
    /// Addresses of this node: its own, those of Services it hosts, and its approved routes.
    pub local: AddressSet,
    /// The allow rules.
    pub rules: Vec<Rule>,
    /// Every peer that has a session.
    pub senders: BTreeMap<NodeKey, SenderAccess>,
}

/// What one peer may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SenderAccess {
    /// Inner sources that the peer may use: its AllowedIPs.
    pub sources: AddressSet,
    /// The peer is jailed: it may answer flows of ours and open none.
    pub jailed: bool,
}

/// The filter of a node: a plan, and the flows that the node has opened.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    plan: Arc<FilterPlan>,
    flows: Arc<Mutex<FlowTable>>,
}

impl Filter {
    /// A filter that enforces `plan` and knows no flow yet.
    pub fn new(plan: FilterPlan) -> Self {
        Self {
            plan: Arc::new(plan),
            flows: Arc::default(),
        }
    }

    /// The filter with another plan and the same flows, which both go on sharing.
    #[must_use]
    pub fn with_plan(&self, plan: FilterPlan) -> Self {
        Self {
            plan: Arc::new(plan),
            flows: Arc::clone(&self.flows),
        }
    }

    fn judge_inbound(&self, sender: &NodeKey, packet: &[u8], now: Instant) -> Result<Verdict, DropReason> {
        let header = Header::parse(packet)?;
        let access = self.plan.senders.get(sender).ok_or(DropReason::UnknownSender)?;
        if !access.sources.contains(header.source) {
            return Err(DropReason::ForeignSource);
        }
        if !is_routable(header.destination) {
            return Err(DropReason::NotRoutable);
        }
        if !self.plan.local.contains(header.destination) {
            return Err(DropReason::ForeignDestination);
        }
        if header.protocol == protocol::TSMP && header.body == Body::Opaque {
            return Ok(Verdict::Consume);
        }
        let rules: &[Rule] = if access.jailed { &[] } else { &self.plan.rules };
        if self.passes(rules, &header, now) {
            Ok(Verdict::Accept)
        } else {
            Err(DropReason::NoRule)
        }
    }

    fn passes(&self, rules: &[Rule], header: &Header, now: Instant) -> bool {
        let (protocol, source, destination) = (header.protocol, header.source, header.destination);
        match header.body {
            Body::Tcp { opens: false, .. } | Body::IcmpAnswer | Body::LaterFragment => true,
            Body::Tcp { destination_port, .. } => rules
                .iter()
                .any(|rule| rule.allows(protocol, source, destination, destination_port)),
            Body::Datagram {
                source_port,
                destination_port,
            } => {
                let remote = SocketAddr::new(source, source_port);
                let local = SocketAddr::new(destination, destination_port);
                self.flows().admits(
                    Flow {
                        protocol,
                        remote,
                        local,
                    },
                    now,
                ) || rules
                    .iter()
                    .any(|rule| rule.allows(protocol, source, destination, destination_port))
            }
            Body::IcmpRequest => rules.iter().any(|rule| rule.opens_anything(source, destination)),
            Body::Opaque => rules
                .iter()
                .any(|rule| rule.allows_portless(protocol, source, destination)),
        }
    }

    fn judge_outbound(&self, packet: &[u8], now: Instant) -> Result<Verdict, DropReason> {
        let header = Header::parse(packet)?;
        if !self.plan.local.contains(header.source) {
            return Err(DropReason::ForeignSource);
        }
        if !is_routable(header.destination) {
            return Err(DropReason::NotRoutable);
        }
        if let Body::Datagram {
            source_port,
            destination_port,
        } = header.body
        {
            let local = SocketAddr::new(header.source, source_port);
            let remote = SocketAddr::new(header.destination, destination_port);
            self.flows().open(
                Flow {
                    protocol: header.protocol,
                    remote,
                    local,
                },
                now,
            );
        }
        Ok(Verdict::Accept)
    }

    fn flows(&self) -> std::sync::MutexGuard<'_, FlowTable> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PacketFilter for Filter {
    fn inbound(&self, sender: &NodeKey, packet: &[u8], now: Instant) -> Verdict {
        self.judge_inbound(sender, packet, now).unwrap_or_else(Verdict::Drop)
    }

    fn outbound(&self, packet: &[u8], now: Instant) -> Verdict {
        self.judge_outbound(packet, now).unwrap_or_else(Verdict::Drop)
    }
}

/// Whether packets to `destination` cross a tailnet at all.
fn is_routable(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(address) => {
            !(address.is_multicast() || address.is_link_local() || address.is_broadcast() || address.is_unspecified())
        }
        IpAddr::V6(address) => !(address.is_multicast() || address.is_unicast_link_local() || address.is_unspecified()),
    }
}

#[cfg(test)]
mod tests;
