//! Datagrams. A session is a pair of sockets: one connected to the client, from the address that it asked for, and one
//! connected to the target. The kernel then sorts all datagrams but the first, and answers come from the right address.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use isthmus_proxy_core::Protocol;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, sleep_until};

use super::pump::with_buffer;
use super::sockets::{self, CONTROL_BYTES, Datagram};
use super::{Counted, Shared};

/// Datagrams that one session or listener moves before others get their turn.
const TURN: usize = 64;

/// The pause after the kernel refused to wait for a socket.
const PAUSE: Duration = Duration::from_millis(20);

/// Who asks, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    client: SocketAddr,
    arrived: SocketAddr,
}

struct Session {
    client: UdpSocket,
    target: UdpSocket,
    source: IpAddr,
    address: SocketAddr,
}

type Sessions = Arc<Mutex<HashMap<Key, Arc<Session>>>>;

/// Receives the first datagram of every session, and those that come before its own socket is there.
pub(super) async fn listen(socket: UdpSocket, shared: Arc<Shared>) {
    let sessions = Sessions::default();
    let mut control = [0; CONTROL_BYTES];
    loop {
        if socket.readable().await.is_err() {
            sleep(PAUSE).await;
        }
        for _ in 0..TURN {
            let received = with_buffer(|buffer| {
                let received = socket.try_io(Interest::READABLE, || sockets::receive(&socket, buffer, &mut control));
                if let Ok(Some(datagram)) = &received {
                    take(datagram, &buffer[..datagram.length], &sessions, &shared);
                }
                received.map(drop)
            });
            if received.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

fn lock(sessions: &Sessions) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Session>>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(datagram: &Datagram, payload: &[u8], sessions: &Sessions, shared: &Arc<Shared>) {
    let key = Key {
        client: datagram.client,
        arrived: datagram.arrived,
    };
    let mut table = lock(sessions);
    if let Some(session) = table.get(&key) {
        send(&session.target, payload);
        return;
    }
    if table.len() >= shared.limits.sessions {
        shared.metrics.over_limit.inc();
        return;
    }
    match open(key, payload, shared) {
        Ok(Some(session)) => {
            let session = Arc::new(session);
            table.insert(key, Arc::clone(&session));
            tokio::spawn(carry(key, session, Arc::clone(sessions), Arc::clone(shared)));
        }
        Ok(None) => {
            shared.metrics.outside_plan.inc();
        }
        Err(error) => {
            tracing::debug!(%error, "a datagram has no way to its target");
            shared.metrics.unreachable.inc();
        }
    }
}

/// Opens a session and sends its first datagram. None: the plan leads it nowhere.
fn open(key: Key, payload: &[u8], shared: &Shared) -> io::Result<Option<Session>> {
    let plan = shared.plan.borrow();
    let Some(route) = plan
        .route(Protocol::Udp, key.arrived)
        .filter(|route| !route.targets.is_empty())
    else {
        return Ok(None);
    };
    let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
    let address = SocketAddr::new(route.targets[turn % route.targets.len()], key.arrived.port());
    let client = sockets::answering(key.arrived, key.client)?;
    let target = sockets::towards(route.source, address)?;
    // Through the runtime a socket can send only after the runtime has heard that it may.
    let _lost = target.send(payload);
    Ok(Some(Session {
        client: UdpSocket::from_std(client)?,
        target: UdpSocket::from_std(target)?,
        source: route.source,
        address,
    }))
}

async fn carry(key: Key, session: Arc<Session>, sessions: Sessions, shared: Arc<Shared>) {
    let _counted = Counted::new(&shared.metrics.sessions);
    let leads =
        |plan: &isthmus_proxy_core::RelayPlan| plan.leads(Protocol::Udp, key.arrived, session.source, session.address);
    tokio::select! {
        () = until_idle(&session, &shared) => {}
        () = shared.until_outside(leads) => {}
    }
    lock(&sessions).remove(&key);
}

async fn until_idle(session: &Session, shared: &Shared) {
    let (mut last, mut answered) = (Instant::now(), false);
    loop {
        let patience = if answered {
            shared.limits.idle
        } else {
            shared.limits.unanswered
        };
        tokio::select! {
            _ = session.client.readable() => {
                drain(&session.client, &session.target);
            }
            _ = session.target.readable() => {
                answered |= drain(&session.target, &session.client);
            }
            () = sleep_until(last + patience) => return,
        }
        last = Instant::now();
        tokio::task::consume_budget().await;
    }
}

/// Passes on what is there, and says whether there was anything. An error, which an ICMP message makes, is dropped: a
/// relay has no packet to answer it with.
fn drain(from: &UdpSocket, to: &UdpSocket) -> bool {
    with_buffer(|buffer| {
        let mut any = false;
        for _ in 0..TURN {
            match from.try_recv(buffer) {
                Ok(length) => {
                    any = true;
                    send(to, &buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        any
    })
}

/// A datagram that finds no room is lost, as on any way. One that meets an error does not: the error was made by an ICMP
/// message about a datagram before it.
fn send(to: &UdpSocket, payload: &[u8]) {
    if to
        .try_send(payload)
        .is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
    {
        let _lost = to.try_send(payload);
    }
}
