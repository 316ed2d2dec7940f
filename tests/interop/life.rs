//! Key expiry, subnet routes, names and stored state between the Go client and a node of ours.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use isthmus_tailbox::Edit;
use isthmus_testkit::netns::{Namespace, Switch};
use isthmus_testkit::transfer::{content, transfer};
use isthmus_testkit::wait;
use nix::sys::signal::Signal;

use super::client::{self, can_run};
use super::our_node::exchange;
use super::world::Tailnet;

#[test]
fn expired_key_ends_the_traffic_of_a_go_client_and_of_a_node_until_it_is_valid_again() {
    isthmus_testkit::isolate!();
    if !can_run(&[]) {
        return;
    }
    let tailnet = Tailnet::new("go-expiry");
    let node = tailnet.start(0, &[]);
    let client = client::join(&tailnet);
    let theirs = client.addresses();
    client.wait_for_pong(node.addresses[0], ":41641");
    wait::until("the Go client from our node", || {
        tailnet.pings(0, theirs[0]).then_some(())
    });

    let gopher = tailnet.control.node("gopher");
    tailnet.control.edit(gopher, Edit::Expire);
    wait::until("the end of the login", || {
        (client.state() == "NeedsLogin").then_some(())
    });
    wait::until("the end of the traffic", || {
        (!tailnet.pings(0, theirs[0])).then_some(())
    });
    tailnet.control.edit(gopher, Edit::ExpiryDisabled(true));
    wait::until("the login again", || (client.state() == "Running").then_some(()));
    wait::until("the traffic again", || tailnet.pings(0, theirs[0]).then_some(()));

    let one = tailnet.control.node("one");
    tailnet.control.edit(one, Edit::Expire);
    wait::until("the Go client to know", || {
        (client.peer("one")?["Expired"] == true).then_some(())
    });
    wait::until("the end of the traffic", || {
        (!tailnet.pings(1, node.addresses[0])).then_some(())
    });
    tailnet.control.edit(one, Edit::ExpiryDisabled(true));
    wait::until("the traffic again", || {
        tailnet.pings(1, node.addresses[0]).then_some(())
    });
    eprintln!("{}: key expiry", client.version());
}

/// A host behind a machine: 10.77.*n*.5.
fn host_behind(tailnet: &Tailnet, which: usize) -> (Namespace, Switch, String) {
    let (switch, host) = (
        tailnet.net.switch(&format!("subnet{which}")),
        tailnet.net.namespace(&format!("host{which}")),
    );
    let router = &tailnet.machines[which];
    tailnet
        .net
        .plug(&switch, router, "eth1", &[&format!("10.77.{which}.1/24")]);
    tailnet
        .net
        .plug(&switch, &host, "eth0", &[&format!("10.77.{which}.5/24")]);
    host.ip(&format!("route add 100.64.0.0/10 via 10.77.{which}.1"));
    router.sysctl("net.ipv4.ip_forward", "1");
    (host, switch, format!("10.77.{which}.0/24"))
}

#[test]
fn networks_behind_a_go_client_and_a_node_are_reached_from_each_other_when_they_are_approved() {
    isthmus_testkit::isolate!();
    if !can_run(&[]) {
        return;
    }
    let tailnet = Tailnet::new("go-routes");
    let behind = [0, 1].map(|which| host_behind(&tailnet, which));
    let node = tailnet.start(0, &["--accept-routes", "--advertise-routes", &behind[0].2]);
    let key = tailnet.control.single_use_key();
    let routes = format!("--advertise-routes={}", behind[1].2);
    let options = [
        "--accept-dns=false",
        "--accept-routes",
        "--snat-subnet-routes=false",
        &routes,
    ];
    let client = client::join_with(&tailnet, &key, &options);
    client.wait_for_pong(node.addresses[0], ":41641");
    let own = [node.addresses[0], client.addresses()[0]];
    let hosts: [IpAddr; 2] = ["10.77.0.5", "10.77.1.5"].map(|address| address.parse().unwrap());
    assert!(
        !tailnet.pings(0, hosts[1]) && !tailnet.pings(1, hosts[0]),
        "nobody approved"
    );

    for (name, (_, _, net)) in ["one", "gopher"].into_iter().zip(&behind) {
        let routes = BTreeSet::from([net.parse().unwrap()]);
        tailnet.control.edit(tailnet.control.node(name), Edit::Routes(routes));
    }
    let content = content();
    for (from, to) in [(0, 1), (1, 0)] {
        wait::until("the host behind the router", || {
            tailnet.pings(from, hosts[to]).then_some(())
        });
        let address = SocketAddr::new(hosts[to], 7000);
        let (arrived, peer) = transfer(&tailnet.machines[from], &behind[to].0, address, &content);
        assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
        assert_eq!(peer.ip(), own[from]);
    }
    for name in ["one", "gopher"] {
        tailnet
            .control
            .edit(tailnet.control.node(name), Edit::Routes(BTreeSet::new()));
    }
    for (from, to) in [(0, 1), (1, 0)] {
        wait::until("the end of the route", || {
            (!tailnet.pings(from, hosts[to])).then_some(())
        });
        assert!(tailnet.pings(from, own[to]), "the router itself is still reached");
    }
    eprintln!("{}: subnet routes", client.version());
}

