//! What a proxy has to do: the key `isthmus.json` of its Secret, written by the operator, read by the proxy.
//!
//! One of these, and nothing that would need a new Pod to change:
//! ```json
//! {"version":1,"mode":{"ingress":{"clusterIPs":["10.96.0.7"],"ports":[{"protocol":"TCP","port":80}]}}}
//! {"version":1,"mode":{"ingress":{"dnsName":"db.example.com"}}}
//! {"version":1,"mode":{"egress":{"targetIP":"100.64.0.5"}}}
//! {"version":1,"mode":{"egress":{"targetFQDN":"db.tailnet.ts.net"}}}
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
    /// From the tailnet to a target of the cluster.
    Ingress(Ingress),
    /// From the cluster to a device of the tailnet.
    Egress(Egress),
}

/// From the tailnet to a Service of the cluster, or to a name that the cluster can resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// Where to.
    pub target: IngressTarget,
    /// The ports that are let through; on the tailnet they have the same numbers as at the target. `None`: every port of
    /// every protocol, for a Service that declares none.
    pub ports: Option<Vec<Port>>,
}

/// Where an ingress leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IngressTarget {
    /// The Service's cluster IPs: at most one of each family, at least one.
    ClusterIps(Vec<IpAddr>),
    /// A name outside the cluster or inside, resolved by the proxy and again when its answer expires. Without the
    /// final dot.
    DnsName(String),
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Where to.
    pub target: EgressTarget,
}

/// Where an egress leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressTarget {
    /// An address on the tailnet, or behind one of its subnet routers.
    Ip(IpAddr),
    /// A name of the network map, in lower case and without the final dot; the proxy follows its addresses.
    Fqdn(String),
}

impl ProxyConfig {
    /// A proxy that exposes `ports` of the Service at `cluster_ips`. The order of the ports does not matter: the document
    /// lists them sorted and once each.
    pub fn ingress(cluster_ips: Vec<IpAddr>, ports: Vec<Port>) -> Self {
        Self::ingress_to(IngressTarget::ClusterIps(cluster_ips), Some(ports))
    }

    /// A proxy that exposes every port of the Service at `cluster_ips`.
    pub fn ingress_to_every_port(cluster_ips: Vec<IpAddr>) -> Self {
        Self::ingress_to(IngressTarget::ClusterIps(cluster_ips), None)
    }

    /// A proxy that exposes what `dns_name` resolves to; `None` for every port.
    pub fn ingress_to_name(dns_name: impl Into<String>, ports: Option<Vec<Port>>) -> Self {
        Self::ingress_to(IngressTarget::DnsName(dns_name.into()), ports)
    }

    /// A proxy that exposes `target`; `None` for every port.
    pub fn ingress_to(target: IngressTarget, ports: Option<Vec<Port>>) -> Self {
        let ports = ports.map(|mut ports| {
            ports.sort_unstable();
            ports.dedup();
            ports
        });
        Self {
            mode: Mode::Ingress(Ingress { target, ports }),
        }
    }

    /// A proxy that leads to the address `target_ip` on the tailnet.
    pub fn egress(target_ip: IpAddr) -> Self {
        Self {
            mode: Mode::Egress(Egress {
                target: EgressTarget::Ip(target_ip),
            }),
        }
    }

