//! What a Service asks for, and whether it can be done.

mod egress;
mod ingress;
mod naming;

use isthmus_contract::{
    annotation, load_balancer,
    port::{HEALTH, HEALTH_ALTERNATIVE},
    proxy_config::{EgressTarget, IngressTarget, Port, ProxyConfig},
};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use crate::settings::Settings;

pub use naming::is_tag;

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
        /// The Service's cluster IPs, or the name it is an alias of.
        target: IngressTarget,
        /// Its ports; `None` for every port.
        ports: Option<Vec<Port>>,
    },
    /// From the cluster to a device.
    Egress {
        /// The device.
        target: EgressTarget,
    },
}

impl Wanted {
    /// The document that tells the proxy.
    pub fn proxy_config(&self) -> ProxyConfig {
        match &self.direction {
            Direction::Ingress { target, ports } => ProxyConfig::ingress_to(target.clone(), ports.clone()),
            Direction::Egress {
                target: EgressTarget::Ip(ip),
            } => ProxyConfig::egress(*ip),
            Direction::Egress {
                target: EgressTarget::Fqdn(name),
            } => ProxyConfig::egress_to_name(name),
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
pub fn concerns(service: &Service, settings: &Settings) -> bool {
    is_annotated(service) || is_egress(service) || is_load_balancer(service, settings)
}

/// Whether the Service names a target on the tailnet.
pub(super) fn is_egress(service: &Service) -> bool {
    annotation::TAILNET_IP_SPELLINGS
        .iter()
        .chain([&annotation::TAILNET_FQDN])
        .any(|key| value(service, key).is_some())
}

/// Whether the Service is a load balancer for the operator to fill: of our class, or of none where ours is the default.
pub(super) fn is_load_balancer(service: &Service, settings: &Settings) -> bool {
    let Some(spec) = service
        .spec
        .as_ref()
        .filter(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
    else {
        return false;
    };
    match spec.load_balancer_class.as_deref() {
        Some(class) => class == load_balancer::CLASS,
        // A target on the tailnet says more than a default.
        None => settings.default_load_balancer && !is_egress(service),
    }
}

fn is_annotated(service: &Service) -> bool {
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
    if !concerns(service, settings) {
        return Intent::None;
    }
    match wanted(service, settings) {
        Ok(wanted) => Intent::Proxy(wanted),
        Err(problem) => Intent::Invalid(problem),
    }
}

fn wanted(service: &Service, settings: &Settings) -> Result<Wanted, Problem> {
    refuse_unsupported(service, settings)?;
    let default = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&default);
    let direction = if is_egress(service) {
        egress::read(service)?
    } else {
        ingress::read(spec)?
    };
    let declares_health_port = spec.ports.iter().flatten().any(|port| port.port == i32::from(HEALTH));
    let is_egress = matches!(direction, Direction::Egress { .. });
    Ok(Wanted {
        direction,
        hostname: naming::hostname(service)?,
        tags: naming::tags(service, settings)?,
        health_port: if is_egress && declares_health_port {
            HEALTH_ALTERNATIVE
        } else {
            HEALTH
        },
    })
}

fn refuse_unsupported(service: &Service, settings: &Settings) -> Result<(), Problem> {
    let fix = "a Service is either exposed or leads to a tailnet device";
    if is_annotated(service) && is_egress(service) {
        let fix = format!("{fix}: remove this annotation or the target");
        return Err(Problem::annotation(annotation::EXPOSE, fix));
    }
    if is_load_balancer(service, settings) && is_egress(service) {
        let fix = format!("{fix}: make it an ExternalName Service or remove the target");
        return Err(Problem::new("spec.loadBalancerClass", fix));
    }
    let annotations = service.metadata.annotations.as_ref();
    // Its mere presence is a wish.
    if annotations.is_some_and(|annotations| annotations.contains_key(annotation::PROXY_GROUP)) {
        let fix = "proxy groups are not supported; remove it to get a proxy for this Service";
        return Err(Problem::annotation(annotation::PROXY_GROUP, fix));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
