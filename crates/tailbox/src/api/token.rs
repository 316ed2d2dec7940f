//! Access tokens for OAuth clients (RFC 6749 §4.4), with the client's secret in a Basic header or in the form.

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::response::{IntoResponse, Json, Response};
use http::{HeaderMap, StatusCode};
use isthmus_tailnet_wire::text::SecretText;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::access::basic;
use super::error::ApiError;
use crate::credentials::new_credential;
use crate::shared::Shared;
use crate::state::{OauthError, TokenRequest};

/// The form of a request.
#[derive(Deserialize)]
pub(super) struct TokenForm {
    #[serde(default)]
    grant_type: String,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    client_secret: SecretText,
    #[serde(default)]
    scope: String,
}

#[derive(Serialize)]
struct Granted {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
}

#[derive(Serialize)]
struct Refused {
    error: &'static str,
    error_description: String,
    message: String,
}

/// `POST /api/v2/oauth/token`
pub(super) async fn issue(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    form: Result<Form<TokenForm>, FormRejection>,
) -> Result<Response, ApiError> {
    let Ok(Form(mut form)) = form else {
        return Ok(refuse(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "the body is not the expected form",
        ));
    };
    if form.grant_type != "client_credentials" {
        let text = "only grant_type=client_credentials is served here";
        return Ok(refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type", text));
    }
    if let Some(basic) = basic(&headers) {
        form.client_id = basic.user;
        form.client_secret = basic.password.expose().into();
    }
    let lifetime = shared.config.token_lifetime;
    let credential = new_credential();
    let text = credential.text("api");
    let issued = shared.commit(move |state| {
        let request = TokenRequest {
            client_id: &form.client_id,
            client_secret: form.client_secret.expose(),
            scope: &form.scope,
            lifetime: SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX),
        };
        state.issue_token(request, &credential, Timestamp::now())
    });
    Ok(match issued.await? {
        Ok(scope) => Json(Granted {
            access_token: text.expose().to_owned(),
            token_type: "Bearer",
            expires_in: lifetime.as_secs(),
            scope,
        })
        .into_response(),
        Err(error @ OauthError::InvalidClient) => {
            refuse(StatusCode::UNAUTHORIZED, "invalid_client", &error.to_string())
        }
        Err(error @ OauthError::InvalidScope) => refuse(StatusCode::BAD_REQUEST, "invalid_scope", &error.to_string()),
    })
}

fn refuse(status: StatusCode, error: &'static str, text: &str) -> Response {
    let document = Refused {
        error,
        error_description: text.to_owned(),
        message: text.to_owned(),
    };
    (status, Json(document)).into_response()
}
