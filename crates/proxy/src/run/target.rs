//! What the names of a configuration lead to now.

use std::collections::BTreeSet;
use std::net::IpAddr;

use isthmus_contract::proxy_config::ProxyConfig;
use isthmus_proxy_core::{Guard, Plan, TargetName};
use isthmus_runtime::Resolver;
use isthmus_tailnet::NodeStatus;
use isthmus_tailnet_core::netmap::{Netmap, RoutePolicy};

use crate::name_watch::NameWatch;

/// Follows the name that the configuration leads to, when it is a name.
pub(super) struct Target {
    names: NameWatch,
    api_server: Option<IpAddr>,
}

/// Where the name leads, and what to say about it.
#[derive(Default)]
pub(super) struct Named {
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Where it led until lately: connections there may go on.
    pub(super) former: BTreeSet<IpAddr>,
    pub(super) problem: Option<String>,
}

impl Target {
    /// Starts without a name; `api_server` is where no name of DNS may lead.
    pub(super) fn start(api_server: Option<IpAddr>) -> Self {
        Self {
            names: NameWatch::start(Resolver::default()),
            api_server,
        }
    }

    /// Returns when a name may lead elsewhere.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn changed(&mut self) {
        self.names.changed().await;
    }

    /// The addresses that the name of `config` has now and that may be used; nothing for a configuration without names.
    pub(super) fn named(&self, config: &ProxyConfig, policy: RoutePolicy, status: &NodeStatus, plan: &Plan) -> Named {
        let name = TargetName::of(config);
        self.names.want(match &name {
            Some(TargetName::Dns(name)) => Some(name.clone()),
            Some(TargetName::Tailnet(_)) | None => None,
        });
        match name {
            None => Named::default(),
            Some(TargetName::Dns(name)) => self.by_dns(&name, status, plan),
            Some(TargetName::Tailnet(name)) => match &status.netmap {
                Some(netmap) => by_netmap(&name, policy, netmap),
                None => Named::default(),
            },
        }
    }

    fn by_dns(&self, name: &str, status: &NodeStatus, plan: &Plan) -> Named {
        let guard = Guard {
            pod: plan.pod.clone(),
            tailnet: status.netmap.as_deref().map(members).unwrap_or_default(),
            api_server: self.api_server,
        };
        let known = self.names.known(name);
        let (addresses, refused) = guard.judge(name, known.addresses());
        Named {
            addresses,
            former: guard.judge(name, known.former_addresses()).0,
            problem: refused.or_else(|| known.problem(name)),
        }
    }
}

fn members(netmap: &Netmap) -> BTreeSet<IpAddr> {
    let peers = netmap.peers.values().flat_map(|peer| peer.addresses.iter());
    peers.chain(&netmap.own.addresses).copied().collect()
}

fn by_netmap(name: &str, policy: RoutePolicy, netmap: &Netmap) -> Named {
    let addresses = netmap.reachable_addresses_of(name, policy);
    let is_own = addresses.iter().any(|address| netmap.own.addresses.contains(address));
    let problem = if is_own {
        Some(format!("{name} is this proxy itself: name another device"))
    } else if addresses.is_empty() {
        Some(format!(
            "no device on this tailnet is called {name}: connections are refused until there is one"
        ))
    } else {
        None
    };
    Named {
        addresses: if is_own { BTreeSet::new() } else { addresses },
        former: BTreeSet::new(),
        problem,
    }
}
