//! Relays: the way to peers without a direct path, and to those for which one is still searched.
//!
//! One connection for each region that is needed: this node's home always, others while something is sent there. A connection lives in a
//! task of its own; what is sent goes through a bounded queue, of which the oldest goes when there are too
//! many.

mod connection;
mod dial;
mod names;
mod queue;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netmap::{CertificateCheck, Region, RegionId, Relay};
use rustls::RootCertStore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use queue::{Outgoing, Queue};

/// Datagrams from relays that wait for the node.
const INCOMING: usize = 512;

/// How long a relay that is measured may take.
const MEASURE_LIMIT: Duration = Duration::from_secs(5);

/// Measurements that wait for the node.
const MEASURED: usize = 16;

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

/// By what a node and its relays know each other.
#[derive(Clone)]
pub(crate) struct RelayIdentity {
    pub(crate) private: [u8; 32],
    pub(crate) public: NodeKey,
    /// Who may vouch for relays that are known by name.
    pub(crate) authorities: Arc<RootCertStore>,
    /// Host and port of the control server where that speaks no TLS.
    pub(crate) without_tls: Option<(String, u16)>,
}

impl RelayIdentity {
    /// Whether a relay is the control server, which speaks no TLS. A pinned certificate is wanted all the same.
    fn speaks_without_tls(&self, relay: &Relay) -> bool {
        let is_it = |(host, port): &(String, u16)| host.eq_ignore_ascii_case(&relay.host) && *port == relay.port;
        self.without_tls.as_ref().is_some_and(is_it) && !matches!(relay.check, CertificateCheck::Pinned(_))
    }
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
    measured: mpsc::Sender<(RegionId, Duration)>,
    resolved: mpsc::Sender<(String, Vec<IpAddr>)>,
    resolving: Option<JoinHandle<()>>,
}

/// What comes from relays.
pub(crate) struct FromRelays {
    /// Datagrams of peers.
    pub(crate) datagrams: mpsc::Receiver<Relayed>,
    /// How long the relays of a region take to answer.
    pub(crate) measured: mpsc::Receiver<(RegionId, Duration)>,
    /// Addresses of servers that have only a name.
    pub(crate) resolved: mpsc::Receiver<(String, Vec<IpAddr>)>,
}

/// A connection, or the attempt at one. It ends when this is dropped.
struct Connection {
    queue: Arc<Queue>,
    region: Region,
    is_home: bool,
    local: Arc<Mutex<Option<IpAddr>>>,
    task: JoinHandle<()>,
}

impl Connection {
    fn local(&self) -> Option<IpAddr> {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        if let Some(resolving) = &self.resolving {
            resolving.abort();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relays {
    /// No relays yet; and where to take what comes from them.
    pub(crate) fn new(identity: RelayIdentity) -> (Self, FromRelays) {
        let (incoming, datagrams) = mpsc::channel(INCOMING);
        let (measured, measurements) = mpsc::channel(MEASURED);
        let (resolved, addresses) = mpsc::channel(MEASURED);
        let relays = Self {
            identity,
            regions: Arc::default(),
            home: None,
            connections: BTreeMap::new(),
            connected: Connected::default(),
            incoming,
            measured,
            resolved,
            resolving: None,
        };
        let from = FromRelays {
            datagrams,
            measured: measurements,
            resolved: addresses,
        };
        (relays, from)
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
        if *regions != self.regions {
            self.resolve(names::without_address(regions));
        }
        (self.regions, self.home) = (Arc::clone(regions), home);
        self.connections.retain(|id, connection| {
            regions.get(id) == Some(&connection.region) && connection.is_home == (home == Some(*id))
        });
        if let Some(home) = home {
            self.connect(home);
        }
    }

    fn resolve(&mut self, names: BTreeSet<String>) {
        let resolving = tokio::spawn(names::resolve(names, self.resolved.clone()));
        if let Some(before) = self.resolving.replace(resolving) {
            before.abort();
        }
    }

    /// The machine lost these addresses: connections that hang on them are dead, and attempts at others shall not wait.
    pub(crate) fn leave(&mut self, gone: &BTreeSet<IpAddr>) {
        self.connections
            .retain(|_, connection| connection.local().is_some_and(|local| !gone.contains(&local)));
        if let Some(home) = self.home {
            self.connect(home);
        }
    }

    /// Measures in the background how long relays of these regions take to answer.
    pub(crate) fn measure(&self, regions: &[RegionId]) {
        for id in regions {
            let Some(region) = self.regions.get(id).cloned() else {
                continue;
            };
            let (id, identity, measured) = (*id, self.identity.clone(), self.measured.clone());
            tokio::spawn(async move {
                if let Ok(Ok(latency)) = timeout(MEASURE_LIMIT, dial::latency(&region, &identity)).await {
                    let _ = measured.send((id, latency)).await;
                }
            });
        }
    }

    /// Sends a datagram to a peer at a relay of a region. It, or the oldest that waits, is lost, and false returned, when the region is not
    /// known or too much waits.
    pub(crate) fn send(&mut self, region: RegionId, to: NodeKey, packet: Vec<u8>) -> bool {
        let connection = self.connect(region);
        let taken = connection.is_some_and(|connection| connection.queue.push(Outgoing { to, packet }));
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
            .is_some_and(|connection| connection.task.is_finished())
        {
            self.connections.remove(&id);
        }
        let (home, identity, incoming) = (self.home, &self.identity, &self.incoming);
        let connected = &self.connected;
        let connection = self.connections.entry(id).or_insert_with(|| {
            let (queue, local) = (Arc::new(Queue::default()), Arc::default());
            let is_home = home == Some(id);
            let runner = connection::Runner {
                id,
                region: region.clone(),
                is_home,
                identity: identity.clone(),
                outgoing: Arc::clone(&queue),
                incoming: incoming.clone(),
                connected: connected.clone(),
                local: Arc::clone(&local),
            };
            Connection {
                queue,
                region: region.clone(),
                is_home,
                local,
                task: tokio::spawn(runner.run()),
            }
        });
        Some(connection)
    }
}
