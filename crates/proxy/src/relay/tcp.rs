//! Connections.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use isthmus_proxy_core::{Protocol, RelayRoute};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Counted, Shared, pump, sockets};

/// The pause after the kernel could not give a connection, usually because too many files are open.
const PAUSE: Duration = Duration::from_millis(20);

/// A connection that ends with a reset, unless it was allowed to end in order.
struct Resetting(TcpStream);

impl Resetting {
    fn new(stream: TcpStream) -> Self {
        // Refused only for a connection that is gone already.
        let _gone = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        Self(stream)
    }

    fn end_in_order(self) {
        let _gone = SockRef::from(&self.0).set_linger(None);
    }
}

impl Deref for Resetting {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

/// Accepts what the packet filter hands over.
pub(super) async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => accept(Resetting::new(stream), &shared),
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

fn accept(client: Resetting, shared: &Arc<Shared>) {
    let Ok(permit) = Arc::clone(&shared.connections).try_acquire_owned() else {
        shared.metrics.over_limit.inc();
        return;
    };
    tokio::spawn(carry(client, Arc::clone(shared), permit));
}

async fn carry(client: Resetting, shared: Arc<Shared>, _permit: OwnedSemaphorePermit) {
    let _counted = Counted::new(&shared.metrics.connections);
    let Ok(arrived) = client.local_addr() else { return };
    let route = shared.plan.borrow().route(Protocol::Tcp, arrived).cloned();
    let Some(route) = route else {
        shared.metrics.outside_plan.inc();
        return;
    };
    let connected = tokio::select! {
        connected = connect(&route, arrived.port(), &shared) => connected,
        () = pump::broken(&client) => return,
    };
    let Some((target, address)) = connected else {
        shared.metrics.unreachable.inc();
        return;
    };
    let outcome = tokio::select! {
        outcome = copy(&client, &target, &shared) => outcome,
        () = shared.until_outside(|plan| plan.leads(Protocol::Tcp, arrived, route.source, address)) => return,
    };
    if outcome.is_ok() {
        client.end_in_order();
        target.end_in_order();
    }
}

async fn copy(client: &TcpStream, target: &TcpStream, shared: &Shared) -> io::Result<()> {
    sockets::prepare(client)?;
    sockets::prepare(target)?;
    pump::copy_both(client, target, &shared.held).await
}

/// Connects to the first target that answers, beginning with another one each time.
async fn connect(route: &RelayRoute, port: u16, shared: &Shared) -> Option<(Resetting, SocketAddr)> {
    let deadline = Instant::now() + shared.limits.connect;
    let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
    let count = route.targets.len();
    for target in (0..count).map(|step| route.targets[turn.wrapping_add(step) % count]) {
        let address = SocketAddr::new(target, port);
        match timeout_at(deadline, async {
            sockets::connecting(route.source)?.connect(address).await
        })
        .await
        {
            Ok(Ok(stream)) => return Some((Resetting::new(stream), address)),
            Ok(Err(error)) => tracing::debug!(%error, "the target does not take a connection"),
            Err(_) => tracing::debug!("the target does not answer"),
        }
    }
    None
}
