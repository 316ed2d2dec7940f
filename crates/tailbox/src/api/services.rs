//! Tailscale Services, and who hosts them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Json;
use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::access::authorize;
use super::check_tailnet;
use super::devices::{find, no_such_device};
use super::edits::read as read_body;
use super::error::ApiError;
use super::keys::check_tags;
use crate::shared::Shared;
use crate::state::{self, Access, Approval, Node, Scope, ServiceSpec, View};

/// A Service as the API reads and writes it.
#[derive(Serialize, Deserialize)]
pub(super) struct Service {
    #[serde(default)]
    name: String,
    #[serde(default)]
    addrs: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

/// A list of Services.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Services {
    vip_services: Vec<Service>,
}

/// The nodes that want to host a Service.
#[derive(Serialize)]
pub(super) struct Hosts {
    hosts: Vec<Host>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    #[serde(rename = "stableNodeID")]
    stable_node_id: String,
    /// `approved:auto`, `approved:manual` or `not-approved`.
    approval_level: &'static str,
    /// `ready`, or `needs-configuration` when the node does not offer all of the Service's ports.
    configured: &'static str,
}

/// Whether a node may host a Service.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Approved {
    approved: bool,
    #[serde(default)]
    auto_approved: bool,
}

impl From<&state::Service> for Service {
    fn from(service: &state::Service) -> Self {
        Self {
            name: service.name.clone(),
            addrs: service.addresses().to_vec(),
            comment: service.comment.clone(),
            annotations: service.annotations.clone(),
            ports: service.ports.clone(),
            tags: service.tags.clone(),
        }
    }
}

/// `GET /api/v2/tailnet/{tailnet}/vip-services`
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Path(tailnet): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Services>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::Services, Access::Read)?;
    let vip_services = shared.state().services.values().map(Service::from).collect();
    Ok(Json(Services { vip_services }))
}

/// `GET /api/v2/tailnet/{tailnet}/vip-services/{name}`
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    Path((tailnet, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Service>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::Services, Access::Read)?;
    let state = shared.state();
    let service = state.services.get(&name).ok_or_else(no_such_service)?;
    Ok(Json(service.into()))
}

/// `PUT /api/v2/tailnet/{tailnet}/vip-services/{name}`: makes a Service, whose addresses are chosen here unless an IPv4 address is
/// given, or changes one, whose addresses must be repeated.
pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    Path((tailnet, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Service>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    let caller = authorize(&shared, &headers, Scope::Services, Access::Write)?;
    let service: Service = read_body(&body)?;
    if !service.name.is_empty() && service.name != name {
        return Err(ApiError::bad_request("the name in the body is not that of the path"));
    }
    check_tags(&shared, &caller, &service.tags)?;
    let spec = ServiceSpec {
        name,
        addresses: service.addrs,
        comment: service.comment,
        annotations: service.annotations,
        ports: service.ports,
        tags: service.tags,
    };
    let put = shared.commit(move |state| state.put_service(spec)).await?;
    let service = put.map_err(|error| ApiError::bad_request(error.to_string()))?;
    tracing::info!(service = service.name, "service changed by API");
    Ok(Json((&service).into()))
}

/// `DELETE /api/v2/tailnet/{tailnet}/vip-services/{name}`
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path((tailnet, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::Services, Access::Write)?;
    let removed = shared.commit(move |state| state.services.remove(&name)).await?;
    let service = removed.ok_or_else(no_such_service)?;
    tracing::info!(service = service.name, "service deleted by API");
    Ok(Json(serde_json::json!({})))
}

/// `GET /api/v2/tailnet/{tailnet}/services/{name}/devices`: the nodes that want to host a Service.
pub(super) async fn hosts(
    State(shared): State<Arc<Shared>>,
    Path((tailnet, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Hosts>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::Services, Access::Read)?;
    let state = shared.state();
    let service = state.services.get(&name).ok_or_else(no_such_service)?;
    let view = View::new(&state, &shared.tailnet);
    let wants = |node: &&Node| node.offered.iter().any(|offer| offer.name == name && offer.active);
    let hosts = state.nodes.values().filter(wants).map(|node| Host {
        stable_node_id: node.stable_id(),
        approval_level: match state.approval(service, node, &view) {
            Approval::Automatic => "approved:auto",
            Approval::Manual => "approved:manual",
            Approval::Missing => "not-approved",
        },
        configured: if service.is_offered_by(node) {
            "ready"
        } else {
            "needs-configuration"
        },
    });
    Ok(Json(Hosts { hosts: hosts.collect() }))
}

/// `GET /api/v2/tailnet/{tailnet}/services/{name}/device/{id}/approved`
pub(super) async fn read_approved(
    State(shared): State<Arc<Shared>>,
    Path((tailnet, name, device)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Approved>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::Services, Access::Read)?;
    approved(&shared, &name, &device)
}

/// `POST /api/v2/tailnet/{tailnet}/services/{name}/device/{id}/approved`
pub(super) async fn approve(
    State(shared): State<Arc<Shared>>,
    Path((tailnet, name, device)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Approved>, ApiError> {
    check_tailnet(&shared, &tailnet)?;
    authorize(&shared, &headers, Scope::Services, Access::Write)?;
    let wanted: Approved = read_body(&body)?;
    let node = find(&shared, &device)?;
    let service = name.clone();
    let decided = shared.commit(move |state| state.decide_host(&service, node, wanted.approved));
    if !decided.await? {
        return Err(no_such_service());
    }
    approved(&shared, &name, &device)
}

fn approved(shared: &Shared, name: &str, device: &str) -> Result<Json<Approved>, ApiError> {
    let state = shared.state();
    let service = state.services.get(name).ok_or_else(no_such_service)?;
    let node = state.nodes.get(find(shared, device)?).ok_or_else(no_such_device)?;
    let approval = state.approval(service, node, &View::new(&state, &shared.tailnet));
    Ok(Json(Approved {
        approved: approval != Approval::Missing,
        auto_approved: approval == Approval::Automatic,
    }))
}

fn no_such_service() -> ApiError {
    ApiError::not_found("there is no such service")
}
