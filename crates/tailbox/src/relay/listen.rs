//! The relay's listeners: TLS with a certificate of its own that clients know by its hash, and STUN.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use isthmus_tailnet_wire::control::{DerpMap, DerpNode, DerpRegion};
use isthmus_tailnet_wire::stun;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_util::task::AbortOnDropHandle;

/// The number of the relay's region.
const REGION: i64 = 900;
/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Connections whose handshake is done and that nobody took yet.
const BACKLOG: usize = 16;

/// Why the relay does not listen.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The address cannot be listened on.
    #[error("listen on {address} for the relay")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No certificate can be made.
    #[error("make the relay's certificate")]
    Certificate(#[source] rcgen::Error),
    /// The certificate cannot be used.
    #[error("use the relay's certificate")]
    Tls(#[source] rustls::Error),
}

/// The relay's listeners.
pub(crate) struct RelayListener {
    address: SocketAddr,
    fingerprint: String,
    /// The port of a second socket for STUN.
    second_stun: u16,
    streams: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    _accepting: AbortOnDropHandle<()>,
    _stun: [AbortOnDropHandle<()>; 2],
}

impl RelayListener {
    /// Listens on a TCP port for clients, on the UDP port of the same number for STUN, and on any other for STUN as well: who asks both
    /// learns whether a NAT in front of him maps by destination.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, RelayError> {
        let failed = |source| RelayError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let socket = UdpSocket::bind(address).await.map_err(failed)?;
        let second = UdpSocket::bind(SocketAddr::new(address.ip(), 0))
            .await
            .map_err(failed)?;
        let second_stun = second.local_addr().map_err(failed)?.port();
        let (acceptor, fingerprint) = tls(address.ip())?;
        let (ready, streams) = mpsc::channel(BACKLOG);
        Ok(Self {
            address,
            fingerprint,
            second_stun,
            streams,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accept(listener, acceptor, ready))),
            _stun: [socket, second].map(|socket| AbortOnDropHandle::new(tokio::spawn(answer_stun(socket)))),
        })
    }

    /// Adds the relay to a map.
    pub(crate) fn add_to(&self, map: &mut DerpMap) {
        let ip = self.address.ip();
        let family = |mine: bool| if mine { ip.to_string() } else { "none".to_owned() };
        let node = DerpNode {
            name: format!("{REGION}a"),
            region_id: REGION,
            host_name: ip.to_string(),
            cert_name: format!("sha256-raw:{}", self.fingerprint),
            ipv4: family(ip.is_ipv4()),
            ipv6: family(ip.is_ipv6()),
            stun_port: i32::from(self.address.port()),
            derp_port: self.address.port(),
            ..DerpNode::default()
        };
        let second = DerpNode {
            name: format!("{REGION}b"),
            stun_port: i32::from(self.second_stun),
            stun_only: true,
            derp_port: 0,
            ..node.clone()
        };
        let region = DerpRegion {
            region_id: REGION,
            region_code: "tailbox".to_owned(),
            region_name: "The tailbox's relay".to_owned(),
            nodes: vec![node, second],
            ..DerpRegion::default()
        };
        map.regions.insert(REGION, region);
    }
}

impl Listener for RelayListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.streams.recv().await {
            Some(stream) => stream,
            // The accepting task ends only with this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A certificate for this address, and the hash by which clients know it.
fn tls(address: IpAddr) -> Result<(TlsAcceptor, String), RelayError> {
    let made = rcgen::generate_simple_self_signed([address.to_string()]).map_err(RelayError::Certificate)?;
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let fingerprint = hex::encode(Sha256::digest(&certificate));
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(RelayError::Tls)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .map_err(RelayError::Tls)?;
    Ok((TlsAcceptor::from(Arc::new(config)), fingerprint))
}

/// Accepts connections; each handshake goes on by itself, so that a silent client holds up nobody.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let mut listener = listener;
    loop {
        let (stream, from) = Listener::accept(&mut listener).await;
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(ready.send((stream, from)).await),
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake with a client of the relay failed"),
                Err(_) => tracing::debug!("TLS handshake with a client of the relay took too long"),
            }
        });
    }
}

async fn answer_stun(socket: UdpSocket) {
    let mut datagram = [0; 1500];
    loop {
        match socket.recv_from(&mut datagram).await {
            Ok((length, from)) => {
                if let Some(id) = stun::parse_request(&datagram[..length]) {
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    let _ = socket.send_to(&stun::response(id, from), from).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "STUN socket failed once");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
