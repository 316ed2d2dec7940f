//! Who calls, and whether they may.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use isthmus_runtime::Secret;
use jiff::Timestamp;

use super::error::ApiError;
use crate::shared::Shared;
use crate::state::{Access, Caller, Scope};

/// User name and password of a Basic header.
pub(super) struct Basic {
    pub(super) user: String,
    pub(super) password: Secret,
}

/// The Basic header of a request, if it has one that is well formed.
pub(super) fn basic(headers: &HeaderMap) -> Option<Basic> {
    let decoded = STANDARD.decode(authorization(headers, "basic")?).ok()?;
    let text = Secret::new(String::from_utf8(decoded).ok()?);
    let (user, password) = text.expose().split_once(':')?;
    Some(Basic {
        user: user.to_owned(),
        password: Secret::new(password),
    })
}

/// Who calls: by bearer token, or by the same token as the user name of a Basic header.
///
/// # Errors
/// 401 when there is no valid token.
pub(super) fn caller(shared: &Shared, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let token = match authorization(headers, "bearer") {
        Some(token) => Secret::new(token),
        None => Secret::new(basic(headers).ok_or_else(ApiError::unauthorized)?.user),
    };
    shared
        .state()
        .caller(token.expose(), Timestamp::now())
        .ok_or_else(ApiError::unauthorized)
}

/// Who calls, when they may do this.
///
/// # Errors
/// 401 when there is no valid token, 403 when it lacks the scope.
pub(super) fn authorize(
    shared: &Shared,
    headers: &HeaderMap,
    scope: Scope,
    access: Access,
) -> Result<Caller, ApiError> {
    let caller = caller(shared, headers)?;
    if caller.may(scope, access) {
        Ok(caller)
    } else {
        Err(ApiError::forbidden("the access token does not have the scope for this"))
    }
}

/// What follows the name of an authorization scheme. Names of schemes have no case.
fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (name, rest) = value.split_once(' ')?;
    name.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}
