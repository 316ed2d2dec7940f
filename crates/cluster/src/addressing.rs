//! The addresses and ports of a cluster, all derived from its slot.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses and ports of one cluster. No two slots overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing {
    slot: u8,
    ipv6: bool,
}

impl Addressing {
    /// The addressing of a slot, 0 to 9.
    pub(crate) fn new(slot: u8, ipv6: bool) -> Self {
        Self { slot, ipv6 }
    }

    /// Whether the cluster has IPv6 addresses.
    pub fn ipv6(self) -> bool {
        self.ipv6
    }

    /// The host's address on the node network; the API server answers there.
    pub fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 250, self.slot, 1)
    }

    /// The host's IPv6 address on the node network.
    pub fn host6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x250, self.slot.into(), 0, 0, 0, 0, 1)
    }

    /// The address of node N.
    pub fn node(self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 250, self.slot, 10 + node)
    }

    /// The IPv6 address of node N.
    pub fn node6(self, node: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x250, self.slot.into(), 0, 0, 0, 0, 0x10 + u16::from(node))
    }

    /// An address of the node network that the cluster leaves to others, such as a router. 100 to 254.
    pub fn spare(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 250, self.slot, number)
    }

    /// The node network.
    pub fn node_net(self) -> String {
        format!("10.250.{}.0/24", self.slot)
    }

    /// The IPv6 node network.
    pub fn node_net6(self) -> String {
        format!("fd00:250:{}::/64", self.slot)
    }

    /// The addresses of all Pods.
    pub fn pod_net(self) -> String {
        format!("10.{}.0.0/16", 244 - self.slot)
    }

    /// The IPv6 addresses of all Pods.
    pub fn pod_net6(self) -> String {
        format!("fd00:{}::/32", 244 - self.slot)
    }

    /// The addresses of the Pods on node N.
    pub fn node_pods(self, node: u8) -> String {
        format!("10.{}.{node}.0/24", 244 - self.slot)
    }

    /// The IPv6 addresses of the Pods on node N.
    pub fn node_pods6(self, node: u8) -> String {
        format!("fd00:{}:{node}::/64", 244 - self.slot)
    }

    /// The addresses of Services.
    pub fn service_net(self) -> String {
        format!("10.{}.0.0/16", 96 + self.slot)
    }

    /// The IPv6 addresses of Services; the API server wants a /108 or longer prefix.
    pub fn service_net6(self) -> String {
        format!("fd00:{}::/112", 96 + self.slot)
    }

    /// The address of the Service `kubernetes`.
    pub fn kubernetes_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.slot, 0, 1)
    }

    /// The address of the cluster's DNS server.
    pub fn dns(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.slot, 0, 10)
    }

    /// The addresses of the cluster's DNS server, IPv4 first.
    pub fn dns_all(self) -> Vec<IpAddr> {
        self.families(self.dns().into(), self.service6(0xa).into())
    }

    /// The addresses of node N, IPv4 first.
    pub fn node_all(self, node: u8) -> Vec<IpAddr> {
        self.families(self.node(node).into(), self.node6(node).into())
    }

    /// The addresses that the API server answers on, as its certificate names them.
    pub fn api_server_all(self) -> Vec<IpAddr> {
        let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        all.extend(self.families::<IpAddr>(self.host().into(), self.host6().into()));
        all.extend(self.families::<IpAddr>(self.kubernetes_service().into(), self.service6(1).into()));
        all
    }

    /// The Service ranges as the API server wants them, IPv4 first.
    pub fn service_nets(self) -> String {
        self.families(self.service_net(), self.service_net6()).join(",")
    }

    /// The Pod ranges as kube-proxy wants them, IPv4 first.
    pub fn pod_nets(self) -> String {
        self.families(self.pod_net(), self.pod_net6()).join(",")
    }

    /// Port of the API server.
    pub fn api_port(self) -> u16 {
        self.port(0)
    }

    /// Port of etcd for its client.
    pub fn etcd_port(self) -> u16 {
        self.port(1)
    }

    /// Port of etcd for its peers.
    pub fn etcd_peer_port(self) -> u16 {
        self.port(2)
    }

    /// Port of kube-controller-manager.
    pub fn controller_manager_port(self) -> u16 {
        self.port(3)
    }

    /// Port of kube-scheduler.
    pub fn scheduler_port(self) -> u16 {
        self.port(4)
    }

    /// The URL of the API server.
    pub fn api_url(self) -> String {
        format!("https://{}:{}", self.host(), self.api_port())
    }

    fn port(self, offset: u16) -> u16 {
        16440 + u16::from(self.slot) * 10 + offset
    }

    fn service6(self, last: u16) -> Ipv6Addr {
        let net =
            u16::from_str_radix(&(96 + self.slot).to_string(), 16).expect("decimal digits are hexadecimal digits");
        Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, last)
    }

    fn families<T>(self, v4: T, v6: T) -> Vec<T> {
        if self.ipv6 { vec![v4, v6] } else { vec![v4] }
    }
}

#[cfg(test)]
mod tests;
