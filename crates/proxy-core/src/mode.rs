//! What a proxy is told to carry.

use std::collections::BTreeSet;
use std::net::IpAddr;

use isthmus_contract::proxy_config::{self, EgressTarget, IngressTarget, ProxyConfig};
use thiserror::Error;

use crate::rules::Protocol;

/// What a proxy carries between the cluster and the tailnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: both sides are closed. The state before the first configuration.
    Closed,
    /// From the tailnet to one address in the cluster.
    Ingress(Ingress),
    /// From the cluster to one device of the tailnet.
    Egress(Egress),
}

/// A target in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// The cluster address, usually a ClusterIP.
    pub target: IpAddr,
    /// What of it is reached.
    pub ports: IngressPorts,
}

/// Which ports of a cluster address the tailnet reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IngressPorts {
    /// Every port of every protocol but ICMP, which the proxy itself answers.
    All,
    /// These ports alone, each under its own number.
    Listed(BTreeSet<(Protocol, u16)>),
}

/// A target on the tailnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Its tailnet address. Without one every connection is refused, so that clients fail at once.
    pub target: Option<IpAddr>,
}

/// Why an address cannot be a target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModeError {
    /// The text is not an IP address.
    #[error("cannot use {text:?} as a target: write an IP address")]
    NotAnAddress {
        /// What was given.
        text: String,
    },
    /// The address can never be reached from a Pod, or would point back into it.
    #[error("cannot use {address} as a target: it is {kind}; write the address of the Service or the device")]
    Unreachable {
        /// The address.
        address: IpAddr,
        /// What is wrong with it.
        kind: &'static str,
    },
}

/// Reads a target address and refuses those that point into the Pod itself, at the node's link or at nobody.
pub(crate) fn parse_target(text: &str) -> Result<IpAddr, ModeError> {
    let address: IpAddr = text
        .trim()
        .parse()
        .map_err(|_| ModeError::NotAnAddress { text: text.to_owned() })?;
    check_target(address)
}

fn check_target(address: IpAddr) -> Result<IpAddr, ModeError> {
    let kind = match address {
        _ if address.is_unspecified() => "unspecified",
        _ if address.is_loopback() => "loopback",
        _ if address.is_multicast() => "multicast",
        IpAddr::V4(v4) if v4.is_link_local() => "link-local",
        IpAddr::V4(v4) if v4.is_broadcast() => "broadcast",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "link-local",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address written as IPv6",
        IpAddr::V4(_) | IpAddr::V6(_) => return Ok(address),
    };
    Err(ModeError::Unreachable { address, kind })
}

impl Mode {
    /// The mode that a configuration document asks for.
    pub fn from_config(config: &ProxyConfig) -> Result<Self, ModeError> {
        Ok(match &config.mode {
            proxy_config::Mode::Ingress(ingress) => Self::Ingress(Ingress {
                target: match &ingress.target {
                    IngressTarget::ClusterIps(ips) => check_target(ips[0])?,
                    IngressTarget::DnsName(name) => return Err(ModeError::NotAnAddress { text: name.clone() }),
                },
                ports: match &ingress.ports {
                    None => IngressPorts::All,
                    Some(ports) => IngressPorts::Listed(ports.iter().map(|p| (p.protocol.into(), p.port)).collect()),
                },
            }),
            proxy_config::Mode::Egress(egress) => Self::Egress(Egress {
                target: Some(match &egress.target {
                    EgressTarget::Ip(ip) => check_target(*ip)?,
                    EgressTarget::Fqdn(name) => return Err(ModeError::NotAnAddress { text: name.clone() }),
                }),
            }),
        })
    }

    /// One word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Ingress(_) => "ingress",
            Self::Egress(_) => "egress",
        }
    }

    /// A mode that sends every port to `text`, as `TS_DEST_IP` asks for.
    pub fn ingress_to_all_ports(text: &str) -> Result<Self, ModeError> {
        Ok(Self::Ingress(Ingress {
            target: parse_target(text)?,
            ports: IngressPorts::All,
        }))
    }

    /// A mode that sends every port to `text` on the tailnet, as `TS_TAILNET_TARGET_IP` asks for.
    pub fn egress_to(text: &str) -> Result<Self, ModeError> {
        Ok(Self::Egress(Egress {
            target: Some(parse_target(text)?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn target_is_refused_when_it_points_into_the_pod_or_at_nobody() {
        for text in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            let error = Mode::ingress_to_all_ports(text).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        assert!(
            Mode::egress_to("web.example")
                .unwrap_err()
                .to_string()
                .contains("write an IP address")
        );
        assert!(Mode::egress_to(" 100.64.0.5 ").is_ok());
    }
}
