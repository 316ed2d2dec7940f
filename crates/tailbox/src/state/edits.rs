//! What the API changes about nodes.

use std::collections::BTreeSet;

use ipnet::IpNet;
use isthmus_tailnet_wire::control::NodeId;
use isthmus_tailnet_wire::time::GoTime;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Node, State, names};

/// A change of a node by the API.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Other tags. A tagged node belongs to no person, so its key does not expire.
    Tags(Vec<String>),
    /// A label of its own, or the one of its host name again.
    Label(Option<String>),
    /// Whether the key is valid for ever.
    ExpiryDisabled(bool),
    /// The key expires now.
    Expire,
    /// Whether it may use the tailnet.
    Authorized(bool),
    /// The routes that it may carry.
    Routes(BTreeSet<IpNet>),
    /// Something noted about it under this key; nothing takes the note away.
    Attribute(String, Option<Attribute>),
}

/// What a caller of the API noted about a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// A text, a number or a truth value.
    pub value: serde_json::Value,
    /// When it is forgotten; nothing for never.
    pub expiry: Option<Timestamp>,
}

/// Why a node is not changed. The text reaches the caller of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The node is gone.
    #[error("there is no such device")]
    NoSuchNode,
    /// The name is no DNS label.
    #[error("name {name:?} is not a DNS label: use letters, digits and inner hyphens, at most 63")]
    NotLabel {
        /// The name.
        name: String,
    },
    /// Another node or a Service has the name.
    #[error("name {name:?} is taken by another device or a service")]
    Taken {
        /// The name.
        name: String,
    },
}

impl State {
    /// Changes a node.
    pub(crate) fn edit(&mut self, id: NodeId, edit: Edit, now: Timestamp) -> Result<(), EditError> {
        if let Edit::Label(label) = edit {
            return self.set_label(id, label);
        }
        let node = self.nodes.get_mut(id).ok_or(EditError::NoSuchNode)?;
        match edit {
            Edit::Tags(tags) => {
                node.tags = tags;
                node.key_expiry = GoTime::ZERO;
            }
            Edit::ExpiryDisabled(disabled) => node.expiry_disabled = disabled,
            Edit::Expire => node.expire(now),
            Edit::Authorized(authorized) => node.is_waiting = !authorized,
            Edit::Routes(routes) => node.approved = routes,
            Edit::Attribute(key, Some(attribute)) => {
                node.attributes.insert(key, attribute);
            }
            Edit::Attribute(key, None) => {
                node.attributes.remove(&key);
            }
            Edit::Label(_) => {}
        }
        Ok(())
    }

    fn set_label(&mut self, id: NodeId, label: Option<String>) -> Result<(), EditError> {
        let node = self.nodes.get(id).ok_or(EditError::NoSuchNode)?;
        let (label, is_given) = match label {
            Some(name) => (self.check_label(id, name)?, true),
            None => (self.free_label(&node.wanted_label, id), false),
        };
        if let Some(node) = self.nodes.get_mut(id) {
            (node.label, node.is_label_given) = (label, is_given);
        }
        Ok(())
    }

    fn check_label(&self, id: NodeId, name: String) -> Result<String, EditError> {
        let label = name.to_ascii_lowercase();
        if names::wanted_label(&label) != label {
            return Err(EditError::NotLabel { name });
        }
        let is_other = |node: &Node| node.id != id && node.label == label;
        if self.nodes.values().any(is_other) || self.services.contains_key(&format!("svc:{label}")) {
            return Err(EditError::Taken { name });
        }
        Ok(label)
    }
}
