//! A tracked flow, as the kernel's connection tracking knows it.

use std::net::IpAddr;

use crate::rules::Protocol;

/// One entry of connection tracking, as far as a plan judges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Its connection mark.
    pub mark: u32,
    /// Its transport, when it has ports.
    pub protocol: Option<Protocol>,
    /// The addresses as the initiator wrote them.
    pub original: FlowEnd,
    /// The addresses as the answering side writes them: its source is the target, its destination whom the target
    /// believes to talk to.
    pub reply: FlowEnd,
}

/// Addresses of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowEnd {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port, when the protocol has ports.
    pub destination_port: Option<u16>,
}
