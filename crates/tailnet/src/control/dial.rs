//! TCP and TLS connections to a control server.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use isthmus_runtime::Resolver;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::Server;
use super::error::{ControlError, in_time};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A byte stream to a server.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection to a server.
pub(crate) struct Connected {
    pub(crate) stream: Box<dyn Connection>,
    /// This machine's end; nothing when the kernel does not say.
    pub(crate) local: Option<IpAddr>,
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Dialer {
    tls: TlsConnector,
    resolver: Resolver,
}

/// Why certificates of authorities cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read certificates from {path}")]
pub struct AuthoritiesError {
    path: String,
    #[source]
    source: rustls_pki_types::pem::Error,
}

/// Reads the certificates in a PEM file, for `extra_ca` of a node's configuration.
pub fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthoritiesError> {
    let error = |source| AuthoritiesError {
        path: path.display().to_string(),
        source,
    };
    CertificateDer::pem_file_iter(path)
        .map_err(error)?
        .collect::<Result<_, _>>()
        .map_err(error)
}

/// The public authorities and `extra`.
pub(crate) fn authorities(extra: &[CertificateDer<'static>]) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let (_, refused) = roots.add_parsable_certificates(extra.iter().cloned());
    if refused > 0 {
        tracing::warn!(refused, "some extra certificates are no authorities and are ignored");
    }
    roots
}

impl Dialer {
    /// A dialer that trusts the public authorities and `extra`.
    pub(crate) fn new(extra: &[CertificateDer<'static>]) -> Self {
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the ring provider supports the default protocol versions")
            .with_root_certificates(authorities(extra))
            .with_no_client_auth();
        Self {
            tls: TlsConnector::from(Arc::new(config)),
            resolver: Resolver::default(),
        }
    }

    /// Connects to `server`, with TLS when its URL says so.
    pub(crate) async fn connect(&self, server: &Server) -> Result<Connected, ControlError> {
        in_time("connect", CONNECT_LIMIT, self.connect_slowly(server)).await
    }

    async fn connect_slowly(&self, server: &Server) -> Result<Connected, ControlError> {
        let stream = self.resolver.connect(&server.host, server.port).await;
        let stream = stream.map_err(|source| ControlError::Connect {
            server: server.authority().to_owned(),
            source,
        })?;
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().ok().map(|address| address.ip().to_canonical());
        if !server.tls {
            let stream = Box::new(stream);
            return Ok(Connected { stream, local });
        }
        let tls = |source| ControlError::Tls {
            server: server.authority().to_owned(),
            source,
        };
        let name = ServerName::try_from(server.host.clone()).map_err(|error| tls(io::Error::other(error)))?;
        let stream = Box::new(self.tls.connect(name, stream).await.map_err(tls)?);
        Ok(Connected { stream, local })
    }
}
