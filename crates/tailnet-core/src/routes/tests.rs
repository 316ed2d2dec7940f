use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;

use super::PrefixMap;

fn map(routes: &[(&str, u32)]) -> PrefixMap<u32> {
    routes
        .iter()
        .map(|(net, value)| (net.parse().unwrap(), *value))
        .collect()
}

#[test]
fn longest_prefix_wins() {
    let map = map(&[
        ("0.0.0.0/0", 0),
        ("10.0.0.0/8", 1),
        ("10.1.0.0/16", 2),
        ("10.1.2.3/32", 3),
    ]);
    for (address, value) in [("192.0.2.1", 0), ("10.2.0.1", 1), ("10.1.9.9", 2), ("10.1.2.3", 3)] {
        assert_eq!(map.get(address.parse().unwrap()), Some(&value), "{address}");
    }
}

#[test]
fn families_do_not_mix() {
    let map = map(&[("0.0.0.0/0", 4), ("fd00::/8", 6)]);
    assert_eq!(map.get("::1".parse().unwrap()), None);
    assert_eq!(map.get("fd00::1".parse().unwrap()), Some(&6));
    assert_eq!(map.get("0.0.0.1".parse().unwrap()), Some(&4));
}

#[test]
fn first_value_is_kept_when_a_prefix_comes_twice() {
    assert_eq!(
        map(&[("10.0.0.0/8", 1), ("10.9.9.9/8", 2)]).get("10.0.0.1".parse().unwrap()),
        Some(&1)
    );
}

proptest! {
    #[test]
    fn lookup_agrees_with_a_search_through_all_routes(
        routes in proptest::collection::vec((0_u32..64, 26_u8..=32), 0..40),
        address in 0_u32..64,
    ) {
        let nets: Vec<Ipv4Net> = routes.iter().map(|(a, len)| Ipv4Net::new((*a).into(), *len).unwrap()).collect();
        let map: PrefixMap<u8> = nets.iter().map(|net| (IpNet::V4(*net), net.prefix_len())).collect();
        let address = Ipv4Addr::from(address);
        let expected = nets.iter().filter(|net| net.contains(&address)).map(Ipv4Net::prefix_len).max();
        prop_assert_eq!(map.get(IpAddr::V4(address)).copied(), expected);
    }
}
