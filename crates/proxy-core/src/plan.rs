//! The plan: everything that rules and routes are derived from.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::flow::Flow;
use crate::mode::{Egress, Ingress, IngressPorts, Mode};
use crate::rules::{TRACK_EGRESS, TRACK_INGRESS};

/// The name of the tailnet's device in the Pod.
pub const TUN_NAME: &str = "tailscale0";

/// What a proxy shall carry, and the facts of the Pod and the node that it needs for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is carried.
    pub mode: Mode,
    /// The node's own addresses on the tailnet; empty until it has some.
    pub tailnet: TailnetAddresses,
    /// The Pod's addresses in the cluster.
    pub pod: BTreeSet<IpAddr>,
    /// The tailnet's device.
    pub tun: Tun,
    /// Ports of the Pod that stay the proxy's own.
    pub reserved: ReservedPorts,
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

    /// The own address of the family of `other`.
    pub fn of_family(&self, other: IpAddr) -> Option<IpAddr> {
        self.iter().find(|own| own.is_ipv4() == other.is_ipv4())
    }
}

impl Plan {
    /// The ingress this plan can carry: there is one, and an own address of the target's family.
    pub fn open_ingress(&self) -> Option<(&Ingress, IpAddr)> {
        match &self.mode {
            Mode::Ingress(ingress) => Some((ingress, self.tailnet.of_family(ingress.target)?)),
            Mode::Closed | Mode::Egress(_) => None,
        }
    }

    /// The egress target this plan can carry to, with the own address it is reached from.
    pub fn open_egress(&self) -> Option<(IpAddr, IpAddr)> {
        match &self.mode {
            Mode::Egress(egress) => {
                let target = egress.target?;
                Some((target, self.tailnet.of_family(target)?))
            }
            Mode::Closed | Mode::Ingress(_) => None,
        }
    }

    /// The plan while the tailnet's device is gone or down: an egress refuses at once, with resets, what it cannot carry.
    ///
    /// The routing alone would answer too, but with ICMP, of which the kernel sends few.
    #[must_use]
    pub fn without_device(&self) -> Self {
        let mode = match &self.mode {
            Mode::Egress(_) => Mode::Egress(Egress { target: None }),
            other @ (Mode::Closed | Mode::Ingress(_)) => other.clone(),
        };
        Self { mode, ..self.clone() }
    }

    /// Whether this plan carries IPv6 between the two sides, which needs the kernel's IPv6 forwarding.
    pub fn carries_ipv6(&self) -> bool {
        let target = self
            .open_ingress()
            .map(|(ingress, _)| ingress.target)
            .or(self.open_egress().map(|(target, _)| target));
        target.is_some_and(|target| target.is_ipv6())
    }

    /// Whether a tracked flow that an earlier plan let through may go on under this one.
    ///
    /// A flow that may not is forgotten, after which its next segment meets the rules of a first packet.
    pub fn admits(&self, flow: &Flow) -> bool {
        match flow.mark {
            TRACK_INGRESS => self.admits_ingress(flow),
            TRACK_EGRESS => self.open_egress().is_some_and(|(target, own)| {
                self.pod.contains(&flow.original.destination)
                    && flow.reply.source == target
                    && flow.reply.destination == own
            }),
            _ => true,
        }
    }

    fn admits_ingress(&self, flow: &Flow) -> bool {
        let Some((ingress, own)) = self.open_ingress() else {
            return false;
        };
        let port_is_served = match &ingress.ports {
            IngressPorts::All => true,
            IngressPorts::Listed(ports) => flow
                .protocol
                .zip(flow.original.destination_port)
                .is_some_and(|served| ports.contains(&served)),
        };
        flow.original.destination == own && flow.reply.source == ingress.target && port_is_served
    }
}

#[cfg(test)]
pub(crate) mod tests;
