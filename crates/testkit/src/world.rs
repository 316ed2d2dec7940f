//! What lies outside a cluster: hosts on a network of their own, as a laptop and a database in another place are.
//!
//! ```text
//!  Pods ─ node (masquerades) ─┐
//!  Pods ─ node (masquerades) ─┴─ router (masquerades) ─ 203.0.113.0/24 ─┬─ host
//!                                                                       ├─ host
//!                                                                       └─ router of a home ─ host
//! ```
//!
//! Pods reach the hosts as they would reach the Internet. Nothing outside has a route to Pods, Services or nodes, and
//! the router lets nothing in that was not asked for. All of it is gone with the process that made it.

use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isthmus_cluster::Cluster;

use crate::netns::{Namespace, Nat, Net, Switch};

/// The outside network (TEST-NET-3 of RFC 5737, so that it cannot be mistaken for an address of the cluster).
pub const OUTSIDE: &str = "203.0.113.0/24";

/// The router's place on the nodes' network.
const ROUTER: u8 = 254;

/// Its place on the outside network.
const ROUTER_OUTSIDE: u8 = 1;

/// The network around a cluster.
#[derive(Debug)]
pub struct World {
    net: Net,
    outside: Switch,
    /// Kept because the namespace is gone with its last handle.
    _router: Namespace,
    /// Last, so that the next world begins when all of this one is gone.
    _turn: MutexGuard<'static, ()>,
}

/// A host on the outside network, or behind a router that is on it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its network namespace.
    pub namespace: Namespace,
    /// The address under which it appears on the outside network.
    pub address: String,
    /// Kept because the way to the host is gone with them.
    _home: Option<Arc<Home>>,
}

impl Host {
    /// A namespace that appears under this address to whoever is to reach it.
    pub fn new(namespace: Namespace, address: &str) -> Self {
        Self {
            namespace,
            address: address.to_owned(),
            _home: None,
        }
    }
}

/// A router and the network behind it.
#[derive(Debug)]
struct Home {
    _router: Namespace,
    _network: Switch,
}

impl World {
    /// Makes the outside network and connects the nodes of a running cluster to it. A process has one world at a time: a
    /// second one waits here until the first is dropped.
    ///
    /// # Panics
    /// When the kernel or the cluster refuses.
    pub fn around(cluster: &Cluster) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let net = Net::new("world");
        let outside = net.switch("outside");
        let router = net.namespace("router");
        net.plug(&outside, &router, "out", &[&outside_address(ROUTER_OUTSIDE)]);
        plug_into_cluster(cluster, &router);
        router.sysctl("net.ipv4.ip_forward", "1");
        load_rules(&router);
        for number in cluster.spec().node_numbers() {
            let via = cluster.spec().addressing().spare(ROUTER).to_string();
            let mut command = cluster.node_exec(&format!("n{number}")).expect("the node runs");
            check(command.args(["ip", "route", "replace", OUTSIDE, "via", &via]));
        }
        Self {
            net,
            outside,
            _router: router,
            _turn: turn,
        }
    }

    /// The address under which Pods appear on the outside network.
    pub fn router_address(&self) -> String {
        outside_host(ROUTER_OUTSIDE)
    }

    /// Adds a host; `number` is the last part of its address, 2 to 254.
    pub fn host(&self, name: &str, number: u8) -> Host {
        Host::new(self.plug_in(name, number), &outside_host(number))
    }

    /// Adds a host behind a router; `number` is the last part of the router's address, 2 to 254.
    pub fn host_behind(&self, nat: Nat, name: &str, number: u8) -> Host {
        if nat == Nat::None {
            return self.host(name, number);
        }
        let router = self.plug_in(&format!("{name}-router"), number);
        let namespace = self.net.namespace(name);
        let network = self.net.hide(&namespace, &router, number, nat);
        let home = Home {
            _router: router,
            _network: network,
        };
        Host {
            _home: Some(Arc::new(home)),
            ..Host::new(namespace, &outside_host(number))
        }
    }

    /// A namespace on the outside network.
    fn plug_in(&self, name: &str, number: u8) -> Namespace {
        let namespace = self.net.namespace(name);
        self.net
            .plug(&self.outside, &namespace, "eth0", &[&outside_address(number)]);
        namespace
    }
}

fn outside_host(number: u8) -> String {
    format!("203.0.113.{number}")
}

fn outside_address(number: u8) -> String {
    format!("{}/24", outside_host(number))
}

/// The router's second interface is on the nodes' bridge; it disappears with the router.
fn plug_into_cluster(cluster: &Cluster, router: &Namespace) {
    let (name, net) = (cluster.spec().name(), cluster.spec().addressing());
    let port = format!("{name}-rt");
    // The kernel clears namespaces away in its own time: the interface of the world before may still be there.
    let _ = Command::new("ip").args(["link", "del", &port]).output();
    check(Command::new("ip").args([
        "link",
        "add",
        &port,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        &router.path(),
    ]));
    check(Command::new("ip").args(["link", "set", &port, "master", &format!("{name}-br"), "up"]));
    router.ip(&format!("addr add {}/24 dev eth0", net.spare(ROUTER)));
    // The same in every world: nodes hold on to the one they know for most of a minute.
    router.ip("link set eth0 address 02:00:00:00:00:fe");
    router.ip("link set eth0 up");
}

fn load_rules(router: &Namespace) {
    let rules = "table ip router {
        chain forward { type filter hook forward priority filter; policy drop; ct state established,related accept; iifname eth0 accept; }
        chain postrouting { type nat hook postrouting priority srcnat; oifname out masquerade; }
    }";
    let mut nft = Command::new("nft");
    nft.arg(rules);
    let output = router.spawn(nft).output();
    assert!(output.status.success(), "the router's rules are refused");
}

fn check(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(status.success(), "{command:?} failed with {status}");
}
