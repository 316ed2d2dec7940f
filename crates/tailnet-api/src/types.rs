//! What the API's documents mean, as far as the operator uses them.

use std::time::Duration;

use isthmus_runtime::Secret;
use serde::{Deserialize, Deserializer, Serialize};

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
    /// Full name, without a trailing dot.
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateKeyBody<'a> {
    capabilities: Capabilities<'a>,
    expiry_seconds: u64,
    description: &'a str,
}

#[derive(Serialize)]
struct Capabilities<'a> {
    devices: DeviceCapabilities<'a>,
}

#[derive(Serialize)]
struct DeviceCapabilities<'a> {
    create: CreateCapability<'a>,
}

#[derive(Serialize)]
struct CreateCapability<'a> {
    reusable: bool,
    ephemeral: bool,
    tags: &'a [String],
    preauthorized: bool,
}

impl<'a> From<&'a AuthKeyRequest> for CreateKeyBody<'a> {
    fn from(request: &'a AuthKeyRequest) -> Self {
        let create = CreateCapability {
            reusable: false,
            ephemeral: false,
            tags: &request.tags,
            preauthorized: true,
        };
        Self {
            capabilities: Capabilities {
                devices: DeviceCapabilities { create },
            },
            expiry_seconds: request.expiry.as_secs(),
            description: &request.description,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct TagsBody<'a> {
    pub(crate) tags: &'a [String],
}

#[derive(Deserialize)]
pub(crate) struct CreatedKey {
    pub(crate) id: String,
    pub(crate) key: String,
}

#[derive(Deserialize)]
pub(crate) struct KeyList {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) keys: Vec<Key>,
}

#[derive(Deserialize)]
pub(crate) struct DeviceList {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) devices: Vec<Device>,
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

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
