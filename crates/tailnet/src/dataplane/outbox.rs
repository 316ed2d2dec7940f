//! The way out: packets of one peer gathered into strided batches, sealed, sent.

use std::sync::Arc;
use std::time::Instant;

use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netmap::RegionId;
use isthmus_tailnet_core::packet_io::Offload;
use isthmus_tailnet_core::wireguard::{DATA_HEADER, DATA_OVERHEAD, Handshaker, Transport};

use super::counters::add;
use super::peer::Peer;
use super::shared::Shared;
use super::tables::Entry;
use super::{DropCause, Origin, Path, PeerEvent, judge};
use crate::segment::{complete_checksum, cut, padded};
use crate::udp::WhenFull;
use crate::wireguard::Session;

/// Datagrams in one batch of packets that were not a super-packet: what the kernel takes at once.
const MAX_RUN: usize = 64;

/// Bytes in one such batch.
const MAX_RUN_BYTES: usize = 65_000;

/// Gathers, seals and sends the packets of one thread.
pub(super) struct Outbox {
    plain: Vec<u8>,
    sealed: Vec<u8>,
    run: Option<Run>,
    full: WhenFull,
}

/// A batch that may still grow: datagrams of equal length to one peer.
struct Run {
    session: Arc<Session>,
    peer: Arc<Peer>,
    path: Path,
    stride: usize,
    used: usize,
}

impl Outbox {
    /// `full` says whether this thread may wait for room in the socket.
    pub(super) fn new(full: WhenFull) -> Self {
        Self {
            plain: vec![0; MAX_RUN_BYTES],
            sealed: Vec::new(),
            run: None,
            full,
        }
    }

    /// Sends a packet to a peer, with the next ones where that is possible; or keeps it with the peer and asks for what is
    /// missing: a handshake, a path.
    pub(super) fn send(&mut self, shared: &Shared, entry: &Entry, packet: &mut [u8], offload: Offload, now: Instant) {
        let session = entry.peer.session().filter(|session| session.is_ready());
        let (Some(session), Some(path)) = (session, entry.path()) else {
            shared.keep_waiting(entry, packet, offload, now);
            return;
        };
        match offload {
            Offload::Segments { protocol, size, start } => {
                self.flush(shared);
                match cut(packet, (protocol, size, start), shared.mtu, &mut self.plain) {
                    Ok(cut) => {
                        let to = (&*session, &*entry.peer);
                        self.seal_and_send(shared, to, path, cut.length, cut.stride);
                    }
                    Err(error) => {
                        tracing::debug!(%error, "dropped a super-packet that cannot be cut");
                        shared.counters.outbound_dropped.add(DropCause::Malformed, 1);
                    }
                }
            }
            Offload::None | Offload::Checksum { .. } => {
                if complete_checksum(packet, offload) {
                    self.append(shared, session, (&entry.peer, path), packet);
                } else {
                    shared.counters.outbound_dropped.add(DropCause::Malformed, 1);
                }
            }
        }
    }

    /// Sends the packets that waited for this peer.
    pub(super) fn send_waiting(&mut self, shared: &Shared, entry: &Entry, now: Instant) {
        if entry.peer.has_waiting() {
            for (mut packet, offload) in entry.peer.take_waiting(&shared.waiting_bytes) {
                self.send(shared, entry, &mut packet, offload, now);
            }
            self.flush(shared);
        }
    }

    /// Sends what has been gathered.
    pub(super) fn flush(&mut self, shared: &Shared) {
        if let Some(run) = self.run.take() {
            let to = (&*run.session, &*run.peer);
            self.seal_and_send(shared, to, run.path, run.used, run.stride);
        }
    }

    fn append(&mut self, shared: &Shared, session: Arc<Session>, to: (&Arc<Peer>, Path), packet: &[u8]) {
        let (peer, path) = to;
        let length = DATA_OVERHEAD + padded(packet.len(), shared.mtu);
        if length > MAX_RUN_BYTES {
            shared.counters.outbound_dropped.add(DropCause::Malformed, 1);
            return;
        }
        if !self.run.as_ref().is_some_and(|run| run.takes(&session, path, length)) {
            self.flush(shared);
        }
        let run = self.run.get_or_insert_with(|| Run {
            session,
            peer: Arc::clone(peer),
            path,
            stride: length,
            used: 0,
        });
        let datagram = &mut self.plain[run.used..run.used + length];
        let (content, padding) = datagram[DATA_HEADER..].split_at_mut(packet.len());
        content.copy_from_slice(packet);
        padding.fill(0);
        run.used += length;
        if length < run.stride {
            self.flush(shared);
        }
    }

