//! Registration: who may join, as which node.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_tailnet_wire::control::{NodeId, RegisterRequest};
use isthmus_tailnet_wire::keys::{DiscoKey, MachineKey};
use isthmus_tailnet_wire::time::GoTime;
use jiff::{SignedDuration, Timestamp};

use super::{AuthKey, Node, State, names};

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The node may use the tailnet.
    Registered(NodeId),
    /// The node key is expired, or was by this request: the client must make another.
    KeyExpired,
    /// The request is refused.
    Refused(Refusal),
}

impl Outcome {
    /// The node that may use the tailnet now.
    pub(crate) fn node(&self) -> Option<NodeId> {
        match self {
            Self::Registered(id) => Some(*id),
            Self::KeyExpired | Self::Refused(_) => None,
        }
    }
}

/// Why a registration is refused. The text reaches the user of the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// There is no node key in the request.
    #[error("register node: the request has no node key")]
    NoNodeKey,
    /// The node key belongs to a node of another machine.
    #[error("register node: this node key belongs to another machine; make a new one")]
    ForeignNodeKey,
    /// There is no auth key in the request.
    #[error("register node: an auth key is needed, this server has no interactive login")]
    NoAuthKey,
    /// The auth key does not exist (any more).
    #[error("invalid key: the auth key is not known to this server; make a new one")]
    UnknownAuthKey,
    /// The auth key is too old.
    #[error("invalid key: auth key {id} is expired; make a new one")]
    ExpiredAuthKey {
        /// Its id.
        id: String,
    },
    /// The auth key is for one node, and one has registered with it.
    #[error("invalid key: auth key {id} is used up; make a new or a reusable one")]
    UsedAuthKey {
        /// Its id.
        id: String,
    },
    /// The client asks for a tag that its auth key does not give.
    #[error("requested tags [{tag}] are invalid or not permitted; make an auth key with that tag")]
    ForeignTag {
        /// The tag.
        tag: String,
    },
    /// All addresses are given out.
    #[error("register node: all addresses of the tailnet are given out")]
    NoAddress,
}

impl State {
    /// Registers, renews or logs out the node of a machine that proved to hold its machine key.
    pub(crate) fn register(&mut self, machine: MachineKey, request: &RegisterRequest, now: Timestamp) -> Outcome {
        if request.node_key.is_zero() {
            return Outcome::Refused(Refusal::NoNodeKey);
        }
        let known = self
            .node_by_key(request.node_key)
            .map(|node| (node.id, node.machine, node.is_expired(now)));
        if known.is_some_and(|(_, owner, _)| owner != machine) {
            return Outcome::Refused(Refusal::ForeignNodeKey);
        }
        if request.expiry.0.is_some_and(|expiry| expiry <= now) {
            if let Some((id, ..)) = known {
                self.log_out(id, now);
            }
            return Outcome::KeyExpired;
        }
        match known {
            Some((id, _, false)) => self.renew(id, request),
            Some((_, _, true)) if auth_key_of(request).is_empty() => Outcome::KeyExpired,
            Some((id, _, true)) => self.join(Some(id), machine, request, now),
            None => self.register_new_key(machine, request, now),
        }
    }

    /// A node key that is not known: of a node that changes its key, or of a new node.
    fn register_new_key(&mut self, machine: MachineKey, request: &RegisterRequest, now: Timestamp) -> Outcome {
        let old = self
            .node_of_machine(machine, request.old_node_key)
            .ok()
            .filter(|_| !request.old_node_key.is_zero());
        let rotated = old.filter(|node| !node.is_expired(now)).map(|node| node.id);
        if let (Some(id), true) = (rotated, auth_key_of(request).is_empty()) {
            return self.renew(id, request);
        }
        // One machine is one node here, so a machine that lost its node key comes back as the node it was.
        let same = old
            .or_else(|| self.nodes.values().find(|node| node.machine == machine))
            .map(|node| node.id);
        self.join(same, machine, request, now)
    }

