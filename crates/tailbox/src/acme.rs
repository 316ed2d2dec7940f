//! A name server for authorities that check who holds a name of the tailnet (ACME, RFC 8555 §8.4).
//!
//! It knows the records that nodes set for their own names, and nothing else: to questions about the tailnet's domain it is the
//! authority, all others it refuses.

pub(crate) mod answer;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use isthmus_runtime::ErrorChain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::shared::Shared;

/// How long a record is served. An authority asks within seconds; orders live for hours.
const LIFETIME: Duration = Duration::from_hours(1);
/// The values that one name may have: two orders at once, one after the other's failure, and some more.
const VALUES: usize = 8;
/// The names that may have records.
const NAMES: usize = 1000;
/// The longest question over UDP.
const QUESTION: usize = 1232;
/// TCP connections at once, and how long one may last.
const CONNECTIONS: usize = 64;
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// The name server cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("listen for DNS on {address}")]
pub struct DnsError {
    /// The address.
    address: SocketAddr,
    /// The cause.
    #[source]
    source: io::Error,
}

/// The records that nodes set, for a while.
#[derive(Debug, Default)]
pub(crate) struct Challenges(Mutex<BTreeMap<String, Vec<(String, Instant)>>>);

impl Challenges {
    /// Adds a value to a name (in lower case, without final dot). One that is there already is served for longer.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let now = Instant::now();
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for values in names.values_mut() {
            values.retain(|(_, since)| now.duration_since(*since) < LIFETIME);
        }
        names.retain(|known, values| known == name || !values.is_empty());
        if names.len() >= NAMES && !names.contains_key(name) {
            tracing::warn!(name, "too many records: this one is not served");
            return;
        }
        let values = names.entry(name.to_owned()).or_default();
        values.retain(|(known, _)| known != value);
        if values.len() == VALUES {
            values.remove(0);
        }
        values.push((value.to_owned(), now));
    }

    /// The values of a name (in lower case, without final dot).
    fn values(&self, name: &str) -> Vec<String> {
        let now = Instant::now();
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values = names.get(name).into_iter().flatten();
        let fresh = values.filter(|(_, since)| now.duration_since(*since) < LIFETIME);
        fresh.map(|(value, _)| value.clone()).collect()
    }
}

/// The sockets of the name server: one port for both protocols.
pub(crate) struct NameServer {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl answer::Zone for Shared {
    fn domain(&self) -> &str {
        &self.tailnet.domain
    }

    fn values(&self, name: &str) -> Vec<String> {
        self.challenges.values(name)
    }

    fn is_name(&self, name: &str) -> bool {
        Self::is_name(self, name)
    }
}

impl NameServer {
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, DnsError> {
        let failed = |source| DnsError { address, source };
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        let udp = UdpSocket::bind(address).await.map_err(failed)?;
        Ok(Self { udp, tcp })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Answers until the process ends.
    pub(crate) async fn serve(self, shared: Arc<Shared>) {
        tokio::select! {
            () = serve_udp(&self.udp, &shared) => {}
            () = serve_tcp(&self.tcp, &shared) => {}
            () = shared.shutdown.begun() => {}
        }
    }
}

async fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut question = [0; QUESTION];
    loop {
        let answered = match socket.recv_from(&mut question).await {
            Ok((length, from)) => match answer::to(shared, &question[..length], answer::UDP_LIMIT) {
                Some(answer) => socket.send_to(&answer, from).await.map(drop),
                None => Ok(()),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = answered {
            tracing::debug!(error = %ErrorChain(&error), "DNS over UDP failed once");
        }
    }
}

async fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((connection, _)) => {
                let shared = Arc::clone(shared);
                tokio::spawn(async move {
                    let served = tokio::time::timeout(CONNECTION_LIMIT, serve_connection(connection, &shared)).await;
                    if let Ok(Err(error)) = served {
                        tracing::debug!(error = %ErrorChain(&error), "DNS over TCP ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "DNS connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(mut connection: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let length = match connection.read_u16().await {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut question = vec![0; length.into()];
        connection.read_exact(&mut question).await?;
        let Some(answer) = answer::to(shared, &question, usize::from(u16::MAX)) else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        connection
            .write_all(&[&length.to_be_bytes()[..], &answer].concat())
            .await?;
    }
}
