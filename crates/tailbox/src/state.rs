//! The tailnet as data: nodes, keys, clients, and the network maps they make.
//!
//! Nothing here reads a clock, makes randomness or does I/O: time and new secrets come in as arguments, so every rule
//! can be tested alone. A change is made on a copy that takes the place of the original once it is stored.

mod addresses;
mod auth_keys;
mod credentials;
mod edits;
mod maps;
mod names;
mod nodes;
mod oauth;
mod picture;
mod presence;
mod register;
mod roster;
mod routes;
mod services;
mod settings;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;

use isthmus_tailnet_wire::control::{DerpMap, DnsRecord, NodeId};
use serde::{Deserialize, Serialize};

use crate::policy::Policy;

pub use auth_keys::{AuthKey, AuthKeySpec};
pub(crate) use credentials::{Credential, SecretHash};
pub use edits::{Attribute, Edit, EditError};
pub(crate) use maps::profile;
pub use nodes::Node;
pub(crate) use nodes::UnknownNode;
pub(crate) use oauth::{Access, Caller, ClientSpec, OauthClient, OauthError, Scope, Token, TokenRequest};
pub(crate) use picture::Picture;
pub(crate) use presence::Presence;
pub(crate) use register::Outcome;
pub(crate) use roster::Roster;
pub(crate) use routes::View;
pub(crate) use services::{Approval, Service};
pub use services::{ServiceError, ServiceSpec};
pub(crate) use settings::Settings;
pub(crate) use steps::Step;

/// The user that untagged nodes belong to.
pub(crate) const OWNER: i64 = 1;
/// The user that tagged nodes are shown under; no person.
pub(crate) const TAGGED: i64 = 2;

/// What is fixed while a tailbox runs.
#[derive(Clone, Debug)]
pub(crate) struct Tailnet {
    /// DNS suffix of the tailnet, without dots at its ends.
    pub(crate) domain: String,
    /// The relays that clients are told.
    pub(crate) derp_map: DerpMap,
    /// DNS records beside those of nodes.
    pub(crate) extra_records: Vec<DnsRecord>,
}

/// All that a tailbox remembers, and the content of its snapshot file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Nodes by number.
    pub(crate) nodes: Roster,
    /// The highest number given to a node so far; numbers are never used again.
    last_node_id: NodeId,
    /// The highest address given out so far, as the distance from the start of both ranges.
    last_address: u32,
    /// Auth keys by id.
    pub(crate) auth_keys: BTreeMap<String, AuthKey>,
    /// OAuth clients by id.
    pub(crate) clients: BTreeMap<String, OauthClient>,
    /// Access tokens by id.
    pub(crate) tokens: BTreeMap<String, Token>,
    /// Who may do what; without one, everybody may reach everybody.
    #[serde(default)]
    pub(crate) policy: Option<Arc<Policy>>,
    /// Tailscale Services by name.
    #[serde(default)]
    pub(crate) services: BTreeMap<String, Service>,
    /// What holds for the whole tailnet.
    #[serde(default)]
    pub(crate) settings: Settings,
}

#[cfg(test)]
mod tests;
