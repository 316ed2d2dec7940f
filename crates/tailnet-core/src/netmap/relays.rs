//! Relays: servers that pass datagrams between nodes that have no direct path.

use std::collections::BTreeMap;
use std::net::IpAddr;

use isthmus_tailnet_wire::control as wire;

/// The number of a relay region.
pub type RegionId = u16;

/// The port of a relay that names none.
const RELAY_PORT: u16 = 443;
/// The port of STUN that names none.
const STUN_PORT: u16 = 3478;
/// The port of STUN that says that there is none.
const NO_STUN: i32 = -1;
/// What a relay's certificate is called when its hash is pinned.
const PIN: &str = "sha256-raw:";

/// A region: relays that pass datagrams among themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// A few letters.
    pub code: String,
    /// For people.
    pub name: String,
    /// Whether it may be a node's home.
    pub may_be_home: bool,
    /// The relays, in the order in which to try them.
    pub relays: Vec<Relay>,
    /// Servers that tell a node how the world sees it: relays, and others.
    pub stun: Vec<StunServer>,
}

/// A server that tells a node which address its datagrams come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer {
    /// The name to resolve when there are no addresses.
    pub host: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its UDP port.
    pub port: u16,
}

/// A relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// The name to dial when there are no addresses.
    pub host: String,
    /// The addresses to dial.
    pub addresses: Vec<IpAddr>,
    /// TCP port of the relay.
    pub port: u16,
    /// How its certificate is checked.
    pub check: CertificateCheck,
}

/// How a relay's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateCheck {
    /// An authority vouches for this name.
    Name(String),
    /// It is the certificate with this SHA-256 hash, whoever made it.
    Pinned([u8; 32]),
    /// Not at all: control says so, for tests.
    Nothing,
}

/// The regions that can be used: those with a valid number and a relay that speaks DERP.
pub(super) fn regions(map: wire::DerpMap) -> BTreeMap<RegionId, Region> {
    let regions = map.regions.into_values().filter_map(|region| {
        let id = RegionId::try_from(region.region_id).ok().filter(|id| *id != 0)?;
        let stun = region.nodes.iter().filter_map(stun_server).collect();
        let relays: Vec<Relay> = region.nodes.into_iter().filter_map(relay).collect();
        let may_be_home = !region.avoid && !region.no_measure_no_home;
        let region = Region {
            code: region.region_code,
            name: region.region_name,
            may_be_home,
            relays,
            stun,
        };
        (!region.relays.is_empty()).then_some((id, region))
    });
    regions.collect()
}

fn relay(node: wire::DerpNode) -> Option<Relay> {
    if node.stun_only {
        return None;
    }
    let addresses = addresses(&node);
    let check = match node.cert_name.strip_prefix(PIN) {
        Some(digits) => CertificateCheck::Pinned(hash(digits)?),
        None if node.insecure_for_tests => CertificateCheck::Nothing,
        None if node.cert_name.is_empty() => CertificateCheck::Name(node.host_name.clone()),
        None => CertificateCheck::Name(node.cert_name),
    };
    Some(Relay {
        addresses,
        host: node.host_name,
        port: if node.derp_port == 0 {
            RELAY_PORT
        } else {
            node.derp_port
        },
        check,
    })
}

fn stun_server(node: &wire::DerpNode) -> Option<StunServer> {
    let port = match node.stun_port {
        0 => STUN_PORT,
        port => u16::try_from(port).ok()?,
    };
    Some(StunServer {
        host: node.host_name.clone(),
        addresses: addresses(node),
        port,
    })
}

/// The map that [`regions`] reads these from. A relay and its server for STUN are two nodes in it.
pub(super) fn to_wire(regions: &BTreeMap<RegionId, Region>) -> wire::DerpMap {
    let regions = regions.iter().map(|(id, region)| {
        let relays = region.relays.iter().map(relay_node);
        let nodes = relays.chain(region.stun.iter().map(stun_node));
        let nodes = nodes.enumerate().map(|(index, node)| wire::DerpNode {
            name: format!("{id}-{index}"),
            region_id: (*id).into(),
            ..node
        });
        let region = wire::DerpRegion {
            region_id: (*id).into(),
            region_code: region.code.clone(),
            region_name: region.name.clone(),
            avoid: !region.may_be_home,
            nodes: nodes.collect(),
            no_measure_no_home: false,
        };
        (region.region_id, region)
    });
    wire::DerpMap {
        regions: regions.collect(),
        ..wire::DerpMap::default()
    }
}

fn relay_node(relay: &Relay) -> wire::DerpNode {
    let cert_name = match &relay.check {
        CertificateCheck::Name(name) if *name == relay.host => String::new(),
        CertificateCheck::Name(name) => name.clone(),
        CertificateCheck::Pinned(hash) => {
            let digits: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{PIN}{}", digits.concat())
        }
        CertificateCheck::Nothing => String::new(),
    };
    wire::DerpNode {
        cert_name,
        derp_port: relay.port,
        stun_port: NO_STUN,
        insecure_for_tests: relay.check == CertificateCheck::Nothing,
        ..node_at(&relay.host, &relay.addresses)
    }
}

