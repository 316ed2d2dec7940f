//! Errors of the API.

use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use isthmus_runtime::ErrorChain;
use serde::Serialize;

use crate::shared::CommitError;

/// A status and a message for people.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
}

#[derive(Serialize)]
struct Document {
    message: String,
    status: u16,
}

impl ApiError {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    pub(super) fn unauthorized() -> Self {
        let message = "the access token is missing, unknown or expired; get one at /api/v2/oauth/token".to_owned();
        Self {
            status: StatusCode::UNAUTHORIZED,
            message,
        }
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            message: message.into(),
        }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: message.into(),
        }
    }

    pub(super) fn precondition_failed(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::PRECONDITION_FAILED,
            message: message.into(),
        }
    }

    pub(super) fn method_not_allowed() -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: "this path does not have that method".to_owned(),
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        tracing::error!(error = %ErrorChain(&error), "API request failed");
        let message = "the change could not be stored; see the server's log".to_owned();
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let document = Document {
            message: self.message,
            status: self.status.as_u16(),
        };
        (self.status, Json(document)).into_response()
    }
}
