//! The management API, version 2: OAuth tokens, keys, devices, Services, the policy, settings.
//!
//! Errors are JSON objects with a `message`; callers go by the status. What this server does not have answers 404 in
//! the same form, so that callers can tell "no such feature" from a broken server.

mod access;
mod attributes;
mod devices;
mod edits;
mod error;
mod keys;
mod policy;
mod services;
mod settings;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::shared::Shared;
use error::ApiError;

/// The paths of the API, and the answer to all paths that nobody serves.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v2/oauth/token", post(token::issue))
        .route("/api/v2/tailnet/{tailnet}/keys", get(keys::list).post(keys::create))
        .route(
            "/api/v2/tailnet/{tailnet}/keys/{id}",
            get(keys::read).delete(keys::delete),
        )
        .route("/api/v2/tailnet/{tailnet}/devices", get(devices::list))
        .route("/api/v2/device/{id}", get(devices::read).delete(devices::delete))
        .route("/api/v2/device/{id}/tags", post(edits::tags))
        .route("/api/v2/device/{id}/authorized", post(edits::authorized))
        .route("/api/v2/device/{id}/name", post(edits::name))
        .route("/api/v2/device/{id}/key", post(edits::key))
        .route("/api/v2/device/{id}/expire", post(edits::expire))
        .route(
            "/api/v2/device/{id}/routes",
            get(edits::read_routes).post(edits::set_routes),
        )
        .route("/api/v2/device/{id}/attributes", get(attributes::read))
        .route(
            "/api/v2/device/{id}/attributes/{key}",
            post(attributes::set).delete(attributes::delete),
        )
        .route("/api/v2/tailnet/{tailnet}/acl", get(policy::read).post(policy::write))
        .route("/api/v2/tailnet/{tailnet}/acl/validate", post(policy::validate))
        .route(
            "/api/v2/tailnet/{tailnet}/settings",
            get(settings::read).patch(settings::write),
        )
        .merge(service_routes())
        .fallback(async || ApiError::not_found("there is no such path here"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .with_state(shared)
}

/// The paths of Tailscale Services. Their documents came first under `vip-services`, what is about hosts under `services`.
fn service_routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v2/tailnet/{tailnet}/vip-services", get(services::list))
        .route(
            "/api/v2/tailnet/{tailnet}/vip-services/{name}",
            get(services::read).put(services::put).delete(services::delete),
        )
        .route(
            "/api/v2/tailnet/{tailnet}/services/{name}/devices",
            get(services::hosts),
        )
        .route(
            "/api/v2/tailnet/{tailnet}/services/{name}/device/{id}/approved",
            get(services::read_approved).post(services::approve),
        )
}

/// The tailnet of a path must be this one: `-` or its domain.
fn check_tailnet(shared: &Shared, tailnet: &str) -> Result<(), ApiError> {
    if tailnet == "-" || tailnet == shared.tailnet.domain {
        Ok(())
    } else {
        Err(ApiError::not_found("there is no such tailnet here; use -"))
    }
}