fn stun_node(server: &StunServer) -> wire::DerpNode {
    wire::DerpNode {
        stun_only: true,
        stun_port: server.port.into(),
        ..node_at(&server.host, &server.addresses)
    }
}

fn node_at(host: &str, addresses: &[IpAddr]) -> wire::DerpNode {
    // A host that is an address is one of the addresses by that.
    let others = addresses.iter().filter(|address| host.parse() != Ok(**address));
    let first = |is_v4: bool| {
        let mut others = others.clone().filter(|address| address.is_ipv4() == is_v4);
        others.next().map(ToString::to_string).unwrap_or_default()
    };
    wire::DerpNode {
        host_name: host.to_owned(),
        ipv4: first(true),
        ipv6: first(false),
        ..wire::DerpNode::default()
    }
}

fn addresses(node: &wire::DerpNode) -> Vec<IpAddr> {
    let texts = [&node.ipv4, &node.ipv6, &node.host_name];
    let mut addresses = Vec::new();
    for address in texts.into_iter().filter_map(|text| text.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// A hash in hexadecimal. One that is not understood makes the relay unusable: it must not be dialled unchecked.
fn hash(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(node: &serde_json::Value) -> BTreeMap<RegionId, Region> {
        let map = json!({"Regions": {"7": {"RegionID": 7, "RegionCode": "x", "RegionName": "X", "Nodes": [node]}}});
        regions(serde_json::from_value(map).expect("test documents are valid"))
    }

    #[test]
    fn ports_and_checks_have_their_defaults() {
        let regions = read(
            &json!({"Name": "7a", "RegionID": 7, "HostName": "relay.example", "IPv4": "192.0.2.1", "IPv6": "none"}),
        );
        let relay = &regions[&7].relays[0];
        assert_eq!((relay.port, regions[&7].stun[0].port), (443, 3478));
        assert_eq!(relay.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(relay.check, CertificateCheck::Name("relay.example".into()));
    }

    #[test]
    fn pin_is_read_and_a_pin_that_is_none_makes_the_relay_unusable() {
        let with = |name: String| {
            read(&json!({"Name": "7a", "RegionID": 7, "HostName": "r", "CertName": name, "STUNPort": -1}))
        };
        let regions = with(format!("sha256-raw:{}", "ab".repeat(32)));
        assert_eq!(regions[&7].relays[0].check, CertificateCheck::Pinned([0xab; 32]));
        assert!(regions[&7].stun.is_empty());
        for bad in ["", "ab", "zz".repeat(32).as_str(), "ä".repeat(32).as_str()] {
            assert!(with(format!("sha256-raw:{bad}")).is_empty(), "{bad}");
        }
    }

    #[test]
    fn server_for_stun_alone_is_no_relay() {
        let nodes = json!([
            {"Name": "7a", "RegionID": 7, "HostName": "192.0.2.1"},
            {"Name": "7b", "RegionID": 7, "HostName": "stun.example", "STUNOnly": true, "STUNPort": 3479},
        ]);
        let map = json!({"Regions": {"7": {"RegionID": 7, "RegionCode": "x", "RegionName": "X", "Nodes": nodes}}});
        let regions = regions(serde_json::from_value(map).expect("test documents are valid"));
        let (relays, stun) = (&regions[&7].relays, &regions[&7].stun);
        assert_eq!((relays.len(), stun.len()), (1, 2));
        assert_eq!(relays[0].addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!((stun[1].host.as_str(), stun[1].port), ("stun.example", 3479));
        assert!(stun[1].addresses.is_empty(), "to be resolved");
    }

    #[test]
    fn regions_are_the_same_after_they_were_kept_as_a_map() {
        let nodes = [
            json!({"Name": "a", "RegionID": 7, "HostName": "relay.example", "IPv4": "192.0.2.1", "IPv6": "2001:db8::1", "CertName": "other"}),
            json!({"Name": "b", "RegionID": 7, "HostName": "192.0.2.2", "IPv4": "192.0.2.2", "DERPPort": 8443, "STUNPort": 9,
                "CertName": format!("sha256-raw:{}", "0a".repeat(32))}),
            json!({"Name": "c", "RegionID": 7, "HostName": "192.0.2.3", "IPv6": "2001:db8::3", "STUNPort": -1, "InsecureForTests": true}),
            json!({"Name": "d", "RegionID": 7, "HostName": "relay.example", "STUNOnly": true}),
        ];
        let map = json!({"Regions": {
            "7": {"RegionID": 7, "RegionCode": "x", "RegionName": "X", "Nodes": nodes},
            "9": {"RegionID": 9, "RegionCode": "y", "RegionName": "Y", "NoMeasureNoHome": true, "Nodes": [nodes[2]]},
        }});
        let before = regions(serde_json::from_value(map).expect("test documents are valid"));
        assert_eq!(
            (before.len(), before[&7].stun.len(), before[&7].relays.len()),
            (2, 3, 3)
        );
        assert_eq!(regions(to_wire(&before)), before);
    }
}
