//! One ts2021 session: requests over HTTP/2 inside Noise.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use isthmus_tailnet_wire::control::ServerKeys;
use isthmus_tailnet_wire::noise::{HANDSHAKE_HEADER, UPGRADE_PATH, UPGRADE_PROTOCOL, prologue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use ts_capabilityversion::CapabilityVersion;
use ts_control_noise::Handshake;
use ts_keys::{MachineKeyPair, MachinePublicKey};

use super::dial::Connected;
use super::early::AfterEarly;
use super::error::{ControlError, in_time};
use super::records::Checked;
use super::{CAPABILITY_VERSION, Dialer, Server};

/// How long a request may take until its answer begins, or ends when it is short.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Longest answer to a request that is not a map stream.
const MAX_ANSWER: usize = 1 << 20;

/// Longest text of an error that is kept.
const MAX_MESSAGE: usize = 500;

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// An open session. It ends when it is dropped.
pub(crate) struct Session {
    sender: SendRequest<Bytes>,
    authority: String,
    local: Option<IpAddr>,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Connects to control and proves to be `machine`.
    pub(crate) async fn open(dialer: &Dialer, server: &Server, machine: &MachineKeyPair) -> Result<Self, ControlError> {
        let key = in_time(
            "fetch the control server's key",
            REQUEST_LIMIT,
            fetch_key(dialer, server),
        )
        .await?;
        in_time(
            "open a Noise session",
            REQUEST_LIMIT,
            Self::handshake(dialer, server, machine, key),
        )
        .await
    }

    async fn handshake(
        dialer: &Dialer,
        server: &Server,
        machine: &MachineKeyPair,
        key: MachinePublicKey,
    ) -> Result<Self, ControlError> {
        const ACTION: &str = "open a Noise session";
        let (noise, initiation) =
            Handshake::initialize(&prologue(CAPABILITY_VERSION), machine, &key, CapabilityVersion::V119);
        let request = Request::builder()
            .method(Method::POST)
            .uri(UPGRADE_PATH)
            .header(header::HOST, server.authority())
            .header(header::UPGRADE, UPGRADE_PROTOCOL)
            .header(header::CONNECTION, "upgrade")
            .header(HANDSHAKE_HEADER, initiation)
            .body(Empty::<Bytes>::new())
            .expect("the parts of the request are valid");
        let (response, local) = send_http1(dialer, server, ACTION, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(ACTION, response).await);
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(broken(ACTION))?;
        let checked = Checked::new(TokioIo::new(upgraded));
        let stream = noise
            .complete(checked, machine)
            .await
            .map_err(|source| ControlError::Protocol {
                action: ACTION,
                server: server.authority().to_owned(),
                source: source.into(),
            })?;
        let (sender, connection) = h2::client::handshake(AfterEarly::new(stream))
            .await
            .map_err(broken(ACTION))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to control ended");
            }
        });
        Ok(Self {
            sender,
            authority: server.authority().to_owned(),
            local,
            driver,
        })
    }

    /// The address of this machine that the session hangs on; nothing when the kernel does not say.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// A handle that can send requests while the session lives.
    pub(crate) fn requester(&self) -> Requester {
        Requester {
            sender: self.sender.clone(),
            authority: self.authority.clone(),
        }
    }
}

/// Sends requests in a session. Ends with the session.
#[derive(Clone)]
pub(crate) struct Requester {
    sender: SendRequest<Bytes>,
    authority: String,
}

impl Requester {
    /// Posts a JSON body; gives the body of an answer with status 200 as it comes in.
    pub(crate) async fn stream(
        &self,
        action: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<RecvStream, ControlError> {
        let body = serde_json::to_vec(body).map_err(ControlError::Json)?;
        let response = in_time(
            action,
            REQUEST_LIMIT,
            self.send(action, Method::POST, path, body.into()),
        )
        .await?;
        let (head, body) = response.into_parts();
        if head.status == StatusCode::OK {
            return Ok(body);
        }
        let message = in_time(action, REQUEST_LIMIT, read_all(action, body))
            .await
            .unwrap_or_default();
        Err(status_error(action, head.status, &head.headers, &message))
    }

    /// Posts a JSON body; gives the answer as JSON.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        action: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ControlError> {
        let stream = self.stream(action, path, body).await?;
        let answer = in_time(action, REQUEST_LIMIT, read_all(action, stream)).await?;
        serde_json::from_slice(&answer).map_err(ControlError::Json)
    }

