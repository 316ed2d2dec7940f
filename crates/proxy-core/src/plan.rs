//! The plan: everything that rules and routes are derived from.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use isthmus_contract::proxy_status::{self, Carried};

use crate::flow::Flow;
use crate::mode::{IngressPorts, Mode};
use crate::relay::{RelayPlan, RelayPorts};
use crate::routes::Family;
use crate::rules::{Protocol, TRACK_EGRESS, TRACK_INGRESS, TRACK_RELAYED};

/// The name of the tailnet's device in the Pod.
pub const TUN_NAME: &str = "tailscale0";

/// What a proxy shall carry, and the facts of the Pod and the node that it needs for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is carried.
    pub mode: Mode,
    /// Which way the packets of each family take.
    pub paths: Paths,
    /// The node's own addresses on the tailnet; empty until it has some.
    pub tailnet: TailnetAddresses,
    /// The Pod's addresses in the cluster.
    pub pod: BTreeSet<IpAddr>,
    /// The tailnet's device.
    pub tun: Tun,
    /// Ports of the Pod that stay the proxy's own.
    pub reserved: ReservedPorts,
}

/// Which way the packets of each family of targets take. A family with none is not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paths {
    /// To IPv4 targets.
    pub v4: Option<Path>,
    /// To IPv6 targets.
    pub v6: Option<Path>,
}

/// A way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The kernel forwards packets by the rules of the plan.
    Kernel,
    /// The relay copies between two sockets, where the kernel cannot forward; it listens at these ports of the family's
    /// loopback address.
    Relay(RelayPorts),
}

/// What a plan carries to the targets of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// How.
    pub path: Path,
    /// The node's own address of that family.
    pub own: IpAddr,
    /// The targets, at least one; each new flow goes to one of them.
    pub targets: Vec<IpAddr>,
}

/// The addresses that the node has on the tailnet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TailnetAddresses {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

/// The tailnet's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tun {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Its MTU in bytes, which bounds the segment size that both sides of a TCP connection announce.
    pub mtu: u16,
}

/// Ports of the Pod that are never carried to an egress target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservedPorts {
    /// UDP: WireGuard.
    pub wireguard: u16,
    /// TCP: health and metrics.
    pub health: u16,
    /// TCP: what is shown to whoever looks for a fault, where it is switched on.
    pub debug: Option<u16>,
}

impl ReservedPorts {
    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = (Protocol, u16)> {
        let tcp = [Some(self.health), self.debug].into_iter().flatten();
        let tcp = tcp.map(|port| (Protocol::Tcp, port));
        [(Protocol::Udp, self.wireguard)].into_iter().chain(tcp)
    }
}

impl Paths {
    /// The kernel forwards both families.
    pub const KERNEL: Self = Self {
        v4: Some(Path::Kernel),
        v6: Some(Path::Kernel),
    };

    /// The way to targets of this family.
    pub fn of_family(self, family: Family) -> Option<Path> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

impl TailnetAddresses {
    /// Takes the first address of each family.
    pub fn from_addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut own = Self::default();
        for address in addresses {
            match address {
                IpAddr::V4(v4) => own.v4 = own.v4.or(Some(v4)),
                IpAddr::V6(v6) => own.v6 = own.v6.or(Some(v6)),
            }
        }
        own
    }

    /// Both addresses, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// The own address of this family.
    pub fn of_family(&self, family: Family) -> Option<IpAddr> {
        self.iter().find(|own| Family::of(*own) == family)
    }
}

impl Plan {
    /// What this plan carries, at most one way for each family: it has targets of the family, an own address of it, and a
    /// path.
    pub fn ways(&self) -> Vec<Way> {
        let way = |family| {
            let targets: Vec<IpAddr> = self.mode.targets().filter(|t| Family::of(*t) == family).collect();
            let (path, own) = (self.paths.of_family(family)?, self.tailnet.of_family(family)?);
            (!targets.is_empty()).then_some(Way { path, own, targets })
        };
        Family::BOTH.into_iter().filter_map(way).collect()
    }

