//! Connections to the API server, kept for the next request.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use isthmus_runtime::Resolver;
use isthmus_runtime::resolve::ConnectError;
use kube::client::Body;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::account::Trust;

/// How long a connection may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the head of an answer may take: the API server itself gives up after 60 seconds (`--request-timeout`), and begins to answer
/// a watch at once.
const ANSWER: Duration = Duration::from_secs(70);
/// A server whose machine is gone does not say so: after this time without an answer of its kernel a connection is dead. Watches are
/// otherwise silent for minutes.
const SILENCE: Duration = Duration::from_secs(30);
/// A connection on which nothing comes is asked for life after this time, and again as often.
const ASK: Duration = Duration::from_secs(10);
/// How long a connection without a request is kept.
const IDLE: Duration = Duration::from_secs(90);
/// Connections without a request that are kept.
const MOST_KEPT: usize = 16;

/// The API server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No TCP connection.
    #[error("cannot reach the API server")]
    Connect(#[source] ConnectError),
    /// No TLS session.
    #[error("TLS with the API server failed")]
    Tls(#[source] io::Error),
    /// Neither in time.
    #[error("no connection to the API server within {} s", PATIENCE.as_secs())]
    Timeout,
    /// Connected, but no answer.
    #[error("no answer from the API server within {} s", ANSWER.as_secs())]
    Silent,
    /// The socket cannot be set up.
    #[error("cannot set up a socket for the API server")]
    Socket(#[source] io::Error),
    /// The connection broke, or what came was no HTTP.
    #[error("HTTP with the API server failed")]
    Http(#[source] hyper::Error),
}

/// Connections to one server.
pub(crate) struct Connections {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) name: ServerName<'static>,
    pub(crate) trust: Trust,
    pub(crate) resolver: Resolver,
    pub(crate) idle: Idle,
}

/// Connections without a request, the one used last at the end.
#[derive(Clone, Default)]
pub(crate) struct Idle(Arc<Mutex<Vec<Kept>>>);

/// A connection, and since when it has no request.
type Kept = (SendRequest<Body>, Instant);

impl Idle {
    fn take(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| since.elapsed() < IDLE && !sender.is_closed());
        idle.pop().map(|(sender, _)| sender)
    }

    /// Keeps a connection as soon as the answer on it has been read. One whose answer is not read to its end closes.
    fn keep(&self, mut sender: SendRequest<Body>) {
        let kept = self.clone();
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                let mut idle = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < MOST_KEPT {
                    idle.push((sender, Instant::now()));
                }
            }
        });
    }
}

impl Connections {
    /// Sends `request`, whose URI is a path, and gives back the answer's head; its body follows.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; whether the server acted is then unknown.
    pub(crate) async fn exchange(&self, mut request: Request<Body>) -> Result<Response<Incoming>, DialError> {
        loop {
            let kept = self.idle.take();
            let is_new = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.dial().await?,
            };
            let answer = timeout(ANSWER, sender.try_send_request(request)).await;
            match answer.map_err(|_| DialError::Silent)? {
                Ok(answer) => {
                    self.idle.keep(sender);
                    return Ok(answer);
                }
                Err(mut error) => match error.take_message().filter(|_| !is_new) {
                    // The server closed a connection that was kept, before it heard of the request.
                    Some(unsent) => request = unsent,
                    None => return Err(DialError::Http(error.into_error())),
                },
            }
        }
    }

    async fn dial(&self) -> Result<SendRequest<Body>, DialError> {
        timeout(PATIENCE, self.open()).await.map_err(|_| DialError::Timeout)?
    }

    async fn open(&self) -> Result<SendRequest<Body>, DialError> {
        let connected = self.resolver.connect(&self.host, self.port).await;
        let stream = connected.map_err(DialError::Connect)?;
        watch_over(&stream).map_err(DialError::Socket)?;
        let connector = TlsConnector::from(self.trust.config());
        let stream = connector
            .connect(self.name.clone(), stream)
            .await
            .map_err(DialError::Tls)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(DialError::Http)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the API server broke");
            }
        });
        Ok(sender)
    }
}

/// Has the kernel notice a server that is gone, and send what is small at once.
fn watch_over(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(ASK).with_interval(ASK);
    socket.set_tcp_keepalive(&keepalive)?;
    // It bounds unanswered questions for life as well as unacknowledged data.
    socket.set_tcp_user_timeout(Some(SILENCE))
}
