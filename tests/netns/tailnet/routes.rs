//! Networks behind a node: subnet routes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use isthmus_tailbox::Edit;
use isthmus_testkit::netns::{Namespace, Switch};
use isthmus_testkit::wait;

use super::world::Tailnet;
use crate::node::{can_run, content, transfer};

const SUBNET: &str = "10.77.0.0/24";
const HOST: &str = "10.77.0.5";

/// A client behind the first machine, and a host behind the second one.
struct Ends {
    client: Namespace,
    host: Namespace,
    _switches: [Switch; 2],
}

impl Ends {
    fn new(tailnet: &Tailnet) -> Self {
        let [a, b] = &tailnet.machines;
        let switches = ["pods", "subnet"].map(|name| tailnet.net.switch(name));
        let [client, host] = ["client", "host"].map(|name| tailnet.net.namespace(name));
        tailnet.net.plug(&switches[0], a, "eth1", &["10.66.0.1/24"]);
        tailnet.net.plug(&switches[0], &client, "eth0", &["10.66.0.2/24"]);
        tailnet.net.plug(&switches[1], b, "eth1", &["10.77.0.1/24"]);
        tailnet.net.plug(&switches[1], &host, "eth0", &["10.77.0.5/24"]);
        client.ip("route add default via 10.66.0.1");
        host.ip("route add 100.64.0.0/10 via 10.77.0.1");
        for router in [a, b] {
            router.sysctl("net.ipv4.ip_forward", "1");
        }
        a.check("nft add table ip nat");
        a.check("nft add chain ip nat post { type nat hook postrouting priority 100 ; }");
        a.check("nft add rule ip nat post oifname isthmus0 masquerade");
        Self {
            client,
            host,
            _switches: switches,
        }
    }

    fn reaches(&self) -> bool {
        self.client.run(&format!("ping -c 1 -W 1 {HOST}")).status.success()
    }
}

fn approve(tailnet: &Tailnet, routes: &[&str]) {
    let routes: BTreeSet<_> = routes.iter().map(|route| route.parse().unwrap()).collect();
    tailnet.control.edit(tailnet.control.node("two"), Edit::Routes(routes));
}

#[test]
fn host_behind_a_subnet_router_is_reached_only_while_its_route_is_approved() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let tailnet = Tailnet::new("subnet");
    let ends = Ends::new(&tailnet);
    let two = tailnet.start(1, &["--advertise-routes", SUBNET]);
    let one = tailnet.start(0, &["--accept-routes"]);
    tailnet.wait_until_reached(0, &two);
    assert!(!ends.reaches(), "the route is not approved");

    approve(&tailnet, &[SUBNET]);
    wait::until("the host behind the router", || ends.reaches().then_some(()));
    let content = content();
    let address = SocketAddr::new(HOST.parse().unwrap(), 7000);
    let (arrived, peer) = transfer(&ends.client, &ends.host, address, &content);
    assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
    assert_eq!(
        peer.ip(),
        one.addresses[0],
        "the host sees the address of the node that sent"
    );

    approve(&tailnet, &[]);
    wait::until("the end of the route", || (!ends.reaches()).then_some(()));
    assert!(tailnet.pings(0, two.addresses[0]), "the router itself is still reached");
}

#[test]
fn node_that_does_not_accept_routes_uses_none() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let policy = r#"{"autoApprovers": {"routes": {"10.0.0.0/8": ["autogroup:member"]}}}"#;
    let tailnet = Tailnet::with_policy("norouter", policy);
    let ends = Ends::new(&tailnet);
    let two = tailnet.start(1, &["--advertise-routes", SUBNET]);
    let one = tailnet.start(0, &[]);
    tailnet.wait_until_reached(0, &two);
    assert!(!ends.reaches());
    one.process.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(one.process.ended().success());

    let one = tailnet.start(0, &["--accept-routes"]);
    wait::until("the host behind the router", || ends.reaches().then_some(()));
    drop(one);
}

#[test]
fn policy_decides_what_of_a_subnet_is_reached() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let policy = r#"{
        "autoApprovers": {"routes": {"10.77.0.0/24": ["autogroup:member"]}},
        "acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["10.77.0.5:7000"]},]}"#;
    let tailnet = Tailnet::with_policy("policy", policy);
    let ends = Ends::new(&tailnet);
    let two = tailnet.start(1, &["--advertise-routes", SUBNET]);
    let one = tailnet.start(0, &["--accept-routes"]);
    wait::until("the host behind the router", || ends.reaches().then_some(()));
    let to = |port: u16| -> bool {
        let address = SocketAddr::new(HOST.parse::<IpAddr>().unwrap(), port);
        let listener = ends.host.enter(|| std::net::TcpListener::bind(address)).unwrap();
        let limit = std::time::Duration::from_secs(2);
        let connected = ends
            .client
            .enter(|| std::net::TcpStream::connect_timeout(&address, limit));
        drop(listener);
        connected.is_ok()
    };
    assert!(to(7000) && !to(7001));
    assert!(!tailnet.pings(0, two.addresses[0]), "the router itself is not open");
    drop((one, two));
}
