//! Tailscale Services that a node offers to host.

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::str::FromStr;

use isthmus_tailnet_core::netmap::Netmap;
use isthmus_tailnet_wire::control::{C2nVipServices, VipService};
use ring::digest;

use super::NodePrefs;

/// Ports of a Tailscale Service. As text `tcp:443` or `tcp:80-90`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// The protocol.
    pub protocol: ServiceProtocol,
    /// The first port.
    pub first: u16,
    /// The last port, not below the first.
    pub last: u16,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A text is no port of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write the port of a service as tcp:443, udp:53 or tcp:8000-8010")]
pub struct ServicePortError;

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            ServiceProtocol::Tcp => "tcp",
            ServiceProtocol::Udp => "udp",
        };
        if self.first == self.last {
            write!(f, "{protocol}:{}", self.first)
        } else {
            write!(f, "{protocol}:{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for ServicePort {
    type Err = ServicePortError;

    fn from_str(text: &str) -> Result<Self, ServicePortError> {
        let (protocol, ports) = text.split_once(':').ok_or(ServicePortError)?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = Self {
            protocol: match protocol {
                "tcp" => ServiceProtocol::Tcp,
                "udp" => ServiceProtocol::Udp,
                _ => return Err(ServicePortError),
            },
            first: first.parse().map_err(|_| ServicePortError)?,
            last: last.parse().map_err(|_| ServicePortError)?,
        };
        (port.first <= port.last).then_some(port).ok_or(ServicePortError)
    }
}

impl NodePrefs {
    /// The addresses of Services that this node offers to host and control assigned to it.
    pub(crate) fn service_addresses(&self, netmap: &Netmap) -> Vec<IpAddr> {
        let assigned = netmap.own.services.iter();
        let offered = assigned.filter(|(name, _)| self.advertise_services.contains_key(*name));
        offered.flat_map(|(_, addresses)| addresses.iter().copied()).collect()
    }

    /// What control is answered when it asks for the Services.
    pub(crate) fn services(&self) -> C2nVipServices {
        let services = self.advertise_services.iter().map(|(name, ports)| VipService {
            name: name.clone(),
            ports: ports.iter().map(ToString::to_string).collect(),
            active: true,
        });
        let services: Vec<VipService> = services.collect();
        C2nVipServices {
            hash: hash(&services),
            services,
        }
    }
}

/// By the hash control sees whether to ask.
fn hash(services: &[VipService]) -> String {
    if services.is_empty() {
        return String::new();
    }
    let mut line = serde_json::to_vec(services).expect("names and ports serialise");
    line.push(b'\n');
    let mut text = String::new();
    for byte in digest::digest(&digest::SHA256, &line).as_ref() {
        write!(text, "{byte:02x}").expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_written() {
        for text in ["tcp:443", "udp:53", "tcp:8000-8010"] {
            assert_eq!(text.parse::<ServicePort>().unwrap().to_string(), text);
        }
        for text in ["443", "sctp:1", "tcp:", "tcp:2-1", "tcp:70000", ""] {
            assert_eq!(text.parse::<ServicePort>(), Err(ServicePortError), "{text}");
        }
    }

    #[test]
    fn hash_names_the_services_and_their_ports_and_is_empty_for_none() {
        let mut prefs = NodePrefs::default();
        assert_eq!(prefs.services(), C2nVipServices::default());
        let port = |text: &str| vec![text.parse().unwrap()];
        prefs.advertise_services.insert("svc:web".into(), port("tcp:80"));
        let first = prefs.services();
        // printf '[{"Name":"svc:web","Ports":["tcp:80"],"Active":true}]\n' | sha256sum
        assert_eq!(
            first.hash,
            "009122659972668db05b25a4dfedbc37ecac5162a5eaf6d0f444d9e584336417"
        );
        prefs.advertise_services.insert("svc:web".into(), port("tcp:81"));
        assert_ne!(prefs.services().hash, first.hash);
    }
}
