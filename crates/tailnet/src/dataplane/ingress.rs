//! The way in: datagrams from the socket to peers' sessions, and their packets to the TUN.

use std::ops::Range;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use isthmus_tailnet_core::packet_io::PacketIoError;
use isthmus_tailnet_core::wireguard::{DatagramKind, Handshaker, MAX_HANDSHAKE_MESSAGE, Transport};

use super::counters::add;
use super::held::Initiation;
use super::judge::{InboundJudge, Judgement};
use super::outbox::Outbox;
use super::peer::at_most_every;
use super::shared::Shared;
use super::tables::{Entry, Tables};
use super::{Datagram, DropCause, Origin, PeerEvent, RelayedDatagram};
use crate::udp::{ReceiveBuffers, ReceivedBatch, WhenFull};
use crate::wireguard::Initiator;

/// What the receiving thread carries from datagram to datagram.
struct Ingress<'a> {
    shared: &'a Shared,
    outbox: Outbox,
    /// Packets of the batch at hand, and where each stands in it.
    opened: Vec<u8>,
    packets: Vec<Range<usize>>,
    last_unknown: Option<Instant>,
}

/// Takes the datagrams from the socket until the data plane is stopped.
pub(super) fn run_ingress(shared: &Shared) {
    let mut ingress = Ingress::new(shared, 64);
    let mut buffers = ReceiveBuffers::default();
    while shared.is_running() {
        match shared.udp.receive(&mut buffers) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::debug!(%error, "the UDP socket failed once");
                shared.sleep(Duration::from_millis(100));
                continue;
            }
        }
        let (tables, now) = (shared.tables.load(), Instant::now());
        for batch in buffers.batches() {
            add(&shared.counters.udp_receives, 1);
            add(&shared.counters.udp_receive_bytes, batch.bytes.len());
            ingress.take(&tables, batch, now);
        }
    }
}

/// Takes the datagrams that came by relay until the data plane is stopped.
pub(super) fn run_relayed(shared: &Shared) {
    let mut ingress = Ingress::new(shared, 1);
    let relayed = shared.relayed.lock().unwrap_or_else(PoisonError::into_inner);
    // It is closed when the data plane is dropped.
    while let Ok(RelayedDatagram { from, bytes }) = relayed.recv() {
        let (tables, now) = (shared.tables.load(), Instant::now());
        let stride = bytes.len();
        shared.counters.inbound.from(from).add_batch(stride, stride);
        let kind = DatagramKind::of(&bytes);
        if let DatagramKind::Data(index) = kind {
            ingress.data(&tables, index, from, &bytes, stride, now);
        } else {
            ingress.other(&tables, kind, from, &bytes, now);
        }
    }
}

impl<'a> Ingress<'a> {
    fn new(shared: &'a Shared, packets: usize) -> Self {
        Self {
            shared,
            outbox: Outbox::new(WhenFull::Drop),
            opened: Vec::new(),
            packets: Vec::with_capacity(packets),
            last_unknown: None,
        }
    }

    /// Takes the datagrams of one receive buffer, neighbours of one session together.
    fn take(&mut self, tables: &Tables, batch: ReceivedBatch<'_>, now: Instant) {
        let ReceivedBatch { from, bytes, stride } = batch;
        let mut start = 0;
        while start < bytes.len() {
            let first = (start + stride).min(bytes.len());
            let kind = DatagramKind::of(&bytes[start..first]);
            let mut end = first;
            if let DatagramKind::Data(index) = kind {
                let next = |end: usize| DatagramKind::of(&bytes[end..(end + stride).min(bytes.len())]);
                while end < bytes.len() && next(end) == DatagramKind::Data(index) {
                    end = (end + stride).min(bytes.len());
                }
                self.data(tables, index, Origin::Direct(from), &bytes[start..end], stride, now);
            } else {
                self.other(tables, kind, Origin::Direct(from), &bytes[start..end], now);
            }
            if kind != DatagramKind::Other {
                let inbound = &self.shared.counters.inbound;
                inbound.from(Origin::Direct(from)).add_batch(end - start, stride);
            }
            start = end;
        }
    }

