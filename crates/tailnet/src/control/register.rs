//! Registration: how control comes to know the node key.

use isthmus_tailnet_wire::control::{RegisterAuth, RegisterRequest, RegisterResponse};
use isthmus_tailnet_wire::text::SecretText;

use super::error::ControlError;
use super::hostinfo::hostinfo;
use super::session::Requester;
use super::{CAPABILITY_VERSION, ClientConfig};
use crate::node::NodePrefs;
use crate::state::Identity;

/// What control said to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Registration {
    /// The node is known. The machine may still wait for approval.
    Accepted {
        authorized: bool,
        login_name: String,
        display_name: String,
    },
    /// The node key is expired: another one has to be made and registered.
    KeyExpired,
    /// The node is refused, in control's own words.
    Refused { message: String },
    /// A person has to open this URL.
    LoginUrl(String),
}

/// Registers the node key of `identity`; `with_key` sends the auth key along, if there is one.
pub(crate) async fn register(
    requester: &Requester,
    config: &ClientConfig,
    identity: &Identity,
    prefs: &NodePrefs,
    with_key: bool,
) -> Result<Registration, ControlError> {
    let auth_key = config.auth_key.as_ref().filter(|_| with_key);
    let old_key = identity.old_node.as_ref().map(|pair| pair.public.into());
    let request = RegisterRequest {
        version: CAPABILITY_VERSION.into(),
        node_key: identity.node.public.into(),
        old_node_key: old_key.unwrap_or_default(),
        auth: auth_key.map(|key| RegisterAuth {
            auth_key: SecretText::from(key.expose()),
        }),
        hostinfo: Some(hostinfo(config, prefs)),
        ephemeral: config.ephemeral,
        ..RegisterRequest::default()
    };
    match requester
        .call::<RegisterResponse>("register the node", "/machine/register", &request)
        .await
    {
        Ok(response) => Ok(Registration::from(response)),
        // Some servers refuse an auth key by a status, with their words in the body.
        Err(ControlError::Status {
            status: 400..=403,
            message,
            ..
        }) => Ok(Registration::Refused { message }),
        Err(error) => Err(error),
    }
}

impl From<RegisterResponse> for Registration {
    fn from(response: RegisterResponse) -> Self {
        if !response.error.is_empty() {
            return Self::Refused {
                message: response.error,
            };
        }
        if response.node_key_expired {
            return Self::KeyExpired;
        }
        if !response.auth_url.is_empty() {
            return Self::LoginUrl(response.auth_url);
        }
        Self::Accepted {
            authorized: response.machine_authorized,
            login_name: response.login.login_name,
            display_name: response.login.display_name,
        }
    }
}
