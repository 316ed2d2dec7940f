//! What a Service asks for, and whether it can be done.

use std::net::{IpAddr, Ipv4Addr};

use isthmus_contract::{
    annotation,
    port::{HEALTH, HEALTH_ALTERNATIVE},
    proxy_config::{Port, Protocol, ProxyConfig},
};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use crate::settings::Settings;

/// Longest DNS label.
const MAX_LABEL: usize = 63;

/// What a Service asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Nothing of ours.
    None,
    /// A proxy.
    Proxy(Wanted),
    /// Something that cannot be done.
    Invalid(Problem),
}

/// The proxy a Service asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which way, and where to.
    pub direction: Direction,
    /// Device name on the tailnet.
    pub hostname: String,
    /// Tags of the device.
    pub tags: Vec<String>,
    /// TCP port of the proxy's health server.
    pub health_port: u16,
}

/// Which way a proxy carries, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Direction {
    /// From the tailnet to the Service.
    Ingress {
        /// The Service's cluster IP.
        cluster_ip: Ipv4Addr,
        /// Its ports.
        ports: Vec<Port>,
    },
    /// From the cluster to a device.
    Egress {
        /// The device's address.
        target: Ipv4Addr,
    },
}

impl Wanted {
    /// The document that tells the proxy.
    pub fn proxy_config(&self) -> ProxyConfig {
        match &self.direction {
            Direction::Ingress { cluster_ip, ports } => {
                ProxyConfig::ingress(vec![IpAddr::V4(*cluster_ip)], ports.clone())
            }
            Direction::Egress { target } => ProxyConfig::egress(IpAddr::V4(*target)),
        }
    }
}

/// Why a Service's wish cannot be fulfilled, for its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, as a path or an annotation.
    pub field: String,
    /// What is wrong with it and what to write instead.
    pub fix: String,
}

impl Problem {
    fn new(field: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            fix: fix.into(),
        }
    }

    fn annotation(key: &str, fix: impl Into<String>) -> Self {
        Self::new(format!("annotation {key}"), fix)
    }

    /// Field and fix in one line.
    pub fn message(&self) -> String {
        format!("{}: {}", self.field, self.fix)
    }
}

/// Whether the Service asks for a proxy of its own, possible or not.
pub fn concerns(service: &Service) -> bool {
    is_exposed(service) || is_egress(service)
}

/// Whether the Service names a target on the tailnet.
pub(super) fn is_egress(service: &Service) -> bool {
    annotation::TAILNET_IP_SPELLINGS
        .iter()
        .chain([&annotation::TAILNET_FQDN])
        .any(|key| value(service, key).is_some())
}

fn is_exposed(service: &Service) -> bool {
    value(service, annotation::EXPOSE) == Some("true")
}

fn value<'a>(service: &'a Service, key: &str) -> Option<&'a str> {
    service
        .metadata
        .annotations
        .as_ref()?
        .get(key)
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
}

/// Reads what the Service asks for.
pub(super) fn intent(service: &Service, settings: &Settings) -> Intent {
    if !concerns(service) {
        return Intent::None;
    }
    match wanted(service, settings) {
        Ok(wanted) => Intent::Proxy(wanted),
        Err(problem) => Intent::Invalid(problem),
    }
}

fn wanted(service: &Service, settings: &Settings) -> Result<Wanted, Problem> {
    refuse_unsupported(service)?;
    let default = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&default);
    let direction = if is_egress(service) {
        egress(service)?
    } else {
        ingress(spec)?
    };
    let declares_health_port = spec.ports.iter().flatten().any(|port| port.port == i32::from(HEALTH));
    let is_egress = matches!(direction, Direction::Egress { .. });
    Ok(Wanted {
        direction,
        hostname: hostname(service)?,
        tags: tags(service, settings)?,
        health_port: if is_egress && declares_health_port {
            HEALTH_ALTERNATIVE
        } else {
            HEALTH
        },
    })
}

fn refuse_unsupported(service: &Service) -> Result<(), Problem> {
    if is_exposed(service) && is_egress(service) {
        let fix = "a Service is either exposed or leads to a tailnet device: remove this annotation or the target";
        return Err(Problem::annotation(annotation::EXPOSE, fix));
    }
    let present = |key: &str| {
        service
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key(key))
    };
    let unsupported = [
        (
            annotation::PROXY_GROUP,
            "proxy groups are not supported; remove it to get a proxy for this Service",
        ),
        (
            annotation::TAILNET_FQDN,
            "targets by name are not supported; give the device's IPv4 address in tailscale.com/tailnet-ip",
        ),
    ];
    match unsupported.into_iter().find(|(key, _)| present(key)) {
        Some((key, fix)) => Err(Problem::annotation(key, fix)),
        None => Ok(()),
    }
}

