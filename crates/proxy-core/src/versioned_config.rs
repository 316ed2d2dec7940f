//! The `cap-<N>.hujson` document that an operator writes for the node.

use isthmus_contract::device_config::{self, AuthKey};
use serde_json::Value;
use thiserror::Error;

use crate::settings::Login;

/// The highest capability version whose documents this proxy reads.
pub const CAPABILITY_VERSION: u32 = 119;

/// What a `cap-<N>.hujson` says, as far as this proxy acts on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionedConfig {
    /// How to log in.
    pub login: Login,
    /// Whether local changes of these settings are refused.
    pub locked: bool,
    /// Whether the tailnet's DNS is taken over.
    pub accept_dns: bool,
    /// The routes to advertise.
    pub advertise_routes: Vec<ipnet::IpNet>,
}

/// Why a document was not taken.
#[derive(Debug, Error)]
pub enum VersionedConfigError {
    /// It is no HuJSON.
    #[error("cannot read the node configuration: it is no HuJSON, correct it where the cause says")]
    Syntax(#[source] Box<jsonc_parser::errors::ParseError>),
    /// It is no object.
    #[error("cannot read the node configuration: write one object in braces")]
    NotAnObject,
    /// It is of another version.
    #[error("cannot read node configuration version {found:?}: write Version \"alpha0\"")]
    Version {
        /// What it says.
        found: String,
    },
    /// A field is of the wrong kind.
    #[error("cannot use field {field} of the node configuration: write {wanted}")]
    Field {
        /// The field's name as the document's format writes it.
        field: &'static str,
        /// What belongs there.
        wanted: &'static str,
    },
}

/// Picks the file with the highest `N` that is not above `highest`, among names like `cap-107.hujson`.
///
/// A file called `tailscaled` counts as version 0. None when no name fits.
pub fn select_versioned_config<'a>(names: impl IntoIterator<Item = &'a str>, highest: u32) -> Option<&'a str> {
    names
        .into_iter()
        .filter_map(|name| Some((version_of_name(name)?, name)))
        .filter(|(version, _)| *version <= highest)
        .max()
        .map(|(_, name)| name)
}

fn version_of_name(name: &str) -> Option<u32> {
    if name == "tailscaled" {
        return Some(0);
    }
    device_config::capability_of(name)
}

/// Reads a document. Names of fields are compared without regard to case; unknown fields are left alone.
pub fn parse_versioned_config(text: &str) -> Result<VersionedConfig, VersionedConfigError> {
    let value: Option<Value> = jsonc_parser::parse_to_serde_value(text, &jsonc_parser::ParseOptions::default())
        .map_err(|error| VersionedConfigError::Syntax(Box::new(error)))?;
    let Some(Value::Object(object)) = value else {
        return Err(VersionedConfigError::NotAnObject);
    };
    let fields = Fields(
        object
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect(),
    );
    match fields.text("Version")?.as_deref() {
        Some(device_config::VERSION) => {}
        other => {
            return Err(VersionedConfigError::Version {
                found: other.unwrap_or_default().to_owned(),
            });
        }
    }
    Ok(VersionedConfig {
        login: Login {
            auth_key: fields.text("AuthKey")?.filter(|key| !key.is_empty()).map(AuthKey::new),
            hostname: fields.text("Hostname")?.filter(|name| !name.is_empty()),
            control_url: fields.text("ServerURL")?.filter(|url| !url.is_empty()),
            accept_routes: fields.boolean("acceptRoutes", true)?,
        },
        locked: fields.boolean("Locked", true)?,
        accept_dns: fields.boolean("acceptDNS", true)?,
        advertise_routes: fields.networks("AdvertiseRoutes")?,
    })
}

struct Fields<'a>(std::collections::BTreeMap<String, &'a Value>);

impl Fields<'_> {
    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .get(&name.to_lowercase())
            .copied()
            .filter(|value| !value.is_null())
    }

    fn text(&self, field: &'static str) -> Result<Option<String>, VersionedConfigError> {
        self.get(field)
            .map(|value| value.as_str().map(str::to_owned))
            .map(|text| {
                text.ok_or(VersionedConfigError::Field {
                    field,
                    wanted: "text in quotes",
                })
            })
            .transpose()
    }

    fn boolean(&self, field: &'static str, default: bool) -> Result<bool, VersionedConfigError> {
        let wanted = "true or false";
        self.get(field).map_or(Ok(default), |value| {
            // Older operators write booleans as text.
            value
                .as_bool()
                .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
                .ok_or(VersionedConfigError::Field { field, wanted })
        })
    }

    fn networks(&self, field: &'static str) -> Result<Vec<ipnet::IpNet>, VersionedConfigError> {
        let error = || VersionedConfigError::Field {
            field,
            wanted: "a list of networks like \"10.0.0.0/8\"",
        };
        let Some(value) = self.get(field) else {
            return Ok(Vec::new());
        };
        let list = value.as_array().ok_or_else(error)?;
        list.iter()
            .map(|item| item.as_str().and_then(|text| text.parse().ok()).ok_or_else(error))
            .collect()
    }
}

#[cfg(test)]
mod tests;
