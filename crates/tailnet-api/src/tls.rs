//! Which certificate authorities the client believes.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// The extra authorities are not certificates.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the extra certificate authorities: they must be certificates in PEM form")]
pub struct RootsError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// TLS that believes the public authorities built into the binary and those in `extra_pem`.
///
/// # Errors
/// When `extra_pem` holds something that is no certificate.
pub fn client_config(extra_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, RootsError> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    for certificate in CertificateDer::pem_slice_iter(extra_pem.unwrap_or_default()) {
        let certificate = certificate.map_err(|cause| RootsError(Box::new(cause)))?;
        roots.add(certificate).map_err(|cause| RootsError(Box::new(cause)))?;
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
