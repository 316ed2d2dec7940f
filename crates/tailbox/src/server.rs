//! A running tailbox.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use isthmus_runtime::{ErrorChain, Secret, Shutdown};
use isthmus_tailnet_wire::control::{NodeId, PingResponse};
use isthmus_tailnet_wire::keys::MachineKey;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::acme::{DnsError, NameServer};
use crate::asks::{self, Answer, AskError};
use crate::config::{Config, OauthClientConfig, unreachable_derp_map};
use crate::credentials::new_credential;
use crate::hosts;
use crate::map_stream;
use crate::outer;
use crate::policy::{Policy, PolicyError};
use crate::probes;
use crate::relay::{self, RelayError, RelayListener};
use crate::shared::{CommitError, Shared};
use crate::state::{AuthKeySpec, ClientSpec, Edit, EditError, Node, SecretHash, ServiceError, ServiceSpec};
use crate::store::{Store, StoreError};

/// Time between looks at ephemeral nodes that are away.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);
/// How long open API requests may take after a stop.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Why a tailbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state file cannot be used.
    #[error("open the state")]
    Store(#[source] StoreError),
    /// The address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The relay cannot be had.
    #[error(transparent)]
    Relay(RelayError),
    /// The name server cannot be had.
    #[error(transparent)]
    Dns(DnsError),
    /// The policy of the configuration is none.
    #[error(transparent)]
    Policy(PolicyError),
    /// The clients or the policy of the configuration cannot be stored.
    #[error("store the clients and the policy of the configuration")]
    Configuration(#[source] CommitError),
}

/// A running tailbox. Dropping it ends the process's part in all connections, but waits for nothing: see
/// [`Self::stop`].
pub struct Tailbox {
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
    relay: Option<JoinHandle<()>>,
    dns_addr: Option<SocketAddr>,
    helpers: Vec<JoinHandle<()>>,
}

impl Tailbox {
    /// Opens the state, listens, and serves on the current runtime.
    ///
    /// # Errors
    /// When the state cannot be used or the address cannot be listened on.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        let (store, state) = Store::open(config.state_file.as_deref()).map_err(StartError::Store)?;
        let address = config.listen;
        let listen_error = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let local_addr = listener.local_addr().map_err(listen_error)?;
        let clients = config.oauth_clients.clone();
        let policy = config.policy.clone().map(Policy::try_from).transpose();
        let policy = policy.map_err(StartError::Policy)?.map(Arc::new);
        let relay = match config.relay {
            Some(address) => Some(RelayListener::bind(address).await.map_err(StartError::Relay)?),
            None => None,
        };
        if let Some(relay) = &relay {
            if config.derp_map == unreachable_derp_map() {
                config.derp_map.regions.clear();
            }
            relay.add_to(&mut config.derp_map);
        }
        let dns = match config.dns {
            Some(address) => Some(NameServer::bind(address).await.map_err(StartError::Dns)?),
            None => None,
        };
        let dns_addr = dns.as_ref().and_then(|dns| dns.local_addr().ok());
        let shared = Shared::new(config, store, state, Shutdown::new());
        configure(&shared, clients, policy)
            .await
            .map_err(StartError::Configuration)?;
        let server = tokio::spawn(serve(Arc::clone(&shared), listener));
        let relay = relay.map(|listener| tokio::spawn(serve_relay(Arc::clone(&shared), listener)));
        let mut helpers = vec![
            tokio::spawn(tidy(Arc::clone(&shared))),
            tokio::spawn(hosts::follow(Arc::clone(&shared))),
            tokio::spawn(map_stream::publish(Arc::clone(&shared))),
            tokio::spawn(probes::run(Arc::clone(&shared))),
        ];
        helpers.extend(dns.map(|dns| tokio::spawn(dns.serve(Arc::clone(&shared)))));
        Ok(Self {
            local_addr,
            shared,
            server,
            relay,
            dns_addr,
            helpers,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where its name server for authorities listens, when there is one.
    pub fn dns_addr(&self) -> Option<SocketAddr> {
        self.dns_addr
    }

    /// The URL to give to clients as their login server, without a final slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.local_addr)
    }

    /// The public key of its Noise handshake.
    pub fn machine_key(&self) -> MachineKey {
        self.shared.machine_key.public.into()
    }

    /// Makes an auth key, and returns the text that clients register with.
    ///
    /// # Errors
    /// When the state cannot be stored.
    pub async fn create_auth_key(&self, spec: AuthKeySpec) -> Result<Secret, CommitError> {
        let credential = new_credential();
        let text = credential.text("auth");
        self.shared
            .commit(move |state| state.add_auth_key(&credential, spec, Timestamp::now()))
            .await?;
        Ok(text)
    }

    /// The nodes, ordered by number.
    pub fn nodes(&self) -> Vec<Node> {
        self.shared.state().nodes.values().cloned().collect()
    }

    /// Whether a map stream of the node is open.
    pub fn is_online(&self, node: NodeId) -> bool {
        self.shared.presence().is_online(node)
    }

    /// Changes a node, as the API does; the inner error says why not.
    ///
    /// # Errors
    /// When the state cannot be stored.
    pub async fn edit(&self, node: NodeId, edit: Edit) -> Result<Result<(), EditError>, CommitError> {
        let now = Timestamp::now();
        self.shared.commit(move |state| state.edit(node, edit, now)).await
    }

    /// Makes or changes a Tailscale Service, as the API does, and gives its addresses; the inner error says why not.
    ///
    /// # Errors
    /// When the state cannot be stored.
    pub async fn put_service(&self, spec: ServiceSpec) -> Result<Result<[IpAddr; 2], ServiceError>, CommitError> {
        let put = self.shared.commit(move |state| state.put_service(spec)).await?;
        Ok(put.map(|service| service.addresses()))
    }

    /// Removes a node: its map stream ends and its node key is unknown from then on. Whether it was known.
    ///
    /// # Errors
    /// When the state cannot be stored.
    pub async fn remove_node(&self, node: NodeId) -> Result<bool, CommitError> {
        self.shared.commit(move |state| state.remove_node(node)).await
    }

    /// Sends an HTTP request to a node inside the connection that it holds open ("c2n"), and waits ten seconds for the answer.
    ///
    /// # Errors
    /// When the node is not known, not connected, or does not answer.
    pub async fn ask(&self, node: NodeId, method: &str, path: &str, body: &[u8]) -> Result<Answer, AskError> {
        asks::ask(&self.shared, node, method, path, body).await
    }

    /// Has a node ping the peer with this address by `disco`, `TSMP`, `ICMP` or `peerapi`, and gives what it says of it.
    ///
    /// # Errors
    /// When the node is not known or not connected, or the peer does not answer it.
    pub async fn ping_from(&self, node: NodeId, kind: &str, address: IpAddr) -> Result<PingResponse, AskError> {
        asks::ping(&self.shared, node, kind, address).await
    }

    /// Ends all connections, lets open API requests finish for a moment, and stores when nodes were last seen, and
    /// gives the state file free.
    ///
    /// # Errors
    /// When the state cannot be stored.
    pub async fn stop(mut self) -> Result<(), CommitError> {
        self.shared.shutdown.begin();
        if tokio::time::timeout(STOP_LIMIT, &mut self.server).await.is_err() {
            self.server.abort();
        }
        self.helpers.iter().for_each(JoinHandle::abort);
        if let Some(mut relay) = self.relay.take()
            && tokio::time::timeout(STOP_LIMIT, &mut relay).await.is_err()
        {
            relay.abort();
        }
        let tidied = self.shared.tidy().await;
        self.shared.close().await;
        tidied
    }
}

impl Drop for Tailbox {
    fn drop(&mut self) {
        self.shared.shutdown.begin();
        self.helpers.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let shutdown = shared.shutdown.clone();
    let serving = axum::serve(listener, outer::router(shared));
    let result = serving
        .with_graceful_shutdown(async move { shutdown.begun().await })
        .await;
    if let Err(error) = result {
        tracing::error!(error = %ErrorChain(&error), "listener ended");
    }
}

async fn serve_relay(shared: Arc<Shared>, listener: RelayListener) {
    let shutdown = shared.shutdown.clone();
    let serving = axum::serve(listener, relay::router(shared));
    let result = serving
        .with_graceful_shutdown(async move { shutdown.begun().await })
        .await;
    if let Err(error) = result {
        tracing::error!(error = %ErrorChain(&error), "listener of the relay ended");
    }
}

async fn tidy(shared: Arc<Shared>) {
    let interval = TIDY_INTERVAL
        .min(shared.config.ephemeral_grace / 2)
        .max(Duration::from_millis(10));
    loop {
        tokio::time::sleep(interval).await;
        if let Err(error) = shared.tidy().await {
            tracing::warn!(error = %ErrorChain(&error), "departed nodes not written down");
        }
    }
}

/// Adds the clients of the configuration, whose tokens of an earlier run stay valid, and its policy.
async fn configure(
    shared: &Arc<Shared>,
    clients: Vec<OauthClientConfig>,
    policy: Option<Arc<Policy>>,
) -> Result<(), CommitError> {
    let (now, has_dns) = (Timestamp::now(), shared.config.dns.is_some());
    let needs_approval = shared.config.device_approval;
    let add = move |state: &mut crate::state::State| {
        if policy.is_some() {
            state.policy = policy;
        }
        state.settings.https |= has_dns;
        state.settings.approval |= needs_approval;
        for client in clients {
            let created = state.clients.get(&client.id).map_or(now, |known| known.created);
            let spec = ClientSpec {
                scopes: ["all".to_owned()].into(),
                tags: client.tags,
                description: "from the configuration".to_owned(),
            };
            state.add_client(&client.id, SecretHash::of(client.secret.expose()), spec, created);
        }
    };
    shared.commit(add).await
}