    /// Takes over the node key and what the request tells about the machine.
    fn renew(&mut self, id: NodeId, request: &RegisterRequest) -> Outcome {
        if let Some(node) = self.nodes.get_mut(id) {
            node.node_key = request.node_key;
            node.version = request.version;
        }
        if let Some(hostinfo) = &request.hostinfo {
            self.update_hostinfo(id, hostinfo);
        }
        Outcome::Registered(id)
    }

    /// Joins by auth key: as the node `same`, or as a new one.
    fn join(
        &mut self,
        same: Option<NodeId>,
        machine: MachineKey,
        request: &RegisterRequest,
        now: Timestamp,
    ) -> Outcome {
        match self.try_join(same, machine, request, now) {
            Ok(id) => Outcome::Registered(id),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn try_join(
        &mut self,
        same: Option<NodeId>,
        machine: MachineKey,
        request: &RegisterRequest,
        now: Timestamp,
    ) -> Result<NodeId, Refusal> {
        let text = auth_key_of(request);
        if text.is_empty() {
            return Err(Refusal::NoAuthKey);
        }
        let key = self.find_auth_key(text, now)?.clone();
        check_tags(&key, request)?;
        let lifetime = self.settings.key_lifetime();
        let must_wait = same.is_none() && self.settings.approval;
        let id = match same {
            Some(id) => id,
            None => self.add_node(machine, request, now)?,
        };
        self.use_auth_key(&key.id);
        if let Some(node) = self.nodes.get_mut(id) {
            node.ephemeral = key.ephemeral || request.ephemeral;
            node.key_expiry = key_expiry(&key, request, lifetime, now);
            node.expiry_disabled = false;
            node.tags = key.tags;
            // Who was approved once stays so.
            node.is_waiting = !key.preauthorized && (must_wait || node.is_waiting);
        }
        self.renew(id, request);
        Ok(id)
    }

    fn add_node(&mut self, machine: MachineKey, request: &RegisterRequest, now: Timestamp) -> Result<NodeId, Refusal> {
        let (id, address) = self.allocate().ok_or(Refusal::NoAddress)?;
        let hostinfo = request.hostinfo.clone().unwrap_or_default();
        let wanted_label = names::wanted_label(&hostinfo.hostname);
        let node = Node {
            id,
            node_key: request.node_key,
            machine,
            disco_key: DiscoKey::default(),
            endpoints: Vec::new(),
            home_derp: 0,
            version: request.version,
            hostinfo,
            tags: Vec::new(),
            ephemeral: false,
            created: now,
            key_expiry: GoTime::ZERO,
            expiry_disabled: false,
            approved: BTreeSet::new(),
            is_label_given: false,
            is_waiting: false,
            last_seen: now,
            offered: Vec::new(),
            offered_hash: String::new(),
            attributes: BTreeMap::new(),
            label: self.free_label(&wanted_label, id),
            wanted_label,
            address,
        };
        self.nodes.insert(node);
        Ok(id)
    }

    /// An ephemeral node that logs out is gone; another one keeps its place for the next login.
    fn log_out(&mut self, id: NodeId, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if node.ephemeral {
            self.remove_node(id);
        } else {
            node.expire(now);
        }
    }
}

fn auth_key_of(request: &RegisterRequest) -> &str {
    request.auth.as_ref().map_or("", |auth| auth.auth_key.expose())
}

/// A client may ask only for tags that its auth key gives.
fn check_tags(key: &AuthKey, request: &RegisterRequest) -> Result<(), Refusal> {
    let mut requested = request.hostinfo.iter().flat_map(|hostinfo| &hostinfo.request_tags);
    match requested.find(|tag| !key.tags.contains(tag)) {
        Some(tag) => Err(Refusal::ForeignTag { tag: tag.clone() }),
        None => Ok(()),
    }
}

fn key_expiry(key: &AuthKey, request: &RegisterRequest, lifetime: SignedDuration, now: Timestamp) -> GoTime {
    if !key.tags.is_empty() {
        return GoTime::ZERO;
    }
    let latest = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
    request.expiry.0.map_or(latest, |wanted| wanted.min(latest)).into()
}
