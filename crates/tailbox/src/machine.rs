//! What clients ask inside their Noise connection: HTTP/2 requests under `/machine/`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use isthmus_runtime::ErrorChain;
use isthmus_tailnet_wire::control::{
    Login, MapRequest, RegisterRequest, RegisterResponse, SetDnsRequest, User, UserProfile,
};
use isthmus_tailnet_wire::keys::MachineKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::asks::{ANSWERS, PROBES};
use crate::map_stream;
use crate::shared::{CommitError, Shared};
use crate::state::{Outcome, State, UnknownNode, profile};

/// The most bytes of a request's body.
const BODY_LIMIT: usize = 1 << 20;
/// The longest text of a DNS record.
const TEXT_LIMIT: usize = 255;
/// Time between pings on an idle connection, and time to wait for the answer. A client whose machine vanished is
/// noticed after both.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// The body of a response.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves a client's connection until either side ends it.
pub(crate) async fn serve<T>(shared: Arc<Shared>, machine: MachineKey, connection: T)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn({
        let shared = Arc::clone(&shared);
        move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(&shared, machine, request).await) }
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    tokio::select! {
        result = serving => if let Err(error) = result {
            tracing::debug!(error = %ErrorChain(&error), "client connection ended");
        },
        () = shared.shutdown.begun() => {}
    }
}

