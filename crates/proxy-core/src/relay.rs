//! What the relay may carry: the plan of the families that the kernel cannot forward, in the terms of sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::mode::{IngressPorts, Mode};
use crate::plan::{Plan, Way};
use crate::routes::Family;
use crate::rules::Protocol;

/// Everything that the relay carries: by the address of the Pod that is asked for, where it leads. What is not in here is
/// refused by the relay itself, whatever the rules of the packet filter let through to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayPlan {
    /// The routes, by the own address that peers or Pods connect to.
    pub routes: BTreeMap<IpAddr, RelayRoute>,
}

/// Where one address of the Pod leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayRoute {
    /// The addresses that stand behind it, each as good as the others; all of the family of `source`. None: everything
    /// is refused.
    pub targets: Vec<IpAddr>,
    /// Former addresses, to which nothing new goes: connections that lead there may go on.
    pub kept: BTreeSet<IpAddr>,
    /// The own address that the targets see, which also decides the way that packets to them take.
    pub source: IpAddr,
    /// What of it is carried, each port to the same number at the target.
    pub ports: RelayedPorts,
}

/// Which ports a [`RelayRoute`] carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayedPorts {
    /// Every port of TCP and UDP but these.
    AllBut(BTreeSet<(Protocol, u16)>),
    /// These ports alone.
    Only(BTreeSet<(Protocol, u16)>),
}

/// Where a relay listens: on the loopback address of each family, which nothing outside of the Pod can address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayListeners {
    /// On 127.0.0.1.
    pub v4: Option<RelayPorts>,
    /// On ::1; none where the kernel has no IPv6.
    pub v6: Option<RelayPorts>,
}

/// The ports that a relay listens at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayPorts {
    /// For connections.
    pub tcp: u16,
    /// For datagrams.
    pub udp: u16,
}

impl RelayedPorts {
    /// Whether this port is carried.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        match self {
            Self::AllBut(ports) => protocol != Protocol::Sctp && !ports.contains(&(protocol, port)),
            Self::Only(ports) => ports.contains(&(protocol, port)),
        }
    }
}

impl RelayPlan {
    /// Derives what the relay carries from a plan: the same as its rules hand over.
    pub fn build(plan: &Plan) -> Self {
        let ways = plan.relay_ways();
        let routes = ways.iter().flat_map(|(way, _)| build_routes(plan, way)).collect();
        Self { routes }
    }

    /// The route of what arrived for this address and port of the Pod, if it may be carried.
    pub fn route(&self, protocol: Protocol, arrived: SocketAddr) -> Option<&RelayRoute> {
        let route = self.routes.get(&arrived.ip())?;
        route.ports.contains(protocol, arrived.port()).then_some(route)
    }

    /// Whether what arrived for this address and port still leads to `target`, from `source`.
    pub fn leads(&self, protocol: Protocol, arrived: SocketAddr, source: IpAddr, target: SocketAddr) -> bool {
        self.route(protocol, arrived).is_some_and(|route| {
            let is_kept = protocol == Protocol::Tcp && route.kept.contains(&target.ip());
            let leads = is_kept || route.targets.contains(&target.ip());
            route.source == source && leads && target.port() == arrived.port()
        })
    }
}

fn build_routes(plan: &Plan, way: &Way) -> Vec<(IpAddr, RelayRoute)> {
    // An address of the Pod itself as the target would lead to whatever listens in the Pod.
    let is_own = |target: &IpAddr| plan.pod.contains(target) || plan.tailnet.iter().any(|own| own == *target);
    let targets: Vec<IpAddr> = way.targets.iter().copied().filter(|target| !is_own(target)).collect();
    let mut pod = plan.pod_of_family(Family::of(way.own));
    match &plan.mode {
        Mode::Closed => Vec::new(),
        Mode::Ingress(ingress) => {
            let ports = match &ingress.ports {
                IngressPorts::All => RelayedPorts::AllBut(BTreeSet::new()),
                IngressPorts::Listed(ports) => RelayedPorts::Only(ports.clone()),
            };
            let kept = ingress.kept.clone();
            let route = |source| RelayRoute {
                targets,
                kept,
                source,
                ports,
            };
            pod.next().map(|source| (way.own, route(source))).into_iter().collect()
        }
        Mode::Egress(_) => {
            let route = |arrived| {
                let route = RelayRoute {
                    targets: targets.clone(),
                    kept: BTreeSet::new(),
                    source: way.own,
                    ports: RelayedPorts::AllBut(plan.reserved.iter().collect()),
                };
                (arrived, route)
            };
            pod.map(route).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::SocketAddr;

    use super::{RelayPlan, RelayRoute, RelayedPorts};
    use crate::plan::tests::address;
    use crate::rules::Protocol::{Tcp, Udp};

    fn plan(ports: RelayedPorts) -> RelayPlan {
        let route = RelayRoute {
            targets: vec![address("fd00:10:96::7")],
            kept: BTreeSet::from([address("fd00:10:96::9")]),
            source: address("fd00:10:244:1::5"),
            ports,
        };
        RelayPlan {
            routes: BTreeMap::from([(address("fd7a:115c:a1e0::3"), route)]),
        }
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn only_what_the_plan_names_has_a_route() {
        let listed = plan(RelayedPorts::Only(BTreeSet::from([(Tcp, 80)])));
        assert!(listed.route(Tcp, at("[fd7a:115c:a1e0::3]:80")).is_some());
        assert!(listed.route(Udp, at("[fd7a:115c:a1e0::3]:80")).is_none());
        assert!(listed.route(Tcp, at("[fd7a:115c:a1e0::3]:81")).is_none());
        assert!(
            listed.route(Tcp, at("[::1]:80")).is_none(),
            "not even from the Pod itself"
        );
        let all = plan(RelayedPorts::AllBut(BTreeSet::from([(Tcp, 9002)])));
        assert!(all.route(Udp, at("[fd7a:115c:a1e0::3]:9002")).is_some());
        assert!(all.route(Tcp, at("[fd7a:115c:a1e0::3]:9002")).is_none());
        assert!(RelayPlan::default().route(Tcp, at("[fd7a:115c:a1e0::3]:80")).is_none());
    }

    #[test]
    fn connection_lives_on_only_while_the_plan_leads_it_there() {
        let plan = plan(RelayedPorts::Only(BTreeSet::from([(Tcp, 80)])));
        let arrived = at("[fd7a:115c:a1e0::3]:80");
        let source = address("fd00:10:244:1::5");
        assert!(plan.leads(Tcp, arrived, source, at("[fd00:10:96::7]:80")));
        assert!(
            !plan.leads(Tcp, arrived, source, at("[fd00:10:96::8]:80")),
            "another target"
        );
        assert!(
            !plan.leads(Tcp, arrived, source, at("[fd00:10:96::7]:81")),
            "another port"
        );
        assert!(!plan.leads(Tcp, arrived, address("fd00:10:244:1::6"), at("[fd00:10:96::7]:80")));
        assert!(
            plan.leads(Tcp, arrived, source, at("[fd00:10:96::9]:80")),
            "a former one"
        );
        let both = RelayedPorts::Only(BTreeSet::from([(Tcp, 80), (Udp, 80)]));
        let plan = self::plan(both);
        assert!(plan.leads(Udp, arrived, source, at("[fd00:10:96::7]:80")));
        assert!(
            !plan.leads(Udp, arrived, source, at("[fd00:10:96::9]:80")),
            "datagrams move at once"
        );
    }
}