    /// Posts a JSON body; any answer with status 200 will do.
    pub(crate) async fn tell(
        &self,
        action: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), ControlError> {
        let stream = self.stream(action, path, body).await?;
        in_time(action, REQUEST_LIMIT, read_all(action, stream)).await.map(drop)
    }

    /// Sends bytes without caring for the answer's status.
    pub(crate) async fn send(
        &self,
        action: &'static str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<RecvStream>, ControlError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.authority))
            .body(())
            .map_err(broken(action))?;
        let mut sender = self.sender.clone().ready().await.map_err(broken(action))?;
        let end = body.is_empty();
        let (response, mut upload) = sender.send_request(request, end).map_err(broken(action))?;
        if !end {
            upload.send_data(body, true).map_err(broken(action))?;
        }
        response.await.map_err(broken(action))
    }
}

/// Makes a mapping for errors of the connection.
pub(crate) fn broken<E: std::error::Error + Send + Sync + 'static>(
    action: &'static str,
) -> impl FnOnce(E) -> ControlError {
    move |source| ControlError::Broken {
        action,
        source: Box::new(source),
    }
}

async fn read_all(action: &'static str, mut body: RecvStream) -> Result<Vec<u8>, ControlError> {
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(broken(action))?;
        if all.len() + chunk.len() > MAX_ANSWER {
            return Err(broken(action)(std::io::Error::other("the answer is too long")));
        }
        let _ = body.flow_control().release_capacity(chunk.len());
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

async fn fetch_key(dialer: &Dialer, server: &Server) -> Result<MachinePublicKey, ControlError> {
    const ACTION: &str = "fetch the control server's key";
    let request = Request::get(format!("/key?v={CAPABILITY_VERSION}"))
        .header(header::HOST, server.authority())
        .body(Empty::<Bytes>::new())
        .expect("the parts of the request are valid");
    let (response, _) = send_http1(dialer, server, ACTION, request).await?;
    if response.status() != StatusCode::OK {
        return Err(refused(ACTION, response).await);
    }
    let protocol = |source: Box<dyn std::error::Error + Send + Sync>| ControlError::Protocol {
        action: ACTION,
        server: server.authority().to_owned(),
        source,
    };
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(protocol)?
        .to_bytes();
    let keys: ServerKeys = serde_json::from_slice(&body).map_err(|error| protocol(error.into()))?;
    if keys.public_key.is_zero() {
        return Err(protocol("the server has no Noise key".into()));
    }
    Ok(keys.public_key.into())
}

/// Sends one HTTP/1.1 request on a connection of its own; gives this machine's end of it as well.
pub(crate) async fn send_http1(
    dialer: &Dialer,
    server: &Server,
    action: &'static str,
    request: Request<impl Body<Data = Bytes, Error: Into<BoxedError>> + Send + 'static>,
) -> Result<(Response<Incoming>, Option<IpAddr>), ControlError> {
    let Connected { stream, local } = dialer.connect(server).await?;
    let connection = TokioIo::new(stream);
    let (mut sender, driver) = hyper::client::conn::http1::handshake(connection)
        .await
        .map_err(broken(action))?;
    tokio::spawn(driver.with_upgrades());
    let response = sender.send_request(request).await.map_err(broken(action))?;
    Ok((response, local))
}

async fn refused(action: &'static str, response: Response<Incoming>) -> ControlError {
    let (head, body) = response.into_parts();
    let message = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    status_error(action, head.status, &head.headers, &message)
}

fn status_error(action: &'static str, status: StatusCode, headers: &http::HeaderMap, message: &[u8]) -> ControlError {
    let text = String::from_utf8_lossy(message);
    let retry_after = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    ControlError::Status {
        action,
        status: status.as_u16(),
        message: text
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_MESSAGE)
            .collect(),
        retry_after: retry_after.map(Duration::from_secs),
    }
}
