//! What the data plane has done, in numbers.
//!
//! The threads add once for each batch, and for what they drop; reading costs them nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::{Origin, Path};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the data plane was started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
            /// WireGuard datagrams from peers, by the way they came.
            pub inbound: ByPath,
            /// WireGuard datagrams to peers, by the way they went.
            pub outbound: ByPath,
            /// Packets and datagrams from peers that were dropped.
            pub inbound_dropped: Drops,
            /// Packets and datagrams to peers that were dropped.
            pub outbound_dropped: Drops,
        }

        /// The counters themselves, shared by the threads.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
            pub(super) inbound: PathCounters,
            pub(super) outbound: PathCounters,
            pub(super) inbound_dropped: DropCounters,
            pub(super) outbound_dropped: DropCounters,
        }

        impl Counters {
            pub(super) fn read(&self) -> Counts {
                Counts {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    inbound: self.inbound.read(),
                    outbound: self.outbound.read(),
                    inbound_dropped: self.inbound_dropped.read(),
                    outbound_dropped: self.outbound_dropped.read(),
                }
            }
        }
    };
}

counters! {
    /// Reads from the TUN that gave packets; a super-packet is one.
    tun_reads,
    /// Bytes of those packets.
    tun_read_bytes,
    /// Packets handed to the TUN.
    tun_packets_written,
    /// System calls that sent data messages.
    udp_sends,
    /// Bytes of those data messages.
    udp_send_bytes,
    /// Receive buffers filled; one holds up to 64 datagrams.
    udp_receives,
    /// Bytes in those buffers.
    udp_receive_bytes,
    /// Runs of data messages for a session that does not exist.
    unknown_index,
    /// Handshakes that this node began.
    handshakes_started,
    /// Handshakes that a peer began or answered, and proved to be itself.
    handshakes_completed,
    /// Handshake messages that were not answered.
    handshakes_refused,
    /// Datagrams and events that nobody took in time.
    hooks_dropped,
}

/// Datagrams and their bytes, WireGuard's own bytes included, those of UDP and IP not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many datagrams.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Traffic of one direction, by the way it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByPath {
    /// Straight, over IPv4.
    pub direct_ipv4: Traffic,
    /// Straight, over IPv6.
    pub direct_ipv6: Traffic,
    /// By a relay.
    pub relay: Traffic,
}

/// Why something was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropCause {
    /// The tailnet's policy does not allow it.
    Policy,
    /// Its inner source or destination is not what it may be from or to that peer, or does not cross a tailnet.
    Address,
    /// It cannot be read.
    Malformed,
    /// No peer has its destination.
    NoPeer,
    /// Inbound: no session opens it. Outbound: the peer did not answer in time, so that there is none to seal it with.
    NoSession,
    /// Too much waited already: for a handshake, a path or a relay.
    QueueFull,
    /// The kernel did not take it.
    Refused,
}

impl DropCause {
    /// All causes, in order.
    pub const ALL: [Self; 7] = [
        Self::Policy,
        Self::Address,
        Self::Malformed,
        Self::NoPeer,
        Self::NoSession,
        Self::QueueFull,
        Self::Refused,
    ];
}

/// How much was dropped in one direction, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops([u64; DropCause::ALL.len()]);

impl Drops {
    /// What was dropped for this cause.
    pub fn of(&self, cause: DropCause) -> u64 {
        self.0[cause as usize]
    }

    /// What was dropped for any cause.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct TrafficCounters {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl TrafficCounters {
    /// Adds a strided batch.
    pub(super) fn add_batch(&self, bytes: usize, stride: usize) {
        add(&self.packets, bytes.div_ceil(stride.max(1)));
        add(&self.bytes, bytes);
    }

    fn read(&self) -> Traffic {
        Traffic {
            packets: self.packets.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct PathCounters {
    direct_ipv4: TrafficCounters,
    direct_ipv6: TrafficCounters,
    relay: TrafficCounters,
}

impl PathCounters {
    pub(super) fn to(&self, path: Path) -> &TrafficCounters {
        match path {
            Path::Direct(address) if address.is_ipv4() => &self.direct_ipv4,
            Path::Direct(_) => &self.direct_ipv6,
            Path::Relay(_) => &self.relay,
        }
    }

    pub(super) fn from(&self, origin: Origin) -> &TrafficCounters {
        match origin {
            Origin::Direct(address) => self.to(Path::Direct(address)),
            Origin::Relayed { region, .. } => self.to(Path::Relay(region)),
        }
    }

    fn read(&self) -> ByPath {
        ByPath {
            direct_ipv4: self.direct_ipv4.read(),
            direct_ipv6: self.direct_ipv6.read(),
            relay: self.relay.read(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct DropCounters([AtomicU64; DropCause::ALL.len()]);

impl DropCounters {
    pub(super) fn add(&self, cause: DropCause, count: usize) {
        add(&self.0[cause as usize], count);
    }

    fn read(&self) -> Drops {
        Drops(std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)))
    }
}

/// What was exchanged with one peer. It outlives the peer's runs.
#[derive(Debug, Default)]
pub(super) struct PeerCounters {
    pub(super) inbound: TrafficCounters,
    pub(super) outbound: TrafficCounters,
    last_handshake: Mutex<Option<Instant>>,
}

impl PeerCounters {
    /// Notes a handshake message that the peer made now.
    pub(super) fn note_handshake(&self, now: Instant) {
        *self.last_handshake.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// When the last handshake was, what came and what went.
    pub(super) fn read(&self) -> (Option<Instant>, Traffic, Traffic) {
        let last_handshake = *self.last_handshake.lock().unwrap_or_else(PoisonError::into_inner);
        (last_handshake, self.inbound.read(), self.outbound.read())
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
