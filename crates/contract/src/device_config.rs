//! The node's configuration: `cap-<N>.hujson` in the proxy's Secret.
//!
//! The shape and its mixed capitalisation are those of tailscaled's config file, version `alpha0`. N is the lowest
//! capability version that understands the file; a proxy takes the file with the highest N it understands.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The only version of the document there is.
pub const VERSION: &str = "alpha0";
/// The N of the file the operator writes.
pub const CAPABILITY: u32 = 107;

/// The Secret key of the config for capability version `capability`.
pub fn file_name(capability: u32) -> String {
    format!("cap-{capability}.hujson")
}

/// The capability version a Secret key or file name stands for; `None` when it is not a config file.
pub fn capability_of(file_name: &str) -> Option<u32> {
    file_name.strip_prefix("cap-")?.strip_suffix(".hujson")?.parse().ok()
}

/// What the node is told at start. Members that are not listed are ignored when reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeviceConfig {
    /// Always [`VERSION`].
    pub version: String,
    /// Whether the node refuses changes by other means. The operator writes `false`.
    #[serde(default)]
    pub locked: bool,
    /// URL of the control server, without a trailing slash.
    #[serde(rename = "ServerURL", default, skip_serializing_if = "Option::is_none")]
    pub server_url: Option<String>,
    /// The key for the first login; gone once the device exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_key: Option<AuthKey>,
    /// Device name wanted on the tailnet: one DNS label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Whether the node takes DNS settings from control.
    #[serde(rename = "acceptDNS", default)]
    pub accept_dns: bool,
    /// Whether the node uses subnet routes of its peers.
    #[serde(rename = "acceptRoutes", default)]
    pub accept_routes: bool,
    /// Whether the app connector runs. Absent means no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_connector: Option<AppConnector>,
    /// Whether forwarded flows are exempt from stateful filtering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_stateful_filtering: Option<bool>,
}

/// The app connector's switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AppConnector {
    /// Whether the node announces itself as an app connector.
    pub advertise: bool,
}

impl DeviceConfig {
    /// The config of a standalone proxy: named `hostname`, logging in at `server_url`.
    pub fn standalone(server_url: &str, hostname: &str, auth_key: Option<AuthKey>) -> Self {
        Self {
            version: VERSION.to_owned(),
            locked: false,
            server_url: Some(server_url.to_owned()),
            auth_key,
            hostname: Some(hostname.to_owned()),
            accept_dns: false,
            accept_routes: false,
            app_connector: Some(AppConnector { advertise: false }),
            no_stateful_filtering: Some(true),
        }
    }

    /// The document as it stands in the Secret.
    pub fn render(&self) -> String {
        serde_json::to_string(self).expect("a struct of strings and booleans always serialises")
    }

    /// Reads plain JSON; comments have to be removed before.
    ///
    /// # Errors
    /// When the text is not JSON of this shape.
    pub fn parse(text: &str) -> Result<Self, ParseDeviceConfigError> {
        serde_json::from_str(text).map_err(ParseDeviceConfigError)
    }
}

/// The text is not a device config.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the device config: it must be JSON with the members of tailscaled's config file")]
pub struct ParseDeviceConfigError(#[source] serde_json::Error);

/// A key that lets one device join the tailnet. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AuthKey(String);

impl AuthKey {
    /// Takes the key as the control server gave it, `tskey-auth-…`.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key itself. Only for the config document and for logging in.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AuthKey(redacted)")
    }
}

#[cfg(test)]
mod tests;
