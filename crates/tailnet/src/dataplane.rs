//! The data plane: packets between the TUN and WireGuard peers.
//!
//! Three plain threads share one immutable table of peers, which is replaced whole: *egress* takes packets from the
//! [`PacketIo`], seals and sends them; *ingress* takes datagrams from the socket, opens them and hands on their packets;
//! *timers* does what time demands. Nothing here queues without a bound: packets wait only for a handshake or a path, a few
//! of them for each peer, and who does not listen to the [`Hooks`] loses messages.
//!
//! Absent on purpose: where peers are and what is allowed. That comes in as a [`Snapshot`].

mod counters;
mod held;
mod hooks;
mod ingress;
mod judge;
mod meter;
mod outbox;
mod peer;
mod shared;
mod snapshot;
mod tables;
mod timers;
mod waiting;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use arc_swap::ArcSwap;
use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netmap::RegionId;
use isthmus_tailnet_core::packet_io::{Offload, PacketIo};
use isthmus_tailnet_core::wireguard::Transport;

pub use counters::{ByPath, Counts, DropCause, Drops, Traffic};
pub use hooks::{Datagram, ForRelay, Hooks, PeerEvent};
pub use meter::{Meter, PeerTraffic, Reading};
pub use snapshot::{Origin, Path, PeerConfig, Snapshot};

use crate::udp::{UdpLink, WhenFull};
use crate::wireguard::{Identity, PrivateKey};
use counters::Counters;
use held::Held;
use outbox::Outbox;
use shared::Shared;
use tables::Tables;

/// Datagrams by relay that wait to be opened.
const MAX_RELAYED: usize = 512;

/// A WireGuard datagram that came by relay.
struct RelayedDatagram {
    from: Origin,
    bytes: Vec<u8>,
}

/// What a data plane needs to know for its whole life.
#[derive(Debug, Clone)]
pub struct DataPlaneConfig {
    /// The node's WireGuard key.
    pub private_key: PrivateKey,
    /// Bytes of the largest packet of the TUN.
    pub mtu: u16,
}

/// A running data plane. It is stopped when dropped.
pub struct DataPlane {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Where datagrams that came by relay go.
    relayed: Option<SyncSender<RelayedDatagram>>,
    /// Snapshots are applied one after the other.
    applying: Mutex<()>,
}

/// Sends datagrams that are not WireGuard from the node's own socket. Cheap to clone.
#[derive(Clone)]
pub struct DatagramSender(Arc<Shared>);

