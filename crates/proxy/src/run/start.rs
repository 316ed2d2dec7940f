//! Starts a proxy. Both sides are closed before anything else is there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isthmus_contract::env;
use isthmus_kubernetes::{ACCOUNT_FOLDER, in_cluster};
use isthmus_proxy_core::{
    Documents, Login, LoginSource, Mode, Paths, Plan, ReservedPorts, Settings, TUN_NAME, TailnetAddresses, Tun,
};
use isthmus_runtime::admin::Admin;
use isthmus_runtime::{ErrorChain, Secret, Shutdown};
use isthmus_tailnet::state::{FileStore, StateStore};
use isthmus_tailnet::{Node, NodeConfig, NodePrefs, TunConfig};
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::ProxyError;
use super::serve::Proxy;
use crate::cached_state::CachedStore;
use crate::config_watch::{ConfigSources, watch_config};
use crate::debug::{self, View};
use crate::health::Health;
use crate::kernel::{Kernel, KernelError};
use crate::kube_state::SecretStore;
use crate::preflight;
use crate::publisher::Publisher;

/// Where the node logs in when nobody says otherwise.
const DEFAULT_CONTROL_URL: &str = "https://controlplane.tailscale.com";

/// The name of a device whose Pod has none.
const DEFAULT_HOSTNAME: &str = "isthmus-proxy";

/// The file of the node's state in `TS_STATE_DIR`.
const STATE_FILE: &str = "tailscaled.state";

/// The file of the last configuration in the same folder.
const DOCUMENTS_FILE: &str = "documents.json";

/// MTU of the tailnet's device in bytes, as every node of a tailnet has it.
const MTU: u16 = 1280;

pub(super) async fn start(settings: Settings, shutdown: Shutdown) -> Result<(Proxy, Node), ProxyError> {
    preflight::check_rights().await?;
    let kernel = Kernel::open()?;
    let plan = closed_plan(&settings, pod_addresses(&settings, &kernel).await?);
    kernel.apply(&plan).await?;
    let health = Arc::new(Health::new());
    health.view().show(View {
        plan: Some(plan.clone()),
        ..View::default()
    });
    let pod = plan.pod.iter().copied().collect();
    serve_on(settings.health, health.admin(pod), shutdown.clone()).await?;
    if let Some(address) = settings.debug {
        serve_on(address, debug::admin(&health), shutdown.clone()).await?;
    }

    let client = match &settings.kube_secret {
        Some(_) => Some(cluster_client()?),
        None => None,
    };
    let cache = cache_folder(&settings);
    let secret = client.as_ref().zip(settings.kube_secret.as_ref());
    let secret = secret.map(|(client, name)| Arc::new(SecretStore::new(client, name)));
    let store = state_store(&settings, secret.clone(), cache.as_deref())?;
    let publisher = client.as_ref().map(|_| Publisher::start(Arc::clone(&store)));
    let mut documents = watch_documents(&settings, client, secret, cache.as_deref(), shutdown)?;
    let login = find_login(&settings.login, &mut documents).await;
    let node = Node::start(node_config(&settings, login.clone(), store, cache)).await?;
    Ok((
        Proxy::new(settings, plan, kernel, health, publisher, documents, login),
        node,
    ))
}

fn closed_plan(settings: &Settings, pod: BTreeSet<IpAddr>) -> Plan {
    Plan {
        mode: Mode::Closed,
        paths: Paths::KERNEL,
        tailnet: TailnetAddresses::default(),
        pod,
        tun: Tun {
            name: TUN_NAME.to_owned(),
            mtu: MTU,
        },
        reserved: ReservedPorts {
            wireguard: settings.wireguard_port,
            health: settings.health.port(),
            debug: settings.debug.map(|address| address.port()),
        },
    }
}

async fn pod_addresses(settings: &Settings, kernel: &Kernel) -> Result<BTreeSet<IpAddr>, ProxyError> {
    if settings.pod.addresses.is_empty() {
        Ok(kernel
            .routing()
            .pod_addresses(TUN_NAME)
            .await
            .map_err(KernelError::from)?)
    } else {
        Ok(settings.pod.addresses.iter().copied().collect())
    }
}

async fn serve_on(address: SocketAddr, admin: Admin, shutdown: Shutdown) -> Result<(), ProxyError> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|source| ProxyError::Listen { address, source })?;
    tokio::spawn(admin.serve_on(listener, shutdown));
    Ok(())
}

