//! What a proxy is told to carry, with the names in it resolved.

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
    /// From the tailnet to addresses in the cluster, or that the cluster reaches.
    Ingress(Ingress),
    /// From the cluster to a device of the tailnet.
    Egress(Egress),
}

/// A target that the cluster reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// Its addresses: a ClusterIP of each family, or what a name resolves to. Each new flow goes to one of its family,
    /// chosen at random. Without any, nothing passes.
    pub targets: BTreeSet<IpAddr>,
    /// Former addresses of a name, to which no new flow goes: TCP connections that lead there may go on while the target has
    /// an address of the same family.
    pub kept: BTreeSet<IpAddr>,
    /// What of it is reached.
    pub ports: IngressPorts,
}

/// Which ports of a target the tailnet reaches.
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
    /// Its addresses. A family without any is refused at once, so that clients do not wait.
    pub targets: BTreeSet<IpAddr>,
}

/// A name that a proxy follows: what it leads to may change at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetName {
    /// A name that the cluster's DNS resolves, without the final dot.
    Dns(String),
    /// A name of the network map, in lower case and without the final dot.
    Tailnet(String),
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
    check_target(address).map(|()| address)
}

fn check_target(address: IpAddr) -> Result<(), ModeError> {
    unreachable_kind(address).map_or(Ok(()), |kind| Err(ModeError::Unreachable { address, kind }))
}

/// What makes an address none that a Pod could be sent to; nothing for all others.
pub(crate) fn unreachable_kind(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("unspecified"),
        _ if address.is_loopback() => Some("loopback"),
        _ if address.is_multicast() => Some("multicast"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("broadcast"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address written as IPv6"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

impl TargetName {
    /// The name that a configuration leads to; nothing when it leads to addresses.
    pub fn of(config: &ProxyConfig) -> Option<Self> {
        match &config.mode {
            proxy_config::Mode::Ingress(ingress) => match &ingress.target {
                IngressTarget::DnsName(name) => Some(Self::Dns(name.clone())),
                IngressTarget::ClusterIps(_) => None,
            },
            proxy_config::Mode::Egress(egress) => match &egress.target {
                EgressTarget::Fqdn(name) => Some(Self::Tailnet(name.clone())),
                EgressTarget::Ip(_) => None,
            },
        }
    }
}

impl Mode {
    /// The mode that a configuration asks for. When it leads to a name, `named` are the addresses that the name has now
    /// and that may be used; else they do not matter.
    pub fn from_config(config: &ProxyConfig, named: &BTreeSet<IpAddr>) -> Result<Self, ModeError> {
        Ok(match &config.mode {
            proxy_config::Mode::Ingress(ingress) => {
                let targets = match &ingress.target {
                    IngressTarget::ClusterIps(ips) => given(ips)?,
                    IngressTarget::DnsName(_) => named.clone(),
                };
                let listed = |ports: &Vec<proxy_config::Port>| {
                    IngressPorts::Listed(ports.iter().map(|p| (p.protocol.into(), p.port)).collect())
                };
                Self::ingress_to(targets, ingress.ports.as_ref().map_or(IngressPorts::All, listed))
            }
            proxy_config::Mode::Egress(egress) => Self::egress_to(match &egress.target {
                EgressTarget::Ip(ip) => given(&[*ip])?,
                EgressTarget::Fqdn(_) => named.clone(),
            }),
        })
    }

    /// From the tailnet to these addresses.
    pub fn ingress_to(targets: impl IntoIterator<Item = IpAddr>, ports: IngressPorts) -> Self {
        Self::Ingress(Ingress {
            targets: targets.into_iter().collect(),
            kept: BTreeSet::new(),
            ports,
        })
    }

    /// The same mode, under which connections to these former addresses of its name may go on.
    #[must_use]
    pub fn keeping(mut self, former: BTreeSet<IpAddr>) -> Self {
        if let Self::Ingress(ingress) = &mut self {
            ingress.kept = former;
        }
        self
    }

    /// From the cluster to these addresses on the tailnet, every port.
    pub fn egress_to(targets: impl IntoIterator<Item = IpAddr>) -> Self {
        let targets = targets.into_iter().collect();
        Self::Egress(Egress { targets })
    }

    /// One word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Ingress(_) => "ingress",
            Self::Egress(_) => "egress",
        }
    }

    /// Where this mode leads.
    pub fn targets(&self) -> impl Iterator<Item = IpAddr> {
        let targets = match self {
            Self::Closed => None,
            Self::Ingress(ingress) => Some(&ingress.targets),
            Self::Egress(egress) => Some(&egress.targets),
        };
        targets.into_iter().flatten().copied()
    }
}

/// Addresses that somebody wrote down.
fn given(addresses: &[IpAddr]) -> Result<BTreeSet<IpAddr>, ModeError> {
    addresses
        .iter()
        .map(|address| check_target(*address).map(|()| *address))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use isthmus_contract::proxy_config::{Port, Protocol, ProxyConfig};

    use super::{IngressPorts, Mode, TargetName, parse_target};
    use crate::plan::tests::address;

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
            let error = parse_target(text).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            let config = ProxyConfig::egress(address(text));
            assert!(Mode::from_config(&config, &BTreeSet::new()).is_err());
        }
        let error = parse_target("web.example").unwrap_err().to_string();
        assert!(error.contains("write an IP address"));
        assert_eq!(parse_target(" 100.64.0.5 ").unwrap(), address("100.64.0.5"));
    }

    #[test]
    fn both_families_of_a_service_are_targets() {
        let ips = ["10.96.0.7", "fd00:10:96::7"].map(address);
        let ports = vec![Port {
            protocol: Protocol::Tcp,
            port: 80,
        }];
        let config = ProxyConfig::ingress(ips.to_vec(), ports);
        let mode = Mode::from_config(&config, &BTreeSet::new()).unwrap();
        assert_eq!(mode.targets().collect::<Vec<_>>(), ips);
        assert_eq!(TargetName::of(&config), None);
    }

    #[test]
    fn name_leads_to_what_it_has_now_and_to_nothing_while_it_has_nothing() {
        let named = BTreeSet::from(["192.0.2.7", "192.0.2.8"].map(address));
        let ingress = ProxyConfig::ingress_to_name("db.example.com", None);
        let egress = ProxyConfig::egress_to_name("DB.tail.example.");
        assert_eq!(
            TargetName::of(&ingress),
            Some(TargetName::Dns("db.example.com".to_owned()))
        );
        assert_eq!(
            TargetName::of(&egress),
            Some(TargetName::Tailnet("db.tail.example".to_owned()))
        );
        assert_eq!(
            Mode::from_config(&ingress, &named).unwrap(),
            Mode::ingress_to(named.clone(), IngressPorts::All)
        );
        assert_eq!(Mode::from_config(&egress, &named).unwrap(), Mode::egress_to(named));
        assert_eq!(
            Mode::from_config(&egress, &BTreeSet::new()).unwrap(),
            Mode::egress_to([])
        );
    }
}