/// Why the data plane does not run.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// A thread cannot be started.
    #[error("cannot start the thread {name} of the data plane")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl DataPlane {
    /// Starts a data plane without peers; [`apply`](Self::apply) brings them.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        config: &DataPlaneConfig,
        io: Arc<dyn PacketIo>,
        udp: UdpLink,
    ) -> Result<(Self, Hooks), DataPlaneError> {
        let (senders, hooks) = Hooks::channels();
        let (relayed, relayed_receiver) = sync_channel(MAX_RELAYED);
        let shared = Arc::new(Shared {
            identity: Identity::new(&config.private_key),
            io,
            udp,
            mtu: usize::from(config.mtu),
            tables: ArcSwap::default(),
            held: Mutex::new(Held::default()),
            waiting_bytes: AtomicUsize::new(0),
            counters: Counters::default(),
            hooks: senders,
            relayed: Mutex::new(relayed_receiver),
            stopped: AtomicBool::new(false),
            clock: Mutex::new(()),
            stop_clock: Condvar::new(),
        });
        let mut plane = Self {
            shared,
            threads: Vec::new(),
            relayed: Some(relayed),
            applying: Mutex::new(()),
        };
        plane.spawn("egress", outbox::run_egress)?;
        plane.spawn("ingress", ingress::run_ingress)?;
        plane.spawn("relayed", ingress::run_relayed)?;
        plane.spawn("timers", timers::run_timers)?;
        Ok((plane, hooks))
    }

    /// Works by `snapshot` from the next batch on. Sessions of peers that stay live on; packets that waited for a path which
    /// is there now set off a handshake at once; nodes that wanted one before they were known are answered.
    pub fn apply(&self, snapshot: Snapshot) {
        let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.shared.tables.load_full();
        let new = Arc::new(Tables::build(snapshot, &old, rand::random));
        self.shared.tables.store(Arc::clone(&new));
        self.forget_dropped(&old, &new);
        self.welcome(&old, &new);
    }

    /// Begins a handshake with a peer that has a path, unless one is in progress: for a peer known to have lost its session.
    /// At most one in five seconds and peer.
    pub fn force_handshake(&self, key: &NodeKey) {
        let (tables, now) = (self.shared.tables.load(), Instant::now());
        if let Some(entry) = tables.by_key(key).filter(|entry| entry.peer.may_force_handshake(now)) {
            self.shared.start_handshake(entry, false, now);
        }
    }

    /// Sends an inner packet of the node itself, as if it came from the TUN.
    pub fn send_packet(&self, packet: &mut [u8]) {
        let (tables, now) = (self.shared.tables.load(), Instant::now());
        if let Ok(entry) = judge::outbound(&tables, packet, now) {
            let mut outbox = Outbox::new(WhenFull::Drop);
            outbox.send(&self.shared, entry, packet, Offload::None, now);
            outbox.flush(&self.shared);
        }
    }

    /// Takes a WireGuard datagram that came by relay; false when too many wait already.
    pub fn take_relayed(&self, region: RegionId, by: NodeKey, bytes: Vec<u8>) -> bool {
        let from = Origin::Relayed { region, by };
        let relayed = self.relayed.as_ref();
        let taken = relayed.is_some_and(|relayed| relayed.try_send(RelayedDatagram { from, bytes }).is_ok());
        if !taken {
            self.shared.counters.inbound_dropped.add(DropCause::QueueFull, 1);
        }
        taken
    }

    /// Notes that a relay did not take a datagram that was handed out for it.
    pub fn note_relay_full(&self) {
        self.shared.counters.outbound_dropped.add(DropCause::QueueFull, 1);
    }

    /// Whether datagrams to a peer have somewhere to go.
    pub fn has_path(&self, key: &NodeKey) -> bool {
        let tables = self.shared.tables.load();
        tables.by_key(key).is_some_and(|entry| entry.path().is_some())
    }

    /// A handle to send other datagrams from the node's socket.
    pub fn datagram_sender(&self) -> DatagramSender {
        DatagramSender(Arc::clone(&self.shared))
    }

    /// The UDP port of the node.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_port(&self) -> io::Result<u16> {
        self.shared.udp.local_port()
    }

    /// Makes the socket follow the offload switch after it was changed.
    pub fn apply_offloads(&self) {
        self.shared.udp.apply_offloads();
    }

    /// Peers with a session, or on the way to one: those that traffic flows with, or did not long ago.
    pub fn active_peers(&self) -> Vec<NodeKey> {
        let tables = self.shared.tables.load();
        let active = tables.entries.iter().filter(|entry| entry.peer.session().is_some());
        active.map(|entry| entry.peer.key).collect()
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.shared.counters.read()
    }

    fn spawn(&mut self, name: &'static str, run: fn(&Shared)) -> Result<(), DataPlaneError> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
        self.threads
            .push(thread.map_err(|source| DataPlaneError::Thread { name, source })?);
        Ok(())
    }

    /// Ends the sessions of peers that are gone or were restarted.
    fn forget_dropped(&self, old: &Tables, new: &Tables) {
        for entry in &old.entries {
            let stays = new
                .by_key(&entry.peer.key)
                .is_some_and(|stays| Arc::ptr_eq(&stays.peer, &entry.peer));
            if !stays {
                entry.peer.forget_session(&self.shared.waiting_bytes);
            }
        }
    }

    /// Begins what was impossible with the old tables.
    fn welcome(&self, old: &Tables, new: &Tables) {
        let (shared, now) = (&self.shared, Instant::now());
        let mut outbox = Outbox::new(WhenFull::Drop);
        for entry in &new.entries {
            let before = old.by_key(&entry.peer.key).and_then(tables::Entry::path);
            if entry.path().is_none() || entry.path() == before {
                continue;
            }
            match entry.peer.session() {
                Some(session) if session.is_ready() => outbox.send_waiting(shared, entry, now),
                Some(_) => shared.start_handshake(entry, true, now),
                None if entry.peer.has_waiting() => shared.start_handshake(entry, false, now),
                None => {}
            }
        }
        let known = |key: &_| new.by_key(key).is_some();
        let held = shared
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_known(now, known);
        for initiation in held {
            if let Some(entry) = new.by_key(&initiation.key) {
                shared.handle(&mut outbox, entry, initiation.from, &initiation.message, now);
            }
        }
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.shared.stop();
        self.relayed = None;
        for thread in self.threads.drain(..) {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

impl DatagramSender {
    /// Sends one datagram. Never blocks: when the socket is full the datagram is dropped.
    ///
    /// # Errors
    /// When the kernel refuses, for example for want of a route.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.0.udp.send(to, datagram)
    }

    /// The UDP port that the datagrams come from.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_port(&self) -> io::Result<u16> {
        self.0.udp.local_port()
    }
}

impl fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlane")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DatagramSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramSender").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
