//! The Secret: the operator's config keys beside the proxy's state keys.
//!
//! Server-side apply owns keys one by one, so the proxy's keys are not touched.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_contract::{
    annotation,
    device_config::{self, AuthKey, DeviceConfig},
    secret_key,
};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::Proxy;
use crate::service_proxy::{input::MintedKey, intent::Wanted};

/// How the proxy logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service_proxy) enum Login {
    /// It has a device already.
    Done {
        /// When the last key made for it ends, in seconds since 1970.
        last_key_ends: Option<i64>,
    },
    /// With this key.
    With(MintedKey),
}

/// `device_tags`: the tags its device is known to carry, as [`tag_list`] writes them.
pub(super) fn build(proxy: &Proxy<'_>, wanted: &Wanted, login: &Login, device_tags: Option<&str>) -> Secret {
    let mut metadata = proxy.metadata(&proxy.pod_name);
    let mut annotations = BTreeMap::new();
    annotations.extend(device_tags.map(|tags| (annotation::DEVICE_TAGS.to_owned(), tags.to_owned())));
    let auth_key = match login {
        Login::Done { last_key_ends } => {
            annotations.extend(last_key_ends.map(|end| (annotation::AUTH_KEY_EXPIRY.to_owned(), end.to_string())));
            None
        }
        Login::With(minted) => {
            annotations.extend([
                (annotation::AUTH_KEY_ID.to_owned(), minted.id.clone()),
                (annotation::AUTH_KEY_TAGS.to_owned(), minted.tags.clone()),
                (
                    annotation::AUTH_KEY_EXPIRY.to_owned(),
                    minted.expires.0.as_second().to_string(),
                ),
            ]);
            Some(minted.key.clone())
        }
    };
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    let mut device = DeviceConfig::standalone(&proxy.settings.login_server, &wanted.hostname, auth_key);
    device.accept_routes = proxy.accept_routes;
    let data = BTreeMap::from([
        (
            device_config::file_name(device_config::CAPABILITY),
            ByteString(device.render().into_bytes()),
        ),
        (
            secret_key::PROXY_CONFIG.to_owned(),
            ByteString(wanted.proxy_config().render().into_bytes()),
        ),
    ]);
    Secret {
        metadata,
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// The auth key that a Secret holds, with what its annotations say about it.
pub(in crate::service_proxy) fn stored_key(secret: &Secret) -> Option<MintedKey> {
    let key: AuthKey = stored_config(secret)?.auth_key?;
    let annotations = secret.metadata.annotations.as_ref()?;
    Some(MintedKey {
        id: annotations.get(annotation::AUTH_KEY_ID)?.clone(),
        tags: annotations.get(annotation::AUTH_KEY_TAGS)?.clone(),
        key,
        expires: Time(Timestamp::from_second(last_key_end(secret)?).ok()?),
    })
}

/// Whether the config that a Secret holds lets the node use routes of subnet routers.
pub(super) fn accepts_routes(secret: &Secret) -> bool {
    stored_config(secret).is_some_and(|config| config.accept_routes)
}

fn stored_config(secret: &Secret) -> Option<DeviceConfig> {
    let name = device_config::file_name(device_config::CAPABILITY);
    let data = secret.data.as_ref()?.get(&name)?;
    DeviceConfig::parse(std::str::from_utf8(&data.0).ok()?).ok()
}

/// The tags that a Secret says its device carries; `None` when nobody knows.
pub(in crate::service_proxy) fn known_tags(secret: &Secret) -> Option<&str> {
    secret
        .metadata
        .annotations
        .as_ref()?
        .get(annotation::DEVICE_TAGS)
        .map(String::as_str)
}

/// Tags as annotations hold them. Equal sets have equal texts.
pub fn tag_list(tags: &[String]) -> String {
    let tags: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
    tags.into_iter().collect::<Vec<_>>().join(",")
}

/// When the last auth key made for a Secret ends, in seconds since 1970, also when it has left the Secret.
pub(in crate::service_proxy) fn last_key_end(secret: &Secret) -> Option<i64> {
    let annotations = secret.metadata.annotations.as_ref()?;
    annotations.get(annotation::AUTH_KEY_EXPIRY)?.parse().ok()
}
