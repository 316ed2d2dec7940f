//! Routes: which value belongs to the longest prefix that holds an address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// An immutable map from prefixes of both families to values, looked up by longest prefix. A lookup costs one search per
/// prefix length in use.
#[derive(Debug, Clone)]
pub struct PrefixMap<V> {
    v4: Vec<Level<V>>,
    v6: Vec<Level<V>>,
}

/// All prefixes of one length; levels are sorted from the longest to the shortest.
#[derive(Debug, Clone)]
struct Level<V> {
    mask: u128,
    networks: BTreeMap<u128, V>,
}

impl<V> Default for PrefixMap<V> {
    /// A map without routes.
    fn default() -> Self {
        Self {
            v4: Vec::new(),
            v6: Vec::new(),
        }
    }
}

impl<V> PrefixMap<V> {
    /// The value of the longest prefix that holds `address`.
    pub fn get(&self, address: IpAddr) -> Option<&V> {
        let levels = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let bits = bits(address);
        levels.iter().find_map(|level| level.networks.get(&(bits & level.mask)))
    }
}

impl<V> FromIterator<(IpNet, V)> for PrefixMap<V> {
    /// Of two values for the same prefix the first is kept.
    fn from_iter<I: IntoIterator<Item = (IpNet, V)>>(routes: I) -> Self {
        let mut families = [BTreeMap::<u8, Level<V>>::new(), BTreeMap::new()];
        for (net, value) in routes {
            let mask = bits(net.netmask());
            let family = &mut families[usize::from(net.addr().is_ipv6())];
            let level = family.entry(net.prefix_len()).or_insert_with(|| Level {
                mask,
                networks: BTreeMap::new(),
            });
            level.networks.entry(bits(net.network())).or_insert(value);
        }
        let [v4, v6] = families.map(|levels| levels.into_values().rev().collect());
        Self { v4, v6 }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests;
