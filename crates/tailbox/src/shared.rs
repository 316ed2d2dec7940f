//! What the listeners share: the state, made durable with every change, and who is connected.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use isthmus_runtime::Shutdown;
use isthmus_tailnet_wire::control::NodeId;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use ts_keys::MachineKeyPair;

use crate::acme::Challenges;
use crate::asks::Asks;
use crate::config::Config;
use crate::map_stream::Frames;
use crate::relay::Relay;
use crate::state::{Picture, Presence, State, Tailnet};
use crate::store::{Store, StoreError};

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The state file could not be written.
    #[error("store the change")]
    Store(#[source] StoreError),
    /// The process is ending.
    #[error("store the change: the process is ending")]
    Ending,
}

/// What the listeners share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) tailnet: Arc<Tailnet>,
    pub(crate) machine_key: MachineKeyPair,
    pub(crate) shutdown: Shutdown,
    pub(crate) relay: Relay,
    pub(crate) asks: Asks,
    pub(crate) frames: Frames,
    pub(crate) challenges: Challenges,
    started: Timestamp,
    state: RwLock<Arc<State>>,
    presence: Mutex<Presence>,
    /// Held while a change is made, so that changes follow each other.
    store: Arc<tokio::sync::Mutex<Store>>,
    changes: watch::Sender<u64>,
    /// The number of the last picture. Held while one is made, so that a later picture shows a later state.
    painted: Mutex<u64>,
    pictures: watch::Sender<Arc<Picture>>,
}

impl Shared {
    pub(crate) fn new(config: Config, store: Store, state: State, shutdown: Shutdown) -> Arc<Self> {
        let tailnet = Tailnet {
            domain: config.domain.clone(),
            derp_map: config.derp_map.clone(),
            extra_records: config.extra_records.clone(),
        };
        let tailnet = Arc::new(tailnet);
        let now = Timestamp::now();
        let first = Picture::new(0, None, &tailnet, &state, &Presence::default(), now);
        Arc::new(Self {
            tailnet,
            config,
            machine_key: store.machine_key().clone(),
            shutdown,
            relay: Relay::new(),
            asks: Asks::default(),
            frames: Frames::default(),
            challenges: Challenges::default(),
            started: now,
            state: RwLock::new(Arc::new(state)),
            presence: Mutex::default(),
            store: Arc::new(tokio::sync::Mutex::new(store)),
            changes: watch::Sender::new(0),
            painted: Mutex::new(0),
            pictures: watch::Sender::new(Arc::new(first)),
        })
    }

    /// The state as it is now.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells of every change of the state and of who is connected.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Changes the state. When this returns, the change is durable; until then nobody sees it. A change that changes
    /// nothing is not stored.
    ///
    /// # Cancel safety
    /// When cancelled, the change happens as a whole or not at all.
    pub(crate) async fn commit<R: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State) -> R + Send + 'static,
    ) -> Result<R, CommitError> {
        let store = Arc::clone(&self.store).lock_owned().await;
        if store.is_closed() {
            return Err(CommitError::Ending);
        }
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let before = shared.state();
            let mut after = State::clone(&before);
            let result = change(&mut after);
            after.approve_announced(&before, &shared.tailnet);
            if after != *before {
                store.save(&after).map_err(CommitError::Store)?;
                *shared.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
                shared.notify();
            }
            Ok(result)
        });
        done.await.unwrap_or(Err(CommitError::Ending))
    }

    /// A picture of the tailnet as it is now.
    pub(crate) fn picture(&self) -> Arc<Picture> {
        let mut painted = self.painted.lock().unwrap_or_else(PoisonError::into_inner);
        *painted += 1;
        let before = Arc::clone(&self.pictures.borrow());
        Arc::new(Picture::new(
            *painted,
            Some(&before),
            &self.tailnet,
            &self.state(),
            &self.presence(),
            Timestamp::now(),
        ))
    }

    /// Shows the tailnet as it is now to all map streams.
    pub(crate) fn publish(&self) {
        self.pictures.send_replace(self.picture());
    }

    /// How many are shown pictures.
    pub(crate) fn watchers(&self) -> u32 {
        u32::try_from(self.pictures.receiver_count()).unwrap_or(u32::MAX)
    }

    /// The pictures that map streams are shown.
    pub(crate) fn pictures(&self) -> watch::Receiver<Arc<Picture>> {
        self.pictures.subscribe()
    }

    /// Whether a name (in lower case, without final dot) is the tailnet's domain, or that of a node or a Service.
    pub(crate) fn is_name(&self, name: &str) -> bool {
        let (state, domain) = (self.state(), &self.tailnet.domain);
        let mut nodes = state.nodes.values();
        let mut services = state.services.values();
        name == domain
            || nodes.any(|node| node.fqdn(domain).trim_end_matches('.') == name)
            || services.any(|service| service.fqdn(domain) == name)
    }

    /// Who is connected.
    pub(crate) fn presence(&self) -> Presence {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes which nodes do not answer.
    pub(crate) fn note_hung(&self, hung: BTreeSet<NodeId>) {
        for node in &hung {
            tracing::warn!(node, "node does not answer: others carry what it shares with them");
        }
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = presence.note_hung(hung);
        drop(presence);
        if changed {
            self.notify();
        }
    }

    /// Counts a node as connected until the guard is dropped.
    pub(crate) fn connect(self: &Arc<Self>, node: NodeId) -> Connected {
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = presence.connect(node);
        drop(presence);
        self.notify();
        Connected {
            shared: Arc::clone(self),
            node,
            stream,
        }
    }

    /// Writes down when nodes were last seen and removes ephemeral nodes that stay away.
    pub(crate) async fn tidy(self: &Arc<Self>) -> Result<(), CommitError> {
        let (now, presence) = (Timestamp::now(), self.presence());
        let grace = SignedDuration::try_from(self.config.ephemeral_grace).unwrap_or(SignedDuration::MAX);
        let started = self.started;
        let known = self.commit(move |state| {
            state.note_departures(&presence);
            state.remove_departed(&presence, started, grace, now);
            state.nodes.keys().copied().collect::<BTreeSet<_>>()
        });
        let known = known.await?;
        self.presence
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(&known);
        Ok(())
    }

    /// Gives the state file free. Nothing can be changed from now on.
    pub(crate) async fn close(&self) {
        self.store.lock().await.close();
    }

    /// Wakes all that follow changes.
    pub(crate) fn notify(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// A node's map stream is open.
pub(crate) struct Connected {
    shared: Arc<Shared>,
    node: NodeId,
    stream: u64,
}

impl Connected {
    /// Whether the node has opened no other stream since.
    pub(crate) fn is_newest(&self) -> bool {
        let presence = self.shared.presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence.is_newest(self.node, self.stream)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut presence = self.shared.presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence.disconnect(self.node, Timestamp::now());
        drop(presence);
        self.shared.notify();
    }
}
