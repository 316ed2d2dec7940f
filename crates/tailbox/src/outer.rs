//! The plain HTTP listener: the server's key, the upgrade to Noise, and the management API.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use isthmus_runtime::ErrorChain;
use isthmus_tailnet_wire::control::ServerKeys;
use isthmus_tailnet_wire::noise::{HANDSHAKE_HEADER, Initiation, UPGRADE_PATH, UPGRADE_PROTOCOL, response};
use tokio::io::AsyncWriteExt;

use crate::noise::{Accepted, NoiseIo, accept};
use crate::shared::Shared;
use crate::{api, machine, relay};

/// All paths of the listener.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/key", get(key))
        .route(UPGRADE_PATH, post(upgrade))
        .with_state(Arc::clone(&shared))
        .merge(relay::router(Arc::clone(&shared)))
        .merge(api::router(shared))
}

async fn index() -> &'static str {
    "Isthmus tailbox: a tailnet for demos and tests. Not a production control server.\n"
}

async fn key(State(shared): State<Arc<Shared>>) -> Json<ServerKeys> {
    Json(ServerKeys {
        public_key: shared.machine_key.public.into(),
        ..ServerKeys::default()
    })
}

/// Answers the handshake and goes on in Noise. The connection changes hands once the status 101 is written.
async fn upgrade(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let Some(handshake) = request.headers().get(HANDSHAKE_HEADER) else {
        return (
            StatusCode::BAD_REQUEST,
            format!("upgrade: the header {HANDSHAKE_HEADER} is missing"),
        )
            .into_response();
    };
    let initiation = match Initiation::from_header(handshake.as_bytes()) {
        Ok(initiation) => initiation,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let Some(accepted) = accept(&initiation, &shared.machine_key) else {
        let text = "upgrade: the handshake is not for this server's key; fetch /key again";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    tokio::spawn(serve_upgraded(shared, hyper::upgrade::on(&mut request), accepted));
    let headers = [
        (header::UPGRADE, HeaderValue::from_static(UPGRADE_PROTOCOL)),
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

async fn serve_upgraded(shared: Arc<Shared>, upgrade: hyper::upgrade::OnUpgrade, accepted: Accepted) {
    let mut connection = match upgrade.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => {
            tracing::debug!(error = %ErrorChain(&error), "upgrade failed");
            return;
        }
    };
    if let Err(error) = connection.write_all(&response(&accepted.response)).await {
        tracing::debug!(error = %ErrorChain(&error), "handshake not answered");
        return;
    }
    tracing::debug!(version = accepted.version, "client connected");
    machine::serve(shared, accepted.machine, NoiseIo::new(connection, accepted.session)).await;
}
