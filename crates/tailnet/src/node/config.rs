//! What a node is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use isthmus_runtime::Secret;
use rustls_pki_types::CertificateDer;

use super::ServicePort;
use crate::state::StateStore;
use crate::udp::DEFAULT_PORT;

/// How to run a node.
pub struct NodeConfig {
    /// URL of the control server (`http` or `https`).
    pub login_server: String,
    /// Key for the first registration; later runs need none.
    pub auth_key: Option<Secret>,
    /// The host name the node asks for; control makes the node's name from it.
    pub hostname: String,
    /// The program the node is part of, as shown by control.
    pub app: String,
    /// Ask control to remove the node soon after it disconnects.
    pub ephemeral: bool,
    /// UDP port for WireGuard and disco; 0 for any.
    pub listen_port: u16,
    /// The TUN device.
    pub tun: TunConfig,
    /// Where identity is kept between runs.
    pub state: Arc<dyn StateStore>,
    /// A folder in which the last network map with its relays, the home among them and the disco key are kept: for a restart while control
    /// is away, and to tell peers at once how the node is reached. For a proxy it should be gone with the machine: what it holds is good for
    /// minutes.
    pub cache: Option<PathBuf>,
    /// Use subnet routes of peers.
    pub accept_routes: bool,
    /// Offer to carry packets for these prefixes; see [`NodePrefs::advertise_routes`](super::NodePrefs).
    pub advertise_routes: Vec<IpNet>,
    /// Offer to host these Tailscale Services; see [`NodePrefs::advertise_services`](super::NodePrefs).
    pub advertise_services: BTreeMap<String, Vec<ServicePort>>,
    /// Install routes to peers in the main routing table, as a laptop wants it. Off, the TUN device only gets its addresses, and whoever
    /// runs the node routes.
    pub install_routes: bool,
    /// Resolve names of the tailnet for this machine, at [`RESOLVER_ADDRESS`](crate::dns::RESOLVER_ADDRESS); the machine is not told to
    /// ask there. The file, of the form of `/etc/resolv.conf`, names the servers for all other names.
    pub resolver: Option<PathBuf>,
    /// Certificates of authorities to trust for the control server beside the public ones.
    pub extra_ca: Vec<CertificateDer<'static>>,
}

/// The TUN device of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunConfig {
    /// Name of the interface, at most 15 bytes.
    pub name: String,
    /// MTU in bytes.
    pub mtu: u16,
    /// Let the kernel hand over and take super-packets (segmentation and receive offload), on the TUN device and the UDP socket.
    pub offloads: bool,
}

impl Default for TunConfig {
    /// `tailscale0`, 1280 bytes, with offloads.
    fn default() -> Self {
        Self {
            name: "tailscale0".to_owned(),
            mtu: 1280,
            offloads: true,
        }
    }
}

impl NodeConfig {
    /// A node with this control server, host name and state, and defaults for the rest.
    pub fn new(login_server: impl Into<String>, hostname: impl Into<String>, state: Arc<dyn StateStore>) -> Self {
        Self {
            login_server: login_server.into(),
            auth_key: None,
            hostname: hostname.into(),
            app: "isthmus".to_owned(),
            ephemeral: false,
            listen_port: DEFAULT_PORT,
            tun: TunConfig::default(),
            state,
            cache: None,
            accept_routes: false,
            advertise_routes: Vec::new(),
            advertise_services: BTreeMap::new(),
            install_routes: false,
            resolver: None,
            extra_ca: Vec::new(),
        }
    }
}
