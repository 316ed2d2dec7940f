//! Reads single variables and collects what is wrong.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use isthmus_contract::device_config::AuthKey;
use isthmus_contract::proxy_config::ProxyConfig;
use isthmus_contract::{env, port};

use super::{Login, LoginSource, PathSetting, PodIdentity, Settings, SettingsError, SettingsProblem};
use crate::mode::parse_target;

/// What a configuration directory already says, and the environment must not say again.
const EXCLUDED_BY_CONFIG_DIR: [&str; 4] = ["TS_AUTHKEY", "TS_AUTH_KEY", "TS_HOSTNAME", "TS_EXTRA_ARGS"];

const ROUTES: &str = "TS_ROUTES";

const DEST_IP: &str = "TS_DEST_IP";
const DEST_DNS_NAME: &str = "TS_EXPERIMENTAL_DEST_DNS_NAME";
const TARGET_IP: &str = "TS_TAILNET_TARGET_IP";
const TARGET_FQDN: &str = "TS_TAILNET_TARGET_FQDN";

/// The variables that name a target.
const TARGETS: [&str; 4] = [DEST_IP, DEST_DNS_NAME, TARGET_IP, TARGET_FQDN];

pub(super) struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    problems: Vec<SettingsProblem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(variables: &'a BTreeMap<String, String>) -> Self {
        Self {
            variables,
            problems: Vec::new(),
        }
    }

    pub(super) fn finish(self, settings: Settings) -> Result<Settings, SettingsError> {
        if self.problems.is_empty() {
            Ok(settings)
        } else {
            Err(SettingsError {
                problems: self.problems,
            })
        }
    }

    /// A variable that is set and not blank.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.variables
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    }

    /// The one target that the environment names, if any.
    pub(super) fn config(&mut self) -> Option<ProxyConfig> {
        let set: Vec<_> = TARGETS
            .iter()
            .filter_map(|name| Some((*name, self.text(name)?)))
            .collect();
        let [(name, text), others @ ..] = set.as_slice() else {
            return None;
        };
        if let [(other, _), ..] = others {
            self.problem(
                name,
                &format!("contradicts {other}: one proxy leads to one target, remove one of them"),
            );
            return None;
        }
        match *name {
            DEST_DNS_NAME => Some(ProxyConfig::ingress_to_name(text.trim_end_matches('.'), None)),
            TARGET_FQDN => Some(ProxyConfig::egress_to_name(text)),
            _ => self.address_config(name, text),
        }
    }

    fn address_config(&mut self, name: &'static str, text: &str) -> Option<ProxyConfig> {
        let parsed = parse_target(text).map_err(|error| self.problem(name, &error.to_string()));
        let address = parsed.ok()?;
        Some(if name == DEST_IP {
            ProxyConfig::ingress_to_every_port(vec![address])
        } else {
            ProxyConfig::egress(address)
        })
    }

    pub(super) fn login(&mut self) -> LoginSource {
        let login = self.login_of_environment();
        let Some(directory) = self.text(env::CONFIG_DIR) else {
            return LoginSource::Environment(login);
        };
        for name in EXCLUDED_BY_CONFIG_DIR {
            if self.text(name).is_some() {
                self.problem(
                    name,
                    &format!("contradicts {}, whose files say it: remove {name}", env::CONFIG_DIR),
                );
            }
        }
        LoginSource::ConfigDirectory(PathBuf::from(directory))
    }

    fn login_of_environment(&mut self) -> Login {
        Login {
            auth_key: self
                .text("TS_AUTHKEY")
                .or_else(|| self.text("TS_AUTH_KEY"))
                .map(AuthKey::new),
            hostname: self.text("TS_HOSTNAME"),
            control_url: self.control_url(),
            accept_routes: false,
        }
    }

    /// Of `TS_EXTRA_ARGS` the login server is understood, as `--login-server=URL` or as two words.
    fn control_url(&mut self) -> Option<String> {
        let arguments = self.text("TS_EXTRA_ARGS")?;
        let mut words = arguments.split_whitespace();
        let mut url = None;
        while let Some(word) = words.next() {
            match word.trim_start_matches('-').split_once('=') {
                Some(("login-server", value)) => url = Some(value.to_owned()),
                None if word.trim_start_matches('-') == "login-server" => url = words.next().map(str::to_owned),
                _ => self.problem(
                    "TS_EXTRA_ARGS",
                    &format!("has {word:?}, which this proxy does not know: keep only --login-server=URL"),
                ),
            }
        }
        let known = url
            .as_deref()
            .is_none_or(|url| url.starts_with("http://") || url.starts_with("https://"));
        if !known {
            self.problem(
                "TS_EXTRA_ARGS",
                "has a --login-server that is no URL: write http:// or https:// before the name",
            );
        }
        url
    }

    /// Set but empty means: no Secret. Not set means the default name, when this runs in a cluster.
    pub(super) fn kube_secret(&self) -> Option<String> {
        match self.variables.get(env::KUBE_SECRET).map(|value| value.trim()) {
            Some("") => None,
            Some(name) => Some(name.to_owned()),
            None => self.text("KUBERNETES_SERVICE_HOST").map(|_| "tailscale".to_owned()),
        }
    }

    pub(super) fn health(&mut self) -> SocketAddr {
        let default = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port::HEALTH);
        self.address(env::LOCAL_ADDR_PORT, "[::]:9002").unwrap_or(default)
    }

    /// An address with a port, if one is given.
    pub(super) fn address(&mut self, name: &'static str, example: &str) -> Option<SocketAddr> {
        let text = self.text(name)?;
        let address = parse_address_port(&text);
        if address.is_none() {
            self.problem(
                name,
                &format!("{text:?} is no address with a port: write one like {example}"),
            );
        }
        address
    }

    pub(super) fn wireguard_port(&mut self) -> u16 {
        let Some(text) = self.text(env::WIREGUARD_PORT) else {
            return port::WIREGUARD;
        };
        text.parse().ok().filter(|port| *port != 0).unwrap_or_else(|| {
            self.problem(
                env::WIREGUARD_PORT,
                &format!("{text:?} is no UDP port: write a number from 1 to 65535"),
            );
            port::WIREGUARD
        })
    }

    pub(super) fn pod(&mut self) -> PodIdentity {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for name in [env::POD_IPS, env::POD_IP] {
            for text in self
                .text(name)
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .filter(|text| !text.is_empty())
            {
                match text.parse::<IpAddr>() {
                    Ok(address) if !addresses.contains(&address) => addresses.push(address),
                    Ok(_) => {}
                    Err(_) => self.problem(name, &format!("{text:?} is no IP address: take it from status.podIPs")),
                }
            }
        }
        PodIdentity {
            addresses,
            name: self.text(env::POD_NAME),
            uid: self.text(env::POD_UID),
        }
    }

    pub(super) fn path(&mut self) -> PathSetting {
        match self.text(env::PATH).as_deref() {
            None | Some("auto") => PathSetting::Automatic,
            Some("kernel") => PathSetting::Kernel,
            Some("relay") => PathSetting::Relay,
            Some(other) => {
                self.problem(
                    env::PATH,
                    &format!("{other:?} is no way through the proxy: write auto, kernel or relay"),
                );
                PathSetting::Automatic
            }
        }
    }

    /// What the kubelet says; in some clusters it is a name, which tells nothing of cluster IPs.
    pub(super) fn api_server(&self) -> Option<SocketAddr> {
        let host = self.text("KUBERNETES_SERVICE_HOST")?.parse().ok()?;
        let port = self.text("KUBERNETES_SERVICE_PORT")?.parse().ok()?;
        Some(SocketAddr::new(host, port))
    }

    /// Set but empty asks for no routes, which is so in any case.
    pub(super) fn check_routes(&mut self) {
        if self.text(ROUTES).is_some() {
            self.problem(
                ROUTES,
                "asks to offer routes, but a proxy leads to one target: remove it, and run a subnet router for routes",
            );
        }
    }

    /// Carrying packets needs the kernel; saying otherwise in so many words is a contradiction.
    pub(super) fn check_userspace(&mut self, has_target: bool) {
        let Some(text) = self.text(env::USERSPACE) else { return };
        match parse_bool(&text) {
            Some(true) if has_target => self.problem(
                env::USERSPACE,
                "is true, but a target is carried to by the kernel: set it to false and grant NET_ADMIN",
            ),
            Some(_) => {}
            None => self.problem(
                env::USERSPACE,
                &format!("{text:?} is neither true nor false: write one of them"),
            ),
        }
    }

    fn problem(&mut self, variable: &'static str, message: &str) {
        self.problems.push(SettingsProblem {
            variable,
            message: message.to_owned(),
        });
    }
}

/// Reads `address:port`, also with a bare IPv6 address before the last colon.
fn parse_address_port(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| {
        let (host, port) = text.rsplit_once(':')?;
        let address = if host.is_empty() {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            host.parse().ok()?
        };
        Some(SocketAddr::new(address, port.parse().ok()?))
    })
}

/// Reads the spellings of a boolean that the existing proxy image knows.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