    /// The ways on which the kernel forwards.
    pub fn kernel_ways(&self) -> Vec<Way> {
        let mut ways = self.ways();
        ways.retain(|way| way.path == Path::Kernel);
        ways
    }

    /// The Pod's addresses of this family.
    pub fn pod_of_family(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        self.pod.iter().copied().filter(move |pod| Family::of(*pod) == family)
    }

    /// The ways that the relay carries, with the ports that it listens at.
    pub fn relay_ways(&self) -> Vec<(Way, RelayPorts)> {
        let relayed = |way: Way| match way.path {
            Path::Kernel => None,
            Path::Relay(ports) => Some((way, ports)),
        };
        self.ways().into_iter().filter_map(relayed).collect()
    }

    /// What this plan carries, in the words of the status document.
    pub fn carries(&self) -> Vec<Carried> {
        let carried = |way: Way| Carried {
            family: match way.own {
                IpAddr::V4(_) => proxy_status::Family::V4,
                IpAddr::V6(_) => proxy_status::Family::V6,
            },
            path: match way.path {
                Path::Kernel => proxy_status::Path::Kernel,
                Path::Relay(_) => proxy_status::Path::Relay,
            },
        };
        self.ways().into_iter().map(carried).collect()
    }

    /// The plan while the tailnet's device is gone or down: an egress refuses at once, with resets, what it cannot carry.
    ///
    /// The routing alone would answer too, but with ICMP, of which the kernel sends few.
    #[must_use]
    pub fn without_device(&self) -> Self {
        let mode = match &self.mode {
            Mode::Egress(_) => Mode::egress_to([]),
            other @ (Mode::Closed | Mode::Ingress(_)) => other.clone(),
        };
        Self { mode, ..self.clone() }
    }

    /// Whether a tracked flow that an earlier plan let the kernel forward, or handed to the relay, may go on under this one.
    ///
    /// A flow that may not is forgotten, after which its next segment meets the rules of a first packet.
    pub fn admits(&self, flow: &Flow) -> bool {
        match flow.mark {
            TRACK_INGRESS => self.admits_ingress(flow),
            TRACK_EGRESS => self.admits_egress(flow),
            TRACK_RELAYED => self.admits_relayed(flow),
            _ => true,
        }
    }

    /// Whether flows that this plan let through may be outside of the one that follows it.
    pub fn may_strand_flows(&self, next: &Self) -> bool {
        self != next && !self.ways().is_empty()
    }

    fn admits_ingress(&self, flow: &Flow) -> bool {
        let Mode::Ingress(ingress) = &self.mode else {
            return false;
        };
        let port_is_served = match &ingress.ports {
            IngressPorts::All => true,
            IngressPorts::Listed(ports) => flow
                .protocol
                .zip(flow.original.destination_port)
                .is_some_and(|served| ports.contains(&served)),
        };
        let target = flow.reply.source;
        let is_kept = flow.protocol == Some(Protocol::Tcp) && ingress.kept.contains(&target);
        let leads_there = |way: &Way| {
            let is_family = Family::of(target) == Family::of(way.own);
            flow.original.destination == way.own && (way.targets.contains(&target) || is_kept && is_family)
        };
        port_is_served && self.kernel_ways().iter().any(leads_there)
    }

    fn admits_relayed(&self, flow: &Flow) -> bool {
        let asked = flow.protocol.zip(flow.original.destination_port);
        asked.is_some_and(|(protocol, port)| {
            let arrived = SocketAddr::new(flow.original.destination, port);
            RelayPlan::build(self).route(protocol, arrived).is_some()
        })
    }

    fn admits_egress(&self, flow: &Flow) -> bool {
        let leads_there = |way: &Way| flow.reply.destination == way.own && way.targets.contains(&flow.reply.source);
        matches!(self.mode, Mode::Egress(_))
            && self.pod.contains(&flow.original.destination)
            && self.kernel_ways().iter().any(leads_there)
    }
}

#[cfg(test)]
pub(crate) mod tests;
