//! The client of a program in a Pod.

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use isthmus_runtime::Resolver;
use kube::Client;
use kube::client::Body;
use rustls_pki_types::ServerName;
use tokio::time::sleep;
use tower_service::Service;

use crate::account::{AccountError, Token, Trust, text};
use crate::connect::{Connections, DialError, Idle};

/// Where the kubelet mounts what a Pod needs to ask the API server.
pub const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How often a request is sent again that the API server is too busy for.
const RETRIES: u32 = 15;
/// The pause before the first time, where the API server names none. It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// It is not known how to reach the API server.
#[derive(Debug, thiserror::Error)]
pub enum InClusterError {
    /// Not in a Pod.
    #[error(
        "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not name the API server: run inside a Pod, or set them"
    )]
    Environment,
    /// The files of the ServiceAccount.
    #[error(transparent)]
    Account(#[from] AccountError),
}

/// The client of the Pod that this runs in. `folder` is [`ACCOUNT_FOLDER`] in every Pod; it is read again while the client is used.
///
/// To be called inside a runtime of tokio.
///
/// # Errors
/// When the environment does not name the API server, or a file of the ServiceAccount is missing or unusable.
pub fn in_cluster(folder: &Path) -> Result<Client, InClusterError> {
    let host = env::var("KUBERNETES_SERVICE_HOST").map_err(|_| InClusterError::Environment)?;
    let port = env::var("KUBERNETES_SERVICE_PORT")
        .ok()
        .and_then(|port| port.parse().ok());
    client(&host, port.ok_or(InClusterError::Environment)?, folder)
}

fn client(host: &str, port: u16, folder: &Path) -> Result<Client, InClusterError> {
    let namespace = text(&folder.join("namespace"))?;
    let authority = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let server = Server {
        token: Token::read(folder)?,
        host: HeaderValue::try_from(authority).map_err(|_| InClusterError::Environment)?,
        connections: Connections {
            name: ServerName::try_from(host.to_owned()).map_err(|_| InClusterError::Environment)?,
            trust: Trust::read(folder)?,
            host: host.to_owned(),
            port,
            resolver: Resolver::default(),
            idle: Idle::default(),
        },
    };
    Ok(Client::new(Requests(Arc::new(server)), namespace.trim()))
}

struct Server {
    host: HeaderValue,
    token: Token,
    connections: Connections,
}

/// Sends requests of the library.
struct Requests(Arc<Server>);

impl Service<Request<Body>> for Requests {
    type Response = Response<Incoming>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = Arc::clone(&self.0);
        Box::pin(async move { server.answer(request).await })
    }
}

impl Server {
    async fn answer(&self, mut request: Request<Body>) -> Result<Response<Incoming>, DialError> {
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::AUTHORIZATION, self.token.header());
        let mut pause = FIRST_PAUSE;
        for _ in 0..RETRIES {
            let Some(copy) = copy(&request) else { break };
            let answer = self.connections.exchange(copy).await?;
            if !is_busy(answer.status()) {
                return Ok(answer);
            }
            let pause_named = retry_after(&answer);
            drop(answer);
            sleep(pause_named.unwrap_or(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.connections.exchange(request).await
    }
}

/// A request can be sent again unless its body is a stream.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let body = request.body().try_clone()?;
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn is_busy(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

fn retry_after(answer: &Response<Incoming>) -> Option<Duration> {
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests;
