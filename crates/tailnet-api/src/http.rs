//! One HTTP request on a connection of its own.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use isthmus_runtime::{Resolver, resolve::ConnectError};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Bytes of an answer that are read at most. A tailnet of 10,000 devices lists in about 10 MiB.
const ANSWER_LIMIT: usize = 32 << 20;

/// The base URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BaseUrlError {
    /// Not a URL.
    #[error("`{url}` is not the URL of a tailnet's API: write http://HOST:PORT or https://HOST:PORT")]
    Shape {
        /// As it was given.
        url: String,
    },
}

/// How the connection failed.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No TCP connection.
    #[error("cannot reach {server}")]
    Connect {
        /// The server.
        server: String,
        /// The name's or the system's error.
        #[source]
        cause: ConnectError,
    },
    /// No TLS session.
    #[error("TLS with {server} failed")]
    Tls {
        /// The server.
        server: String,
        /// The handshake's error.
        #[source]
        cause: io::Error,
    },
    /// The connection broke, or what came was no HTTP.
    #[error("HTTP with {server} failed")]
    Http {
        /// The server.
        server: String,
        /// What broke.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("no answer from {server} within {} s", limit.as_secs())]
    Timeout {
        /// The server.
        server: String,
        /// How long was waited.
        limit: Duration,
    },
}

/// A server by name or address.
#[derive(Clone)]
pub(crate) struct Server {
    host: String,
    port: u16,
    resolver: Resolver,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authority: HeaderValue,
    prefix: String,
    limit: Duration,
}

/// An answer read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Server {
    /// The server at `url`, given at most `limit` for each request.
    pub(crate) fn new(url: &str, tls: Arc<rustls::ClientConfig>, limit: Duration) -> Result<Self, BaseUrlError> {
        let shape = || BaseUrlError::Shape { url: url.to_owned() };
        let uri: Uri = url.trim_end_matches('/').parse().map_err(|_| shape())?;
        let host = uri.host().ok_or_else(shape)?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(shape()),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| shape())?;
        let authority = uri.authority().ok_or_else(shape)?.as_str();
        Ok(Self {
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            host,
            resolver: Resolver::default(),
            tls: https.then(|| (TlsConnector::from(tls), name)),
            authority: HeaderValue::from_str(authority).map_err(|_| shape())?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            limit,
        })
    }

    /// Sends `request`, whose URI is a path, and reads the answer to its end.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; whether the server acted is then unknown.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, TransportError> {
        let path = format!("{}{}", self.prefix, request.uri());
        *request.uri_mut() = path
            .parse()
            .map_err(|cause: http::uri::InvalidUri| self.broken(cause))?;
        request.headers_mut().insert(header::HOST, self.authority.clone());
        match timeout(self.limit, self.connect_and_send(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(TransportError::Timeout {
                server: self.label(),
                limit: self.limit,
            }),
        }
    }

    async fn connect_and_send(&self, request: Request<Full<Bytes>>) -> Result<Answer, TransportError> {
        let stream = self.resolver.connect(&self.host, self.port).await;
        let stream = stream.map_err(|cause| TransportError::Connect {
            server: self.label(),
            cause,
        })?;
        match &self.tls {
            None => self.exchange(stream, request).await,
            Some((connector, name)) => {
                let stream = connector
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|cause| TransportError::Tls {
                        server: self.label(),
                        cause,
                    })?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Answer, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| self.broken(cause))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|cause| self.broken(cause))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT)
                .collect()
                .await
                .map_err(|cause| self.broken(cause))?;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        let drive = async {
            // The exchange reports the connection's errors; when it is over first, it wins.
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            answer = exchange => answer,
            never = drive => never,
        }
    }

    pub(crate) fn broken(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TransportError {
        TransportError::Http {
            server: self.label(),
            cause: cause.into(),
        }
    }

    /// Host and port, for people.
    fn label(&self) -> String {
        String::from_utf8_lossy(self.authority.as_bytes()).into_owned()
    }
}

#[cfg(test)]
mod tests;