    /// Opens data messages of one session and passes their packets on.
    fn data(&mut self, tables: &Tables, index: u32, from: Origin, batch: &[u8], stride: usize, now: Instant) {
        let found = tables
            .by_session(index)
            .and_then(|entry| Some((entry, entry.peer.session()?)));
        let Some((entry, session)) = found else {
            let dropped = batch.len().div_ceil(stride);
            self.shared.counters.inbound_dropped.add(DropCause::NoSession, dropped);
            self.unknown_index(tables, from, now);
            return;
        };
        if self.opened.len() < batch.len() {
            self.opened.resize(batch.len(), 0);
        }
        self.packets.clear();
        let opened = session.open(batch, stride, &mut self.opened, &mut self.packets);
        if opened.refused > 0 {
            self.shared
                .counters
                .inbound_dropped
                .add(DropCause::NoSession, opened.refused);
        }
        if opened.authentic > 0 {
            entry.peer.counters.inbound.add_batch(batch.len(), stride);
        }
        if opened.authentic > 0 && entry.peer.has_waiting() && session.is_ready() {
            self.outbox.send_waiting(self.shared, entry, now);
        }
        let mut judge = InboundJudge::new(&self.shared.hooks, tables, entry, now);
        let packets = self.packets.iter().map(|range| &self.opened[range.clone()]);
        let goes_on = |packet: &&[u8]| match judge.judge(packet) {
            Judgement::Pass => true,
            Judgement::Taken => false,
            Judgement::Drop(cause) => {
                self.shared.counters.inbound_dropped.add(cause, 1);
                false
            }
        };
        let passed: Vec<&[u8]> = packets.filter(goes_on).collect();
        self.to_tun(&passed);
    }

    fn to_tun(&self, packets: &[&[u8]]) {
        if packets.is_empty() {
            return;
        }
        match self.shared.io.send(packets) {
            Ok(written) => add(&self.shared.counters.tun_packets_written, written),
            // The thread that receives from the device says so.
            Err(PacketIoError::Closed) => {}
            Err(PacketIoError::Failed(error)) => {
                tracing::debug!(%error, "the packet device failed once");
                let dropped = &self.shared.counters.inbound_dropped;
                dropped.add(DropCause::Refused, packets.len());
            }
        }
    }

    /// A peer speaks in a session that is not ours any more: most likely this node was restarted.
    fn unknown_index(&mut self, tables: &Tables, from: Origin, now: Instant) {
        add(&self.shared.counters.unknown_index, 1);
        if let Some(entry) = tables
            .by_origin(from)
            .filter(|entry| entry.peer.may_force_handshake(now))
        {
            self.shared.start_handshake(entry, false, now);
        }
        if at_most_every(Duration::from_millis(100), &mut self.last_unknown, now) {
            self.shared.tell(PeerEvent::UnknownIndex { from });
        }
    }

    fn other(&mut self, tables: &Tables, kind: DatagramKind, from: Origin, datagram: &[u8], now: Instant) {
        match kind {
            DatagramKind::Initiation => self.initiation(tables, from, datagram, now),
            DatagramKind::Answer(index) => match tables.by_session(index) {
                Some(entry) if entry.peer.session().is_some() => {
                    self.shared.handle(&mut self.outbox, entry, from, datagram, now);
                }
                _ => add(&self.shared.counters.handshakes_refused, 1),
            },
            DatagramKind::Data(_) | DatagramKind::Other => {
                // What comes by relay and is not WireGuard does not come here.
                let Origin::Direct(from) = from else { return };
                let message = Datagram {
                    from,
                    bytes: datagram.into(),
                };
                if self.shared.hooks.datagrams.try_send(message).is_err() {
                    add(&self.shared.counters.hooks_dropped, 1);
                }
            }
        }
    }

    fn initiation(&mut self, tables: &Tables, from: Origin, datagram: &[u8], now: Instant) {
        match self.shared.identity.initiator(datagram, from.address()) {
            Initiator::Peer(key) => match tables.by_key(&key) {
                Some(entry) => self.shared.handle(&mut self.outbox, entry, from, datagram, now),
                None => {
                    if let Ok(message) = <[u8; MAX_HANDSHAKE_MESSAGE]>::try_from(datagram) {
                        let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
                        held.push(Initiation {
                            key,
                            from,
                            message,
                            at: now,
                        });
                        self.shared.tell(PeerEvent::UnknownInitiator { key, from });
                    }
                }
            },
            Initiator::Cookie(cookie) => self.shared.answer(from, cookie.as_bytes()),
            Initiator::Refused => add(&self.shared.counters.handshakes_refused, 1),
        }
    }
}

impl Shared {
    /// Gives a handshake message to its peer's session, answers it, and sends what waited for it.
    pub(super) fn handle(&self, outbox: &mut Outbox, entry: &Entry, from: Origin, message: &[u8], now: Instant) {
        let session = entry.peer.session_or_new(&self.identity, now);
        match session.handle(message, from.address(), now) {
            Ok(handled) => {
                if let Some(answer) = handled.answer {
                    self.answer(from, answer.as_bytes());
                }
                if handled.authentic {
                    if let Origin::Direct(from) = from {
                        entry.peer.learn_path(from);
                    }
                    entry.peer.counters.note_handshake(now);
                    add(&self.counters.handshakes_completed, 1);
                    self.tell(PeerEvent::Handshake(entry.peer.key));
                    if session.is_ready() {
                        outbox.send_waiting(self, entry, now);
                    }
                }
            }
            Err(error) => {
                tracing::trace!(%error, "refused a handshake message");
                add(&self.counters.handshakes_refused, 1);
            }
        }
    }
}
