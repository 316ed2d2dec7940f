//! The Secret: the operator's config keys beside the proxy's state keys.
//!
//! Server-side apply owns keys one by one, so the proxy's keys are not touched.

use std::collections::BTreeMap;

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
    Done,
    /// With this key.
    With(MintedKey),
}

pub(super) fn build(proxy: &Proxy<'_>, wanted: &Wanted, login: &Login) -> Secret {
    let mut metadata = proxy.metadata(&proxy.pod_name);
    let auth_key = match login {
        Login::Done => None,
        Login::With(minted) => {
            metadata.annotations = Some(BTreeMap::from([
                (annotation::AUTH_KEY_ID.to_owned(), minted.id.clone()),
                (
                    annotation::AUTH_KEY_EXPIRY.to_owned(),
                    minted.expires.0.as_second().to_string(),
                ),
            ]));
            Some(minted.key.clone())
        }
    };
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
    let seconds = annotations.get(annotation::AUTH_KEY_EXPIRY)?.parse().ok()?;
    Some(MintedKey {
        id: annotations.get(annotation::AUTH_KEY_ID)?.clone(),
        key,
        expires: Time(Timestamp::from_second(seconds).ok()?),
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
