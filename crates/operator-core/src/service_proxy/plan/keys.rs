//! Auth keys: when a proxy needs one, and which are of no more use.

use std::time::Duration;

use isthmus_contract::{annotation, secret_key};
use k8s_openapi::api::core::v1::Secret;

use super::text;
use crate::service_proxy::{
    desired::{self, Login, last_key_end, stored_key},
    input::Input,
    intent::Wanted,
    status::is_ready,
};

/// Life of an auth key.
pub(super) const KEY_LIFE: Duration = Duration::from_hours(1);
/// A key that ends sooner than this is not worth starting with.
const KEY_MARGIN_SECONDS: i64 = 300;
/// A proxy that asks for another key gets it only when the one it has is older than this.
const KEY_MIN_AGE_SECONDS: i64 = 30;
/// Bytes a key's description may have.
const DESCRIPTION_LIMIT: usize = 50;

/// How the proxy logs in; `None` when a key has to be made first.
pub(super) fn login(input: &Input, wanted: &Wanted) -> Option<Login> {
    if let Some(minted) = &input.minted {
        return Some(Login::With(minted.clone()));
    }
    let secret = input.children.secret.as_ref();
    let stored = secret.and_then(stored_key);
    let asked = secret.and_then(|secret| text(secret, secret_key::REISSUE_AUTH_KEY));
    // It names the key it started with, which has left the Secret when it did its work long ago.
    let refused = asked.is_some_and(|asked| stored.as_ref().is_none_or(|stored| stored.key.expose() == asked));
    let last_end = secret.and_then(last_key_end);
    let done = || Login::Done {
        last_key_ends: last_end,
    };
    if refused {
        // Not at once: a proxy that asks in a loop must not empty the tailnet's patience.
        let young = last_end.is_some_and(|end| seconds_left(end, input) > key_ceiling());
        return young.then(|| stored.map_or_else(done, Login::With));
    }
    // One that asks has no device any more, whatever it wrote before, and the key made for it stays until it is used.
    if asked.is_none() && secret.and_then(|secret| text(secret, secret_key::DEVICE_ID)).is_some() {
        return Some(done());
    }
    // Somebody has deleted the Secret of a proxy that runs. It writes its state anew, or else asks for a key.
    if asked.is_none() && stored.is_none() && input.children.pod.as_ref().is_some_and(is_ready) {
        return Some(done());
    }
    stored
        .filter(|stored| seconds_left(stored.expires.0.as_second(), input) > KEY_MARGIN_SECONDS)
        .filter(|stored| stored.tags == desired::tag_list(&wanted.tags))
        .map(Login::With)
}

/// Seconds a key has left while it is too young to be replaced.
const fn key_ceiling() -> i64 {
    KEY_LIFE.as_secs().cast_signed() - KEY_MIN_AGE_SECONDS
}

fn seconds_left(expiry: i64, input: &Input) -> i64 {
    expiry - input.now.0.as_second()
}

/// The id of the key that the Secret held and that nothing will use any more.
pub(super) fn superseded_key(input: &Input, login: &Login) -> Option<String> {
    let stored = input.children.secret.as_ref().and_then(key_id)?;
    match login {
        Login::With(minted) if minted.id != stored => Some(stored),
        Login::With(_) | Login::Done { .. } => None,
    }
}

/// When to look whether the proxy still needs its key.
pub(super) fn key_check(input: &Input) -> Option<Duration> {
    let secret = input.children.secret.as_ref()?;
    let asked = text(secret, secret_key::REISSUE_AUTH_KEY).is_some();
    if !asked && stored_key(secret).is_none() {
        return None;
    }
    let left = seconds_left(last_key_end(secret)?, input);
    let wait = if asked {
        left - key_ceiling()
    } else {
        left - KEY_MARGIN_SECONDS
    };
    Some(Duration::from_secs(u64::try_from(wait.max(1)).unwrap_or(1)))
}

/// The id of the auth key a Secret holds.
pub(in crate::service_proxy) fn key_id(secret: &Secret) -> Option<String> {
    secret
        .metadata
        .annotations
        .as_ref()?
        .get(annotation::AUTH_KEY_ID)
        .cloned()
}

/// What every key of this cluster's operator begins with.
pub fn key_description_prefix(cluster_id: &str) -> String {
    let id: String = cluster_id.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("isthmus {id} ")
}

/// The description of a key for the Secret `secret`: letters, digits, dashes and spaces. Of a long name the end stays,
/// because that is what tells it from others.
pub(super) fn key_description(cluster_id: &str, secret: &str) -> String {
    let prefix = key_description_prefix(cluster_id);
    let room = DESCRIPTION_LIMIT.saturating_sub(prefix.len());
    // Names of Secrets are ASCII.
    let tail = &secret[secret.len().saturating_sub(room)..];
    format!("{prefix}{tail}")
}
