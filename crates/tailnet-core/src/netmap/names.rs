//! What names of the tailnet lead to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dns::plain;
use super::{Netmap, RoutePolicy};

/// The range in which networks with overlapping IPv4 addresses appear, each under the number of its site: after these
/// 64 bits come 32 bits of site and the IPv4 address (4via6, as Tailscale documents it).
const VIA: [u16; 4] = [0xfd7a, 0x115c, 0xa1e0, 0x0b1a];

impl Netmap {
    /// The addresses to which packets for a fully qualified name can be sent now; none when nothing is called so. Case and
    /// a final dot do not matter.
    ///
    /// Names are those of nodes, this one included; then those of records, such as Tailscale Services have, as far as a
    /// peer takes packets for their addresses; then 4via6 names (`10-1-2-3-via-7`, alone or in this tailnet), as far as a
    /// route that `policy` uses leads there.
    pub fn reachable_addresses_of(&self, name: &str, policy: RoutePolicy) -> BTreeSet<IpAddr> {
        let name = plain(name);
        let known: BTreeSet<IpAddr> = self.addresses_of(&name).into_iter().collect();
        if self.peer_by_name(&name).is_some() || plain(&self.own.name) == name {
            return known;
        }
        let led_to = |address: &IpAddr| self.is_led_to(*address, policy);
        let recorded: BTreeSet<IpAddr> = known.into_iter().filter(led_to).collect();
        if recorded.is_empty() {
            let via = self.via_address(&name).map(IpAddr::V6);
            via.filter(led_to).into_iter().collect()
        } else {
            recorded
        }
    }

    /// Whether some peer takes packets for an address.
    fn is_led_to(&self, address: IpAddr, policy: RoutePolicy) -> bool {
        let leads = |peer: &super::Peer| {
            let mut nets = peer.allowed.iter();
            nets.any(|net| net.contains(&address) && policy.accepts(peer, *net))
        };
        self.peers.values().any(|peer| leads(peer))
    }

    /// The address that a 4via6 name in lower case without final dot spells.
    pub(crate) fn via_address(&self, name: &str) -> Option<Ipv6Addr> {
        let (label, suffix) = name.split_once('.').unwrap_or((name, ""));
        let own = plain(&self.own.name);
        let (_, own_suffix) = own.split_once('.').unwrap_or_default();
        (suffix.is_empty() || suffix == own_suffix).then_some(())?;
        let (address, site) = label.rsplit_once("-via-")?;
        let address: Ipv4Addr = address.replace('-', ".").parse().ok()?;
        let site = match site.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => site.parse().ok()?,
        };
        let prefix = VIA.iter().fold(0_u128, |bits, group| bits << 16 | u128::from(*group));
        Some((prefix << 64 | u128::from(site) << 32 | u128::from(u32::from(address))).into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{map, peer};
    use super::*;

    const ACCEPT: RoutePolicy = RoutePolicy { accept_routes: true };

    fn found(map: &Netmap, name: &str) -> Vec<String> {
        let addresses = map.reachable_addresses_of(name, ACCEPT);
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn node_is_found_by_its_name_in_any_case_with_and_without_dot() {
        let map = map(&[]);
        for name in ["p2.tail.internal", "P2.Tail.Internal.", "p2.tail.internal."] {
            assert_eq!(found(&map, name), ["100.64.0.2"], "{name}");
        }
        assert_eq!(found(&map, "me.tail.internal"), ["100.64.0.1", "fd7a:115c:a1e0::1"]);
        for name in ["p2", "p2.tail", "p9.tail.internal", ""] {
            assert!(found(&map, name).is_empty(), "{name}");
        }
    }

    #[test]
    fn name_of_a_service_is_found_while_a_peer_hosts_it() {
        let records = json!({"DNSConfig": {"ExtraRecords": [
            {"Name": "Web.tail.internal.", "Value": "100.100.7.7"},
            {"Name": "web.tail.internal.", "Type": "AAAA", "Value": "fd7a:115c:a1e0::77"},
            {"Name": "web.tail.internal", "Type": "TXT", "Value": "words"},
            {"Name": "stray.tail.internal", "Type": "A", "Value": "192.0.2.1"},
        ]}});
        let mut host = peer(4);
        host["AllowedIPs"] = json!(["100.64.0.4/32", "100.100.7.7/32"]);
        let hosted = map(&[records.clone(), json!({"PeersChanged": [host]})]);
        assert_eq!(found(&hosted, "web.tail.internal"), ["100.100.7.7"]);
        assert!(
            found(&hosted, "stray.tail.internal").is_empty(),
            "nobody takes packets for it"
        );
        assert!(found(&map(&[records]), "web.tail.internal").is_empty());
    }

    #[test]
    fn name_of_an_address_at_a_site_is_found_while_its_route_is_used() {
        let mut router = peer(4);
        router["AllowedIPs"] = json!(["100.64.0.4/32", "fd7a:115c:a1e0:b1a:0:7:a01:0/112"]);
        let map = map(&[json!({"PeersChanged": [router]})]);
        for name in ["10-1-2-3-via-7.tail.internal", "10-1-2-3-VIA-7", "10-1-2-3-via-0x7"] {
            assert_eq!(found(&map, name), ["fd7a:115c:a1e0:b1a:0:7:a01:203"], "{name}");
        }
        for name in [
            "10-1-2-3-via-8",
            "10-9-2-3-via-7",
            "10-1-2-via-7",
            "10-1-2-3-via-7.other.internal",
        ] {
            assert!(found(&map, name).is_empty(), "{name}");
        }
        let refused = map.reachable_addresses_of("10-1-2-3-via-7", RoutePolicy::default());
        assert!(refused.is_empty(), "its route is not used");
    }
}
