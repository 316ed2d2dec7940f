//! The files that the kubelet mounts for a Pod's ServiceAccount. Both are rotated while the program runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// How long a token is used before its file is read again. The kubelet renews it when a fifth of its life is left, minutes at the least.
const TOKEN_AGE: Duration = Duration::from_mins(1);

/// A file of the ServiceAccount cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file cannot be read.
    #[error("cannot read {path}: let the Pod mount its ServiceAccount's token")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The token cannot be sent.
    #[error("{path} holds no token")]
    Token {
        /// The file.
        path: PathBuf,
    },
    /// The certificate authorities cannot be used.
    #[error("{path} holds no certificates in PEM form")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The token, as a header. What was read last is used while the file is away.
pub(crate) struct Token {
    path: PathBuf,
    held: Mutex<(HeaderValue, Instant)>,
}

impl Token {
    pub(crate) fn read(folder: &Path) -> Result<Self, AccountError> {
        let path = folder.join("token");
        let held = Mutex::new((header(&path)?, Instant::now()));
        Ok(Self { path, held })
    }

    /// The value of the header `Authorization`.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.1.elapsed() >= TOKEN_AGE {
            held.1 = Instant::now();
            match header(&self.path) {
                Ok(read) => held.0 = read,
                Err(error) => tracing::warn!(error = %isthmus_runtime::ErrorChain(&error), "using the token of before"),
            }
        }
        held.0.clone()
    }
}

fn header(path: &Path) -> Result<HeaderValue, AccountError> {
    let token = text(path)?;
    let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
    let mut value = value
        .ok()
        .filter(|_| !token.trim().is_empty())
        .ok_or_else(|| AccountError::Token { path: path.to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whom to believe that it is the API server. What was read last is used while the file is away.
pub(crate) struct Trust {
    path: PathBuf,
    held: Mutex<(String, Arc<ClientConfig>)>,
}

impl Trust {
    pub(crate) fn read(folder: &Path) -> Result<Self, AccountError> {
        let path = folder.join("ca.crt");
        let pem = text(&path)?;
        let config = config(&pem, &path)?;
        let held = Mutex::new((pem, config));
        Ok(Self { path, held })
    }

    /// The configuration for a new connection.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match self.renewed(&held.0) {
            Ok(None) => {}
            Ok(Some(renewed)) => *held = renewed,
            Err(error) => {
                tracing::warn!(error = %isthmus_runtime::ErrorChain(&error), "using the authorities of before");
            }
        }
        held.1.clone()
    }

    fn renewed(&self, before: &str) -> Result<Option<(String, Arc<ClientConfig>)>, AccountError> {
        let pem = text(&self.path)?;
        if pem == before {
            return Ok(None);
        }
        let config = config(&pem, &self.path)?;
        Ok(Some((pem, config)))
    }
}

fn config(pem: &str, path: &Path) -> Result<Arc<ClientConfig>, AccountError> {
    let unusable = |source| AccountError::Authorities {
        path: path.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|source| unusable(source.into()))?;
        roots.add(certificate).map_err(|source| unusable(source.into()))?;
    }
    if roots.is_empty() {
        return Err(unusable("the file has none".into()));
    }
    Ok(Arc::new(with_roots(roots)))
}

fn with_roots(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(crate) fn text(path: &Path) -> Result<String, AccountError> {
    fs::read_to_string(path).map_err(|source| AccountError::Read {
        path: path.to_owned(),
        source,
    })
}
