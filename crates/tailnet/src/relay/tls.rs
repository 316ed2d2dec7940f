//! How a relay proves that it is the one that control named.

use std::sync::Arc;

use isthmus_tailnet_core::netmap::CertificateCheck;
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Accepts the one certificate with a hash, or any; always only from who holds its key. No authority is asked, so that none can vouch for
/// another certificate.
#[derive(Debug)]
struct Pinned {
    hash: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

/// The client's side of TLS for a relay that is checked like this.
pub(super) fn client_config(check: &CertificateCheck, authorities: &Arc<RootCertStore>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the ring provider supports the default protocol versions");
    let pinned = |hash| {
        let verifier = Pinned { hash, provider };
        Arc::new(verifier)
    };
    let config = match check {
        CertificateCheck::Name(_) => builder
            .with_root_certificates(Arc::clone(authorities))
            .with_no_client_auth(),
        CertificateCheck::Pinned(hash) => builder
            .dangerous()
            .with_custom_certificate_verifier(pinned(Some(*hash)))
            .with_no_client_auth(),
        CertificateCheck::Nothing => builder
            .dangerous()
            .with_custom_certificate_verifier(pinned(None))
            .with_no_client_auth(),
    };
    Arc::new(config)
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_it = |hash: &[u8; 32]| digest(&SHA256, certificate).as_ref() == hash;
        if self.hash.as_ref().is_none_or(is_it) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    type Certified = (CertificateDer<'static>, PrivateKeyDer<'static>);

    fn certified() -> Certified {
        let made = rcgen::generate_simple_self_signed(["192.0.2.1".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        (made.cert.der().clone(), key.into())
    }

    fn hash(certificate: &CertificateDer<'_>) -> [u8; 32] {
        digest(&SHA256, certificate).as_ref().try_into().unwrap()
    }

    /// Signs with its key without looking whether it belongs to the certificate.
    #[derive(Debug)]
    struct Shows(Arc<rustls::sign::CertifiedKey>);

    impl rustls::server::ResolvesServerCert for Shows {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    /// Whether a client that checks like this accepts a server with this certificate and this key.
    async fn accepts(
        check: CertificateCheck,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> bool {
        accepts_with(check, &RootCertStore::empty(), certificate, key).await
    }

    /// The same for a client with these authorities.
    async fn accepts_with(
        check: CertificateCheck,
        authorities: &RootCertStore,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = provider.key_provider.load_private_key(key).unwrap();
        let shown = Shows(Arc::new(rustls::sign::CertifiedKey::new(vec![certificate], key)));
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        let (near, far) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(TlsAcceptor::from(Arc::new(server)).accept(far));
        let name = ServerName::try_from("192.0.2.1").unwrap();
        let connected = TlsConnector::from(client_config(&check, &Arc::new(authorities.clone())))
            .connect(name, near)
            .await;
        drop(serving);
        connected.is_ok()
    }

    #[tokio::test]
    async fn pinned_certificate_is_accepted_and_no_other() {
        let ((certificate, key), (other, other_key)) = (certified(), certified());
        let pin = CertificateCheck::Pinned(hash(&certificate));
        assert!(accepts(pin.clone(), certificate, key).await);
        assert!(!accepts(pin, other, other_key).await);
    }

    #[tokio::test]
    async fn pinned_certificate_without_its_key_is_refused() {
        let ((certificate, _), (_, other_key)) = (certified(), certified());
        let pin = CertificateCheck::Pinned(hash(&certificate));
        assert!(!accepts(pin, certificate.clone(), other_key.clone_key()).await);
        assert!(!accepts(CertificateCheck::Nothing, certificate, other_key).await);
    }

    #[tokio::test]
    async fn certificate_without_a_pin_needs_an_authority() {
        let (certificate, key) = certified();
        let check = CertificateCheck::Name("192.0.2.1".into());
        assert!(!accepts(check.clone(), certificate.clone(), key.clone_key()).await);
        let mut authorities = RootCertStore::empty();
        authorities.add(certificate.clone()).unwrap();
        assert!(accepts_with(check, &authorities, certificate, key).await);
    }
}
