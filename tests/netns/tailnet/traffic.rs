//! Traffic between two nodes that only control told of each other.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use isthmus_testkit::wait;
use nix::sys::signal::Signal;

use super::world::Tailnet;
use crate::node::{can_run, content, transfer};

#[test]
fn two_nodes_of_a_tailnet_carry_traffic_without_a_peer_file() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "iperf3"]) {
        return;
    }
    let tailnet = Tailnet::new("tailnet");
    let one = tailnet.start(0, &[]);
    let own: IpAddr = one.addresses[0];
    assert!(!tailnet.pings(1, own), "nothing passes before the other node runs");
    let two = tailnet.start(1, &[]);
    assert_eq!(
        (one.name.as_str(), two.name.as_str()),
        ("one.tail.internal", "two.tail.internal")
    );
    assert_eq!(
        one.addresses.len(),
        2,
        "one address of each family: {:?}",
        one.addresses
    );
    tailnet.wait_until_reached(0, &two);
    tailnet.wait_until_reached(1, &one);

    let [a, b] = &tailnet.machines;
    let content = content();
    for family in 0..2 {
        let ends = [
            (a, b, one.addresses[family], two.addresses[family]),
            (b, a, two.addresses[family], one.addresses[family]),
        ];
        for (from, to, source, destination) in ends {
            let (arrived, peer) = transfer(from, to, SocketAddr::new(destination, 7000), &content);
            assert!(
                arrived == content,
                "{destination}: {} bytes arrived, or other ones",
                arrived.len()
            );
            assert_eq!(peer.ip(), source, "the receiver sees the sender's tailnet address");
        }
    }
    for direction in ["", " --reverse"] {
        let mbits = iperf(&tailnet, two.addresses[0], direction);
        eprintln!("tailnet{direction}: {mbits:.0} Mbit/s in a debug build");
        assert!(mbits > 1.0);
    }

    one.process.signal(Signal::SIGTERM);
    assert!(one.process.ended().success());
    assert!(
        !a.run("ip link show isthmus0").status.success(),
        "the TUN device is gone with its node"
    );
}

fn iperf(tailnet: &Tailnet, to: IpAddr, direction: &str) -> f64 {
    let [a, b] = &tailnet.machines;
    let mut server = Command::new("iperf3");
    server
        .args(["--server", "--one-off"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let server = b.spawn(server);
    let report = wait::until("iperf3", || {
        let output = a.run(&format!("iperf3 --json --time 2 --client {to}{direction}"));
        output.status.success().then_some(output.stdout)
    });
    drop(server);
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e6
}
