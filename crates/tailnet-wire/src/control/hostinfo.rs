//! What a node tells about its machine and its network.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::object::wire_struct;
use crate::text::TextList;

wire_struct! {
    /// About a node's machine. Control servers compare it with the last one, so it should hold nothing that fluctuates.
    pub struct Hostinfo {
        /// Version of the client program.
        omit "IPNVersion" => ipn_version: String,
        /// Log id of the user interface.
        omit "FrontendLogID" => frontend_log_id: String,
        /// Log id of the node.
        omit "BackendLogID" => backend_log_id: String,
        /// Operating system, as Go names it (`linux`).
        omit "OS" => os: String,
        /// Version of the operating system.
        omit "OSVersion" => os_version: String,
        /// Whether the node runs in a container.
        omit "Container" => container: Option<bool>,
        /// Hosting environment (`k8s`).
        omit "Env" => env: String,
        /// Linux distribution.
        omit "Distro" => distro: String,
        /// Version of the distribution.
        omit "DistroVersion" => distro_version: String,
        /// Code name of the distribution's version.
        omit "DistroCodeName" => distro_code_name: String,
        /// The program the node is part of.
        omit "App" => app: String,
        /// Whether the machine has a desktop.
        omit "Desktop" => desktop: Option<bool>,
        /// How the client was packaged.
        omit "Package" => package: String,
        /// Model of the device.
        omit "DeviceModel" => device_model: String,
        /// The machine's host name, from which the server makes the node's name.
        omit "Hostname" => hostname: String,
        /// Whether the node refuses all incoming connections.
        omit "ShieldsUp" => shields_up: bool,
        /// Whether the node was shared in from another tailnet.
        omit "ShareeNode" => sharee_node: bool,
        /// Whether log upload is off.
        omit "NoLogsNoSupport" => no_logs_no_support: bool,
        /// Whether the node wants to be reachable from the internet.
        omit "WireIngress" => wire_ingress: bool,
        /// Whether it is.
        omit "IngressEnabled" => ingress_enabled: bool,
        /// Whether the node updates itself when asked.
        omit "AllowsUpdate" => allows_update: bool,
        /// The machine's architecture as the kernel names it.
        omit "Machine" => machine: String,
        /// The program's architecture as Go names it.
        omit "GoArch" => go_arch: String,
        /// Version of Go, for clients in Go.
        omit "GoVersion" => go_version: String,
        /// Address ranges that the node offers to route.
        omit "RoutableIPs" => routable_ips: TextList<IpNet>,
        /// Tags that the node asks for (`tag:…`).
        omit "RequestTags" => request_tags: Vec<String>,
        /// Services that run on the node.
        omit "Services" => services: Vec<PeerService>,
        /// About the node's network.
        omit "NetInfo" => net_info: Option<NetInfo>,
        /// Public SSH host keys, if the node serves SSH.
        omit "sshHostKeys" => ssh_host_keys: Vec<String>,
        /// The cloud the machine runs in.
        omit "Cloud" => cloud: String,
        /// Whether the node works without a TUN device.
        omit "Userspace" => userspace: Option<bool>,
        /// Whether it routes subnets without the kernel.
        omit "UserspaceRouter" => userspace_router: Option<bool>,
        /// Whether it is an app connector.
        omit "AppConnector" => app_connector: Option<bool>,
        /// Hash over the Tailscale Services that the node hosts; a change makes the server ask for the list.
        omit "ServicesHash" => services_hash: String,
        /// Whether the node relays for its peers.
        omit "PeerRelay" => peer_relay: bool,
    }
}

wire_struct! {
    /// A service on a node, for instance `peerapi4`.
    pub struct PeerService {
        /// `tcp`, `udp`, or one of the `peerapi` names.
        always "Proto" => proto: String,
        /// Port number.
        always "Port" => port: u16,
        /// For people.
        omit "Description" => description: String,
    }
}

wire_struct! {
    /// About a node's network. Of each `Option`, `None` is "unknown".
    pub struct NetInfo {
        /// Whether the NAT maps one socket to different ports for different destinations.
        omit "MappingVariesByDestIP" => mapping_varies_by_dest_ip: Option<bool>,
        /// Whether IPv6 reaches the internet.
        omit "WorkingIPv6" => working_ipv6: Option<bool>,
        /// Whether the operating system has IPv6.
        omit "OSHasIPv6" => os_has_ipv6: Option<bool>,
        /// Whether UDP reaches the internet.
        omit "WorkingUDP" => working_udp: Option<bool>,
        /// Whether ICMP over IPv4 does.
        omit "WorkingICMPv4" => working_icmpv4: Option<bool>,
        /// Whether a port mapping is held.
        omit "HavePortMap" => have_port_map: bool,
        /// Whether the router speaks UPnP.
        omit "UPnP" => upnp: Option<bool>,
        /// Whether the router speaks NAT-PMP.
        omit "PMP" => pmp: Option<bool>,
        /// Whether the router speaks PCP.
        omit "PCP" => pcp: Option<bool>,
        /// Number of the home relay region; 0 for none.
        omit "PreferredDERP" => preferred_derp: i64,
        /// Kind of link: `wired`, `wifi`, `mobile`.
        omit "LinkType" => link_type: String,
        /// Seconds to each relay, by `<region>-v4` or `<region>-v6`.
        omit "DERPLatency" => derp_latency: BTreeMap<String, f64>,
        /// How the node sets up its firewall.
        omit "FirewallMode" => firewall_mode: String,
    }
}
