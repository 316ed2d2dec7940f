//! Connections to relays: TCP, TLS where there is some, and the first words of HTTP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use isthmus_runtime::Resolver;
use isthmus_runtime::resolve::ResolveError;
use isthmus_tailnet_core::netmap::{CertificateCheck, Region, Relay};
use isthmus_tailnet_wire::derp::{Decoder, FrameError, InfoError, PATH, UPGRADE};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::RelayIdentity;
use super::tls::client_config;
use crate::control::Connection;

/// Longest head of an HTTP answer that is read.
const MAX_HEAD: usize = 8 << 10;

/// What relays answer at once, for clients that measure.
const LATENCY_PATH: &str = "/derp/latency-check";

/// An open connection, with TLS or without.
pub(super) type Stream = Box<dyn Connection>;

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

/// Connects to a relay and checks who it is; gives this machine's end of the connection as well.
///
/// A relay at the very host and port of a control server without TLS is that server itself, as with Headscale's own relay, and is spoken to
/// like it. One whose certificate control says not to check may have none at all.
pub(super) async fn connect(relay: &Relay, identity: &RelayIdentity) -> Result<(Stream, Option<IpAddr>), RelayError> {
    let stream = dial(relay).await?;
    let local = stream.local_addr().ok().map(|address| address.ip().to_canonical());
    if identity.speaks_without_tls(relay) {
        return Ok((Box::new(stream), local));
    }
    match secure(relay, identity, stream).await {
        Err(error) if relay.check == CertificateCheck::Nothing => {
            tracing::debug!(host = relay.host, %error, "a relay that need not prove who it is speaks no TLS");
            Ok((Box::new(dial(relay).await?), local))
        }
        secured => secured.map(|stream| (stream, local)),
    }
}

async fn secure(relay: &Relay, identity: &RelayIdentity, stream: TcpStream) -> Result<Stream, RelayError> {
    let failed = |source| RelayError::Connect {
        host: relay.host.clone(),
        source,
    };
    let name = match &relay.check {
        CertificateCheck::Name(name) => name.clone(),
        CertificateCheck::Pinned(_) | CertificateCheck::Nothing => relay.host.clone(),
    };
    let name = ServerName::try_from(name).map_err(|error| failed(io::Error::other(error)))?;
    let tls = TlsConnector::from(client_config(&relay.check, &identity.authorities));
    Ok(Box::new(tls.connect(name, stream).await.map_err(failed)?))
}

/// How long the first relay of a region that can be connected to takes to answer a request; the greeting of TLS does not count.
pub(super) async fn latency(region: &Region, identity: &RelayIdentity) -> Result<Duration, RelayError> {
    let mut last = RelayError::Ended;
    for relay in &region.relays {
        match latency_of(relay, identity).await {
            Ok(latency) => return Ok(latency),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn latency_of(relay: &Relay, identity: &RelayIdentity) -> Result<Duration, RelayError> {
    let (mut stream, _) = connect(relay, identity).await?;
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
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use isthmus_tailnet_core::key::NodeKey;
    use rustls::RootCertStore;
    use tokio::net::TcpListener;

    use super::*;

    /// A web server without TLS that answers every request alike; gives its port.
    async fn plain_server() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut start = [0; 4];
                let is_http = stream.read_exact(&mut start).await.is_ok() && start == *b"GET ";
                let answer = if is_http {
                    "HTTP/1.1 200 OK\r\n\r\n"
                } else {
                    "HTTP/1.1 400 Bad Request\r\n\r\n"
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    fn relay(port: u16, check: CertificateCheck) -> Relay {
        Relay {
            host: "127.0.0.1".to_owned(),
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
            port,
            check,
        }
    }

    fn identity(without_tls: Option<(&str, u16)>) -> RelayIdentity {
        RelayIdentity {
            private: [7; 32],
            public: NodeKey::from_bytes([7; 32]),
            authorities: Arc::new(RootCertStore::empty()),
            without_tls: without_tls.map(|(host, port)| (host.to_owned(), port)),
        }
    }

    #[tokio::test]
    async fn relay_at_a_control_server_without_tls_and_no_other_is_spoken_to_without() {
        let (port, other) = (plain_server().await, plain_server().await);
        let check = || CertificateCheck::Name("127.0.0.1".to_owned());
        let identity = identity(Some(("127.0.0.1", port)));
        latency_of(&relay(port, check()), &identity).await.unwrap();
        for refused in [relay(other, check()), relay(other, CertificateCheck::Pinned([1; 32]))] {
            assert!(latency_of(&refused, &identity).await.is_err());
        }
        assert!(
            latency_of(&relay(port, CertificateCheck::Pinned([1; 32])), &identity)
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn relay_that_is_not_checked_may_be_one_without_tls() {
        let relay = relay(plain_server().await, CertificateCheck::Nothing);
        latency_of(&relay, &identity(None)).await.unwrap();
    }
}
