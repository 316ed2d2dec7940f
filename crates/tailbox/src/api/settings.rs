//! Settings of the tailnet.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Json;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::access::authorize;
use super::check_tailnet;
use super::edits::read as read_body;
use super::error::ApiError;
use crate::shared::Shared;
use crate::state::{Access, Scope, Settings};

const HTTPS: &str = "httpsEnabled";
const APPROVAL: &str = "devicesApprovalOn";
const KEY_DAYS: &str = "devicesKeyDurationDays";
/// The longest life of a key, in days.
const MOST_DAYS: u64 = 180;

/// Settings that this server has in one way only.
const FIXED: [(&str, Value); 7] = [
    ("aclsExternallyManagedOn", Value::Bool(false)),
    ("devicesAutoUpdatesOn", Value::Bool(false)),
    ("networkFlowLoggingOn", Value::Bool(false)),
    ("postureIdentityCollectionOn", Value::Bool(false)),
    ("regionalRoutingOn", Value::Bool(false)),
    ("usersApprovalOn", Value::Bool(false)),
    ("aclsExternalLink", Value::Null),
];

/// `GET /api/v2/tailnet/{tailnet}/settings`
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    Path(tailnet): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::Settings, Access::Read)?;
    Ok(Json(document(&shared.state().settings)))
}

/// `PATCH /api/v2/tailnet/{tailnet}/settings`: changes what it names. All or nothing.
pub(super) async fn write(
    State(shared): State<Arc<Shared>>,
    Path(tailnet): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::Settings, Access::Write)?;
    let wanted: Map<String, Value> = read_body(&body)?;
    let changed = shared.commit(move |state| {
        let settings = apply(&wanted, state.settings.clone())?;
        state.settings = settings;
        Ok(document(&state.settings))
    });
    changed.await?.map(Json)
}

fn apply(wanted: &Map<String, Value>, mut settings: Settings) -> Result<Settings, ApiError> {
    // Callers write `null` for what they do not mean.
    for (name, value) in wanted.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            HTTPS => settings.https = switch(name, value)?,
            APPROVAL => settings.approval = switch(name, value)?,
            KEY_DAYS => {
                let days = value.as_u64().filter(|days| (1..=MOST_DAYS).contains(days));
                let days = days.and_then(|days| u32::try_from(days).ok());
                let wrong = || ApiError::bad_request(format!("{KEY_DAYS} must be from 1 to {MOST_DAYS}"));
                settings.key_days = days.ok_or_else(wrong)?;
            }
            _ if FIXED.iter().any(|(known, fixed)| known == name && fixed == value) => {}
            _ => {
                let text = format!("{name}: this server does not have that setting, or cannot change it");
                return Err(ApiError::bad_request(text));
            }
        }
    }
    Ok(settings)
}

fn switch(name: &str, value: &Value) -> Result<bool, ApiError> {
    let wrong = || ApiError::bad_request(format!("{name} must be true or false"));
    value.as_bool().ok_or_else(wrong)
}

fn document(settings: &Settings) -> Value {
    let mut document: Map<String, Value> = FIXED
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    document.insert(HTTPS.to_owned(), json!(settings.https));
    document.insert(APPROVAL.to_owned(), json!(settings.approval));
    document.insert(KEY_DAYS.to_owned(), json!(settings.key_days));
    Value::Object(document)
}
