//! The policy file.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use isthmus_runtime::ErrorChain;
use sha2::{Digest, Sha256};

use super::access::authorize;
use super::check_tailnet;
use super::error::ApiError;
use crate::policy::Policy;
use crate::shared::Shared;
use crate::state::{Access, Scope};

/// The policy of a tailnet that has none: everybody may reach everybody.
const DEFAULT: &str = "{\"acls\": [{\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"*:*\"]}]}\n";

const HUJSON: &str = "application/hujson";

/// `GET /api/v2/tailnet/{tailnet}/acl`: as its author wrote it, or as JSON when the caller accepts only that.
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    Path(tailnet): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::PolicyFile, Access::Read)?;
    answer(&text(&shared), &headers)
}

/// `POST /api/v2/tailnet/{tailnet}/acl`: the header `If-Match` guards against changes in between.
pub(super) async fn write(
    State(shared): State<Arc<Shared>>,
    Path(tailnet): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::PolicyFile, Access::Write)?;
    let expected = headers.get(header::IF_MATCH).cloned();
    let new = String::from_utf8(body.to_vec()).map_err(|_| ApiError::bad_request("the body is not text"))?;
    let policy =
        Policy::try_from(new.clone()).map_err(|error| ApiError::bad_request(ErrorChain(&error).to_string()))?;
    let replaced = shared.commit(move |state| {
        let present = state.policy.as_deref().map_or(DEFAULT, Policy::text);
        let matches = expected.is_none_or(|expected| expected == etag(present));
        if matches {
            state.policy = Some(Arc::new(policy));
        }
        matches
    });
    if !replaced.await? {
        return Err(ApiError::precondition_failed(
            "the policy is another one than the header If-Match names; read it again",
        ));
    }
    tracing::info!("policy changed by API");
    answer(&new, &headers)
}

/// `POST /api/v2/tailnet/{tailnet}/acl/validate`: what is wrong with a policy, as a `message` of an answer with status 200; an empty
/// object when nothing is.
pub(super) async fn validate(
    State(shared): State<Arc<Shared>>,
    Path(tailnet): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<serde_json::Value>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::PolicyFile, Access::Read)?;
    let text = String::from_utf8(body.to_vec()).map_err(|_| ApiError::bad_request("the body is not text"))?;
    Ok(Json(match Policy::try_from(text) {
        Ok(_) => serde_json::json!({}),
        Err(error) => serde_json::json!({"message": ErrorChain(&error).to_string()}),
    }))
}

fn text(shared: &Shared) -> String {
    let state = shared.state();
    state.policy.as_deref().map_or(DEFAULT, Policy::text).to_owned()
}

fn answer(text: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let mut response = if accepts == Some("application/json") {
        let value: serde_json::Value = jsonc_parser::parse_to_serde_value(text, &jsonc_parser::ParseOptions::default())
            .map_err(|_| ApiError::bad_request("the policy is not HuJSON"))?;
        Json(value).into_response()
    } else {
        (StatusCode::OK, [(header::CONTENT_TYPE, HUJSON)], text.to_owned()).into_response()
    };
    response.headers_mut().insert(header::ETAG, etag(text));
    Ok(response)
}

fn etag(text: &str) -> HeaderValue {
    let digest = hex::encode(Sha256::digest(text.as_bytes()));
    HeaderValue::try_from(format!("\"{digest}\"")).expect("hexadecimal digits in quotes are a header value")
}
