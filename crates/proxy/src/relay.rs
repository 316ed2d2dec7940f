//! The relay: carries between two sockets what the kernel cannot forward as packets.
//!
//! The packet filter hands to it, by `tproxy`, what the plan says; nothing else reaches its listeners, which are bound to
//! the loopback addresses. A socket that is handed a connection in this way keeps the address and port that the peer or
//! Pod asked for as its own, so answers come from there, and one listener serves every port. The relay looks each of them
//! up in its own [`RelayPlan`] once more.
//!
//! It runs on one thread of its own, so that a proxy that is busy carrying still follows its configuration.

mod limits;
mod pump;
mod sockets;
mod tcp;
mod udp;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};

use isthmus_proxy_core::{RelayListeners, RelayPlan};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::runtime::{self, Runtime};
use tokio::sync::{Semaphore, watch};

use crate::nftables::NftablesError;

pub use self::limits::RelayLimits;
use self::sockets::{FamilyListeners, Listeners};

/// Why the relay does not start.
#[derive(Debug, Error)]
pub enum RelayError {
    /// A transparent listener was refused.
    #[error("cannot open a transparent socket for the relay: grant the container NET_ADMIN")]
    Listen(#[source] io::Error),
    /// The kernel cannot hand packets to sockets.
    #[error("cannot hand packets to the relay: load the kernel module nft_tproxy on the node (modprobe nft_tproxy)")]
    HandOver(#[source] NftablesError),
    /// No thread for it.
    #[error("cannot start the relay's thread")]
    Thread(#[source] io::Error),
}

/// Figures of the relay.
#[derive(Debug, Clone, Default)]
pub struct RelayMetrics {
    /// TCP connections that are open.
    pub connections: Gauge,
    /// UDP sessions that are open.
    pub sessions: Gauge,
    /// Connections and datagrams that were refused because a limit was reached.
    pub over_limit: Counter,
    /// Connections and datagrams that were refused because the plan does not lead them anywhere.
    pub outside_plan: Counter,
    /// Connections that were reset because the target refused or did not answer.
    pub unreachable: Counter,
}

impl RelayMetrics {
    /// Makes the figures known under their names.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let figures = [
            (
                "relay_connections",
                "TCP connections that the relay carries",
                &self.connections,
            ),
            ("relay_sessions", "UDP sessions that the relay carries", &self.sessions),
        ];
        for (name, help, gauge) in figures {
            registry.register(name, help, gauge.clone());
        }
        let figures = [
            (
                "relay_over_limit",
                "Connections and datagrams refused at a limit of the relay",
                &self.over_limit,
            ),
            (
                "relay_outside_plan",
                "Connections and datagrams that no plan leads anywhere",
                &self.outside_plan,
            ),
            (
                "relay_unreachable",
                "Connections reset because the target did not take them",
                &self.unreachable,
            ),
        ];
        for (name, help, counter) in figures {
            registry.register(name, help, counter.clone());
        }
    }
}

/// A running relay, of the network namespace in which it was started. Dropping it resets all that it carries.
pub struct Relay {
    /// None only while this is dropped.
    plan: Option<watch::Sender<RelayPlan>>,
    ports: RelayListeners,
    metrics: RelayMetrics,
    thread: Option<JoinHandle<()>>,
}

/// What every part of the relay knows.
struct Shared {
    plan: watch::Receiver<RelayPlan>,
    limits: RelayLimits,
    metrics: RelayMetrics,
    connections: Arc<Semaphore>,
    /// Bytes that were read and wait until their receiver takes them, over all connections.
    held: AtomicUsize,
    /// Counts connections and sessions, to spread them over the targets.
    turn: AtomicUsize,
}

impl Relay {
    /// Opens listeners in the calling thread's network namespace. Until it is given a plan the relay refuses everything.
    ///
    /// # Errors
    /// When the right to open transparent sockets is missing, or there is no thread.
    pub fn start(limits: RelayLimits, metrics: RelayMetrics) -> Result<Self, RelayError> {
        let limits = limits.within_descriptors();
        let listeners = Listeners::open().map_err(RelayError::Listen)?;
        let ports = listeners.ports();
        let (sender, plan) = watch::channel(RelayPlan::default());
        let shared = Arc::new(Shared {
            plan,
            connections: Arc::new(Semaphore::new(limits.connections)),
            limits,
            metrics: metrics.clone(),
            held: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(RelayError::Thread)?;
        let thread = thread::Builder::new().name("relay".to_owned());
        let thread = thread.spawn(move || run(&runtime, listeners, &shared));
        Ok(Self {
            plan: Some(sender),
            ports,
            metrics,
            thread: Some(thread.map_err(RelayError::Thread)?),
        })
    }

    /// Where the packet filter hands over.
    pub fn listeners(&self) -> RelayListeners {
        self.ports
    }

    /// Takes over a new plan. What it no longer leads where it was led is reset.
    pub fn follow(&self, plan: RelayPlan) {
        if let Some(sender) = &self.plan {
            sender.send_if_modified(|current| {
                let changes = *current != plan;
                *current = plan;
                changes
            });
        }
    }

    /// The figures that the relay keeps.
    pub fn metrics(&self) -> &RelayMetrics {
        &self.metrics
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.plan.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the relay's thread panicked");
        }
    }
}

fn run(runtime: &Runtime, listeners: Listeners, shared: &Arc<Shared>) {
    runtime.block_on(async {
        for family in [listeners.v4, listeners.v6].into_iter().flatten() {
            if let Err(error) = serve(family, shared) {
                tracing::error!(%error, "the relay does not listen");
            }
        }
        let mut plan = shared.plan.clone();
        while plan.changed().await.is_ok() {}
    });
}

fn serve(family: FamilyListeners, shared: &Arc<Shared>) -> io::Result<()> {
    let tcp = tokio::net::TcpListener::from_std(family.tcp)?;
    let udp = tokio::net::UdpSocket::from_std(family.udp)?;
    tokio::spawn(tcp::listen(tcp, Arc::clone(shared)));
    tokio::spawn(udp::listen(udp, Arc::clone(shared)));
    Ok(())
}

impl Shared {
    /// Returns when `inside` no longer holds for the plan, or the relay ends.
    async fn until_outside(&self, inside: impl Fn(&RelayPlan) -> bool) {
        let mut plan = self.plan.clone();
        // An error means that the relay is being dropped, which ends everything as well.
        let _ended = plan.wait_for(|plan| !inside(plan)).await;
    }
}

/// Counts something for as long as it lives.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
