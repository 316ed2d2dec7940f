//! A node of a tailnet as its users see it: start it, watch its status, shut it down.

mod config;
mod handle;
mod prefs;
mod publish;
mod report;
mod services;
mod snapshot;
mod status;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netcheck::Netcheck;
use isthmus_tailnet_core::netmap::Netmap;
use isthmus_tailnet_core::paths::Paths;
use isthmus_tailnet_wire::keys as wire;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use ts_keys::ExportableKey;

pub use config::{NodeConfig, TunConfig};
pub use handle::NodeHandle;
pub use prefs::NodePrefs;
pub use publish::PublishError;
pub use report::{NodeReport, PeerReport, PingAnswer, PingError, PingKind};
pub use services::{ServicePort, ServicePortError, ServiceProtocol};
pub use snapshot::{NodeMeter, NodeSnapshot, PeerSnapshot};
pub use status::{LoginState, NodeError, NodeErrorKind, NodeStatus};

use crate::cache::Cache;
use crate::control::{Client, ClientConfig, Dialer, NodeFacts, Progress, Requester, Server, Session, authorities};
use crate::dataplane::{DataPlane, DataPlaneConfig};
use crate::disco::DiscoBox;
use crate::engine::{Applied, Ask, Awaited, Engine};
use crate::interface::{Interface, LinkChanges, endpoints};
use crate::offloads::{OffloadSwitch, Offloads};
use crate::relay::{RelayIdentity, Relays};
use crate::state::Identity;
use crate::tun::{self, Tun};
use crate::udp::UdpLink;
use crate::wireguard::PrivateKey;

/// How long control may take to answer before a restarted node goes on with what it remembers.
const CONTROL_LIMIT: Duration = Duration::from_secs(3);

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
    stop: Option<oneshot::Sender<()>>,
}

