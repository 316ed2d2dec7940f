//! What a policy means for one node: its packet filter, and whom it sees.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use isthmus_tailnet_wire::control::{CapGrant, FilterRule, NetPortRange};

use super::{Alias, Policy, Rule, Service, Subject};

/// The senders of each rule of a policy, in the forms of a filter rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources(Vec<Vec<String>>);

impl Policy {
    /// Whom each rule lets in, when these are all nodes.
    pub(crate) fn sources(&self, all: &[Subject<'_>]) -> Sources {
        Sources(self.rules.iter().map(|rule| rule.source_texts(all)).collect())
    }

    /// The packet filter of a node: what others may send to it and to what it routes.
    pub(crate) fn filter_for(&self, node: Subject<'_>, sources: &Sources) -> Vec<FilterRule> {
        let mut filter = Vec::new();
        let rules = self.rules.iter().zip(&sources.0);
        for (rule, sources) in rules.filter(|(_, sources)| !sources.is_empty()) {
            for (to, services) in &rule.opens {
                let targets = destinations(to, node);
                filter.extend(port_rules(sources, &targets, services));
                let dsts = grantable(to, &targets, node);
                if !rule.app.is_empty() && !dsts.is_empty() {
                    filter.push(FilterRule {
                        src_ips: sources.clone(),
                        cap_grant: vec![CapGrant {
                            dsts: dsts.into(),
                            cap_map: rule.app.clone(),
                            ..CapGrant::default()
                        }],
                        ..FilterRule::default()
                    });
                }
            }
        }
        filter
    }

    /// Whether two nodes see each other: one may send something to the other, or to what the other routes.
    pub(crate) fn relates(&self, one: Subject<'_>, other: Subject<'_>) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.leads(one, other) || rule.leads(other, one))
    }
}

impl Rule {
    fn leads(&self, from: Subject<'_>, to: Subject<'_>) -> bool {
        self.sources.iter().any(|source| source.names(from))
            && self.opens.iter().any(|(target, _)| is_destination(target, to))
    }

    /// The sources in the forms of a filter rule.
    fn source_texts(&self, all: &[Subject<'_>]) -> Vec<String> {
        let mut texts = BTreeSet::new();
        for source in &self.sources {
            match source {
                Alias::Any => return vec!["*".to_owned()],
                Alias::Net(net) => {
                    texts.insert(net_text(*net));
                }
                Alias::Tag(_) | Alias::Users(_) | Alias::Members | Alias::Tagged | Alias::Service(_) => {
                    let nodes = all.iter().filter(|node| source.names(**node));
                    texts.extend(nodes.flat_map(|node| node.addresses.map(|address| address.to_string())));
                }
            }
        }
        texts.into_iter().collect()
    }
}

/// Whether a destination leads to or through this node.
fn is_destination(to: &Alias, node: Subject<'_>) -> bool {
    match to {
        Alias::Any => true,
        Alias::Net(net) => {
            let mut routes = node.routes.iter();
            node.addresses.iter().any(|address| net.contains(address))
                || routes.any(|route| route.contains(net) || net.contains(route))
        }
        Alias::Tag(_) | Alias::Users(_) | Alias::Members | Alias::Tagged | Alias::Service(_) => {
            own_addresses(to, node).next().is_some()
        }
    }
}

/// The addresses of a destination that lead to or through this node, in the forms of a filter rule.
fn destinations(to: &Alias, node: Subject<'_>) -> Vec<String> {
    match to {
        Alias::Any => vec!["*".to_owned()],
        Alias::Net(net) if is_destination(to, node) => vec![net_text(*net)],
        Alias::Net(_) => Vec::new(),
        Alias::Tag(_) | Alias::Users(_) | Alias::Members | Alias::Tagged | Alias::Service(_) => {
            own_addresses(to, node).map(|address| address.to_string()).collect()
        }
    }
}

/// The addresses of a node, and of Services that it hosts, that a destination names.
fn own_addresses<'a>(to: &'a Alias, node: Subject<'a>) -> impl Iterator<Item = IpAddr> + 'a {
    let own = node.addresses.into_iter().filter(move |_| to.names(node));
    own.chain(to.services(node))
}

/// The prefixes at which an application capability holds.
fn grantable(to: &Alias, targets: &[String], node: Subject<'_>) -> Vec<IpNet> {
    match to {
        Alias::Net(net) if !targets.is_empty() => vec![*net],
        Alias::Net(_) => Vec::new(),
        Alias::Any | Alias::Tag(_) | Alias::Users(_) | Alias::Members | Alias::Tagged | Alias::Service(_) => {
            own_addresses(to, node).map(IpNet::from).collect()
        }
    }
}

/// One rule for each set of protocols.
fn port_rules(sources: &[String], targets: &[String], services: &[Service]) -> Vec<FilterRule> {
    let protocols: BTreeSet<&Vec<i64>> = services.iter().map(|service| &service.protocols).collect();
    if targets.is_empty() {
        return Vec::new();
    }
    let of = |protocols: &Vec<i64>| -> Vec<NetPortRange> {
        let services = services.iter().filter(|service| service.protocols == *protocols);
        services
            .flat_map(|service| {
                targets.iter().map(|ip| NetPortRange {
                    ip: ip.clone(),
                    ports: service.ports.clone(),
                    ..NetPortRange::default()
                })
            })
            .collect()
    };
    protocols
        .into_iter()
        .map(|protocols| FilterRule {
            src_ips: sources.to_vec(),
            dst_ports: of(protocols),
            ip_proto: protocols.clone(),
            ..FilterRule::default()
        })
        .collect()
}

/// A prefix of one address is written as the address.
fn net_text(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}
