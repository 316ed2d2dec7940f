//! What a proxy has to do: the key `isthmus.json` of its Secret, written by the operator, read by the proxy.
//!
//! One of these, and nothing that would need a new Pod to change:
//! ```json
//! {"version":1,"mode":{"ingress":{"clusterIP":"10.96.0.7","ports":[{"protocol":"TCP","port":80}]}}}
//! {"version":1,"mode":{"egress":{"targetIP":"100.64.0.5"}}}
//! ```
//! Members a reader does not know are ignored; a version it does not know is an error.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The version of the document this crate writes and reads.
pub const VERSION: u32 = 1;

/// What one proxy does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireConfig", into = "WireConfig")]
pub struct ProxyConfig {
    /// The direction, with its target.
    pub mode: Mode,
}

/// The direction of a proxy, with its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// From the tailnet to a Service of the cluster.
    Ingress(Ingress),
    /// From the cluster to a device of the tailnet.
    Egress(Egress),
}

/// From the tailnet to a Service of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingress {
    /// The Service's cluster IP.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: IpAddr,
    /// The ports that are let through; on the tailnet they have the same numbers as on the cluster IP.
    pub ports: Vec<Port>,
}

/// One port of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port number, 1 to 65535.
    pub port: u16,
}

/// Transport protocol of a port, in the spelling of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// From the cluster to a device of the tailnet, every port and protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// The device's address on the tailnet.
    #[serde(rename = "targetIP")]
    pub target_ip: IpAddr,
}

impl ProxyConfig {
    /// A proxy that exposes `ports` of the Service at `cluster_ip`. The order of `ports` does not matter: the document
    /// lists them sorted and once each.
    pub fn ingress(cluster_ip: IpAddr, mut ports: Vec<Port>) -> Self {
        ports.sort_unstable();
        ports.dedup();
        Self {
            mode: Mode::Ingress(Ingress { cluster_ip, ports }),
        }
    }

    /// A proxy that leads to the device at `target_ip`.
    pub fn egress(target_ip: IpAddr) -> Self {
        Self {
            mode: Mode::Egress(Egress { target_ip }),
        }
    }

    /// The document as it stands in the Secret. Equal configs have equal bytes.
    pub fn render(&self) -> String {
        serde_json::to_string(self).expect("addresses and numbers always serialise")
    }

    /// Reads the document.
    ///
    /// # Errors
    /// When the text is not JSON of this shape, has another version, or not exactly one mode.
    pub fn parse(text: &str) -> Result<Self, ParseProxyConfigError> {
        serde_json::from_str(text).map_err(ParseProxyConfigError)
    }
}

/// The text is not a proxy config.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the proxy config in key `isthmus.json`")]
pub struct ParseProxyConfigError(#[source] serde_json::Error);

#[derive(Serialize, Deserialize)]
struct WireConfig {
    version: u32,
    mode: WireMode,
}

#[derive(Serialize, Deserialize)]
struct WireMode {
    #[serde(skip_serializing_if = "Option::is_none")]
    ingress: Option<Ingress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    egress: Option<Egress>,
}

#[derive(Debug, thiserror::Error)]
enum ShapeError {
    #[error("version is {0}, this proxy reads version {VERSION}: use an operator and a proxy of the same release")]
    Version(u32),
    #[error("member `mode` must hold exactly one of `ingress` and `egress`")]
    Mode,
}

impl TryFrom<WireConfig> for ProxyConfig {
    type Error = ShapeError;

    fn try_from(wire: WireConfig) -> Result<Self, ShapeError> {
        if wire.version != VERSION {
            return Err(ShapeError::Version(wire.version));
        }
        let mode = match (wire.mode.ingress, wire.mode.egress) {
            (Some(ingress), None) => Mode::Ingress(ingress),
            (None, Some(egress)) => Mode::Egress(egress),
            (Some(_), Some(_)) | (None, None) => return Err(ShapeError::Mode),
        };
        Ok(Self { mode })
    }
}

impl From<ProxyConfig> for WireConfig {
    fn from(config: ProxyConfig) -> Self {
        let (ingress, egress) = match config.mode {
            Mode::Ingress(ingress) => (Some(ingress), None),
            Mode::Egress(egress) => (None, Some(egress)),
        };
        Self {
            version: VERSION,
            mode: WireMode { ingress, egress },
        }
    }
}

#[cfg(test)]
mod tests;
