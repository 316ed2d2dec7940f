//! How names are resolved, as control configures it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use isthmus_tailnet_wire::control as wire;

/// The port of a resolver that names none.
const PORT: u16 = 53;

/// How names are resolved. All names are in lower case without final dot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Whether nodes resolve each other's names (MagicDNS).
    pub magic: bool,
    /// Search domains; the first is the suffix of the tailnet's nodes.
    pub domains: Vec<String>,
    /// Resolvers for names that no route matches; empty leaves those to the machine.
    pub resolvers: Vec<Resolver>,
    /// Resolvers for machines that need some where `resolvers` is empty.
    pub fallback: Vec<Resolver>,
    /// Resolvers by suffix, the longest suffix first in rank; none for a suffix means that this node answers from its map.
    pub routes: BTreeMap<String, Vec<Resolver>>,
    /// Names for which this node may get certificates, by records that control publishes for it.
    pub cert_domains: Vec<String>,
    /// Addresses of names beside those of nodes, such as Tailscale Services.
    pub records: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// A server that resolves names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolver {
    /// DNS over UDP and TCP.
    Plain(SocketAddr),
    /// DNS over HTTPS.
    Https {
        /// Where to post questions.
        url: String,
        /// Addresses of the host in the URL; empty to resolve it by other means.
        addresses: Vec<IpAddr>,
    },
}

impl From<wire::DnsConfig> for Dns {
    fn from(config: wire::DnsConfig) -> Self {
        let names = |names: Vec<String>| names.iter().map(|name| plain(name)).collect();
        let routes = config.routes.into_iter();
        Self {
            magic: config.proxied,
            domains: names(config.domains),
            resolvers: resolvers(config.resolvers),
            fallback: resolvers(config.fallback_resolvers),
            routes: routes
                .map(|(suffix, via)| (plain(&suffix), resolvers(via.unwrap_or_default())))
                .collect(),
            cert_domains: names(config.cert_domains),
            records: records(&config.extra_records),
        }
    }
}

impl From<&Dns> for wire::DnsConfig {
    fn from(dns: &Dns) -> Self {
        let documents = |resolvers: &[Resolver]| resolvers.iter().map(wire::Resolver::from).collect::<Vec<_>>();
        let pairs = dns.records.iter();
        let pairs = pairs.flat_map(|(name, addresses)| addresses.iter().map(move |address| (name, address)));
        let routes = dns.routes.iter();
        Self {
            resolvers: documents(&dns.resolvers),
            routes: routes
                .map(|(suffix, via)| (suffix.clone(), Some(documents(via))))
                .collect(),
            fallback_resolvers: documents(&dns.fallback),
            domains: dns.domains.clone(),
            proxied: dns.magic,
            cert_domains: dns.cert_domains.clone(),
            extra_records: pairs
                .map(|(name, address)| wire::DnsRecord {
                    name: name.clone(),
                    value: address.to_string(),
                    ..wire::DnsRecord::default()
                })
                .collect(),
        }
    }
}

impl From<&Resolver> for wire::Resolver {
    fn from(resolver: &Resolver) -> Self {
        match resolver {
            Resolver::Plain(address) => Self {
                addr: address.to_string(),
                ..Self::default()
            },
            Resolver::Https { url, addresses } => Self {
                addr: url.clone(),
                bootstrap_resolution: addresses.iter().map(ToString::to_string).collect(),
            },
        }
    }
}

/// Resolvers of a kind that is not known are left out.
fn resolvers(resolvers: Vec<wire::Resolver>) -> Vec<Resolver> {
    resolvers.into_iter().filter_map(resolver).collect()
}

fn resolver(resolver: wire::Resolver) -> Option<Resolver> {
    let addr = resolver.addr;
    if let Ok(address) = addr.parse::<IpAddr>() {
        return Some(Resolver::Plain(SocketAddr::new(address, PORT)));
    }
    if let Ok(address) = addr.parse() {
        return Some(Resolver::Plain(address));
    }
    let addresses = resolver.bootstrap_resolution.iter();
    addr.starts_with("https://").then(|| Resolver::Https {
        addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
        url: addr,
    })
}

/// The records that name addresses. Those of other types, and values that are no address, are left out.
fn records(records: &[wire::DnsRecord]) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut map = BTreeMap::<_, BTreeSet<_>>::new();
    for record in records
        .iter()
        .filter(|record| matches!(&*record.kind, "" | "A" | "AAAA"))
    {
        if let Ok(address) = record.value.parse() {
            map.entry(plain(&record.name)).or_default().insert(address);
        }
    }
    map
}

/// A name in lower case without final dot.
pub(super) fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn configuration_is_read_with_its_resolvers_in_every_form() {
        let config: wire::DnsConfig = serde_json::from_value(json!({
            "Proxied": true, "Domains": ["Tail.Internal."], "CertDomains": ["web.tail.internal"],
            "Resolvers": [{"Addr": "192.0.2.53"}, {"Addr": "[2001:db8::53]:5353"}, {"Addr": "https://dns.example/q",
                "BootstrapResolution": ["192.0.2.1", "odd"]}, {"Addr": "sdns://new"}],
            "Routes": {"tail.internal.": null, "corp.example": [{"Addr": "10.0.0.53:53"}], "empty.example": []},
            "ExtraRecords": [{"Name": "Web.tail.internal.", "Value": "100.100.1.1"}]}))
        .unwrap();
        let dns = Dns::from(config);
        assert!(dns.magic);
        assert_eq!(dns.domains, ["tail.internal"]);
        assert_eq!(
            dns.resolvers,
            [
                Resolver::Plain("192.0.2.53:53".parse().unwrap()),
                Resolver::Plain("[2001:db8::53]:5353".parse().unwrap()),
                Resolver::Https {
                    url: "https://dns.example/q".into(),
                    addresses: vec!["192.0.2.1".parse().unwrap()]
                },
            ]
        );
        assert!(dns.routes["tail.internal"].is_empty() && dns.routes["empty.example"].is_empty());
        assert_eq!(dns.routes["corp.example"].len(), 1);
        assert_eq!(dns.records["web.tail.internal"].len(), 1);
        assert_eq!(Dns::from(wire::DnsConfig::from(&dns)), dns);
    }
}
