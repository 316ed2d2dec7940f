//! Auth keys: what lets a machine join without a person.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::register::Refusal;
use super::{Credential, SecretHash, State};

/// How long an auth key lives when nothing else is asked for: 90 days.
const DEFAULT_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);

/// What an auth key shall be able to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthKeySpec {
    /// Whether more than one node may register with it.
    pub reusable: bool,
    /// Whether its nodes are removed soon after they disconnect.
    pub ephemeral: bool,
    /// Whether its nodes need no approval, where others do by the tailnet's settings.
    pub preauthorized: bool,
    /// The tags its nodes get (`tag:…`); without any, they belong to the tailnet's owner.
    pub tags: Vec<String>,
    /// How long it can be used; `None` is 90 days.
    pub lifetime: Option<SignedDuration>,
    /// For people.
    pub description: String,
}

/// An auth key as it is kept.
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthKey {
    /// Names the key; no secret.
    pub id: String,
    hash: SecretHash,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it cannot be used.
    pub expires: Timestamp,
    /// Whether more than one node may register with it.
    pub reusable: bool,
    /// Whether its nodes are removed soon after they disconnect.
    pub ephemeral: bool,
    /// Whether its nodes need no approval.
    pub preauthorized: bool,
    /// The tags its nodes get.
    pub tags: Vec<String>,
    /// For people.
    pub description: String,
    /// Whether a node registered with it.
    pub used: bool,
}

impl AuthKey {
    /// Whether a node can register with it.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        now < self.expires && (self.reusable || !self.used)
    }
}

impl State {
    /// Remembers a new auth key.
    pub(crate) fn add_auth_key(&mut self, credential: &Credential, spec: AuthKeySpec, now: Timestamp) -> AuthKey {
        let lifetime = spec.lifetime.unwrap_or(DEFAULT_LIFETIME);
        let key = AuthKey {
            id: credential.id.clone(),
            hash: credential.hash(),
            created: now,
            expires: now.checked_add(lifetime).unwrap_or(Timestamp::MAX),
            reusable: spec.reusable,
            ephemeral: spec.ephemeral,
            preauthorized: spec.preauthorized,
            tags: spec.tags,
            description: spec.description,
            used: false,
        };
        self.auth_keys.insert(key.id.clone(), key.clone());
        key
    }

    /// The usable auth key of this text. It is not used up yet: see [`Self::use_auth_key`].
    pub(super) fn find_auth_key(&self, text: &str, now: Timestamp) -> Result<&AuthKey, Refusal> {
        let (id, secret) = Credential::split(text, "auth").ok_or(Refusal::UnknownAuthKey)?;
        let key = self
            .auth_keys
            .get(id)
            .filter(|key| key.hash.matches(secret))
            .ok_or(Refusal::UnknownAuthKey)?;
        if now >= key.expires {
            return Err(Refusal::ExpiredAuthKey { id: id.to_owned() });
        }
        if !key.is_usable(now) {
            return Err(Refusal::UsedAuthKey { id: id.to_owned() });
        }
        Ok(key)
    }

    /// Marks an auth key as used.
    pub(super) fn use_auth_key(&mut self, id: &str) {
        if let Some(key) = self.auth_keys.get_mut(id) {
            key.used = true;
        }
    }
}
