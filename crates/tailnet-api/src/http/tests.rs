use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Answer, BaseUrlError, Server, TransportError};
use crate::tls::client_config;

fn tls() -> Arc<rustls::ClientConfig> {
    client_config(None).unwrap()
}

fn server(url: &str) -> Result<Server, BaseUrlError> {
    Server::new(url, tls(), Duration::from_secs(1))
}

#[test]
fn base_url_gives_address_host_header_and_path() {
    let server = server("http://10.1.2.3:8080/base/").unwrap();
    assert_eq!((server.host.as_str(), server.port), ("10.1.2.3", 8080));
    assert_eq!(server.authority, "10.1.2.3:8080");
    assert_eq!(server.prefix, "/base");
    assert!(server.tls.is_none());
}

#[test]
fn https_on_ipv6_gets_its_port() {
    let server = server("https://[fd00::1]").unwrap();
    assert_eq!((server.host.as_str(), server.port), ("fd00::1", 443));
    assert!(server.tls.is_some());
}

#[test]
fn host_may_be_a_name() {
    let server = server("https://controlplane.example").unwrap();
    assert_eq!((server.host.as_str(), server.port), ("controlplane.example", 443));
    assert_eq!(server.authority, "controlplane.example");
}

#[test]
fn text_that_is_no_url_is_refused() {
    for url in ["10.1.2.3:80", "ftp://10.1.2.3", "", "http://"] {
        assert!(matches!(server(url), Err(BaseUrlError::Shape { .. })), "{url}");
    }
}

/// An authority that no public list has: its certificate in PEM form, and TLS for a server that shows one of its
/// certificates for `host`.
fn private_authority(host: &str) -> (String, ServerConfig) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([host.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    (root.pem(), config)
}

/// A server that answers everything with `hello`; gives back its URL.
async fn serve(tls: ServerConfig) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that refuses the certificate ends the handshake.
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let hello = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello")))) });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), hello)
                .await;
        }
    });
    url
}

async fn ask(url: &str, extra_pem: Option<&str>) -> Result<Answer, TransportError> {
    let tls = client_config(extra_pem.map(str::as_bytes)).unwrap();
    let server = Server::new(url, tls, Duration::from_secs(30)).unwrap();
    server.send(Request::get("/hello").body(Full::default()).unwrap()).await
}

#[tokio::test]
async fn https_server_of_a_private_authority_is_believed_by_its_certificate_alone() {
    let (authority, tls) = private_authority("127.0.0.1");
    let url = serve(tls).await;
    let (other, _) = private_authority("127.0.0.1");
    for extra_pem in [None, Some(other.as_str())] {
        let refused = ask(&url, extra_pem).await.err().expect("nobody vouches for it");
        assert!(matches!(refused, TransportError::Tls { .. }), "{refused}");
    }
    let answer = ask(&url, Some(&authority)).await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, b"hello".as_slice()));
}

#[tokio::test]
async fn https_server_with_the_certificate_of_another_address_is_refused() {
    let (authority, tls) = private_authority("127.0.0.2");
    let url = serve(tls).await;
    let refused = ask(&url, Some(&authority)).await.err().expect("it is another server");
    assert!(matches!(refused, TransportError::Tls { .. }), "{refused}");
}
