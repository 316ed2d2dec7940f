//! What a proxy writes about itself into its Secret, for the operator.

use std::collections::BTreeMap;
use std::net::IpAddr;

use isthmus_contract::device_config::AuthKey;
use isthmus_contract::proxy_config::ProxyConfig;
use isthmus_contract::proxy_status::{Carried, ProxyStatus};
use isthmus_contract::secret_key;

use crate::versioned_config::CAPABILITY_VERSION;

/// What there is to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publication {
    /// The UID of the Pod, when it is known.
    pub pod_uid: Option<String>,
    /// The device, once it is logged in.
    pub device: Option<Device>,
    /// The document whose rules are in place.
    pub applied: Option<ProxyConfig>,
    /// What stands against anything newer: one line for the user.
    pub problem: Option<String>,
    /// Which way each family takes under the rules that are in place.
    pub carries: Vec<Carried>,
    /// Set when the control server refuses the login: the key that did not work, or none.
    pub refused_login: Option<Option<AuthKey>>,
}

/// The device on the tailnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its stable id.
    pub id: String,
    /// Its name, with the final dot.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Publication {
    /// The keys of the Secret with their values; nothing removes a key. The device's keys are left alone until it is
    /// known, so that a restart does not take them away.
    pub fn render(&self) -> BTreeMap<String, Option<String>> {
        let mut keys = BTreeMap::new();
        let mut set = |key: &str, value: Option<String>| {
            keys.insert(key.to_owned(), value);
        };
        set(secret_key::CAPABILITY_VERSION, Some(CAPABILITY_VERSION.to_string()));
        if let Some(uid) = &self.pod_uid {
            set(secret_key::POD_UID, Some(uid.clone()));
            let mut status = ProxyStatus::new(uid, self.applied.clone(), self.problem.clone());
            status.carries.clone_from(&self.carries);
            set(secret_key::PROXY_STATUS, Some(status.render()));
        }
        if let Some(device) = &self.device {
            let addresses: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
            set(secret_key::DEVICE_ID, Some(device.id.clone()));
            set(secret_key::DEVICE_FQDN, Some(device.name.clone()));
            set(
                secret_key::DEVICE_IPS,
                Some(serde_json::Value::from(addresses).to_string()),
            );
        }
        let refused = self.refused_login.as_ref();
        let reissue = refused.map(|key| key.as_ref().map(|key| key.expose().to_owned()).unwrap_or_default());
        set(secret_key::REISSUE_AUTH_KEY, reissue);
        keys
    }
}

#[cfg(test)]
mod tests {
    use isthmus_contract::device_config::AuthKey;
    use isthmus_contract::proxy_config::ProxyConfig;

    use super::{Device, Publication};

    #[test]
    fn device_and_status_are_written_as_the_operator_reads_them() {
        let publication = Publication {
            pod_uid: Some("6f0".to_owned()),
            device: Some(Device {
                id: "n1".to_owned(),
                name: "web.tailnet.example.".to_owned(),
                addresses: vec!["100.64.0.3".parse().unwrap(), "fd7a:115c:a1e0::3".parse().unwrap()],
            }),
            applied: Some(ProxyConfig::egress("100.64.0.5".parse().unwrap())),
            ..Publication::default()
        };
        insta::assert_debug_snapshot!(publication.render());
    }

    #[test]
    fn device_keys_are_left_alone_until_the_device_is_known() {
        let keys = Publication {
            pod_uid: Some("6f0".to_owned()),
            ..Publication::default()
        }
        .render();
        assert!(!keys.contains_key("device_id"));
        assert_eq!(keys["reissue_authkey"], None);
    }

    #[test]
    fn refused_key_is_asked_for_anew() {
        let ask = |key: Option<&str>| {
            let refused_login = Some(key.map(AuthKey::new));
            Publication {
                refused_login,
                ..Publication::default()
            }
            .render()["reissue_authkey"]
                .clone()
        };
        assert_eq!(ask(Some("tskey-spent")).as_deref(), Some("tskey-spent"));
        assert_eq!(ask(None).as_deref(), Some(""));
    }
}