impl Node {
    /// Starts a node: when this returns, its UDP socket and its TUN device exist and it is logging in. Watch
    /// [`status`](Self::status) for the rest. The device and all routes are made in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`NodeError`] for what cannot get better by waiting: bad configuration, unusable state, missing rights. An unreachable control
    /// server is no error: the node keeps trying.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let server = Server::parse(&config.login_server).ok_or_else(|| NodeError::BadLoginServer {
            url: config.login_server.clone(),
        })?;
        let (identity, changes) = Identity::load(&config.state.load().await?, &config.login_server)?;
        if !changes.is_empty() {
            config.state.store(changes).await?;
        }
        let (status_sender, status) = watch::channel(NodeStatus::default());
        let (prefs, prefs_receiver) = watch::channel(NodePrefs {
            hostname: config.hostname.clone(),
            accept_routes: config.accept_routes,
            advertise_routes: config.advertise_routes.iter().map(IpNet::trunc).collect(),
            advertise_services: config.advertise_services.clone(),
        });
        let (session_sender, session) = watch::channel(None);
        let key = identity.node.public.into();
        let dialer = Dialer::new(&config.extra_ca);
        let cache = config.cache.as_ref().map(Cache::new);
        let recalled = recall(cache.as_ref(), &dialer, &server, &identity).await;
        let (disco, netmap) = recalled.unwrap_or_else(|| (DiscoBox::random(), None));
        if let Some(cache) = cache {
            cache.keep_disco(&disco);
            tokio::spawn(cache.follow(status.clone()));
        }
        let (asks, questions) = mpsc::channel(MAX_ASKS);
        let inputs = Inputs {
            status: status.clone(),
            prefs: prefs_receiver.clone(),
            asks: questions,
        };
        let (engine, facts) = start_engine(&config, &identity, disco, inputs).await?;
        if netmap.is_some() {
            let login = LoginState::Running;
            status_sender.send_modify(|status| {
                *status = NodeStatus {
                    login,
                    netmap,
                    ..NodeStatus::default()
                };
            });
        }
        let meter = NodeMeter {
            plane: engine.plane.meter(),
            connected: engine.relays.connected(),
            status: status.clone(),
            facts: facts.clone(),
        };
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
            stop: Some(stop),
        })
    }

    /// The node's status now and in the future.
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// A handle to ask the node by.
    pub fn handle(&self) -> NodeHandle {
        NodeHandle {
            status: self.status.clone(),
            asks: self.asks.clone(),
        }
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

    /// The UDP port of WireGuard and disco.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the node: ends the control connection, removes its routes and its TUN device. Returns when all that is done.
    pub async fn shutdown(mut self) {
        self.client.abort();
        self.stop.take();
        if let Some(engine) = self.engine.take() {
            // A panic of the task has been printed already.
            let _ = engine.await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.client.abort();
    }
}

/// What the run before left, when control is away and so cannot tell anything newer.
async fn recall(
    cache: Option<&Cache>,
    dialer: &Dialer,
    server: &Server,
    identity: &Identity,
) -> Option<(DiscoBox, Option<Arc<Netmap>>)> {
    let own = NodeKey::from_bytes(*wire::NodeKey::from(identity.node.public).as_bytes());
    let netmap = cache?.netmap(&own)?;
    let disco = cache?.disco()?;
    let answer = timeout(CONTROL_LIMIT, Session::open(dialer, server, &identity.machine)).await;
    if matches!(answer, Ok(Ok(_))) {
        return None;
    }
    tracing::warn!("the control server is away: going on with the last network map");
    Some((disco, Some(Arc::new(netmap))))
}

/// What the engine listens to beside the network.
struct Inputs {
    status: watch::Receiver<NodeStatus>,
    prefs: watch::Receiver<NodePrefs>,
    asks: mpsc::Receiver<Ask>,
}

/// Makes the device, the socket and the data plane. The machine's endpoints are gathered here, before the node registers, so that its
/// first message to control carries them.
async fn start_engine(
    config: &NodeConfig,
    identity: &Identity,
    disco: DiscoBox,
    inputs: Inputs,
) -> Result<(Engine, watch::Receiver<NodeFacts>), NodeError> {
    let allowed_offloads = if config.tun.offloads {
        Offloads::for_this_kernel()
    } else {
        Offloads::NONE
    };
    let offloads = OffloadSwitch::new(allowed_offloads);
    let udp = UdpLink::bind(config.listen_port, offloads.clone())?;
    let tun = tun::TunConfig {
        name: config.tun.name.clone(),
        mtu: config.tun.mtu,
        addresses: Vec::new(),
    };
    let tun = Tun::create(&tun, offloads.clone())?;
    let interface = Interface::open(&config.tun.name).await?;
    let private_key = PrivateKey::from_bytes(*identity.node.export().as_bytes());
    let own_key = private_key.public_key();
    let plane_config = DataPlaneConfig {
        private_key,
        mtu: config.tun.mtu,
    };
    let (plane, hooks) = DataPlane::start(&plane_config, Arc::new(tun), udp)?;
    let port = plane.local_port().map_err(NodeError::Port)?;
    let links = LinkChanges::subscribe().await;
    let machine = interface.machine_addresses().await?;
    let facts = NodeFacts {
        disco: disco.public_key(),
        endpoints: endpoints(&machine, port),
        observed: Vec::new(),
        home: None,
        machine: machine.clone(),
    };
    let (relays, from_relays) = Relays::new(RelayIdentity {
        private: *identity.node.export().as_bytes(),
        public: own_key,
        authorities: Arc::new(authorities(&config.extra_ca)),
    });
    let (facts, facts_receiver) = watch::channel(facts);
    let engine = Engine {
        sender: plane.datagram_sender(),
        plane,
        hooks,
        disco,
        paths: Paths::new(own_key),
        interface,
        links,
        port,
        facts,
        status: inputs.status,
        prefs: inputs.prefs,
        asks: inputs.asks,
        awaited: Awaited::default(),
        own: own_key,
        install_routes: config.install_routes,
        relays,
        netcheck: Netcheck::default(),
        from_relays,
        offloads,
        allowed_offloads,
        is_new: !identity.was_logged_in(),
        applied: Applied::on(machine),
    };
    Ok((engine, facts_receiver))
}
