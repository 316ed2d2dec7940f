//! The relay's paths.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use isthmus_runtime::ErrorChain;
use isthmus_tailnet_wire::derp::{PATH, UPGRADE};

use crate::shared::Shared;

/// A client's question whether it speaks to a relay and not to somebody's login page, and the answer.
const CHALLENGE: &str = "x-tailscale-challenge";
const RESPONSE: HeaderName = HeaderName::from_static("x-tailscale-response");

/// The paths of the relay.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(PATH, get(upgrade))
        .route("/derp/probe", get(probe))
        .route("/derp/latency-check", get(probe))
        .route("/generate_204", get(generate_204))
        .with_state(shared)
}

async fn probe() -> impl IntoResponse {
    [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")]
}

async fn generate_204(headers: HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let challenge = headers.get(CHALLENGE).and_then(|value| value.to_str().ok());
    let harmless =
        |text: &&str| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if let Some(text) = challenge.filter(harmless)
        && let Ok(value) = HeaderValue::try_from(format!("response {text}"))
    {
        response.headers_mut().insert(RESPONSE, value);
    }
    response
}

async fn upgrade(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let wanted = request
        .headers()
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok());
    if !wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(UPGRADE)) {
        let text = "this is a relay of a tailnet: it speaks DERP\n";
        return (StatusCode::UPGRADE_REQUIRED, text).into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => shared.relay.serve(&shared, TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(error = %ErrorChain(&error), "upgrade to the relay failed"),
        }
    });
    let headers = [
        (header::UPGRADE, HeaderValue::from_static(UPGRADE)),
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