    fn seal_and_send(
        &mut self,
        shared: &Shared,
        (session, peer): (&Session, &Peer),
        path: Path,
        length: usize,
        stride: usize,
    ) {
        if self.sealed.len() < length {
            self.sealed.resize(length, 0);
        }
        let (batch, counters) = (&mut self.sealed[..length], &shared.counters);
        if session.seal(&self.plain[..length], batch, stride).is_err() {
            // The session ended since it was looked at.
            let dropped = length.div_ceil(stride);
            counters.outbound_dropped.add(DropCause::NoSession, dropped);
            return;
        }
        peer.counters.outbound.add_batch(length, stride);
        match path {
            Path::Relay(region) => shared.relay_batch(region, peer.key, batch, stride),
            Path::Direct(address) => match shared.udp.send_batch(address, batch, stride, self.full) {
                Ok(calls) => {
                    add(&counters.udp_sends, calls);
                    add(&counters.udp_send_bytes, length);
                    counters.outbound.to(path).add_batch(length, stride);
                }
                Err(error) => {
                    tracing::trace!(%error, "dropped packets");
                    let dropped = length.div_ceil(stride);
                    counters.outbound_dropped.add(DropCause::Refused, dropped);
                }
            },
        }
    }
}

impl Run {
    fn takes(&self, session: &Arc<Session>, path: Path, length: usize) -> bool {
        let fits = self.used / self.stride < MAX_RUN && self.used + length <= MAX_RUN_BYTES;
        fits && length <= self.stride && self.path == path && Arc::ptr_eq(&self.session, session)
    }
}

impl Shared {
    /// Keeps a packet with its peer and starts what it waits for.
    fn keep_waiting(&self, entry: &Entry, packet: &[u8], offload: Offload, now: Instant) {
        let dropped = entry.peer.wait(packet, offload, &self.waiting_bytes);
        if dropped > 0 {
            self.counters.outbound_dropped.add(DropCause::QueueFull, dropped);
        }
        if entry.path().is_some() {
            self.start_handshake(entry, false, now);
        } else if entry.peer.may_ask_for_path(now) {
            self.tell(PeerEvent::PathWanted(entry.peer.key));
        }
    }

    /// Sends a handshake initiation, unless one is on its way and this is not to be done `again`. Needs a path.
    pub(super) fn start_handshake(&self, entry: &Entry, again: bool, now: Instant) {
        let Some(path) = entry.path() else { return };
        let session = entry.peer.session_or_new(&self.identity, now);
        if let Some(initiation) = session.initiate(now, again) {
            add(&self.counters.handshakes_started, 1);
            self.send_message(path, &entry.peer.key, initiation.as_bytes());
        }
    }

    /// Sends a message that is not worth waiting for.
    pub(super) fn send_message(&self, path: Path, peer: &NodeKey, message: &[u8]) {
        match path {
            Path::Direct(to) => match self.udp.send(to, message) {
                Ok(()) => self.counters.outbound.to(path).add_batch(message.len(), message.len()),
                Err(error) => {
                    tracing::debug!(%error, "cannot send a handshake message");
                    self.counters.outbound_dropped.add(DropCause::Refused, 1);
                }
            },
            Path::Relay(region) => self.relay_batch(region, *peer, message, message.len()),
        }
    }

    /// Answers a message where it came from.
    pub(super) fn answer(&self, origin: Origin, message: &[u8]) {
        match origin {
            Origin::Direct(to) => self.send_message(Path::Direct(to), &NodeKey::from_bytes([0; 32]), message),
            Origin::Relayed { region, by } => self.send_message(Path::Relay(region), &by, message),
        }
    }

    /// Hands the datagrams of a batch to a relay.
    fn relay_batch(&self, region: RegionId, peer: NodeKey, batch: &[u8], stride: usize) {
        let outbound = self.counters.outbound.to(Path::Relay(region));
        for datagram in batch.chunks(stride.max(1)) {
            if self.hooks.relay(region, peer, datagram) {
                outbound.add_batch(datagram.len(), datagram.len());
            } else {
                self.counters.outbound_dropped.add(DropCause::QueueFull, 1);
            }
        }
    }
}

/// Takes the packets from the TUN to the peers until the data plane is stopped.
pub(super) fn run_egress(shared: &Shared) {
    let mut batch = isthmus_tailnet_core::packet_io::PacketBatch::new(128, 128 * 1024);
    let mut outbox = Outbox::new(WhenFull::Wait);
    while shared.is_running() {
        if let Err(error) = shared.io.receive(&mut batch) {
            if shared.pause_after(&error) {
                continue;
            }
            return;
        }
        let (tables, now) = (shared.tables.load(), Instant::now());
        add(&shared.counters.tun_reads, batch.len());
        for index in 0..batch.len() {
            let (packet, offload) = batch.packet(index);
            add(&shared.counters.tun_read_bytes, packet.len());
            match judge::outbound(&tables, packet, now) {
                Ok(entry) => outbox.send(shared, entry, packet, offload, now),
                Err(cause) => shared.counters.outbound_dropped.add(cause, 1),
            }
        }
        outbox.flush(shared);
    }
}