#[test]
fn go_client_resolves_names_of_the_tailnet_and_is_found_by_its_own() {
    isthmus_testkit::isolate!();
    if !can_run(&["getent", "nsenter"]) {
        return;
    }
    let tailnet = Tailnet::new("go-names");
    let machine_wide = fs::read("/etc/resolv.conf").unwrap();
    let node = tailnet.start(0, &[]);
    let client = client::join_with(&tailnet, tailnet.control.auth_key(), &["--accept-dns=true"]);
    client.wait_for_pong(node.addresses[0], ":41641");
    for name in ["one", "one.tail.internal"] {
        let found = wait::until("the name", || {
            let output = client.beside(&format!("getent ahostsv4 {name}"));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success().then_some(text)
        });
        assert!(found.starts_with(&node.addresses[0].to_string()), "{name}: {found}");
    }
    assert!(!client.beside("getent ahostsv4 nobody.tail.internal").status.success());
    let (ours, _) = tailnet.ask(0, "status");
    assert!(ours.contains("gopher"), "{ours}");
    assert_eq!(
        fs::read("/etc/resolv.conf").unwrap(),
        machine_wide,
        "the machine's own resolv.conf is touched"
    );
    eprintln!("{}: names", client.version());
}

#[test]
fn go_client_starts_from_the_state_of_a_node_and_a_node_from_the_state_of_a_go_client() {
    isthmus_testkit::isolate!();
    if !can_run(&[]) {
        return;
    }
    let tailnet = Tailnet::new("go-state");
    let mut nodes = [Some(tailnet.start(0, &[])), None];
    let mut client = client::join(&tailnet);
    let (ours, theirs) = (nodes[0].as_ref().unwrap().addresses.clone(), client.addresses());
    client.wait_for_pong(ours[0], ":41641");

    let node = nodes[0].take().unwrap();
    node.process.signal(Signal::SIGTERM);
    assert!(node.process.ended().success());
    client.stop();
    let mut taken = client::new(&tailnet, 0, "one");
    fs::copy(tailnet.path("state-0/node.json"), taken.state_file()).unwrap();
    taken.start();
    wait::until("the Go client with our state", || {
        (taken.state() == "Running").then_some(())
    });
    assert_eq!(taken.addresses(), ours);
    assert_eq!(
        taken.json(&["status", "--json"])["Self"]["DNSName"],
        "one.tail.internal."
    );

    fs::create_dir_all(tailnet.path("state-1")).unwrap();
    fs::copy(client.state_file(), tailnet.path("state-1/node.json")).unwrap();
    let process = tailnet.spawn(1, &[], &[]);
    let node = tailnet.wait_for(1, process);
    assert_eq!(node.addresses, theirs);
    wait::until("each other", || {
        (tailnet.pings(0, theirs[0]) && tailnet.pings(1, ours[0])).then_some(())
    });
    assert_eq!(tailnet.control.count("one"), 1, "nobody became a second node");

    // And back: what either wrote meanwhile is still the other's state.
    taken.stop();
    node.process.signal(Signal::SIGTERM);
    assert!(node.process.ended().success());
    fs::copy(taken.state_file(), tailnet.path("state-0/node.json")).unwrap();
    fs::copy(tailnet.path("state-1/node.json"), client.state_file()).unwrap();
    let process = tailnet.spawn(0, &[], &[]);
    let node = tailnet.wait_for(0, process);
    client.start();
    wait::until("the Go client again", || (client.state() == "Running").then_some(()));
    assert_eq!((&node.addresses, &client.addresses()), (&ours, &theirs));
    wait::until("each other again", || tailnet.pings(0, theirs[0]).then_some(()));
    exchange(&tailnet, &node, &theirs);
    eprintln!("{}: state taken over, both ways", client.version());
}
