//! Which inner packets pass: addresses first, then the filter, asked once for a run of packets of one flow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use isthmus_tailnet_core::echo;
use isthmus_tailnet_core::filter::{DropReason, Verdict, protocol};

use super::DropCause;
use super::hooks::HookSenders;
use super::tables::{Entry, Tables};

/// Source and destination of an IP packet.
pub(super) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let at = |start: usize| packet.get(start..start + 4)?.try_into().ok().map(<[u8; 4]>::into);
            let (source, destination): (Ipv4Addr, Ipv4Addr) = (at(12)?, at(16)?);
            Some((source.into(), destination.into()))
        }
        6 => {
            let at = |start: usize| packet.get(start..start + 16)?.try_into().ok().map(<[u8; 16]>::into);
            let (source, destination): (Ipv6Addr, Ipv6Addr) = (at(8)?, at(24)?);
            Some((source.into(), destination.into()))
        }
        _ => None,
    }
}

/// What becomes of an incoming packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It goes to the TUN.
    Pass,
    /// The node itself has taken it.
    Taken,
    /// It is dropped.
    Drop(DropCause),
}

/// Judges incoming packets of one peer, remembering the last verdict.
pub(super) struct InboundJudge<'a> {
    hooks: &'a HookSenders,
    tables: &'a Tables,
    entry: &'a Entry,
    now: Instant,
    last: Option<(Flow, Judgement)>,
}

impl<'a> InboundJudge<'a> {
    pub(super) fn new(hooks: &'a HookSenders, tables: &'a Tables, entry: &'a Entry, now: Instant) -> Self {
        Self {
            hooks,
            tables,
            entry,
            now,
            last: None,
        }
    }

    /// What becomes of a packet.
    pub(super) fn judge(&mut self, packet: &[u8]) -> Judgement {
        let flow = Flow::of(packet);
        if let (Some(flow), Some((last, judgement))) = (&flow, &self.last)
            && flow == last
        {
            return *judgement;
        }
        let judgement = self.judge_anew(packet);
        self.last = flow.map(|flow| (flow, judgement));
        judgement
    }

    fn judge_anew(&self, packet: &[u8]) -> Judgement {
        let Some((source, destination)) = addresses(packet) else {
            return Judgement::Drop(DropCause::Malformed);
        };
        if !self.entry.sources.contains(source) || !self.tables.own.contains(destination) {
            return Judgement::Drop(DropCause::Address);
        }
        let Some(filter) = self.tables.filter.as_ref() else {
            return Judgement::Pass;
        };
        match filter.inbound(&self.entry.peer.key, packet, self.now) {
            Verdict::Accept => {
                if self.hooks.awaits_echoes() && echo::reply(packet).is_some() {
                    self.hooks.hand_over(packet);
                }
                Judgement::Pass
            }
            Verdict::Consume => {
                self.hooks.hand_over(packet);
                Judgement::Taken
            }
            Verdict::Drop(reason) => Judgement::Drop(cause(reason)),
        }
    }
}

/// The peer that an outgoing packet goes to.
///
/// # Errors
/// Why it may not go out.
pub(super) fn outbound<'a>(tables: &'a Tables, packet: &[u8], now: Instant) -> Result<&'a Entry, DropCause> {
    let (source, destination) = addresses(packet).ok_or(DropCause::Malformed)?;
    if !tables.own.contains(source) {
        return Err(DropCause::Address);
    }
    let entry = tables.route(destination).ok_or(DropCause::NoPeer)?;
    match tables.filter.as_ref().map(|filter| filter.outbound(packet, now)) {
        None | Some(Verdict::Accept) => Ok(entry),
        Some(Verdict::Consume) => Err(DropCause::Address),
        Some(Verdict::Drop(reason)) => Err(cause(reason)),
    }
}

fn cause(reason: DropReason) -> DropCause {
    match reason {
        DropReason::NoRule => DropCause::Policy,
        DropReason::Malformed(_) => DropCause::Malformed,
        DropReason::UnknownSender
        | DropReason::ForeignSource
        | DropReason::ForeignDestination
        | DropReason::NotRoutable => DropCause::Address,
    }
}

/// All that the verdict on an unfragmented TCP segment or UDP datagram without options depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flow {
    protocol: u8,
    addresses: [u8; 32],
    ports: [u8; 4],
    tcp_flags: u8,
}

impl Flow {
    fn of(packet: &[u8]) -> Option<Self> {
        let (protocol, start, address_bytes) = match *packet.first()? {
            0x45 if is_whole(packet.get(6..8)?) => (*packet.get(9)?, 20, packet.get(12..20)?),
            first if first >> 4 == 6 => (*packet.get(6)?, 40, packet.get(8..40)?),
            _ => return None,
        };
        let transport = packet.get(start..)?;
        let tcp_flags = match protocol {
            protocol::TCP => *transport.get(13)?,
            protocol::UDP => 0,
            _ => return None,
        };
        let mut addresses = [0; 32];
        addresses[..address_bytes.len()].copy_from_slice(address_bytes);
        // PSH differs between segments of one flow and matters to no verdict.
        let flags = tcp_flags & !0x08;
        Some(Self {
            protocol,
            addresses,
            ports: transport.get(..4)?.try_into().ok()?,
            tcp_flags: flags,
        })
    }
}

/// Whether these bytes 6 and 7 of an IPv4 header are those of a packet that is no fragment, don't-fragment flag aside.
fn is_whole(fragmentation: &[u8]) -> bool {
    matches!(fragmentation, [0 | 0x40, 0])
}

#[cfg(test)]
mod tests;
