//! Version 1 of Headscale's API: gRPC messages as JSON, whose 64-bit numbers are texts. Read in `proto/headscale/v1` of Headscale 0.29.

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Error;

use super::Said;
use crate::types::{AuthKeyRequest, Device, Key, NewAuthKey, null_is_default};

pub(super) const KEYS: &str = "/api/v1/preauthkey";
pub(super) const DEVICES: &str = "/api/v1/node";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateKeyBody<'a> {
    reusable: bool,
    ephemeral: bool,
    expiration: Timestamp,
    acl_tags: &'a [String],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreatedKey {
    pre_auth_key: PreAuthKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyList {
    #[serde(default, deserialize_with = "null_is_default")]
    pre_auth_keys: Vec<PreAuthKey>,
}

#[derive(Deserialize)]
struct PreAuthKey {
    #[serde(deserialize_with = "number")]
    id: String,
    #[serde(default, deserialize_with = "null_is_default")]
    key: String,
}

#[derive(Deserialize)]
struct OneNode {
    node: Node,
}

#[derive(Deserialize)]
struct NodeList {
    #[serde(default, deserialize_with = "null_is_default")]
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    /// Also the stable id that the node finds in its network map.
    #[serde(deserialize_with = "number")]
    id: String,
    #[serde(default, deserialize_with = "null_is_default")]
    machine_key: String,
    #[serde(default, deserialize_with = "null_is_default")]
    ip_addresses: Vec<String>,
    /// What the node asked for.
    #[serde(default, deserialize_with = "null_is_default")]
    name: String,
    /// What it is called, without the tailnet's domain.
    #[serde(default, deserialize_with = "null_is_default")]
    given_name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    tags: Vec<String>,
}

impl From<Node> for Device {
    fn from(node: Node) -> Self {
        Self {
            node_id: node.id,
            name: node.given_name,
            hostname: node.name,
            addresses: node.ip_addresses,
            tags: node.tags,
            machine_key: node.machine_key,
        }
    }
}

pub(super) fn create_key(request: &AuthKeyRequest, now: Timestamp) -> Result<Said, Error> {
    let life = SignedDuration::try_from(request.expiry).unwrap_or(SignedDuration::MAX);
    let body = CreateKeyBody {
        reusable: false,
        ephemeral: false,
        expiration: now.saturating_add(life).unwrap_or(Timestamp::MAX),
        acl_tags: &request.tags,
    };
    Ok(Said::new(Method::POST, KEYS).with(serde_json::to_vec(&body)?))
}

pub(super) fn created_key(answer: &[u8]) -> Result<NewAuthKey, Error> {
    let CreatedKey { pre_auth_key: made } = serde_json::from_slice(answer)?;
    Ok(NewAuthKey::new(made.id, made.key))
}

pub(super) fn keys(answer: &[u8]) -> Result<Vec<Key>, Error> {
    let list: KeyList = serde_json::from_slice(answer)?;
    let keys = list.pre_auth_keys.into_iter().map(|key| Key {
        id: key.id,
        description: String::new(),
    });
    Ok(keys.collect())
}

pub(super) fn key(id: &str) -> Option<String> {
    is_number(id).then(|| format!("{KEYS}?id={id}"))
}

pub(super) fn devices(answer: &[u8]) -> Result<Vec<Device>, Error> {
    let list: NodeList = serde_json::from_slice(answer)?;
    Ok(list.nodes.into_iter().map(Device::from).collect())
}

pub(super) fn device(answer: &[u8]) -> Result<Device, Error> {
    serde_json::from_slice(answer).map(|one: OneNode| one.node.into())
}

pub(super) fn device_path(id: &str) -> Option<String> {
    is_number(id).then(|| format!("{DEVICES}/{id}"))
}

fn is_number(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_digit()) && id.parse::<u64>().is_ok()
}

/// A number, which gRPC gateways write as a text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Text(String),
        Plain(u64),
    }
    let text = match Number::deserialize(deserializer)? {
        Number::Text(text) => text,
        Number::Plain(number) => number.to_string(),
    };
    let wrong = || serde::de::Error::custom("an id is not a number");
    is_number(&text).then_some(text).ok_or_else(wrong)
}
