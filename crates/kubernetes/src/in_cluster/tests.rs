use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{InClusterError, client};
use crate::{AccountError, namespaced};

/// Plays the API server: gives these answers, each in a few words, and notes what came.
struct Fake {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

struct Seen {
    peer: SocketAddr,
    line: String,
    token: String,
}

#[derive(Clone, Copy)]
enum Say {
    Secret,
    Busy,
    /// The Secret, and no further request on this connection.
    SecretAndGoodbye,
}

async fn serve(certified: &CertifiedKey<rcgen::KeyPair>, script: Vec<Say>) -> Fake {
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, script) = (Arc::clone(&seen), Arc::new(Mutex::new(script.into_iter())));
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            // A client that does not believe the certificate goes away.
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let (noted, script) = (Arc::clone(&noted), Arc::clone(&script));
            let answer = service_fn(move |request: Request<Incoming>| {
                let token = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
                let line = format!("{} {}", request.method(), request.uri().path());
                noted.lock().unwrap().push(Seen { peer, line, token });
                let say = script.lock().unwrap().next().expect("one request more than expected");
                async move { Ok::<_, std::convert::Infallible>(answer(say)) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Fake { address, seen }
}

fn answer(say: Say) -> Response<Full<Bytes>> {
    let secret = r#"{"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "web"}}"#;
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
    let answer = match say {
        Say::Secret => answer,
        Say::SecretAndGoodbye => answer.header(header::CONNECTION, "close"),
        Say::Busy => answer.status(503),
    };
    answer.body(Full::new(Bytes::from_static(secret.as_bytes()))).unwrap()
}

fn certificate() -> CertifiedKey<rcgen::KeyPair> {
    generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap()
}

fn account(certified: &CertifiedKey<rcgen::KeyPair>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.crt"), certified.cert.pem()).unwrap();
    fs::write(folder.path().join("token"), "first\n").unwrap();
    fs::write(folder.path().join("namespace"), "shop\n").unwrap();
    folder
}

async fn ask(fake: &Fake, folder: &Path, times: usize) -> Result<(), kube::Error> {
    let client = client("127.0.0.1", fake.address.port(), folder).unwrap();
    let secrets = namespaced::<Secret>(&client, client.default_namespace());
    for _ in 0..times {
        assert_eq!(secrets.get("web").await?.name_any(), "web");
    }
    Ok(())
}

#[tokio::test]
async fn requests_carry_the_token_and_go_to_the_namespace_of_the_account() {
    let certified = certificate();
    let (fake, folder) = (serve(&certified, vec![Say::Secret]).await, account(&certified));
    ask(&fake, folder.path(), 1).await.unwrap();
    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen[0].line, "GET /api/v1/namespaces/shop/secrets/web");
    assert_eq!(seen[0].token, "Bearer first");
}

#[tokio::test]
async fn closed_connection_and_busy_server_are_not_noticed() {
    let certified = certificate();
    let script = vec![Say::SecretAndGoodbye, Say::Busy, Say::Busy, Say::Secret, Say::Secret];
    let (fake, folder) = (serve(&certified, script).await, account(&certified));
    ask(&fake, folder.path(), 3).await.unwrap();
    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen.len(), 5);
    let after_the_first: BTreeSet<SocketAddr> = seen[1..].iter().map(|seen| seen.peer).collect();
    assert!(
        !after_the_first.contains(&seen[0].peer),
        "a request went to a closed connection"
    );
}

#[tokio::test]
async fn connection_is_used_again() {
    let certified = certificate();
    let (fake, folder) = (serve(&certified, vec![Say::Secret; 20]).await, account(&certified));
    let client = client("127.0.0.1", fake.address.port(), folder.path()).unwrap();
    let secrets = namespaced::<Secret>(&client, "shop");
    for _ in 0..20 {
        secrets.get("web").await.unwrap();
        // The connection is kept as soon as its task has run.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    let peers: BTreeSet<SocketAddr> = fake.seen.lock().unwrap().iter().map(|seen| seen.peer).collect();
    assert!(peers.len() < 20, "every request had a connection of its own");
}

#[tokio::test]
async fn server_of_another_authority_is_not_believed_until_the_file_names_it() {
    let (certified, other) = (certificate(), certificate());
    let (fake, folder) = (serve(&other, vec![Say::Secret]).await, account(&certified));
    let client = client("127.0.0.1", fake.address.port(), folder.path()).unwrap();
    let secrets = namespaced::<Secret>(&client, "shop");
    secrets.get("web").await.unwrap_err();
    assert!(fake.seen.lock().unwrap().is_empty(), "a token went to a stranger");
    fs::write(folder.path().join("ca.crt"), other.cert.pem()).unwrap();
    secrets.get("web").await.unwrap();
}

#[tokio::test]
async fn missing_or_useless_files_are_named() {
    let certified = certificate();
    let folder = account(&certified);
    fs::write(folder.path().join("ca.crt"), "none").unwrap();
    let error = client("127.0.0.1", 443, folder.path()).err().unwrap();
    assert!(matches!(
        error,
        InClusterError::Account(AccountError::Authorities { .. })
    ));
    fs::remove_file(folder.path().join("token")).unwrap();
    let error = client("127.0.0.1", 443, folder.path()).err().unwrap();
    assert!(error.to_string().contains("token"), "{error}");
}
