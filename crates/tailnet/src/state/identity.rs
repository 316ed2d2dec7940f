//! Who the node is: machine key, node key and profile, as the Go client stores them.

use isthmus_tailnet_core::netmap::OwnNode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ts_keys::{ExportableKey, MachineKeyPair, MachinePrivateKey, NodeKeyPair, NodePrivateKey};

use super::raw::RawObject;
use super::{StateChanges, StateValues};
use crate::node::NodePrefs;

const MACHINE_KEY: &str = "_machinekey";
/// Not known to the Go client: by it a device is found whose node could not tell its id.
const MACHINE_PUBLIC_KEY: &str = "isthmus_machinekey_public";
const CURRENT_PROFILE: &str = "_current-profile";
const PROFILES: &str = "_profiles";
const PROFILE_PREFIX: &str = "profile-";

/// Names that the Go client takes for one and the same control server.
const SAAS: [&str; 2] = ["https://controlplane.tailscale.com", "https://login.tailscale.com"];

/// A node's identity. It exists before the first registration and is stored then: a node that control knows but that has forgotten its
/// keys would be a second node.
pub struct Identity {
    /// Key of the machine, for the connection to control.
    pub machine: MachineKeyPair,
    /// Key of the node, for WireGuard.
    pub node: NodeKeyPair,
    /// The key that `node` takes the place of at the next registration.
    pub old_node: Option<NodeKeyPair>,
    profile: Profile,
}

/// The stored profile: preferences and the login they belong to.
struct Profile {
    key: String,
    prefs: RawObject,
    profiles: RawObject,
}

/// Why stored state is no identity.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A stored value is damaged.
    #[error("cannot use stored state: {key} is damaged; restore it, or remove the state to join as a new node")]
    Damaged {
        /// Key of the value.
        key: String,
    },
    /// The node key is bound to hardware of another machine.
    #[error(
        "cannot use stored state: {key} is bound to a hardware key (TPM); log in again on this machine with new state"
    )]
    HardwareBound {
        /// Key of the value.
        key: String,
    },
}

/// The person or device that a registration came out as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct UserProfile {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "LoginName")]
    login_name: String,
    #[serde(rename = "DisplayName")]
    display_name: String,
}

impl Identity {
    /// The identity for the control server at `server` in stored state, or a new one. The second value is what has to be stored before
    /// the identity is used.
    ///
    /// # Errors
    /// [`IdentityError`] when stored state exists and cannot be used. It is never overwritten then.
    pub fn load(values: &StateValues, server: &str) -> Result<(Self, StateChanges), IdentityError> {
        let mut changes = StateChanges::new();
        let stored = values
            .get(MACHINE_KEY)
            .map(|value| private_key::<MachinePrivateKey>(MACHINE_KEY, value));
        let machine = stored
            .transpose()?
            .map_or_else(MachineKeyPair::random, MachineKeyPair::from);
        if !values.contains_key(MACHINE_KEY) {
            changes.insert(MACHINE_KEY.to_owned(), Some(machine.export().to_string().into_bytes()));
        }
        if !values.contains_key(MACHINE_PUBLIC_KEY) {
            let public = machine.public.to_string().into_bytes();
            changes.insert(MACHINE_PUBLIC_KEY.to_owned(), Some(public));
        }
        if let Some(profile) = Profile::current(values, server)?
            && let Some((node, old_node)) = profile.keys()?
        {
            return Ok((
                Self {
                    machine,
                    node,
                    old_node,
                    profile,
                },
                changes,
            ));
        }
        let node = NodeKeyPair::random();
        let profile = Profile::new(values, server, &node)?;
        changes.extend(profile.changes());
        Ok((
            Self {
                machine,
                node,
                old_node: None,
                profile,
            },
            changes,
        ))
    }

    /// Whether control knew this identity once.
    pub fn was_logged_in(&self) -> bool {
        self.profile
            .config()
            .get::<String>("NodeID")
            .is_some_and(|id| !id.is_empty())
    }

    /// Records what the registration came out as; gives what has to be stored, nothing when that is stored already.
    /// The login name of a tagged device is its own name, whatever control sends. Of what the node's owner wants goes along what the Go
    /// client would want as well when it is started with this state: without a host name it asks for the machine's.
    pub fn logged_in(
        &mut self,
        own: &OwnNode,
        (login_name, display_name): (&str, &str),
        prefs: &NodePrefs,
    ) -> StateChanges {
        let login_name = if own.tags.is_empty() { login_name } else { own.fqdn() };
        let user = UserProfile {
            id: own.user,
            login_name: login_name.to_owned(),
            display_name: display_name.to_owned(),
        };
        self.old_node = None;
        let before = self.profile.changes();
        self.profile.set_login(&self.node, None, &own.stable_id, &user);
        self.profile.set_wishes(prefs);
        let after = self.profile.changes();
        if before == after { StateChanges::new() } else { after }
    }

    /// Makes a new node key, after control declared the present one expired. Gives what has to be stored before the key is used.
    pub fn renew_node_key(&mut self) -> StateChanges {
        let new = NodeKeyPair::random();
        let old = std::mem::replace(&mut self.node, new);
        self.profile.set_keys(&self.node, Some(&old));
        self.old_node = Some(old);
        self.profile.changes()
    }
}

