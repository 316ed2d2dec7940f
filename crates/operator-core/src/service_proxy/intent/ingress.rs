//! What an exposed Service exposes.

use std::net::IpAddr;

use isthmus_contract::proxy_config::{IngressTarget, Port, Protocol};
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

use super::{Direction, Problem, naming::is_full_dns_name};

pub(super) fn read(spec: &ServiceSpec) -> Result<Direction, Problem> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return alias(spec);
    }
    let ports = ports(spec)?;
    if ports.is_empty() {
        return Err(Problem::new("spec.ports", "add the port to expose"));
    }
    Ok(Direction::Ingress {
        target: IngressTarget::ClusterIps(cluster_ips(spec)?),
        ports: Some(ports),
    })
}

/// An alias has no cluster IP: its name is the target.
fn alias(spec: &ServiceSpec) -> Result<Direction, Problem> {
    let refuse = |fix: String| Err(Problem::new("spec.externalName", fix));
    let text = spec.external_name.as_deref().unwrap_or_default().trim();
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    if name.is_empty() {
        return refuse("it is empty; give the DNS name to expose, such as db.example.com".to_owned());
    }
    if name.parse::<IpAddr>().is_ok() {
        let fix = format!("`{text}` is an IP address; give a DNS name, or a Service with an EndpointSlice of its own");
        return refuse(fix);
    }
    if !is_full_dns_name(&name) {
        return refuse(format!(
            "`{text}` is not a full DNS name; give one such as db.example.com"
        ));
    }
    let ports = ports(spec)?;
    Ok(Direction::Ingress {
        target: IngressTarget::DnsName(name),
        ports: (!ports.is_empty()).then_some(ports),
    })
}

fn cluster_ips(spec: &ServiceSpec) -> Result<Vec<IpAddr>, Problem> {
    let listed = spec.cluster_ips.as_deref().filter(|ips| !ips.is_empty());
    let texts: Vec<&str> = match listed {
        Some(ips) => ips.iter().map(String::as_str).collect(),
        None => spec.cluster_ip.as_deref().into_iter().collect(),
    };
    if matches!(texts.first(), None | Some(&("" | "None"))) {
        let fix = "a headless Service cannot be exposed; expose a Service that has a cluster IP";
        return Err(Problem::new("spec.clusterIP", fix));
    }
    let parsed = texts.into_iter().map(|text| {
        text.parse().map_err(|_| {
            Problem::new(
                "spec.clusterIPs",
                format!("`{text}` is not an IP address; leave it to the cluster"),
            )
        })
    });
    parsed.collect()
}

fn ports(spec: &ServiceSpec) -> Result<Vec<Port>, Problem> {
    let ports = spec.ports.iter().flatten().enumerate();
    ports.map(|(index, port)| read_port(index, port)).collect()
}

fn read_port(index: usize, port: &ServicePort) -> Result<Port, Problem> {
    let number = u16::try_from(port.port)
        .ok()
        .filter(|number| *number != 0)
        .ok_or_else(|| Problem::new(format!("spec.ports[{index}].port"), "give a number from 1 to 65535"))?;
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some(other) => {
            let name = port
                .name
                .as_deref()
                .map(|name| format!(" ({name})"))
                .unwrap_or_default();
            let fix = format!("port {number}{name} is {other}, which is not supported; expose TCP and UDP ports only");
            return Err(Problem::new(format!("spec.ports[{index}].protocol"), fix));
        }
    };
    Ok(Port { protocol, port: number })
}
