//! Auth keys and OAuth clients.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Json;
use bytes::Bytes;
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::access::{authorize, caller};
use super::check_tailnet;
use super::error::ApiError;
use crate::credentials::new_credential;
use crate::policy::is_tag;
use crate::shared::Shared;
use crate::state::{Access, AuthKeySpec, Caller, ClientSpec, Scope, SecretHash};
use document::{Key, KeyRequest};

mod document;

/// The longest life of an auth key: 90 days, in seconds.
const LONGEST: i64 = 90 * 24 * 3600;

/// A list of keys.
#[derive(Serialize)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

/// `POST /api/v2/tailnet/{tailnet}/keys`: the secret is in this answer and nowhere else.
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Path(tailnet): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Key>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    let caller = caller(&shared, &headers)?;
    let request: KeyRequest =
        serde_json::from_slice(&body).map_err(|_| ApiError::bad_request("the body is not the expected JSON"))?;
    match request.key_type.as_str() {
        "" | "auth" => create_auth_key(&shared, &caller, request).await,
        "client" => create_client(&shared, &caller, request).await,
        _ => Err(ApiError::bad_request("keyType must be auth or client")),
    }
}

async fn create_auth_key(shared: &Arc<Shared>, caller: &Caller, request: KeyRequest) -> Result<Json<Key>, ApiError> {
    require(caller, Scope::AuthKeys, Access::Write)?;
    let create = request.capabilities.devices.create;
    if create.tags.is_empty() {
        return Err(ApiError::bad_request("a key made by an OAuth client must have tags"));
    }
    check_tags(shared, caller, &create.tags)?;
    if !(0..=LONGEST).contains(&request.expiry_seconds) {
        return Err(ApiError::bad_request(
            "expirySeconds must be from 0 (the default) to 7776000, which is 90 days",
        ));
    }
    let spec = AuthKeySpec {
        reusable: create.reusable,
        ephemeral: create.ephemeral,
        preauthorized: create.preauthorized,
        tags: create.tags,
        lifetime: (request.expiry_seconds > 0).then(|| SignedDuration::from_secs(request.expiry_seconds)),
        description: request.description,
    };
    let (credential, now) = (new_credential(), Timestamp::now());
    let text = credential.text("auth");
    let key = shared
        .commit(move |state| state.add_auth_key(&credential, spec, now))
        .await?;
    Ok(Json(Key::of_auth_key(&key, now).with_secret(&text)))
}

async fn create_client(shared: &Arc<Shared>, caller: &Caller, request: KeyRequest) -> Result<Json<Key>, ApiError> {
    require(caller, Scope::OauthKeys, Access::Write)?;
    check_tags(shared, caller, &request.tags)?;
    if let Some(scope) = caller.foreign_scope(&request.scopes) {
        return Err(ApiError::forbidden(format!(
            "the access token does not have the scope {scope} to give"
        )));
    }
    let spec = ClientSpec {
        scopes: request.scopes.into_iter().collect(),
        tags: request.tags.into_iter().collect(),
        description: request.description,
    };
    let (credential, now) = (new_credential(), Timestamp::now());
    let text = credential.text("client");
    let hash = SecretHash::of(text.expose());
    let client = shared
        .commit(move |state| state.add_client(&credential.id, hash, spec, now))
        .await?;
    Ok(Json(Key::of_client(&client).with_secret(&text)))
}

/// `GET /api/v2/tailnet/{tailnet}/keys`
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Path(tailnet): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Keys>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    let caller = authorize(&shared, &headers, Scope::AuthKeys, Access::Read)?;
    let (state, now) = (shared.state(), Timestamp::now());
    let auth_keys = state.auth_keys.values().map(|key| Key::of_auth_key(key, now));
    let clients = state
        .clients
        .values()
        .filter(|_| caller.may(Scope::OauthKeys, Access::Read))
        .map(Key::of_client);
    Ok(Json(Keys {
        keys: auth_keys.chain(clients).collect(),
    }))
}

/// `GET /api/v2/tailnet/{tailnet}/keys/{id}`
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    Path((tailnet, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Key>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    let caller = caller(&shared, &headers)?;
    let state = shared.state();
    if let Some(client) = state.clients.get(&id) {
        require(&caller, Scope::OauthKeys, Access::Read)?;
        return Ok(Json(Key::of_client(client)));
    }
    require(&caller, Scope::AuthKeys, Access::Read)?;
    let key = state.auth_keys.get(&id).ok_or_else(no_such_key)?;
    Ok(Json(Key::of_auth_key(key, Timestamp::now())))
}

/// `DELETE /api/v2/tailnet/{tailnet}/keys/{id}`: nodes that registered with the key stay.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path((tailnet, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    let caller = caller(&shared, &headers)?;
    let is_client = shared.state().clients.contains_key(&id);
    require(
        &caller,
        if is_client { Scope::OauthKeys } else { Scope::AuthKeys },
        Access::Write,
    )?;
    let removed = shared.commit(move |state| {
        if is_client {
            state.remove_client(&id)
        } else {
            state.auth_keys.remove(&id).is_some()
        }
    });
    if removed.await? {
        Ok(Json(serde_json::json!({})))
    } else {
        Err(no_such_key())
    }
}

fn require(caller: &Caller, scope: Scope, access: Access) -> Result<(), ApiError> {
    let allowed = caller.may(scope, access);
    allowed
        .then_some(())
        .ok_or_else(|| ApiError::forbidden("the access token does not have the scope for this"))
}

/// Tags must be written as tags, and the caller and the policy must permit them.
pub(super) fn check_tags(shared: &Shared, caller: &Caller, tags: &[String]) -> Result<(), ApiError> {
    if let Some(tag) = tags.iter().find(|tag| !is_tag(tag)) {
        return Err(ApiError::bad_request(format!(
            "{tag:?} is not a tag: write tag: and then letters, digits or -"
        )));
    }
    match shared.state().foreign_tag(caller, tags) {
        Some(tag) => Err(ApiError::bad_request(format!(
            "requested tags [{tag}] are invalid or not permitted"
        ))),
        None => Ok(()),
    }
}

fn no_such_key() -> ApiError {
    ApiError::not_found("there is no such key")
}
