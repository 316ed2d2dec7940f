//! Names that spell addresses (RFC 1035 section 3.5, RFC 3596 section 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address that a name in lower case without final dot spells; nothing for other names, and for those that spell a part of one.
pub fn address_of(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut octets: Vec<u8> = labels
            .split('.')
            .map(|label| label.parse().ok())
            .collect::<Option<_>>()?;
        octets.reverse();
        let octets: [u8; 4] = octets.try_into().ok()?;
        return Some(Ipv4Addr::from(octets).into());
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let nibble = |label: &str| u128::from_str_radix(label, 16).ok().filter(|_| label.len() == 1);
    let nibbles: Vec<u128> = labels.split('.').map(nibble).collect::<Option<_>>()?;
    let bits = nibbles.iter().rev().fold(0, |bits, nibble| bits << 4 | nibble);
    (nibbles.len() == 32).then(|| Ipv6Addr::from(bits).into())
}

#[cfg(test)]
mod tests {
    use super::address_of;

    #[test]
    fn address_is_read_from_the_name_that_spells_it() {
        let spelled = |name| address_of(name).map(|address| address.to_string());
        assert_eq!(spelled("4.3.64.100.in-addr.arpa").as_deref(), Some("100.64.3.4"));
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa";
        assert_eq!(spelled(v6).as_deref(), Some("fd7a:115c:a1e0::1"));
        for other in [
            "3.64.100.in-addr.arpa",
            "256.3.64.100.in-addr.arpa",
            "in-addr.arpa",
            "a.b.c.d.in-addr.arpa",
            "1.0.ip6.arpa",
            "one.tail.internal",
            "",
        ] {
            assert_eq!(spelled(other), None, "{other}");
        }
    }
}
