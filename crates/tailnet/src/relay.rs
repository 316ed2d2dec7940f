//! Relays: the way to peers without a direct path, and to those for which one is still searched.
//!
//! One connection for each region that is needed: this node's home always, others while something is sent there. A connection lives in a
//! task of its own; what is sent goes through a bounded queue, and what does not fit is lost, as datagrams are.

mod connection;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netmap::{Region, RegionId};
use rustls::RootCertStore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Datagrams that wait for one relay.
const QUEUE: usize = 512;

/// Datagrams from relays that wait for the node.
const INCOMING: usize = 512;

/// A datagram that came over a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// The region of the relay.
    pub(crate) region: RegionId,
    /// Who sent it; the relay vouches for that.
    pub(crate) from: NodeKey,
    /// The datagram.
    pub(crate) packet: Vec<u8>,
}

/// A datagram for a peer at a relay.
#[derive(Debug)]
struct Outgoing {
    to: NodeKey,
    packet: Vec<u8>,
}

/// By what a node and its relays know each other.
#[derive(Clone)]
pub(crate) struct RelayIdentity {
    pub(crate) private: [u8; 32],
    pub(crate) public: NodeKey,
    /// Who may vouch for relays that are known by name.
    pub(crate) authorities: Arc<RootCertStore>,
}

/// The regions whose relay the node is connected to. Cheap to clone; all clones show the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connected(Arc<Mutex<Vec<RegionId>>>);

impl Connected {
    /// The regions now.
    pub(crate) fn regions(&self) -> BTreeSet<RegionId> {
        self.lock().iter().copied().collect()
    }

    /// Lists a region for as long as the guard lives.
    fn enter(&self, region: RegionId) -> ConnectedGuard {
        self.lock().push(region);
        ConnectedGuard {
            all: self.clone(),
            region,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RegionId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ConnectedGuard {
    all: Connected,
    region: RegionId,
}

impl Drop for ConnectedGuard {
    fn drop(&mut self) {
        // A region is listed twice while one connection to it follows another.
        let mut all = self.all.lock();
        if let Some(at) = all.iter().position(|region| *region == self.region) {
            all.swap_remove(at);
        }
    }
}

/// All relays of a node.
pub(crate) struct Relays {
    identity: RelayIdentity,
    regions: Arc<BTreeMap<RegionId, Region>>,
    home: Option<RegionId>,
    connections: BTreeMap<RegionId, Connection>,
    connected: Connected,
    incoming: mpsc::Sender<Relayed>,
}

/// A connection, or the attempt at one. It ends when this is dropped.
struct Connection {
    queue: mpsc::Sender<Outgoing>,
    region: Region,
    is_home: bool,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relays {
    /// No relays yet; and where to take what comes over them.
    pub(crate) fn new(identity: RelayIdentity) -> (Self, mpsc::Receiver<Relayed>) {
        let (incoming, receiver) = mpsc::channel(INCOMING);
        let relays = Self {
            identity,
            regions: Arc::default(),
            home: None,
            connections: BTreeMap::new(),
            connected: Connected::default(),
            incoming,
        };
        (relays, receiver)
    }

    /// The regions that the node is connected to, now and later.
    pub(crate) fn connected(&self) -> Connected {
        self.connected.clone()
    }

    /// The region in which peers reach this node.
    pub(crate) fn home(&self) -> Option<RegionId> {
        self.home
    }

    /// Whether a region can be sent to.
    pub(crate) fn has(&self, region: RegionId) -> bool {
        self.regions.contains_key(&region)
    }

    /// Takes the relays of a network map, and which of their regions is home.
    pub(crate) fn update(&mut self, regions: &Arc<BTreeMap<RegionId, Region>>, home: Option<RegionId>) {
        if *regions == self.regions && home == self.home {
            return;
        }
        if home != self.home {
            tracing::info!(?home, "the home relay region changed");
        }
        (self.regions, self.home) = (Arc::clone(regions), home);
        self.connections.retain(|id, connection| {
            regions.get(id) == Some(&connection.region) && connection.is_home == (home == Some(*id))
        });
        if let Some(home) = home {
            self.connect(home);
        }
    }

    /// Sends a datagram to a peer at a relay of a region. It is lost, and false returned, when the region is not known or too
    /// much waits.
    pub(crate) fn send(&mut self, region: RegionId, to: NodeKey, packet: Vec<u8>) -> bool {
        let connection = self.connect(region);
        let taken = connection.is_some_and(|connection| connection.queue.try_send(Outgoing { to, packet }).is_ok());
        if !taken {
            tracing::trace!(
                region,
                "a datagram for a relay is lost: it is not known, or too many wait"
            );
        }
        taken
    }

    /// The connection to a region, begun when there is none.
    fn connect(&mut self, id: RegionId) -> Option<&Connection> {
        let region = self.regions.get(&id)?;
        if self
            .connections
            .get(&id)
            .is_some_and(|connection| connection.queue.is_closed())
        {
            self.connections.remove(&id);
        }
        let (home, identity, incoming) = (self.home, &self.identity, &self.incoming);
        let connected = &self.connected;
        let connection = self.connections.entry(id).or_insert_with(|| {
            let (queue, outgoing) = mpsc::channel(QUEUE);
            let is_home = home == Some(id);
            let runner = connection::Runner {
                id,
                region: region.clone(),
                is_home,
                identity: identity.clone(),
                outgoing,
                incoming: incoming.clone(),
                connected: connected.clone(),
            };
            Connection {
                queue,
                region: region.clone(),
                is_home,
                task: tokio::spawn(runner.run()),
            }
        });
        Some(connection)
    }
}
