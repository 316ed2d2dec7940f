//! Devices: the nodes of the tailnet.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Json;
use http::HeaderMap;
use ipnet::IpNet;
use isthmus_tailnet_wire::control::NodeId;
use isthmus_tailnet_wire::keys::{MachineKey, NodeKey};
use isthmus_tailnet_wire::time::GoTime;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::access::authorize;
use super::check_tailnet;
use super::error::ApiError;
use crate::shared::Shared;
use crate::state::{Access, Node, Presence, Scope, profile};

/// A list of devices.
#[derive(Serialize)]
pub(super) struct Devices {
    devices: Vec<Device>,
}

/// A node as the API shows it.
#[expect(clippy::struct_excessive_bools, reason = "the API has them")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    /// The number as text.
    id: String,
    /// The stable id.
    node_id: String,
    /// Fully qualified, without the final dot.
    name: String,
    hostname: String,
    addresses: Vec<String>,
    authorized: bool,
    user: String,
    tags: Vec<String>,
    key_expiry_disabled: bool,
    expires: GoTime,
    created: Timestamp,
    /// Not told of a device that is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Timestamp>,
    connected_to_control: bool,
    is_ephemeral: bool,
    is_external: bool,
    blocks_incoming_connections: bool,
    update_available: bool,
    client_version: String,
    os: String,
    machine_key: MachineKey,
    node_key: NodeKey,
    tailnet_lock_error: String,
    tailnet_lock_key: String,
    advertised_routes: BTreeSet<IpNet>,
    enabled_routes: BTreeSet<IpNet>,
    ssh_enabled: bool,
}

impl Device {
    fn new(node: &Node, shared: &Shared, presence: &Presence) -> Self {
        let domain = &shared.tailnet.domain;
        let online = presence.is_online(node.id);
        Self {
            id: node.id.to_string(),
            node_id: node.stable_id(),
            name: node.fqdn(domain).trim_end_matches('.').to_owned(),
            hostname: node.hostinfo.hostname.clone(),
            addresses: vec![node.v4().to_string(), node.v6().to_string()],
            authorized: !node.is_waiting,
            user: profile(node.user(), domain).login_name,
            tags: node.tags.clone(),
            key_expiry_disabled: node.expiry().is_zero(),
            expires: node.expiry(),
            created: node.created,
            last_seen: (!online).then(|| presence.left(node.id).unwrap_or(node.last_seen)),
            connected_to_control: online,
            is_ephemeral: node.ephemeral,
            is_external: false,
            blocks_incoming_connections: node.hostinfo.shields_up,
            update_available: false,
            client_version: node.hostinfo.ipn_version.clone(),
            os: node.hostinfo.os.clone(),
            machine_key: node.machine,
            node_key: node.node_key,
            tailnet_lock_error: String::new(),
            tailnet_lock_key: String::new(),
            advertised_routes: node.advertised(),
            enabled_routes: node.approved.clone(),
            ssh_enabled: !node.hostinfo.ssh_host_keys.is_empty(),
        }
    }

    /// Whether each member that is filtered by has one of the values given for it. What is no member filters nothing.
    fn fits(&self, filters: &[(String, String)]) -> bool {
        if filters.is_empty() {
            return true;
        }
        let document = serde_json::to_value(self).unwrap_or_default();
        let has = |member: &Value, value: &str| match member {
            Value::String(text) => text == value,
            Value::Bool(flag) => flag.to_string() == value,
            Value::Array(list) => list.iter().any(|one| one == value),
            Value::Null | Value::Number(_) | Value::Object(_) => false,
        };
        let mut named = filters.iter().filter_map(|(name, _)| Some((name, document.get(name)?)));
        named.all(|(name, member)| {
            let mut values = filters.iter().filter(|(other, _)| other == name);
            values.any(|(_, value)| has(member, value))
        })
    }
}

/// `GET /api/v2/tailnet/{tailnet}/devices`, those that fit the question's filters: `tags=tag:web&tags=tag:db&os=linux`.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Path(tailnet): Path<String>,
    Query(filters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Json<Devices>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::Devices, Access::Read)?;
    let presence = shared.presence();
    let devices = shared
        .state()
        .nodes
        .values()
        .map(|node| Device::new(node, &shared, &presence))
        .filter(|device| device.fits(&filters))
        .collect();
    Ok(Json(Devices { devices }))
}

/// `GET /api/v2/device/{id}`, where the id is either of a device's two.
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Device>, ApiError> {
    authorize(&shared, &headers, Scope::Devices, Access::Read)?;
    let state = shared.state();
    let node = find(&shared, &id)?;
    let node = state.nodes.get(node).ok_or_else(no_such_device)?;
    Ok(Json(Device::new(node, &shared, &shared.presence())))
}

/// `DELETE /api/v2/device/{id}`: the node's map stream ends, and its node key is unknown from then on.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, ApiError> {
    authorize(&shared, &headers, Scope::Devices, Access::Write)?;
    let node = find(&shared, &id)?;
    if shared.commit(move |state| state.remove_node(node)).await? {
        tracing::info!(node, "device deleted by API");
        Ok(Json(serde_json::json!({})))
    } else {
        Err(no_such_device())
    }
}

pub(super) fn find(shared: &Shared, id: &str) -> Result<NodeId, ApiError> {
    shared.state().find_device(id).ok_or_else(no_such_device)
}

pub(super) fn no_such_device() -> ApiError {
    ApiError::not_found("there is no such device")
}
