//! Changes of devices: tags, name, key, routes. Each reaches the nodes concerned at once, through their maps.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Json;
use bytes::Bytes;
use http::HeaderMap;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::access::authorize;
use super::devices::{find, no_such_device};
use super::error::ApiError;
use super::keys::check_tags;
use crate::shared::Shared;
use crate::state::{Access, Caller, Edit, EditError, Node, Scope};

/// An answer without content.
pub(super) type Done = Result<Json<serde_json::Value>, ApiError>;

#[derive(Deserialize)]
struct Tags {
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Authorized {
    authorized: bool,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    key_expiry_disabled: bool,
}

#[derive(Deserialize)]
struct RoutesRequest {
    routes: Vec<String>,
}

/// The routes of a device.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Routes {
    /// What it offers.
    advertised_routes: BTreeSet<IpNet>,
    /// What it may carry.
    enabled_routes: BTreeSet<IpNet>,
}

impl Routes {
    fn of(node: &Node) -> Self {
        Self {
            advertised_routes: node.advertised(),
            enabled_routes: node.approved.clone(),
        }
    }
}

/// `POST /api/v2/device/{id}/tags`
pub(super) async fn tags(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Done {
    let caller = may_edit(&shared, &headers)?;
    let Tags { tags } = read(&body)?;
    if tags.is_empty() {
        return Err(ApiError::bad_request(
            "tags must not be empty: a tagged device cannot be given back to a user; log it in again",
        ));
    }
    check_tags(&shared, &caller, &tags)?;
    edit(&shared, &id, Edit::Tags(tags)).await
}

/// `POST /api/v2/device/{id}/authorized`: lets a device use the tailnet, or no longer.
pub(super) async fn authorized(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Done {
    may_edit(&shared, &headers)?;
    let Authorized { authorized } = read(&body)?;
    edit(&shared, &id, Edit::Authorized(authorized)).await
}

/// `POST /api/v2/device/{id}/name`: a label, or a name below the tailnet's domain; empty for the one of the host name.
pub(super) async fn name(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Done {
    may_edit(&shared, &headers)?;
    let Name { name } = read(&body)?;
    let suffix = format!(".{}", shared.tailnet.domain);
    let bare = name.trim_end_matches('.');
    let label = bare.strip_suffix(&suffix).unwrap_or(bare).to_owned();
    edit(&shared, &id, Edit::Label((!label.is_empty()).then_some(label))).await
}

/// `POST /api/v2/device/{id}/key`
pub(super) async fn key(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Done {
    may_edit(&shared, &headers)?;
    let key: Key = read(&body)?;
    edit(&shared, &id, Edit::ExpiryDisabled(key.key_expiry_disabled)).await
}

/// `POST /api/v2/device/{id}/expire`
pub(super) async fn expire(State(shared): State<Arc<Shared>>, Path(id): Path<String>, headers: HeaderMap) -> Done {
    may_edit(&shared, &headers)?;
    edit(&shared, &id, Edit::Expire).await
}

/// `GET /api/v2/device/{id}/routes`
pub(super) async fn read_routes(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Routes>, ApiError> {
    authorize(&shared, &headers, Scope::Routes, Access::Read)?;
    let id = find(&shared, &id)?;
    let state = shared.state();
    state
        .nodes
        .get(id)
        .map(|node| Json(Routes::of(node)))
        .ok_or_else(no_such_device)
}

/// `POST /api/v2/device/{id}/routes`: the routes that the device may carry, now or once it offers them.
pub(super) async fn set_routes(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Routes>, ApiError> {
    authorize(&shared, &headers, Scope::Routes, Access::Write)?;
    let RoutesRequest { routes } = read(&body)?;
    let routes = routes.iter().map(|text| prefix(text)).collect::<Result<_, _>>()?;
    let Json(_) = edit(&shared, &id, Edit::Routes(routes)).await?;
    read_routes(State(shared), Path(id), headers).await
}

fn prefix(text: &str) -> Result<IpNet, ApiError> {
    let wrong = || ApiError::bad_request(format!("{text:?} is not a prefix, or has bits set behind its length"));
    let net: IpNet = text.parse().map_err(|_| wrong())?;
    if net == net.trunc() { Ok(net) } else { Err(wrong()) }
}

fn may_edit(shared: &Shared, headers: &HeaderMap) -> Result<Caller, ApiError> {
    authorize(shared, headers, Scope::Devices, Access::Write)
}

pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|_| ApiError::bad_request("the body is not the expected JSON"))
}

pub(super) async fn edit(shared: &Arc<Shared>, device: &str, edit: Edit) -> Done {
    let (id, now) = (find(shared, device)?, Timestamp::now());
    tracing::info!(node = id, ?edit, "device changed by API");
    match shared.commit(move |state| state.edit(id, edit, now)).await? {
        Ok(()) => Ok(Json(serde_json::json!({}))),
        Err(EditError::NoSuchNode) => Err(no_such_device()),
        Err(error @ (EditError::NotLabel { .. } | EditError::Taken { .. })) => {
            Err(ApiError::bad_request(error.to_string()))
        }
    }
}
