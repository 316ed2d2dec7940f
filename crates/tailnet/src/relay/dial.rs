//! Connections to relays: TCP, TLS, and the first words of HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isthmus_runtime::Resolver;
use isthmus_runtime::resolve::ResolveError;
use isthmus_tailnet_core::netmap::{CertificateCheck, Region, Relay};
use isthmus_tailnet_wire::derp::{Decoder, FrameError, InfoError, PATH, UPGRADE};
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::client_config;

/// Longest head of an HTTP answer that is read.
const MAX_HEAD: usize = 8 << 10;

/// What relays answer at once, for clients that measure.
const LATENCY_PATH: &str = "/derp/latency-check";

pub(super) type Stream = TlsStream<TcpStream>;

/// Why a connection is none, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error("connect to relay {host}")]
    Connect {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("find relay {host}")]
    Name {
        host: String,
        #[source]
        source: ResolveError,
    },
    #[error("connect to relay {host}: it took too long")]
    Slow { host: String },
    #[error("connect to relay {host}: it answers {answer:?}")]
    NoRelay { host: String, answer: String },
    #[error("greet the relay: it broke the protocol")]
    OutOfTurn,
    #[error("the relay said nothing for too long")]
    Silent,
    #[error("the relay ended the connection")]
    Ended,
    #[error("the connection to the relay broke")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error("the relay is about to restart")]
    Restarting(Duration),
}

impl RelayError {
    /// How long the relay asked to wait.
    pub(super) fn asked_wait(&self) -> Option<Duration> {
        if let Self::Restarting(wait) = self {
            Some(*wait)
        } else {
            None
        }
    }
}

/// Connects to a relay and checks who it is.
pub(super) async fn connect(relay: &Relay, authorities: &Arc<RootCertStore>) -> Result<Stream, RelayError> {
    let failed = |source| RelayError::Connect {
        host: relay.host.clone(),
        source,
    };
    let stream = dial(relay).await?;
    let _ = stream.set_nodelay(true);
    let name = match &relay.check {
        CertificateCheck::Name(name) => name.clone(),
        CertificateCheck::Pinned(_) | CertificateCheck::Nothing => relay.host.clone(),
    };
    let name = ServerName::try_from(name).map_err(|error| failed(io::Error::other(error)))?;
    let tls = TlsConnector::from(client_config(&relay.check, authorities));
    tls.connect(name, stream).await.map_err(failed)
}

/// How long the first relay of a region that can be connected to takes to answer a request; the greeting of TLS does not count.
pub(super) async fn latency(region: &Region, authorities: &Arc<RootCertStore>) -> Result<Duration, RelayError> {
    let mut last = RelayError::Ended;
    for relay in &region.relays {
        match latency_of(relay, authorities).await {
            Ok(latency) => return Ok(latency),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn latency_of(relay: &Relay, authorities: &Arc<RootCertStore>) -> Result<Duration, RelayError> {
    let mut stream = connect(relay, authorities).await?;
    let asked = Instant::now();
    let request = format!(
        "GET {LATENCY_PATH} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        relay.host
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    if stream.read(&mut [0; 16]).await? == 0 {
        return Err(RelayError::Ended);
    }
    Ok(asked.elapsed())
}

async fn dial(relay: &Relay) -> Result<TcpStream, RelayError> {
    let host = || relay.host.clone();
    let resolved;
    let addresses = if relay.addresses.is_empty() {
        let found = Resolver::default().addresses(&relay.host).await;
        resolved = found.map_err(|source| RelayError::Name { host: host(), source })?;
        &resolved
    } else {
        &relay.addresses
    };
    let mut last = RelayError::Ended;
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(*address, relay.port)).await {
            Ok(stream) => return Ok(stream),
            Err(source) => last = RelayError::Connect { host: host(), source },
        }
    }
    Err(last)
}

/// Asks for DERP by HTTP; what came behind the answer belongs to the first frame.
pub(super) async fn upgrade(stream: &mut Stream, host: &str) -> Result<Decoder, RelayError> {
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    let end = loop {
        if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).await?;
        if length == 0 || head.len() > MAX_HEAD {
            return Err(RelayError::Ended);
        }
        head.extend_from_slice(&bytes[..length]);
    };
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let answer = String::from_utf8_lossy(line).into_owned();
    if answer.split(' ').nth(1) != Some("101") {
        let host = host.to_owned();
        return Err(RelayError::NoRelay { host, answer });
    }
    let mut decoder = Decoder::default();
    decoder.push(&head[end..]);
    Ok(decoder)
}
