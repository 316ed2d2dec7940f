//! The operator from start to end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use isthmus_kubernetes::all;
use isthmus_operator_core::settings::Settings;
use isthmus_runtime::{Readiness, Shutdown, admin::Admin};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::{
    apply::Writer,
    context::{Context, Memory},
    lease::{Candidate, Term, Timing, while_leading},
    metrics::{self, Metrics},
    proxy_class, queue, sweep,
    watch::Watches,
};

/// Name of the Lease in the operator's namespace.
const LEASE: &str = "isthmus-operator";
/// The namespace whose UID tells clusters apart.
const CLUSTER_IDENTITY: &str = "kube-system";

/// How long looks under way may take after the end has begun. What they leave undone, the next leader does.
const LAST_LOOKS: Duration = Duration::from_secs(5);

/// What one operator needs to know.
pub struct Config {
    /// What is the same for every object. The cluster's identity in it is filled in at start.
    pub settings: Settings,
    /// The tailnet's API.
    pub tailnet: isthmus_tailnet_api::Client,
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// Name of this replica, for the Lease and for events.
    pub instance: String,
}

/// The operator ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The health server has no address.
    #[error("cannot serve health and metrics at {address}")]
    Listen {
        /// The address wanted.
        address: SocketAddr,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// The cluster cannot be told from others.
    #[error("cannot read the UID of Namespace kube-system: grant `get` on it to the operator's ServiceAccount")]
    ClusterIdentity(#[source] kube::Error),
    /// Another replica leads now, or the API server is away.
    #[error("lost the lease; a restart takes part in the election again")]
    LeaseLost,
    /// A watch ended.
    #[error("a watch ended before it had seen its objects")]
    Watch(#[source] kube::runtime::reflector::store::WriterDropped),
}

/// Runs the operator until `shutdown` begins: waits for the Lease, then serves every Service.
///
/// # Errors
/// When the health server cannot start, the cluster's identity cannot be read, or the Lease is lost.
#[inline(never)]
pub fn run(client: Client, config: Config, shutdown: Shutdown) -> BoxFuture<'static, Result<(), RunError>> {
    // In a box it is compiled in this crate; an `async fn` would be compiled where it is awaited.
    Box::pin(take_turns(client, config, shutdown))
}

async fn take_turns(client: Client, config: Config, shutdown: Shutdown) -> Result<(), RunError> {
    let mut registry = Registry::with_prefix(metrics::PREFIX);
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::new();
    let mut api_server = Some(readiness.wait_for("the API server's first answer"));
    serve_admin(config.listen, readiness, registry, shutdown.clone()).await?;

    let namespace = config.settings.namespace.clone();
    let candidate = Candidate::new(&client, &namespace, LEASE, &config.instance, Timing::default());
    let term = tokio::select! {
        term = candidate.lead(|| drop(api_server.take())) => term,
        () = shutdown.begun() => return Ok(()),
    };
    tracing::info!(instance = config.instance, "leading");
    metrics.leads(true);
    let result = lead(client, config, metrics.clone(), &candidate, term, &shutdown).await;
    metrics.leads(false);
    result
}

async fn lead(
    client: Client,
    config: Config,
    metrics: Metrics,
    candidate: &Candidate,
    term: Term,
    shutdown: &Shutdown,
) -> Result<(), RunError> {
    let mut failure = None;
    let work = async {
        if let Err(error) = Box::pin(work(client, config, metrics, term.clone(), shutdown)).await {
            failure = Some(error);
        }
    };
    let kept = while_leading(candidate, &term, work, shutdown).await;
    match failure {
        Some(error) => Err(error),
        None if kept => Ok(()),
        None => Err(RunError::LeaseLost),
    }
}

/// Everything only a leader does.
async fn work(
    client: Client,
    config: Config,
    metrics: Metrics,
    term: Term,
    shutdown: &Shutdown,
) -> Result<(), RunError> {
    let identity = all::<Namespace>(&client)
        .get_metadata(CLUSTER_IDENTITY)
        .await
        .map_err(RunError::ClusterIdentity)?;
    let settings = Settings {
        cluster_id: identity.metadata.uid.unwrap_or_default(),
        ..config.settings
    };
    let watches = Watches::start(&client, &settings);
    tokio::select! {
        ready = watches.stores.ready() => ready.map_err(RunError::Watch)?,
        () = shutdown.begun() => return Ok(()),
    }
    metrics.watch(settings.clone(), watches.stores.clone(), watches.changes.clone());
    let context = Arc::new(Context {
        writer: Writer::new(client.clone(), settings.namespace.clone()),
        client,
        tailnet: config.tailnet.observed_by(Arc::new(metrics.clone())),
        stores: watches.stores.clone(),
        settings,
        metrics,
        instance: config.instance,
        term,
        changes: watches.changes.clone(),
        memory: Memory::default(),
    });
    let sweeping = async {
        tokio::select! {
            () = sweep::run(&context) => {}
            () = shutdown.begun() => {}
        }
    };
    let judging = async {
        tokio::select! {
            () = proxy_class::run(&context, &watches.changes) => {}
            () = shutdown.begun() => {}
        }
    };
    let end = shutdown.clone();
    let reconciling = queue::run(
        context.clone(),
        watches.changes.clone(),
        async move { end.begun().await },
    );
    let too_late = async {
        shutdown.begun().await;
        tokio::time::sleep(LAST_LOOKS).await;
    };
    tokio::select! {
        ((), (), ()) = async { tokio::join!(sweeping, judging, reconciling) } => {}
        () = too_late => tracing::warn!("looks under way are given up; the next leader goes on with them"),
    }
    Ok(())
}

async fn serve_admin(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Registry,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|cause| RunError::Listen { address, cause })?;
    let admin = Admin {
        readiness,
        metrics,
        handler: Box::new(|_| None),
    };
    tokio::spawn(admin.serve_on(listener, shutdown));
    Ok(())
}
