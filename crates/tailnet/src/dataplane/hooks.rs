//! What the data plane tells others, through bounded channels: who does not listen loses messages, never memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netmap::RegionId;
use tokio::sync::mpsc;

use super::Origin;

/// Datagrams kept for a slow listener.
const MAX_DATAGRAMS: usize = 256;

/// Events kept for a slow listener.
const MAX_EVENTS: usize = 256;

/// Datagrams for relays that are kept: about ten milliseconds of a fast sender.
const MAX_RELAYED: usize = 1024;

/// Packets for the node itself that are kept.
const MAX_CONSUMED: usize = 16;

/// The receiving ends. What a listener does not take in time is dropped and counted.
#[derive(Debug)]
pub struct Hooks {
    /// Datagrams on the node's socket that are not WireGuard: disco, STUN, noise.
    pub datagrams: mpsc::Receiver<Datagram>,
    /// What happened to peers.
    pub events: mpsc::Receiver<PeerEvent>,
    /// Datagrams to be passed on by relays.
    pub relayed: mpsc::Receiver<ForRelay>,
    /// Inner packets of peers that are for the node itself and not for its machine.
    pub consumed: mpsc::Receiver<Box<[u8]>>,
    awaits_echoes: Arc<AtomicBool>,
}

/// A datagram for a peer at a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForRelay {
    /// The relay's region.
    pub region: RegionId,
    /// The peer.
    pub to: NodeKey,
    /// The datagram.
    pub datagram: Vec<u8>,
}

/// A datagram from the node's UDP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Its sender. An IPv4 address is never written in its IPv6-mapped form.
    pub from: SocketAddr,
    /// Its content.
    pub bytes: Box<[u8]>,
}

/// Something about a peer that others may act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// Packets wait for this peer, and it has no path. Sent at most once a second and peer.
    PathWanted(NodeKey),
    /// A node that is not in the snapshot wants a handshake. It is kept, and answered when a snapshot within ten seconds
    /// brings the node.
    UnknownInitiator {
        /// The node's key, proven to be in the initiation, not proven to be the sender's.
        key: NodeKey,
        /// Where the initiation came from.
        from: Origin,
    },
    /// A data message for a session that does not exist: its sender has not noticed that this node was restarted. When
    /// the address is a peer's path, a handshake has been started already.
    UnknownIndex {
        /// Where the message came from.
        from: Origin,
    },
    /// A handshake with this peer was completed, or answered.
    Handshake(NodeKey),
}

/// The sending ends.
#[derive(Debug, Clone)]
pub(super) struct HookSenders {
    pub(super) datagrams: mpsc::Sender<Datagram>,
    pub(super) events: mpsc::Sender<PeerEvent>,
    relayed: mpsc::Sender<ForRelay>,
    consumed: mpsc::Sender<Box<[u8]>>,
    awaits_echoes: Arc<AtomicBool>,
}

impl HookSenders {
    /// Hands a datagram to a relay; false when too many wait already.
    pub(super) fn relay(&self, region: RegionId, to: NodeKey, datagram: &[u8]) -> bool {
        let datagram = datagram.to_vec();
        self.relayed.try_send(ForRelay { region, to, datagram }).is_ok()
    }

    /// Whether the node itself waits for an echo.
    pub(super) fn awaits_echoes(&self) -> bool {
        self.awaits_echoes.load(Ordering::Relaxed)
    }

    /// Hands a packet to the node itself; nothing happens when many wait already.
    pub(super) fn hand_over(&self, packet: &[u8]) {
        let _ = self.consumed.try_send(packet.into());
    }
}

impl Hooks {
    /// Says whether this node waits for echoes that it asked for itself. While it does, all that come in are handed over as well.
    pub fn await_echoes(&self, wanted: bool) {
        self.awaits_echoes.store(wanted, Ordering::Relaxed);
    }

    pub(super) fn channels() -> (HookSenders, Self) {
        let (datagrams, datagram_receiver) = mpsc::channel(MAX_DATAGRAMS);
        let (events, event_receiver) = mpsc::channel(MAX_EVENTS);
        let (consumed, consumed_receiver) = mpsc::channel(MAX_CONSUMED);
        let (relayed, relayed_receiver) = mpsc::channel(MAX_RELAYED);
        let awaits_echoes = Arc::new(AtomicBool::default());
        (
            HookSenders {
                datagrams,
                events,
                relayed,
                consumed,
                awaits_echoes: Arc::clone(&awaits_echoes),
            },
            Self {
                datagrams: datagram_receiver,
                events: event_receiver,
                relayed: relayed_receiver,
                consumed: consumed_receiver,
                awaits_echoes,
            },
        )
    }
}