impl Profile {
    /// The stored profile in use, when it belongs to `server`.
    fn current(values: &StateValues, server: &str) -> Result<Option<Self>, IdentityError> {
        let Some(name) = values.get(CURRENT_PROFILE) else {
            return Ok(None);
        };
        let key = String::from_utf8(name.clone()).map_err(|_| damaged(CURRENT_PROFILE))?;
        let Some(value) = values.get(&key) else { return Ok(None) };
        let prefs: RawObject = document(&key, value)?;
        let control: String = prefs.get("ControlURL").unwrap_or_else(|| SAAS[0].to_owned());
        let profiles = stored_profiles(values)?;
        Ok(same_server(&control, server).then_some(Self { key, prefs, profiles }))
    }

    fn new(values: &StateValues, server: &str, node: &NodeKeyPair) -> Result<Self, IdentityError> {
        let key = format!("{PROFILE_PREFIX}{:04x}", rand::random::<u16>());
        let mut prefs = RawObject::default();
        prefs.set("ControlURL", &server);
        prefs.set("WantRunning", &true);
        let mut profile = Self {
            key,
            prefs,
            profiles: stored_profiles(values)?,
        };
        profile.set_keys(node, None);
        profile.set_entry(server, "", &UserProfile::default());
        Ok(profile)
    }

    fn config(&self) -> RawObject {
        self.prefs.get("Config").unwrap_or_default()
    }

    /// The node key and the one before it; nothing for a profile without login.
    fn keys(&self) -> Result<Option<(NodeKeyPair, Option<NodeKeyPair>)>, IdentityError> {
        let config = self.config();
        if config.get::<serde_json::Value>("AttestationKey").is_some() {
            return Err(IdentityError::HardwareBound { key: self.key.clone() });
        }
        let key = |member: &str| -> Result<Option<NodeKeyPair>, IdentityError> {
            let text: String = config.get(member).unwrap_or_default();
            let is_none = text.trim_start_matches("privkey:").chars().all(|digit| digit == '0');
            if is_none {
                Ok(None)
            } else {
                Ok(Some(private_key::<NodePrivateKey>(&self.key, text.as_bytes())?.into()))
            }
        };
        let Some(node) = key("PrivateNodeKey")? else {
            return Ok(None);
        };
        Ok(Some((node, key("OldPrivateNodeKey")?)))
    }

    fn set_keys(&mut self, node: &NodeKeyPair, old: Option<&NodeKeyPair>) {
        let zero = || format!("privkey:{}", "0".repeat(64));
        let mut config = self.config();
        config.set("PrivateNodeKey", &node.export().to_string());
        config.set(
            "OldPrivateNodeKey",
            &old.map_or_else(zero, |old| old.export().to_string()),
        );
        self.prefs.set("Config", &config);
    }

    fn set_login(&mut self, node: &NodeKeyPair, old: Option<&NodeKeyPair>, stable_id: &str, user: &UserProfile) {
        self.set_keys(node, old);
        let mut config = self.config();
        config.set("NodeID", &stable_id);
        config.set("UserProfile", user);
        self.prefs.set("Config", &config);
        let server: String = self.prefs.get("ControlURL").unwrap_or_default();
        self.set_entry(&server, stable_id, user);
    }

    fn set_wishes(&mut self, prefs: &NodePrefs) {
        self.set_changed("Hostname", &prefs.hostname);
        self.set_changed("RouteAll", &prefs.accept_routes);
        let routes = prefs.advertise_routes.iter().map(ToString::to_string);
        self.set_changed("AdvertiseRoutes", &routes.collect::<Vec<_>>());
        let services = prefs.advertise_services.keys().cloned();
        self.set_changed("AdvertiseServices", &services.collect::<Vec<_>>());
    }

    /// Sets a preference, unless it has the value: absent, `null` and empty are one.
    fn set_changed<T: Serialize + DeserializeOwned + Default + PartialEq>(&mut self, name: &str, value: &T) {
        if self.prefs.get::<T>(name).unwrap_or_default() != *value {
            self.prefs.set(name, value);
        }
    }

    /// The profile's entry in the list of profiles.
    fn set_entry(&mut self, server: &str, stable_id: &str, user: &UserProfile) {
        let id = self.key.trim_start_matches(PROFILE_PREFIX);
        let mut entry: RawObject = self.profiles.get(id).unwrap_or_default();
        entry.set("ID", &id);
        entry.set("Name", &user.login_name);
        entry.set("Key", &self.key);
        entry.set("UserProfile", user);
        entry.set("NodeID", &stable_id);
        entry.set("ControlURL", &server);
        self.profiles.set(id, &entry);
    }

    fn changes(&self) -> StateChanges {
        let json = |object: &RawObject| Some(serde_json::to_vec(object).expect("raw JSON serialises"));
        StateChanges::from([
            (CURRENT_PROFILE.to_owned(), Some(self.key.clone().into_bytes())),
            (PROFILES.to_owned(), json(&self.profiles)),
            (self.key.clone(), json(&self.prefs)),
        ])
    }
}

fn stored_profiles(values: &StateValues) -> Result<RawObject, IdentityError> {
    values
        .get(PROFILES)
        .map_or_else(|| Ok(RawObject::default()), |value| document(PROFILES, value))
}

fn same_server(a: &str, b: &str) -> bool {
    let plain = |url: &str| url.trim_end_matches('/').to_ascii_lowercase();
    let (a, b) = (plain(a), plain(b));
    a == b || (SAAS.contains(&a.as_str()) && SAAS.contains(&b.as_str()))
}

fn private_key<K: std::str::FromStr>(key: &str, value: &[u8]) -> Result<K, IdentityError> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| damaged(key))
}

fn document<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, IdentityError> {
    serde_json::from_slice(value).map_err(|_| damaged(key))
}

fn damaged(key: &str) -> IdentityError {
    IdentityError::Damaged { key: key.to_owned() }
}

#[cfg(test)]
mod tests;
