//! What lives on of a peer from snapshot to snapshot: its session and what waits for it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use isthmus_tailnet_core::key::{DiscoKey, NodeKey};
use isthmus_tailnet_core::packet_io::Offload;

use super::PeerConfig;
use super::counters::PeerCounters;
use super::waiting::Waiting;
use crate::wireguard::{Identity, Session};

/// Bytes that may wait for all peers together.
pub(super) const MAX_WAITING_BYTES: usize = 4 << 20;

/// A peer of this node during one run of the peer.
pub(super) struct Peer {
    pub(super) key: NodeKey,
    /// The upper 24 bits of all indexes of this peer's sessions.
    pub(super) index: u32,
    pub(super) disco: Option<DiscoKey>,
    pub(super) counters: Arc<PeerCounters>,
    keepalive: Option<u16>,
    /// Made when needed and dropped when idle: 10 KB that most peers of a large tailnet never need.
    session: ArcSwapOption<Session>,
    state: Mutex<State>,
    /// Whether `state.waiting` holds anything, readable without its lock.
    waiting_bytes: AtomicUsize,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    learned_path: Option<SocketAddr>,
    path_wanted: Option<Instant>,
    forced: Option<Instant>,
}

impl Peer {
    pub(super) fn new(config: &PeerConfig, index: u32, counters: Arc<PeerCounters>) -> Self {
        Self {
            key: config.key,
            index,
            disco: config.disco,
            counters,
            keepalive: config.keepalive,
            session: ArcSwapOption::empty(),
            state: Mutex::default(),
            waiting_bytes: AtomicUsize::new(0),
        }
    }

    /// The session, if there is one: with keys or on the way to some.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    /// The session, made when there is none.
    pub(super) fn session_or_new(&self, identity: &Identity, now: Instant) -> Arc<Session> {
        let _one_at_a_time = self.state();
        if let Some(session) = self.session() {
            return session;
        }
        let session = Arc::new(identity.session(&self.key, self.index, self.keepalive, now));
        self.session.store(Some(Arc::clone(&session)));
        session
    }

    /// Gives up the session and what waits for it. Returns how many packets that were.
    pub(super) fn forget_session(&self, total: &AtomicUsize) -> usize {
        self.session.store(None);
        self.take_waiting(total).len()
    }

    /// Seconds between keep-alives, for peers that are kept connected.
    pub(super) fn is_kept_connected(&self) -> bool {
        self.keepalive.is_some()
    }

    /// Keeps a packet until there is a session and a path. Returns how many packets were dropped for it.
    pub(super) fn wait(&self, packet: &[u8], offload: Offload, total: &AtomicUsize) -> usize {
        let mut state = self.state();
        let before = state.waiting.bytes();
        if total.load(Ordering::Relaxed) + packet.len() > MAX_WAITING_BYTES {
            return 1;
        }
        let dropped = state.waiting.push(packet, offload);
        self.account(before, state.waiting.bytes(), total);
        dropped
    }

    /// Whether packets wait.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting_bytes.load(Ordering::Acquire) > 0
    }

    /// Takes out the packets that wait, oldest first.
    pub(super) fn take_waiting(&self, total: &AtomicUsize) -> VecDeque<(Vec<u8>, Offload)> {
        let mut state = self.state();
        let before = state.waiting.bytes();
        let packets = state.waiting.take();
        self.account(before, 0, total);
        packets
    }

    fn account(&self, before: usize, after: usize, total: &AtomicUsize) {
        self.waiting_bytes.store(after, Ordering::Release);
        total.fetch_add(after, Ordering::Relaxed);
        total.fetch_sub(before, Ordering::Relaxed);
    }

    /// Where the last authentic handshake message came from.
    pub(super) fn learned_path(&self) -> Option<SocketAddr> {
        self.state().learned_path
    }

    pub(super) fn learn_path(&self, from: SocketAddr) {
        self.state().learned_path = Some(from);
    }

    /// True at most once a second.
    pub(super) fn may_ask_for_path(&self, now: Instant) -> bool {
        at_most_every(Duration::from_secs(1), &mut self.state().path_wanted, now)
    }

    /// True at most once in five seconds: how often a stranger can make this node begin a handshake.
    pub(super) fn may_force_handshake(&self, now: Instant) -> bool {
        at_most_every(Duration::from_secs(5), &mut self.state().forced, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True, and `last` set to `now`, when `last` is at least `interval` ago.
pub(super) fn at_most_every(interval: Duration, last: &mut Option<Instant>, now: Instant) -> bool {
    let due = last.is_none_or(|last| now.saturating_duration_since(last) >= interval);
    if due {
        *last = Some(now);
    }
    due
}