fn cluster_client() -> Result<Client, ProxyError> {
    in_cluster(Path::new(ACCOUNT_FOLDER)).map_err(|error| ProxyError::Cluster(error.into()))
}

/// A folder that outlives a restart of the container, if there is one.
fn cache_folder(settings: &Settings) -> Option<PathBuf> {
    let mounted = || Some(PathBuf::from(env::CACHE_MOUNT)).filter(|folder| folder.is_dir());
    settings.state_dir.clone().or_else(mounted)
}

fn state_store(
    settings: &Settings,
    secret: Option<Arc<SecretStore>>,
    cache: Option<&Path>,
) -> Result<Arc<dyn StateStore>, ProxyError> {
    match (secret, &settings.state_dir) {
        (Some(secret), _) => Ok(match cache {
            Some(folder) => Arc::new(CachedStore::new(secret, FileStore::new(folder.join(STATE_FILE)))),
            None => secret,
        }),
        (None, Some(folder)) => Ok(Arc::new(FileStore::new(folder.join(STATE_FILE)))),
        (None, None) => Err(ProxyError::NowhereForState),
    }
}

/// The documents are watched when the environment leaves something for them to say.
fn watch_documents(
    settings: &Settings,
    client: Option<Client>,
    keeper: Option<Arc<SecretStore>>,
    cache: Option<&Path>,
    shutdown: Shutdown,
) -> Result<watch::Receiver<Option<Documents>>, ProxyError> {
    let folder: Option<PathBuf> = match &settings.login {
        LoginSource::ConfigDirectory(folder) => Some(folder.clone()),
        LoginSource::Environment(_) => None,
    };
    let secret = client.zip(settings.kube_secret.clone());
    let sources = match (&settings.config, &folder) {
        (Some(_), None) => ConfigSources {
            secret: None,
            keeper: None,
            folder: None,
            cache: None,
        },
        (None, None) if secret.is_none() => return Err(ProxyError::NothingToCarry),
        (_, _) => ConfigSources {
            secret,
            keeper,
            folder,
            cache: cache.map(|folder| folder.join(DOCUMENTS_FILE)),
        },
    };
    Ok(watch_config(sources, shutdown))
}

/// Waits until the documents say how to log in, if they are to say it.
async fn find_login(source: &LoginSource, documents: &mut watch::Receiver<Option<Documents>>) -> Login {
    if let LoginSource::Environment(login) = source {
        return login.clone();
    }
    loop {
        match documents.borrow_and_update().as_ref().map(Documents::parse) {
            Some(Ok(configuration)) => {
                if let Some(device) = configuration.device {
                    return device.login;
                }
                tracing::warn!("waiting for cap-<N>.hujson: the operator has not written it yet");
            }
            Some(Err(error)) => tracing::warn!(error = %ErrorChain(&error), "waiting for a better configuration"),
            None => tracing::info!("waiting for the configuration"),
        }
        if documents.changed().await.is_err() {
            // The watch ends only at the shutdown, which ends this wait as well.
            std::future::pending::<()>().await;
        }
    }
}

fn node_config(settings: &Settings, login: Login, state: Arc<dyn StateStore>, cache: Option<PathBuf>) -> NodeConfig {
    let NodePrefs {
        hostname,
        accept_routes,
        ..
    } = prefs(settings, &login);
    let control = login.control_url.unwrap_or_else(|| DEFAULT_CONTROL_URL.to_owned());
    let defaults = NodeConfig::new(control, hostname, state);
    NodeConfig {
        auth_key: login.auth_key.map(|key| Secret::new(key.expose())),
        app: settings.app.clone().unwrap_or_else(|| defaults.app.clone()),
        listen_port: settings.wireguard_port,
        tun: TunConfig {
            name: TUN_NAME.to_owned(),
            mtu: MTU,
            ..TunConfig::default()
        },
        cache,
        accept_routes,
        install_routes: false,
        ..defaults
    }
}

/// What a login says that may change while the node runs.
pub(super) fn prefs(settings: &Settings, login: &Login) -> NodePrefs {
    let hostname = login.hostname.clone().or_else(|| settings.pod.name.clone());
    NodePrefs {
        hostname: hostname.unwrap_or_else(|| DEFAULT_HOSTNAME.to_owned()),
        accept_routes: login.accept_routes,
        ..NodePrefs::default()
    }
}