fn egress(service: &Service) -> Result<Direction, Problem> {
    let mut found = annotation::TAILNET_IP_SPELLINGS
        .iter()
        .filter_map(|key| value(service, key).map(|text| (*key, text)));
    let no_target = || Problem::annotation(annotation::TAILNET_IP, "give the IPv4 address of a tailnet device");
    let (key, text) = found.next().ok_or_else(no_target)?;
    if let Some((other, _)) = found.find(|(_, other)| *other != text) {
        return Err(Problem::annotation(
            other,
            format!("it names another target than {key}; keep one of the two"),
        ));
    }
    Ok(Direction::Egress {
        target: target_address(key, text)?,
    })
}

fn target_address(key: &str, text: &str) -> Result<Ipv4Addr, Problem> {
    let refuse = |fix: &str| Err(Problem::annotation(key, format!("`{text}` {fix}")));
    match text.parse() {
        Ok(IpAddr::V4(ip)) if is_unicast(ip) => Ok(ip),
        Ok(IpAddr::V4(_)) => {
            refuse("cannot be a device; give the IPv4 address of a tailnet device, such as 100.64.0.5")
        }
        Ok(IpAddr::V6(_)) => refuse("is an IPv6 address; give the device's IPv4 address"),
        Err(_) => refuse("is not an IP address; give the IPv4 address of a tailnet device, such as 100.64.0.5"),
    }
}

const fn is_unicast(ip: Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local())
}

fn ingress(spec: &ServiceSpec) -> Result<Direction, Problem> {
    if spec.type_.as_deref() == Some("ExternalName") {
        let fix = "an ExternalName Service cannot be exposed; expose a Service that has a cluster IP";
        return Err(Problem::new("spec.type", fix));
    }
    let cluster_ip = match spec.cluster_ip.as_deref() {
        None | Some("" | "None") => {
            let fix = "a headless Service cannot be exposed; expose a Service that has a cluster IP";
            return Err(Problem::new("spec.clusterIP", fix));
        }
        Some(text) => text.parse().map_err(|_| {
            let fix = format!("`{text}` is not IPv4; put IPv4 first in spec.ipFamilies");
            Problem::new("spec.clusterIP", fix)
        })?,
    };
    let ports = spec.ports.iter().flatten().enumerate().map(|(index, port)| {
        let number = u16::try_from(port.port)
            .map_err(|_| Problem::new(format!("spec.ports[{index}].port"), "give a number from 1 to 65535"))?;
        match port.protocol.as_deref() {
            None | Some("TCP") => Ok(Port {
                protocol: Protocol::Tcp,
                port: number,
            }),
            Some(other) => {
                let fix = format!("{other} is not supported; expose a Service with TCP ports only");
                Err(Problem::new(format!("spec.ports[{index}].protocol"), fix))
            }
        }
    });
    let ports: Vec<Port> = ports.collect::<Result<_, _>>()?;
    if ports.is_empty() {
        return Err(Problem::new("spec.ports", "add the TCP port to expose"));
    }
    Ok(Direction::Ingress { cluster_ip, ports })
}

fn hostname(service: &Service) -> Result<String, Problem> {
    if let Some(text) = value(service, annotation::HOSTNAME) {
        let fix = || format!("`{text}` is not a DNS label; use at most 63 of a-z, 0-9 and inner dashes");
        return if is_dns_label(text) {
            Ok(text.to_owned())
        } else {
            Err(Problem::annotation(annotation::HOSTNAME, fix()))
        };
    }
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    // Both are DNS labels, so every letter is one byte.
    let full = format!("{namespace}-{name}");
    Ok(full[..full.len().min(MAX_LABEL)].trim_end_matches('-').to_owned())
}

fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn tags(service: &Service, settings: &Settings) -> Result<Vec<String>, Problem> {
    let Some(text) = value(service, annotation::TAGS) else {
        return Ok(settings.proxy_tags.clone());
    };
    let tags: Vec<String> = text.split(',').map(|tag| tag.trim().to_owned()).collect();
    match tags.iter().find(|tag| !is_tag(tag)) {
        Some(tag) => {
            let fix =
                format!("`{tag}` is not a tag; write tag: and a name of letters, digits and dashes, such as tag:web");
            Err(Problem::annotation(annotation::TAGS, fix))
        }
        None => Ok(tags),
    }
}

/// Whether `text` is an ACL tag: `tag:`, a letter, then letters, digits and dashes.
pub fn is_tag(text: &str) -> bool {
    let Some(name) = text.strip_prefix("tag:") else {
        return false;
    };
    name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests;
