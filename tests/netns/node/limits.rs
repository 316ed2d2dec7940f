//! What a node does when things are missing.

use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use isthmus_testkit::netns::Net;
use isthmus_testkit::two_nodes::{IPV4, TwoNodes};
use isthmus_testkit::{binary, wait};
use nix::sys::signal::Signal;

use super::{can_run, content, transfer};

/// Kilobytes of memory that belong to the process alone or to its binary's used pages.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_stays_bounded_when_a_peer_never_answers() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let two = TwoNodes::new("silent", binary::isthmus());
    let node = two.start(0, "192.0.2.99:41641", &[]);
    let a = &two.machines[0];
    wait::until("the TUN device", || {
        a.run("ip link show isthmus0").status.success().then_some(())
    });
    let socket = wait::until("the address", || a.enter(|| UdpSocket::bind("10.120.0.1:0")).ok());
    let flood = |packets: u32| {
        (0..packets)
            .filter(|_| socket.send_to(&[7; 1200], "10.120.0.2:9").is_ok())
            .count()
    };
    flood(2_000);
    let before = resident(node.id());
    let sent = flood(200_000);
    let after = resident(node.id());
    eprintln!("{sent} packets to a silent peer: {before} kB before, {after} kB after");
    assert!(sent > 100_000);
    assert!(after < before + 2_048, "{before} kB before the flood, {after} kB after");
}

#[test]
fn session_recovers_after_restart_without_waiting_for_timers() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let two = TwoNodes::new("restart", binary::isthmus());
    let [a, b] = two.start_both(IPV4, &[]);
    b.signal(Signal::SIGKILL);
    assert!(!b.ended().success());
    let _b = two.start(1, "192.0.2.1:41641", &[]);
    let machine = &two.machines[1];
    wait::until("the TUN device", || {
        machine.run("ip link show isthmus0").status.success().then_some(())
    });
    // The first packet that reaches the new node is in a session it does not know, and it asks for another. The other
    // node's own timers would do so 15 s after it last heard of its peer.
    let before_timers = Duration::from_secs(10);
    wait::until_within("the tunnel", before_timers, || two.pings(0, "10.120.0.2").then_some(()));
    let content = content();
    let (arrived, _) = transfer(
        &two.machines[0],
        &two.machines[1],
        "10.120.0.2:7000".parse().unwrap(),
        &content,
    );
    assert!(arrived == content);
    drop(a);
}

#[test]
fn node_says_what_is_missing_when_it_cannot_start() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip"]) {
        return;
    }
    let net = Net::new("refused");
    let machine = net.namespace("a");
    let files = tempfile::TempDir::new().unwrap();
    let file = files.path().join("peers.json");
    fs::write(&file, r#"{"privateKey": "short", "addresses": [], "peers": []}"#).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary::isthmus());
        command
            .arg("node")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = machine.spawn(command).output();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (ended_well, text) = run(&["--static-peers", "/does/not/exist"]);
    assert!(
        !ended_well && text.contains("cannot read the peer file /does/not/exist"),
        "{text}"
    );
    let (ended_well, text) = run(&["--static-peers", file.to_str().unwrap()]);
    assert!(
        !ended_well && text.contains("32 bytes in base64") && !text.contains("short"),
        "{text}"
    );
}

#[test]
fn second_node_with_the_same_device_name_is_refused() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let two = TwoNodes::new("twice", binary::isthmus());
    let first = two.start(0, "192.0.2.2:41641", &[]);
    wait::until("the TUN device", || {
        two.machines[0]
            .run("ip link show isthmus0")
            .status
            .success()
            .then_some(())
    });
    let second = two.start(0, "192.0.2.2:41641", &[]);
    assert!(!second.ended().success());
    first.signal(Signal::SIGTERM);
    assert!(first.ended().success());
}
