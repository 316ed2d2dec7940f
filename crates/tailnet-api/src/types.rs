//! What the API's documents mean, as far as the operator uses them.

use std::time::Duration;

use isthmus_runtime::Secret;
use serde::{Deserialize, Deserializer};

/// An auth key wanted: for one device, authorised beforehand, not ephemeral.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthKeyRequest {
    /// Tags the device gets, `tag:…`.
    pub tags: Vec<String>,
    /// Life of the key, in whole seconds.
    pub expiry: Duration,
    /// What people see in the list of keys: at most 50 letters, digits, dashes and spaces.
    pub description: String,
}

/// An auth key just made. The key itself is shown this once.
#[derive(Debug, Clone)]
pub struct NewAuthKey {
    /// Id of the key, for revoking it.
    pub id: String,
    /// The key.
    pub key: Secret,
}

impl NewAuthKey {
    pub(crate) fn new(id: String, key: String) -> Self {
        Self {
            id,
            key: Secret::new(key),
        }
    }
}

/// A key in the tailnet's list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Key {
    /// Id of the key.
    pub id: String,
    /// What its maker wrote; empty when the server does not tell.
    #[serde(default, deserialize_with = "null_is_default")]
    pub description: String,
}

/// A device of the tailnet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Stable id, the one proxies report.
    pub node_id: String,
    /// Full name, without a trailing dot; some servers leave the tailnet's domain out.
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    /// Name the device asked for.
    #[serde(default, deserialize_with = "null_is_default")]
    pub hostname: String,
    /// Addresses on the tailnet.
    #[serde(default, deserialize_with = "null_is_default")]
    pub addresses: Vec<String>,
    /// Tags it carries.
    #[serde(default, deserialize_with = "null_is_default")]
    pub tags: Vec<String>,
    /// Public key of its machine, `mkey:…`; empty when the server does not tell.
    #[serde(default, deserialize_with = "null_is_default")]
    pub machine_key: String,
}

#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    pub(crate) access_token: String,
    #[serde(default)]
    pub(crate) expires_in: Option<u64>,
}

/// `{"message"}` of the API, `{"error","error_description"}` of OAuth.
#[derive(Deserialize, Default)]
pub(crate) struct ErrorBody {
    pub(crate) message: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) error_description: Option<String>,
}

/// `null` as if it were not there.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
