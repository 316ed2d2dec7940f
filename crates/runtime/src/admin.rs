//! The small HTTP server for probes and metrics.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{Readiness, Shutdown};

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// How long a client may take to send a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers an HTTP request without a body.
pub type Answer = Response<Full<Bytes>>;

/// Answers for paths of the process's own, tried before the common ones. `None` passes the path on.
pub type Handler = dyn Fn(&str) -> Option<Answer> + Send + Sync;

/// What the server answers: `/livez` (always 200), `/readyz` (200, or 503 with the names waited for), `/metrics`
/// (OpenMetrics text), and what `handler` adds.
pub struct Admin {
    /// Shown at `/readyz`.
    pub readiness: Readiness,
    /// Shown at `/metrics`.
    pub metrics: Registry,
    /// The process's own paths.
    pub handler: Box<Handler>,
}

impl Admin {
    /// Serves until the shutdown begins.
    ///
    /// # Errors
    /// When `address` cannot be bound.
    pub async fn serve(self, address: SocketAddr, shutdown: Shutdown) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        self.serve_on(listener, shutdown).await;
        Ok(())
    }

    /// Serves on a bound listener until the shutdown begins.
    pub async fn serve_on(self, listener: TcpListener, shutdown: Shutdown) {
        let admin = Arc::new(self);
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let stream = tokio::select! {
                () = shutdown.begun() => return,
                accepted = listener.accept() => accepted,
            };
            match stream {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&admin);
                    tokio::spawn(async move {
                        admin.serve_connection(stream).await;
                        drop(slot);
                    });
                }
                // Out of file descriptors, or the peer is gone already: accepting again at once would spin.
                Err(error) => {
                    tracing::warn!(%error, "admin connection not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve_connection(&self, stream: TcpStream) {
        let service = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, Infallible>(self.answer(request.method(), request.uri().path()))
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "admin connection ended early");
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Answer {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
        }
        if let Some(answer) = (self.handler)(path) {
            return answer;
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn ready(&self) -> Answer {
        let pending = self.readiness.pending();
        if pending.is_empty() {
            return text(StatusCode::OK, "ok\n");
        }
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for: {}\n", pending.join(", ")),
        )
    }

    fn metrics(&self) -> Answer {
        let mut body = String::new();
        match prometheus_client::encoding::text::encode(&mut body, &self.metrics) {
            Ok(()) => {
                let mut answer = text(StatusCode::OK, body);
                let open_metrics =
                    header::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
                answer.headers_mut().insert(header::CONTENT_TYPE, open_metrics);
                answer
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n"),
        }
    }
}

/// A plain-text answer.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

#[cfg(test)]
mod tests;
