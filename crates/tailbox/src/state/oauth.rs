//! OAuth clients and their access tokens.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Credential, SecretHash, State};

/// Reading or changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only reading.
    Read,
    /// Changing, which includes reading.
    Write,
}

/// What a token may be used for, as far as this server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Auth keys.
    AuthKeys,
    /// OAuth clients.
    OauthKeys,
    /// Devices.
    Devices,
    /// Routes of devices.
    Routes,
    /// The policy.
    PolicyFile,
    /// Attributes of devices.
    Attributes,
    /// Tailscale Services.
    Services,
    /// Settings of the tailnet.
    Settings,
}

impl Scope {
    /// The names that grant it, without `:read`.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::AuthKeys => &["all", "auth_keys"],
            Self::OauthKeys => &["all", "oauth_keys"],
            Self::Devices => &["all", "devices", "devices:core"],
            Self::Routes => &["all", "devices", "devices:core", "devices:routes"],
            Self::PolicyFile => &["all", "policy_file"],
            Self::Attributes => &["all", "devices", "devices:posture_attributes"],
            Self::Services => &["all", "services"],
            Self::Settings => &["all", "feature_settings"],
        }
    }

    /// Whether one of the granted names covers this access.
    fn is_granted(self, granted: &BTreeSet<String>, access: Access) -> bool {
        self.names().iter().any(|name| {
            granted.contains(*name) || (access == Access::Read && granted.contains(&format!("{name}:read")))
        })
    }
}

/// What an OAuth client shall be able to do.
#[derive(Clone, Debug)]
pub(crate) struct ClientSpec {
    /// Scopes by name. Names this server does not have are kept and grant nothing.
    pub(crate) scopes: BTreeSet<String>,
    /// The tags that its auth keys may give.
    pub(crate) tags: BTreeSet<String>,
    /// For people.
    pub(crate) description: String,
}

/// An OAuth client as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OauthClient {
    pub(crate) id: String,
    hash: SecretHash,
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) description: String,
    pub(crate) created: Timestamp,
}

/// An access token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    hash: SecretHash,
    client_id: String,
    scopes: BTreeSet<String>,
    tags: BTreeSet<String>,
    expires: Timestamp,
}

/// A request for an access token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenRequest<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) client_secret: &'a str,
    /// Scopes to narrow down to, separated by spaces; empty for all of the client's.
    pub(crate) scope: &'a str,
    /// How long the token shall live.
    pub(crate) lifetime: SignedDuration,
}

/// Why no token is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OauthError {
    /// Id or secret is wrong.
    #[error("client id or secret is wrong")]
    InvalidClient,
    /// A scope is asked for that the client does not have.
    #[error("the client does not have all of the requested scopes")]
    InvalidScope,
}

/// Who calls the API.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    scopes: BTreeSet<String>,
    tags: BTreeSet<String>,
}

impl Caller {
    /// Whether the caller may do this.
    pub(crate) fn may(&self, scope: Scope, access: Access) -> bool {
        scope.is_granted(&self.scopes, access)
    }

    /// The first of these scopes that the caller does not have itself and so may not give.
    pub(crate) fn foreign_scope<'a>(&self, scopes: &'a [String]) -> Option<&'a String> {
        scopes.iter().find(|scope| !has_scope(&self.scopes, scope))
    }
}

impl State {
    /// Remembers a client; one of the same id is replaced. The hash is that of the whole secret text.
    pub(crate) fn add_client(&mut self, id: &str, hash: SecretHash, spec: ClientSpec, now: Timestamp) -> OauthClient {
        let client = OauthClient {
            id: id.to_owned(),
            hash,
            scopes: spec.scopes,
            tags: spec.tags,
            description: spec.description,
            created: now,
        };
        self.clients.insert(client.id.clone(), client.clone());
        client
    }

    /// Forgets a client and its tokens; whether it was known.
    pub(crate) fn remove_client(&mut self, id: &str) -> bool {
        self.tokens.retain(|_, token| token.client_id != id);
        self.clients.remove(id).is_some()
    }

    /// Gives an access token to a client that knows its secret: the scopes it has, separated by spaces.
    pub(crate) fn issue_token(
        &mut self,
        request: TokenRequest<'_>,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<String, OauthError> {
        let client = self.clients.get(request.client_id).ok_or(OauthError::InvalidClient)?;
        if !client.hash.matches(request.client_secret) {
            return Err(OauthError::InvalidClient);
        }
        let scopes: BTreeSet<String> = match request.scope.trim() {
            "" => client.scopes.clone(),
            wanted => wanted.split_whitespace().map(str::to_owned).collect(),
        };
        if !scopes.iter().all(|scope| has_scope(&client.scopes, scope)) {
            return Err(OauthError::InvalidScope);
        }
        let granted = scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let token = Token {
            hash: credential.hash(),
            client_id: client.id.clone(),
            scopes,
            tags: client.tags.clone(),
            expires: now.checked_add(request.lifetime).unwrap_or(Timestamp::MAX),
        };
        self.tokens.retain(|_, token| now < token.expires);
        self.tokens.insert(credential.id.clone(), token);
        Ok(granted)
    }

    /// The first of these tags that a caller may not give: with a policy, one that neither it nor its tags own; without
    /// one, any that it does not have itself.
    pub(crate) fn foreign_tag<'a>(&self, caller: &Caller, tags: &'a [String]) -> Option<&'a String> {
        match &self.policy {
            Some(policy) => policy.foreign_tag(tags, &caller.tags),
            None => tags.iter().find(|tag| !caller.tags.contains(*tag)),
        }
    }

    /// Who holds this access token; `None` for one that is unknown or expired.
    pub(crate) fn caller(&self, text: &str, now: Timestamp) -> Option<Caller> {
        let (id, secret) = Credential::split(text, "api")?;
        let token = self
            .tokens
            .get(id)
            .filter(|token| token.hash.matches(secret) && now < token.expires)?;
        Some(Caller {
            scopes: token.scopes.clone(),
            tags: token.tags.clone(),
        })
    }
}

/// Whether a set of scopes covers one: by itself, by its form that may write, or by `all`.
fn has_scope(granted: &BTreeSet<String>, scope: &str) -> bool {
    let base = scope.strip_suffix(":read");
    granted.contains(scope)
        || granted.contains("all")
        || base.is_some_and(|base| granted.contains(base) || granted.contains("all:read"))
}
