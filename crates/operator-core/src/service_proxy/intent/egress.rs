//! Where an egress Service leads.

use std::net::IpAddr;

use isthmus_contract::{annotation, proxy_config::EgressTarget};
use k8s_openapi::api::core::v1::Service;

use super::{Direction, Problem, naming::is_full_dns_name, value};

/// What to write for an address.
const ADDRESS_FIX: &str = "give the IP address of a tailnet device, such as 100.64.0.5";

pub(super) fn read(service: &Service) -> Result<Direction, Problem> {
    let mut addresses = annotation::TAILNET_IP_SPELLINGS
        .iter()
        .filter_map(|key| value(service, key).map(|text| (*key, text)));
    let address = addresses.next();
    let fqdn = value(service, annotation::TAILNET_FQDN);
    let target = match (address, fqdn) {
        (Some((key, _)), Some(_)) => {
            let fix = format!("a Service leads to one device; remove this annotation or {key}");
            return Err(Problem::annotation(annotation::TAILNET_FQDN, fix));
        }
        (None, Some(text)) => EgressTarget::Fqdn(device_name(text)?),
        (Some((key, text)), None) => EgressTarget::Ip(device_address(key, text)?),
        (None, None) => return Err(Problem::annotation(annotation::TAILNET_IP, ADDRESS_FIX)),
    };
    let differs = |text: &str| text.parse().map(EgressTarget::Ip).as_ref() != Ok(&target);
    if let (Some((key, _)), Some((other, _))) = (address, addresses.find(|(_, text)| differs(text))) {
        let fix = format!("it names another target than {key}; keep one of the two");
        return Err(Problem::annotation(other, fix));
    }
    Ok(Direction::Egress { target })
}

fn device_address(key: &str, text: &str) -> Result<IpAddr, Problem> {
    let refuse = |fix: String| Err(Problem::annotation(key, format!("`{text}` {fix}")));
    match text.parse::<IpAddr>() {
        Ok(ip) if is_device(ip) => Ok(ip),
        Ok(_) => refuse(format!("cannot be a device; {ADDRESS_FIX}")),
        Err(_) => match text.split_once('/') {
            Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                refuse(format!("is a range; give one address, such as {address}"))
            }
            Some(_) | None if device_name(text).is_ok() => refuse(format!(
                "is not an IP address; write it in {}",
                annotation::TAILNET_FQDN
            )),
            Some(_) | None => refuse(format!("is not an IP address; {ADDRESS_FIX}")),
        },
    }
}

/// Whether packets to `ip` could leave the proxy for one device.
fn is_device(ip: IpAddr) -> bool {
    let nowhere = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
    !nowhere
        && match ip {
            IpAddr::V4(ip) => !ip.is_broadcast() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && ip.to_ipv4_mapped().is_none(),
        }
}

/// The name in the form of the network map: lower case, without the final dot.
fn device_name(text: &str) -> Result<String, Problem> {
    let refuse = |fix: &str| Err(Problem::annotation(annotation::TAILNET_FQDN, format!("`{text}` {fix}")));
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.parse::<IpAddr>().is_ok() {
        return refuse("is an IP address; write it in tailscale.com/tailnet-ip");
    }
    if is_full_dns_name(&name) {
        Ok(name)
    } else {
        refuse("is not a full DNS name; give the device's name with its tailnet, such as db.tail1234.ts.net")
    }
}
