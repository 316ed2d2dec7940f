//! Version 2 of the Tailscale API, as <https://tailscale.com/api> documents it. Without a name of its own, `-` is the tailnet of the
//! credentials.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Error;

use super::{Said, segment};
use crate::types::{AuthKeyRequest, Device, Key, NewAuthKey, null_is_default};

pub(super) const KEYS: &str = "/api/v2/tailnet/-/keys";
pub(super) const DEVICES: &str = "/api/v2/tailnet/-/devices";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateKeyBody<'a> {
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

#[derive(Deserialize)]
struct CreatedKey {
    id: String,
    key: String,
}

#[derive(Deserialize)]
struct KeyList {
    #[serde(default, deserialize_with = "null_is_default")]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct DeviceList {
    #[serde(default, deserialize_with = "null_is_default")]
    devices: Vec<Device>,
}

pub(super) fn create_key(request: &AuthKeyRequest) -> Result<Said, Error> {
    let create = CreateCapability {
        reusable: false,
        ephemeral: false,
        tags: &request.tags,
        preauthorized: true,
    };
    let body = CreateKeyBody {
        capabilities: Capabilities {
            devices: DeviceCapabilities { create },
        },
        expiry_seconds: request.expiry.as_secs(),
        description: &request.description,
    };
    Ok(Said::new(Method::POST, KEYS).with(serde_json::to_vec(&body)?))
}

pub(super) fn created_key(answer: &[u8]) -> Result<NewAuthKey, Error> {
    let CreatedKey { id, key } = serde_json::from_slice(answer)?;
    Ok(NewAuthKey::new(id, key))
}

pub(super) fn keys(answer: &[u8]) -> Result<Vec<Key>, Error> {
    serde_json::from_slice(answer).map(|list: KeyList| list.keys)
}

pub(super) fn key(id: &str) -> String {
    format!("{KEYS}/{}", segment(id))
}

pub(super) fn devices(answer: &[u8]) -> Result<Vec<Device>, Error> {
    serde_json::from_slice(answer).map(|list: DeviceList| list.devices)
}

pub(super) fn device_path(id: &str) -> String {
    format!("/api/v2/device/{}", segment(id))
}
