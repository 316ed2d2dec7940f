//! The environment of a proxy, read once into a typed value.
//!
//! The names are those of the existing proxy image, so that its Pods run ours. Everything wrong is reported together,
//! each problem with the variable and the fix. Variables that are not listed here are left alone.

mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use isthmus_contract::device_config::AuthKey;
use isthmus_contract::env;
use isthmus_contract::proxy_config::ProxyConfig;
use thiserror::Error;

/// What the environment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What to carry, when the environment names a target; else the configuration document says.
    pub config: Option<ProxyConfig>,
    /// Where the login comes from.
    pub login: LoginSource,
    /// The Secret that keeps the node's state and brings the configuration document.
    pub kube_secret: Option<String>,
    /// The directory that keeps the node's state when there is no Secret, and its caches when there is.
    pub state_dir: Option<PathBuf>,
    /// Where health and metrics are served.
    pub health: SocketAddr,
    /// Where the proxy shows what it does to whoever looks for a fault; nowhere when not set.
    pub debug: Option<SocketAddr>,
    /// The UDP port of WireGuard.
    pub wireguard_port: u16,
    /// Who the Pod is.
    pub pod: PodIdentity,
    /// Which way packets shall take through the proxy.
    pub path: PathSetting,
    /// The API server's cluster IP and port, in a cluster that says them.
    pub api_server: Option<SocketAddr>,
    /// The name under which the proxy's purpose is reported to the control server (`TS_INTERNAL_APP`).
    pub app: Option<String>,
}

/// Which way packets shall take through the proxy (`ISTHMUS_PATH`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PathSetting {
    /// The kernel's where it works, else the relay's.
    #[default]
    Automatic,
    /// The kernel's; what it cannot forward is not carried.
    Kernel,
    /// The relay's.
    Relay,
}

/// Where a proxy's login comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginSource {
    /// Variables of the environment.
    Environment(Login),
    /// The best `cap-<N>.hujson` of a mounted directory.
    ConfigDirectory(PathBuf),
}

/// How to log in to the tailnet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The auth key; not needed when the state already holds a login.
    pub auth_key: Option<AuthKey>,
    /// The wanted host name.
    pub hostname: Option<String>,
    /// The control server's URL, none for the default one.
    pub control_url: Option<String>,
    /// Whether routes of other nodes are used.
    pub accept_routes: bool,
}

/// Who the Pod is, from the downward API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodIdentity {
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Its name.
    pub name: Option<String>,
    /// Its UID.
    pub uid: Option<String>,
}

/// Everything that is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct SettingsError {
    /// The problems, in the order in which the variables are read; never empty.
    pub problems: Vec<SettingsProblem>,
}

/// One thing that is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The variable to change.
    pub variable: &'static str,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .problems
            .iter()
            .map(|p| format!("{}: {}", p.variable, p.message))
            .collect();
        write!(f, "cannot use the environment: {}", lines.join("; "))
    }
}

impl Settings {
    /// Reads the settings from variables, usually those of the process.
    ///
    /// # Errors
    ///
    /// Everything that is unreadable or contradicts something else, at once.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> Result<Self, SettingsError> {
        let mut reader = read::Reader::new(variables);
        let config = reader.config();
        let settings = Self {
            login: reader.login(),
            kube_secret: reader.kube_secret(),
            state_dir: reader.text("TS_STATE_DIR").map(PathBuf::from),
            health: reader.health(),
            debug: reader.address(env::DEBUG_ADDR_PORT, "[::]:9001"),
            wireguard_port: reader.wireguard_port(),
            pod: reader.pod(),
            path: reader.path(),
            api_server: reader.api_server(),
            app: reader.text(env::INTERNAL_APP),
            config,
        };
        reader.check_userspace(settings.config.is_some());
        reader.check_routes();
        reader.finish(settings)
    }
}

#[cfg(test)]
mod tests;