/// Why a request gets no ordinary answer.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("read request: {reason}")]
    Malformed { reason: &'static str },
    #[error(transparent)]
    UnknownNode(#[from] UnknownNode),
    #[error("{method} {path}: not served here")]
    NoSuchPath { method: Method, path: String },
    #[error("{name}: not a record that this node may set; set TXT records of _acme-challenge and a certificate domain")]
    ForeignRecord { name: String },
    #[error("store the change")]
    Commit(#[source] CommitError),
}

impl RequestError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::ForeignRecord { .. } => StatusCode::FORBIDDEN,
            Self::UnknownNode(_) | Self::NoSuchPath { .. } => StatusCode::NOT_FOUND,
            Self::Commit(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<CommitError> for RequestError {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}

async fn answer(shared: &Arc<Shared>, machine: MachineKey, request: Request<Incoming>) -> Response<Body> {
    let result = match (request.method(), request.uri().path()) {
        (&Method::POST, "/machine/register") => register(shared, machine, request).await,
        (&Method::POST, "/machine/map") => map(shared, machine, request).await,
        (&Method::POST, "/machine/set-dns") => set_dns(shared, machine, request).await,
        (&Method::POST, path) if path.starts_with(ANSWERS) => answer_of_node(shared, machine, request).await,
        (&Method::HEAD, PROBES) => answer_of_probe(shared, machine, &request),
        // Clients tell when their own warnings change; nobody here reads it.
        (&Method::POST, "/machine/update-health") => Ok(response(StatusCode::NO_CONTENT, Bytes::new())),
        (method, path) => Err(RequestError::NoSuchPath {
            method: method.clone(),
            path: path.to_owned(),
        }),
    };
    result.unwrap_or_else(|error| {
        let status = error.status();
        if status.is_server_error() {
            tracing::error!(error = %ErrorChain(&error), "client request failed");
        } else {
            tracing::debug!(error = %ErrorChain(&error), "client request refused");
        }
        response(status, Bytes::from(error.to_string()))
    })
}

async fn register(
    shared: &Arc<Shared>,
    machine: MachineKey,
    request: Request<Incoming>,
) -> Result<Response<Body>, RequestError> {
    let request: RegisterRequest = read_json(request).await?;
    let now = jiff::Timestamp::now();
    let (outcome, known) = shared
        .commit(move |state| {
            let outcome = state.register(machine, &request, now);
            let node = outcome.node().and_then(|id| state.nodes.get(id));
            let known = node.map(|node| (node.user(), node.is_waiting));
            (outcome, known)
        })
        .await?;
    match &outcome {
        Outcome::Registered(id) => tracing::info!(node = id, "node registered"),
        Outcome::KeyExpired => tracing::info!("registration with an expired node key"),
        Outcome::Refused(refusal) => tracing::info!(reason = %refusal, "registration refused"),
    }
    let (profile, is_waiting) = known.map_or_else(Default::default, |(user, is_waiting)| {
        (profile(user, &shared.tailnet.domain), is_waiting)
    });
    if is_waiting {
        tracing::info!(node = outcome.node(), "node waits for approval");
    }
    json_response(&RegisterResponse {
        machine_authorized: outcome.node().is_some() && !is_waiting,
        ..register_response(&outcome, profile)
    })
}

fn register_response(outcome: &Outcome, profile: UserProfile) -> RegisterResponse {
    let UserProfile {
        id,
        login_name,
        display_name,
        ..
    } = profile;
    RegisterResponse {
        user: User {
            id,
            display_name: display_name.clone(),
            ..User::default()
        },
        login: Login {
            id,
            provider: "tailbox".to_owned(),
            login_name,
            display_name,
            ..Login::default()
        },
        node_key_expired: *outcome == Outcome::KeyExpired,
        error: match outcome {
            Outcome::Refused(refusal) => refusal.to_string(),
            Outcome::Registered(_) | Outcome::KeyExpired => String::new(),
        },
        ..RegisterResponse::default()
    }
}

async fn map(
    shared: &Arc<Shared>,
    machine: MachineKey,
    request: Request<Incoming>,
) -> Result<Response<Body>, RequestError> {
    let request: MapRequest = read_json(request).await?;
    let (stream, omit_peers) = (request.stream, request.omit_peers || request.read_only);
    let (node_key, compress) = (request.node_key, request.compress == "zstd");
    let update = move |state: &mut State| {
        let id = state.node_of_machine(machine, request.node_key)?.id;
        state.update_node(id, &request);
        Ok::<_, UnknownNode>(id)
    };
    let id = shared.commit(update).await??;
    if stream {
        let feed = map_stream::Feed::new(shared, id, node_key, compress);
        return Ok(Response::new(feed.into_body().boxed_unsync()));
    }
    if omit_peers {
        return Ok(response(StatusCode::OK, Bytes::new()));
    }
    let map = shared.picture().map_json(id).ok_or(UnknownNode)?;
    let frame = map_stream::encode(&map, compress).ok_or(RequestError::Malformed {
        reason: "the map is too large",
    })?;
    Ok(response(StatusCode::OK, frame))
}

/// Publishes a record by which a node proves to an authority that it holds one of its names.
async fn set_dns(
    shared: &Arc<Shared>,
    machine: MachineKey,
    request: Request<Incoming>,
) -> Result<Response<Body>, RequestError> {
    let request: SetDnsRequest = read_json(request).await?;
    if request.value.len() > TEXT_LIMIT {
        return Err(RequestError::Malformed {
            reason: "the record's value is too long",
        });
    }
    let node = shared.state().node_of_machine(machine, request.node_key)?.id;
    let domains = shared.picture().cert_domains(node);
    let name = request.name.trim_end_matches('.').to_ascii_lowercase();
    let own = name
        .strip_prefix("_acme-challenge.")
        .is_some_and(|domain| domains.iter().any(|own| own == domain));
    if request.kind != "TXT" || !own {
        return Err(RequestError::ForeignRecord { name });
    }
    tracing::info!(node, name, "node set a record");
    shared.challenges.set(&name, &request.value);
    json_response(&serde_json::json!({}))
}

/// Takes a node's answer to a request of this server.
async fn answer_of_node(
    shared: &Arc<Shared>,
    machine: MachineKey,
    request: Request<Incoming>,
) -> Result<Response<Body>, RequestError> {
    let token = request.uri().path().trim_start_matches(ANSWERS).to_owned();
    let body = read_body(request).await?;
    if shared.asks.answer(&token, machine, body) {
        Ok(response(StatusCode::OK, Bytes::new()))
    } else {
        Err(RequestError::NoSuchPath {
            method: Method::POST,
            path: ANSWERS.to_owned(),
        })
    }
}

/// Takes the `HEAD` request that a node was asked for.
fn answer_of_probe(
    shared: &Shared,
    machine: MachineKey,
    request: &Request<Incoming>,
) -> Result<Response<Body>, RequestError> {
    let token = request.uri().query().and_then(|query| query.strip_prefix("id="));
    if token.is_some_and(|token| shared.asks.answer(token, machine, Bytes::new())) {
        Ok(response(StatusCode::OK, Bytes::new()))
    } else {
        Err(RequestError::NoSuchPath {
            method: Method::HEAD,
            path: PROBES.to_owned(),
        })
    }
}

async fn read_body(request: Request<Incoming>) -> Result<Bytes, RequestError> {
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await;
    let body = body.map_err(|_| RequestError::Malformed {
        reason: "the body is too long or ended early",
    })?;
    Ok(body.to_bytes())
}

/// Reads a document. The error does not repeat what was read, which may hold an auth key.
async fn read_json<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, RequestError> {
    serde_json::from_slice(&read_body(request).await?).map_err(|error| {
        tracing::debug!(
            line = error.line(),
            column = error.column(),
            "malformed document from a client"
        );
        RequestError::Malformed {
            reason: "the body is not the expected JSON",
        }
    })
}

fn json_response<T: Serialize>(document: &T) -> Result<Response<Body>, RequestError> {
    let bytes = serde_json::to_vec(document).map_err(|_| RequestError::Malformed {
        reason: "the answer is not JSON",
    })?;
    let mut response = response(StatusCode::OK, Bytes::from(bytes));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

fn response(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response
}
