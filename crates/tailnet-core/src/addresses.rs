//! Sets of IP addresses of both families, built from single addresses, prefixes and ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An immutable set of addresses. Membership costs a binary search over disjoint ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

/// One contiguous piece of address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRange {
    /// Every address of both families.
    Any,
    /// IPv4, both ends included.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6, both ends included.
    V6(Ipv6Addr, Ipv6Addr),
}

impl AddressRange {
    /// Reads the forms that control uses in filter rules: `*`, an address, a prefix, or `first-last`.
    /// Gives nothing for any other text, for ranges across families and for ranges that end before they start.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if let Some((first, last)) = text.split_once('-') {
            return match (first.parse().ok()?, last.parse().ok()?) {
                (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => Some(Self::V4(first, last)),
                (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => Some(Self::V6(first, last)),
                _ => None,
            };
        }
        let net = text
            .parse::<IpNet>()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
        Some(Self::from(net))
    }

    /// Whether `address` is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Any, _) => true,
            (Self::V4(first, last), IpAddr::V4(address)) => (*first..=*last).contains(&address),
            (Self::V6(first, last), IpAddr::V6(address)) => (*first..=*last).contains(&address),
            (Self::V4(..), IpAddr::V6(_)) | (Self::V6(..), IpAddr::V4(_)) => false,
        }
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> Self {
        match net {
            IpNet::V4(net) => Self::V4(net.network(), net.broadcast()),
            IpNet::V6(net) => Self::V6(net.network(), net.broadcast()),
        }
    }
}

impl AddressSet {
    /// Whether `address` is in the set.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => within(&self.v4, u32::from(address)),
            IpAddr::V6(address) => within(&self.v6, u128::from(address)),
        }
    }

    /// The set as ranges that do not overlap, those of IPv4 first.
    pub fn ranges(&self) -> impl Iterator<Item = AddressRange> {
        let v4 = self
            .v4
            .iter()
            .map(|(first, last)| AddressRange::V4((*first).into(), (*last).into()));
        let v6 = self
            .v6
            .iter()
            .map(|(first, last)| AddressRange::V6((*first).into(), (*last).into()));
        v4.chain(v6)
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl FromIterator<AddressRange> for AddressSet {
    fn from_iter<I: IntoIterator<Item = AddressRange>>(ranges: I) -> Self {
        let mut set = Self::default();
        for range in ranges {
            match range {
                AddressRange::Any => {
                    set.v4.push((0, u32::MAX));
                    set.v6.push((0, u128::MAX));
                }
                AddressRange::V4(first, last) => set.v4.push((first.into(), last.into())),
                AddressRange::V6(first, last) => set.v6.push((first.into(), last.into())),
            }
        }
        merge(&mut set.v4);
        merge(&mut set.v6);
        set
    }
}

impl FromIterator<IpNet> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        nets.into_iter().map(AddressRange::from).collect()
    }
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= value);
    after.checked_sub(1).is_some_and(|at| value <= ranges[at].1)
}

/// Sorts, and joins ranges that overlap, so that at most one range can hold a value.
fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let overlaps = next.0 <= kept.1;
        if overlaps {
            kept.1 = kept.1.max(next.1);
        }
        overlaps
    });
    ranges.shrink_to_fit();
}

#[cfg(test)]
mod tests;
