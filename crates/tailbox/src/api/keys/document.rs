//! Keys as the API shows them.

use isthmus_runtime::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::state::{AuthKey, OauthClient};

/// Body of a request for a new key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct KeyRequest {
    pub(super) key_type: String,
    pub(super) capabilities: Capabilities,
    pub(super) expiry_seconds: i64,
    pub(super) description: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) scopes: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) tags: Vec<String>,
}

/// What a key may do.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Capabilities {
    pub(super) devices: DeviceCapabilities,
}

/// What a key may do with devices.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DeviceCapabilities {
    pub(super) create: CreateDevice,
}

/// How devices are that register with a key.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct CreateDevice {
    pub(super) reusable: bool,
    pub(super) ephemeral: bool,
    pub(super) preauthorized: bool,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) tags: Vec<String>,
}

/// Go writes `null` for a list that nobody made.
fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A key. What does not apply to its type is left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct Key {
    id: String,
    #[serde(rename = "keyType")]
    kind: &'static str,
    #[serde(rename = "key", skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    description: String,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    invalid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
    scopes: Vec<String>,
    tags: Vec<String>,
}

impl Key {
    pub(super) fn of_auth_key(key: &AuthKey, now: Timestamp) -> Self {
        let create = CreateDevice {
            reusable: key.reusable,
            ephemeral: key.ephemeral,
            preauthorized: key.preauthorized,
            tags: key.tags.clone(),
        };
        Self {
            id: key.id.clone(),
            kind: "auth",
            secret: None,
            description: key.description.clone(),
            created: key.created,
            expires: Some(key.expires),
            invalid: !key.is_usable(now),
            capabilities: Some(Capabilities {
                devices: DeviceCapabilities { create },
            }),
            scopes: Vec::new(),
            tags: key.tags.clone(),
        }
    }

    pub(super) fn of_client(client: &OauthClient) -> Self {
        Self {
            id: client.id.clone(),
            kind: "client",
            secret: None,
            description: client.description.clone(),
            created: client.created,
            expires: None,
            invalid: false,
            capabilities: None,
            scopes: client.scopes.iter().cloned().collect(),
            tags: client.tags.iter().cloned().collect(),
        }
    }

    /// The key with its secret, for the one answer that shows it.
    pub(super) fn with_secret(self, secret: &Secret) -> Self {
        Self {
            secret: Some(secret.expose().to_owned()),
            ..self
        }
    }
}
