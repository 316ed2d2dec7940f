//! What a Go client makes of the changes that a tailbox tells it.

use isthmus_testkit::netns::Namespace;
use isthmus_testkit::wait;

use super::client::{self, GoClient, can_run};
use super::world::{RunningNode, Tailnet};

/// Counters of the Go client: messages that changed single peers, and messages for which it began anew with everything.
const INCREMENTAL: &str = "controlclient_map_response_handled_incrementally";
const REBUILT: &str = "controlclient_map_response_handled_full_rebuild";

fn third(tailnet: &Tailnet) -> Namespace {
    let machine = tailnet.net.namespace("c");
    tailnet.plug(&machine, "10.9.0.3/24");
    machine
}

fn start_third(tailnet: &Tailnet, machine: &Namespace) -> RunningNode {
    let key = tailnet.path("key");
    let process = tailnet.spawn_on(machine, ["three", "three"], &["--auth-key-file", &key], &[]);
    tailnet.wait_for_files_of("three", process)
}

fn has_endpoint(client: &GoClient, address: &str) -> bool {
    let peer = client.peer("three").unwrap_or_default();
    let key = peer["PublicKey"].as_str().unwrap_or_default().to_owned();
    let netmap = client.json(&["debug", "netmap"]);
    let mut peers = netmap["Peers"].as_array().into_iter().flatten();
    let node = peers.find(|node| node["Key"] == key.as_str());
    let endpoints = node.and_then(|node| node["Endpoints"].as_array());
    endpoints
        .into_iter()
        .flatten()
        .any(|endpoint| endpoint.as_str().is_some_and(|text| text.starts_with(address)))
}

#[test]
fn go_client_follows_a_node_that_joins_moves_leaves_and_returns_without_a_full_map() {
    isthmus_testkit::isolate!();
    if !can_run(&[]) {
        return;
    }
    let tailnet = Tailnet::with_relay("go-deltas");
    let one = tailnet.start(0, &[]);
    let client = client::join(&tailnet);
    client.wait_for_pong(one.addresses[0], ":41641");
    let full = wait::until("quiet", || {
        let count = client.count(REBUILT);
        std::thread::sleep(std::time::Duration::from_secs(1));
        (client.count(REBUILT) == count).then_some(count)
    });
    assert!(full > 0, "the counter {REBUILT} is no longer kept");
    let (before, machine) = (client.count(INCREMENTAL), third(&tailnet));

    let three = start_third(&tailnet, &machine);
    let address = three.addresses[0];
    client.wait_for_pong(address, "via 10.9.0.3:41641");
    machine.ip("addr flush dev eth0");
    machine.ip("addr add 10.9.0.33/24 dev eth0");
    wait::until("the new endpoint", || has_endpoint(&client, "10.9.0.33:").then_some(()));
    client.wait_for_pong(address, "via 10.9.0.33:41641");
    three.process.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = three.process.ended();
    wait::until("the end of the node", || {
        (client.peer("three")?["Online"] == false).then_some(())
    });
    assert_eq!(client.count(REBUILT), full, "it began anew with everything");
    let three = start_third(&tailnet, &machine);
    assert_eq!(three.addresses[0], address);
    wait::until("the node again", || {
        (client.peer("three")?["Online"] == true && tailnet.pings(1, address)).then_some(())
    });
    let (changes, rebuilt) = (client.count(INCREMENTAL) - before, client.count(REBUILT) - full);
    eprintln!("{}: {changes} changes, {rebuilt} full maps", client.version());
    // A new run has a new disco key, for which the Go client makes everything anew by itself.
    assert!(rebuilt <= 1, "it began anew with everything");
    assert!(changes >= 3, "{changes} changes tell of a join, a move and an end");
    let full = full + rebuilt;

    tailnet.control.remove(tailnet.control.node("three"));
    wait::until("the removal", || client.peer("three").is_none().then_some(()));
    assert_eq!(client.count(REBUILT), full, "it began anew with everything");
    assert!(tailnet.pings(1, one.addresses[0]), "the other peer is still there");
    drop(three);
}