    /// A proxy that leads to the device that the tailnet calls `fqdn`, in any case, with or without the final dot.
    pub fn egress_to_name(fqdn: &str) -> Self {
        let fqdn = fqdn.trim_end_matches('.').to_ascii_lowercase();
        Self {
            mode: Mode::Egress(Egress {
                target: EgressTarget::Fqdn(fqdn),
            }),
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
    ingress: Option<WireIngress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    egress: Option<WireEgress>,
}

#[derive(Serialize, Deserialize)]
struct WireIngress {
    #[serde(rename = "clusterIPs", default, skip_serializing_if = "Vec::is_empty")]
    cluster_ips: Vec<IpAddr>,
    #[serde(rename = "dnsName", default, skip_serializing_if = "Option::is_none")]
    dns_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<Port>>,
}

#[derive(Serialize, Deserialize)]
struct WireEgress {
    #[serde(rename = "targetIP", default, skip_serializing_if = "Option::is_none")]
    target_ip: Option<IpAddr>,
    #[serde(rename = "targetFQDN", default, skip_serializing_if = "Option::is_none")]
    target_fqdn: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum ShapeError {
    #[error("version is {0}, this proxy reads version {VERSION}: use an operator and a proxy of the same release")]
    Version(u32),
    #[error("member `mode` must hold exactly one of `ingress` and `egress`")]
    Mode,
    #[error("member `ingress` must hold exactly one of `clusterIPs` and `dnsName`")]
    Ingress,
    #[error("member `egress` must hold exactly one of `targetIP` and `targetFQDN`")]
    Egress,
}

impl TryFrom<WireConfig> for ProxyConfig {
    type Error = ShapeError;

    fn try_from(wire: WireConfig) -> Result<Self, ShapeError> {
        if wire.version != VERSION {
            return Err(ShapeError::Version(wire.version));
        }
        let mode = match (wire.mode.ingress, wire.mode.egress) {
            (Some(ingress), None) => Mode::Ingress(ingress.try_into()?),
            (None, Some(egress)) => Mode::Egress(egress.try_into()?),
            (Some(_), Some(_)) | (None, None) => return Err(ShapeError::Mode),
        };
        Ok(Self { mode })
    }
}

impl TryFrom<WireIngress> for Ingress {
    type Error = ShapeError;

    fn try_from(wire: WireIngress) -> Result<Self, ShapeError> {
        let target = match (wire.cluster_ips.is_empty(), wire.dns_name) {
            (false, None) => IngressTarget::ClusterIps(wire.cluster_ips),
            (true, Some(name)) => IngressTarget::DnsName(name),
            (false, Some(_)) | (true, None) => return Err(ShapeError::Ingress),
        };
        Ok(Self {
            target,
            ports: wire.ports,
        })
    }
}

impl TryFrom<WireEgress> for Egress {
    type Error = ShapeError;

    fn try_from(wire: WireEgress) -> Result<Self, ShapeError> {
        let target = match (wire.target_ip, wire.target_fqdn) {
            (Some(ip), None) => EgressTarget::Ip(ip),
            (None, Some(fqdn)) => EgressTarget::Fqdn(fqdn),
            (Some(_), Some(_)) | (None, None) => return Err(ShapeError::Egress),
        };
        Ok(Self { target })
    }
}

impl From<ProxyConfig> for WireConfig {
    fn from(config: ProxyConfig) -> Self {
        let (ingress, egress) = match config.mode {
            Mode::Ingress(ingress) => (Some(ingress.into()), None),
            Mode::Egress(egress) => (None, Some(egress.into())),
        };
        Self {
            version: VERSION,
            mode: WireMode { ingress, egress },
        }
    }
}

impl From<Ingress> for WireIngress {
    fn from(ingress: Ingress) -> Self {
        let (cluster_ips, dns_name) = match ingress.target {
            IngressTarget::ClusterIps(ips) => (ips, None),
            IngressTarget::DnsName(name) => (Vec::new(), Some(name)),
        };
        Self {
            cluster_ips,
            dns_name,
            ports: ingress.ports,
        }
    }
}

impl From<Egress> for WireEgress {
    fn from(egress: Egress) -> Self {
        let (target_ip, target_fqdn) = match egress.target {
            EgressTarget::Ip(ip) => (Some(ip), None),
            EgressTarget::Fqdn(fqdn) => (None, Some(fqdn)),
        };
        Self { target_ip, target_fqdn }
    }
}

#[cfg(test)]
mod tests;
