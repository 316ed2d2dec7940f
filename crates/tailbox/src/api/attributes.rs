//! Attributes of devices: what is known of a device, and what callers note about it under `custom:`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Json;
use bytes::Bytes;
use http::HeaderMap;
use isthmus_tailnet_wire::time::GoTime;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::authorize;
use super::devices::{find, no_such_device};
use super::edits::{Done, edit, read as read_body};
use super::error::ApiError;
use crate::shared::Shared;
use crate::state::{Access, Attribute, Edit, Node, Scope};

/// What the keys of notes start with, and how long key and text may be.
const CUSTOM: &str = "custom:";
const KEY_LIMIT: usize = 50;
const TEXT_LIMIT: usize = 50;

/// The attributes of a device.
#[derive(Serialize)]
pub(super) struct Attributes {
    attributes: BTreeMap<String, Value>,
    expiries: BTreeMap<String, Timestamp>,
}

#[derive(Deserialize)]
struct Note {
    value: Value,
    /// Zero for never, as Go writes it.
    #[serde(default)]
    expiry: GoTime,
}

/// `GET /api/v2/device/{id}/attributes`
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Attributes>, ApiError> {
    authorize(&shared, &headers, Scope::Attributes, Access::Read)?;
    let state = shared.state();
    let node = state.nodes.get(find(&shared, &id)?).ok_or_else(no_such_device)?;
    Ok(Json(attributes(node, Timestamp::now())))
}

/// `POST /api/v2/device/{id}/attributes/{key}`
pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    Path((id, key)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Attributes>, ApiError> {
    authorize(&shared, &headers, Scope::Attributes, Access::Write)?;
    check_key(&key)?;
    let note: Note = read_body(&body)?;
    let fits = match &note.value {
        Value::String(text) => text.len() <= TEXT_LIMIT,
        Value::Number(_) | Value::Bool(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    if !fits {
        return Err(ApiError::bad_request(
            "value must be a short text, a number, true or false",
        ));
    }
    let attribute = Attribute {
        value: note.value,
        expiry: note.expiry.0,
    };
    let Json(_) = edit(&shared, &id, Edit::Attribute(key, Some(attribute))).await?;
    read(State(shared), Path(id), headers).await
}

/// `DELETE /api/v2/device/{id}/attributes/{key}`
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path((id, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Done {
    authorize(&shared, &headers, Scope::Attributes, Access::Write)?;
    check_key(&key)?;
    edit(&shared, &id, Edit::Attribute(key, None)).await
}

fn check_key(key: &str) -> Result<(), ApiError> {
    let valid = key.strip_prefix(CUSTOM).is_some_and(|name| {
        (1..=KEY_LIMIT).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    valid
        .then_some(())
        .ok_or_else(|| ApiError::bad_request("the key must be custom: and then letters, digits or _, at most 50"))
}

fn attributes(node: &Node, now: Timestamp) -> Attributes {
    let known = [
        ("node:os", json!(node.hostinfo.os)),
        ("node:osVersion", json!(node.hostinfo.os_version)),
        ("node:tsVersion", json!(node.hostinfo.ipn_version)),
    ];
    let known = known.into_iter().map(|(key, value)| (key.to_owned(), value));
    let fresh = |attribute: &Attribute| attribute.expiry.is_none_or(|expiry| now < expiry);
    let notes = node.attributes.iter().filter(|(_, attribute)| fresh(attribute));
    Attributes {
        attributes: known
            .chain(
                notes
                    .clone()
                    .map(|(key, attribute)| (key.clone(), attribute.value.clone())),
            )
            .collect(),
        expiries: notes
            .filter_map(|(key, attribute)| Some((key.clone(), attribute.expiry?)))
            .collect(),
    }
}
