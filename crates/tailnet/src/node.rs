//! A node of a tailnet as its users see it: start it, watch its status, shut it down.

mod config;
mod handle;
mod prefs;
mod publish;
mod report;
mod services;
mod snapshot;
mod start;
mod status;

use futures_util::future::BoxFuture;
use ipnet::IpNet;
use isthmus_tailnet_wire::keys as wire;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use config::{NodeConfig, TunConfig};
pub use handle::NodeHandle;
pub use prefs::NodePrefs;
pub use publish::PublishError;
pub use report::{NodeReport, PeerReport, PingAnswer, PingError, PingKind};
pub use services::{ServicePort, ServicePortError, ServiceProtocol};
pub use snapshot::{NodeMeter, NodeSnapshot, PeerSnapshot};
pub use status::{LoginState, NodeError, NodeErrorKind, NodeStatus};

use crate::cache::Cache;
use crate::control::{Client, ClientConfig, Dialer, Progress, Requester, Server};
use crate::disco::DiscoBox;
use crate::dns::NameServer;
use crate::engine::Ask;
use crate::state::Identity;
use start::{Inputs, recall, start_engine};

/// Questions of the node's owner that wait.
const MAX_ASKS: usize = 16;

/// A running node. Dropping it stops it without waiting for the end; see [`Node::shutdown`].
pub struct Node {
    status: watch::Receiver<NodeStatus>,
    prefs: watch::Sender<NodePrefs>,
    meter: NodeMeter,
    /// The open session with control.
    session: watch::Receiver<Option<Requester>>,
    key: wire::NodeKey,
    asks: mpsc::Sender<Ask>,
    port: u16,
    client: JoinHandle<()>,
    engine: Option<JoinHandle<()>>,
    name_server: Option<JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Node {
    /// Starts a node: when this returns, its UDP socket and its TUN device exist and it is logging in. Watch
    /// [`status`](Self::status) for the rest. The device and all routes are made in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`NodeError`] for what cannot get better by waiting: bad configuration, unusable state, missing rights. An unreachable control
    /// server is no error: the node keeps trying.
    #[inline(never)]
    pub fn start(config: NodeConfig) -> BoxFuture<'static, Result<Self, NodeError>> {
        // In a box the whole node is compiled in this crate, once and as fast as the rest of it. An `async fn` would be compiled in each
        // crate that awaits it.
        Box::pin(Self::open(config))
    }

    async fn open(config: NodeConfig) -> Result<Self, NodeError> {
        let server = Server::parse(&config.login_server).ok_or_else(|| NodeError::BadLoginServer {
            url: config.login_server.clone(),
        })?;
        let (identity, changes) = Identity::load(&config.state.load().await?, &config.login_server)?;
        if !changes.is_empty() {
            config.state.store(changes).await?;
        }
        let (status_sender, status) = watch::channel(NodeStatus::default());
        let (prefs, prefs_receiver) = watch::channel(NodePrefs::from(&config));
        let (session_sender, session) = watch::channel(None);
        let key = identity.node.public.into();
        let dialer = Dialer::new(&config.extra_ca);
        let cache = config.cache.as_ref().map(Cache::new);
        let recalled = recall(cache.as_ref(), &dialer, &server, &identity).await;
        let (disco, netmap) = recalled.without_control.unzip();
        let disco = disco.unwrap_or_else(DiscoBox::random);
        if let Some(cache) = &cache {
            cache.keep_disco(&disco);
        }
        let (asks, questions) = mpsc::channel(MAX_ASKS);
        let inputs = Inputs {
            status: status.clone(),
            prefs: prefs_receiver.clone(),
            asks: questions,
            home: recalled.home,
            without_tls: server.without_tls(),
        };
        let (engine, facts) = start_engine(&config, &identity, disco, inputs).await?;
        if let Some(cache) = cache {
            tokio::spawn(cache.follow(status.clone(), facts.clone()));
        }
        if let Some(netmap) = netmap {
            status_sender.send_replace(NodeStatus::remembered(netmap));
        }
        let meter = NodeMeter {
            plane: engine.plane.meter(),
            connected: engine.relays.connected(),
            status: status.clone(),
            facts: facts.clone(),
        };
        let named = |resolv_conf| NameServer::new(status.clone(), facts.clone(), resolv_conf);
        let name_server = config.resolver.clone().map(|file| tokio::spawn(named(file).run()));
        let client = Client {
            server,
            dialer,
            config: ClientConfig {
                auth_key: config.auth_key,
                app: config.app,
                ephemeral: config.ephemeral,
            },
            identity,
            state: config.state,
            facts,
            prefs: prefs_receiver,
            status: status_sender,
            node: NodeHandle::new(status.clone(), asks.clone()),
            session: session_sender,
            progress: Progress::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let port = engine.port;
        let engine = tokio::spawn(engine.run(stopped));
        Ok(Self {
            status,
            prefs,
            meter,
            session,
            key,
            asks,
            port,
            client: tokio::spawn(client.run()),
            engine: Some(engine),
            name_server,
            stop: Some(stop),
        })
    }

    /// The node's status now and in the future.
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// A handle to ask the node by.
    pub fn handle(&self) -> NodeHandle {
        NodeHandle::new(self.status.clone(), self.asks.clone())
    }

    /// What can be changed, as it is now.
    pub fn prefs(&self) -> NodePrefs {
        self.prefs.borrow().clone()
    }

    /// Changes it. Control is told, and routes are switched, in the background; a change that changes nothing does
    /// nothing.
    pub fn set_prefs(&self, mut prefs: NodePrefs) {
        prefs.advertise_routes = prefs.advertise_routes.iter().map(IpNet::trunc).collect();
        self.prefs.send_if_modified(|present| {
            let changed = *present != prefs;
            *present = prefs;
            changed
        });
    }

    /// What the node does now, in figures.
    pub fn snapshot(&self) -> NodeSnapshot {
        self.meter.snapshot()
    }

    /// What goes on giving these figures apart from the node, and does not keep it running.
    pub fn meter(&self) -> NodeMeter {
        self.meter.clone()
    }

    /// Ends what needs no time to end.
    fn abort(&self) {
        self.client.abort();
        if let Some(name_server) = &self.name_server {
            name_server.abort();
        }
    }

    /// The UDP port of WireGuard and disco.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the node: ends the control connection, removes its routes and its TUN device. Returns when all that is done.
    pub async fn shutdown(mut self) {
        self.abort();
        self.stop.take();
        if let Some(engine) = self.engine.take() {
            // A panic of the task has been printed already.
            let _ = engine.await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.abort();
    }
}
