//! Names and resolvers.

use std::collections::BTreeMap;

use crate::object::wire_struct;

wire_struct! {
    /// How a node resolves names.
    pub struct DnsConfig {
        /// Resolvers for names that no route matches; empty leaves those to the machine.
        omit "Resolvers" => resolvers: Vec<Resolver>,
        /// Resolvers by suffix; none for a suffix means that the node answers from its map.
        omit "Routes" => routes: BTreeMap<String, Option<Vec<Resolver>>>,
        /// Resolvers for machines that need some where `Resolvers` is empty.
        omit "FallbackResolvers" => fallback_resolvers: Vec<Resolver>,
        /// Search domains; the first is the tailnet's own.
        omit "Domains" => domains: Vec<String>,
        /// Whether MagicDNS is on.
        omit "Proxied" => proxied: bool,
        /// Names, without the final dot, for which the node may get certificates.
        omit "CertDomains" => cert_domains: Vec<String>,
        /// Records beside those of nodes.
        omit "ExtraRecords" => extra_records: Vec<DnsRecord>,
    }
}

wire_struct! {
    /// A resolver.
    pub struct Resolver {
        /// IP address, `IP:port`, or the URL of DNS over HTTPS.
        omit "Addr" => addr: String,
        /// Addresses of the host in that URL.
        omit "BootstrapResolution" => bootstrap_resolution: Vec<String>,
    }
}

wire_struct! {
    /// A DNS record.
    pub struct DnsRecord {
        /// Fully qualified name, with or without the final dot.
        always "Name" => name: String,
        /// Record type; empty for an address.
        omit "Type" => kind: String,
        /// The value: for an address, the address as text.
        always "Value" => value: String,
    }
}
