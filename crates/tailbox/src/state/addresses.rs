//! Addresses of nodes: the same distance from the start of an IPv4 and of an IPv6 range, given once and never again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// 100.64.0.0/10, the range for carrier-grade NAT, which tailnets use.
const V4_START: u32 = 0x6440_0000;
const V4_COUNT: u32 = 1 << 22;
/// fd7a:115c:a1e0::/48
const V6_START: u128 = 0xfd7a_115c_a1e0 << 80;

/// Parts of the IPv4 range with other uses: the resolver's own network, its neighbour, and a range of ChromeOS that
/// clients do not count as the tailnet's.
const RESERVED: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(100, 100, 0, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 100, 100, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 115, 92, 0), 23),
];

/// The next address after `last`, or `None` when the range is used up.
pub(crate) fn next_address(last: u32) -> Option<u32> {
    (last + 1..V4_COUNT - 1).find(|&index| {
        let address = v4(index);
        RESERVED.iter().all(|range| !range.contains(&address))
    })
}

/// The distance of an IPv4 address that may be given out.
pub(crate) fn index_of(address: Ipv4Addr) -> Option<u32> {
    let index = u32::from(address).checked_sub(V4_START)?;
    next_address(index.checked_sub(1)?).filter(|next| *next == index)
}

/// The IPv4 address at a distance.
pub(crate) fn v4(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(V4_START + index)
}

/// The IPv6 address at a distance.
pub(crate) fn v6(index: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(V6_START + u128::from(index))
}

/// Both addresses, each as a prefix of one address.
pub(crate) fn prefixes(index: u32) -> Vec<IpNet> {
    vec![IpNet::from(IpAddr::V4(v4(index))), IpNet::from(IpAddr::V6(v6(index)))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_start_with_the_first_of_both_ranges() {
        assert_eq!(next_address(0), Some(1));
        assert_eq!(
            prefixes(1).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]
        );
    }

    #[test]
    fn only_addresses_of_the_range_have_an_index() {
        let index = |text: &str| index_of(text.parse().unwrap());
        assert_eq!(index("100.64.0.9"), Some(9));
        for text in [
            "100.64.0.0",
            "100.63.0.9",
            "100.100.100.100",
            "100.127.255.255",
            "192.0.2.1",
        ] {
            assert_eq!(index(text), None, "{text}");
        }
    }

    #[test]
    fn reserved_addresses_are_left_out() {
        let before = u32::from(Ipv4Addr::new(100, 99, 255, 255)) - V4_START;
        assert_eq!(next_address(before).map(v4), Some(Ipv4Addr::new(100, 100, 1, 0)));
    }

    #[test]
    fn addresses_end_before_the_range_does() {
        assert_eq!(next_address(V4_COUNT - 2), None);
    }
}
