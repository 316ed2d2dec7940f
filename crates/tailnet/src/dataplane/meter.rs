//! Reads what a data plane does, from outside and without holding it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use isthmus_tailnet_core::key::NodeKey;

use super::shared::Shared;
use super::tables::{Entry, Tables};
use super::{Counts, DataPlane, Path, Traffic};

/// Reads the figures of a data plane for as long as that runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meter(Weak<Shared>);

/// One peer's part in the traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerTraffic {
    /// The way to the peer; nothing while there is none.
    pub path: Option<Path>,
    /// There is a session, or a handshake is on its way: traffic flows, or did not long ago.
    pub is_active: bool,
    /// How long ago the peer last proved to be itself in a handshake; nothing for never.
    pub last_handshake: Option<Duration>,
    /// Authentic datagrams of the peer.
    pub received: Traffic,
    /// Datagrams sent to the peer.
    pub sent: Traffic,
}

/// The figures at one moment.
pub struct Reading {
    /// Counts since the start.
    pub counts: Counts,
    tables: Arc<Tables>,
    now: Instant,
}

impl DataPlane {
    /// What reads this data plane's figures.
    pub fn meter(&self) -> Meter {
        Meter(Arc::downgrade(&self.shared))
    }
}

impl Meter {
    /// The figures now; nothing once the data plane is gone.
    pub fn read(&self) -> Option<Reading> {
        let shared = self.0.upgrade()?;
        Some(Reading {
            counts: shared.counters.read(),
            tables: shared.tables.load_full(),
            now: Instant::now(),
        })
    }
}

impl Reading {
    /// A peer's part; nothing for a peer that there can be no session with.
    pub fn peer(&self, key: &NodeKey) -> Option<PeerTraffic> {
        self.tables.by_key(key).map(|entry| traffic(entry, self.now))
    }
}

fn traffic(entry: &Entry, now: Instant) -> PeerTraffic {
    let (last_handshake, received, sent) = entry.peer.counters.read();
    PeerTraffic {
        path: entry.path(),
        is_active: entry.peer.session().is_some(),
        last_handshake: last_handshake.map(|last| now.saturating_duration_since(last)),
        received,
        sent,
    }
}
