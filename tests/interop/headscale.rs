//! Nodes of ours, Go clients, and what the operator asks of a tailnet, on Headscale.

mod api;
mod server;

use isthmus_testkit::{require, wait};
use nix::sys::signal::Signal;

use super::client::{self, can_run};
use super::our_node::exchange;
use super::world::Tailnet;
use server::{Headscale, URL};

/// What is said of the way to the other node.
fn way(tailnet: &Tailnet, from: usize, name: &str) -> String {
    tailnet.ask(from, &format!("ping {name} --count 1")).0
}

fn wait_for_way(tailnet: &Tailnet, from: usize, name: &str, expected: &str) -> String {
    wait::until(&format!("a way {expected}"), || {
        let said = way(tailnet, from, name);
        said.contains(expected).then_some(said)
    })
}

#[test]
fn nodes_of_ours_reach_each_other_on_headscale_by_its_relay_and_directly_while_it_is_away_and_after_restarts() {
    isthmus_testkit::isolate!();
    if !require::judges(&["headscale", "nft"]) || !require::tun_device() {
        return;
    }
    let tailnet = Tailnet::new("headscale");
    let mut headscale = Headscale::start(&tailnet);
    tailnet.cut();
    let (one, two) = (headscale.join(&tailnet, 0), headscale.join(&tailnet, 1));
    assert_eq!(
        (one.name.as_str(), two.name.as_str()),
        ("one.head.test", "two.head.test")
    );
    tailnet.wait_until_reached(0, &two);
    tailnet.wait_until_reached(1, &one);
    exchange(&tailnet, &one, &two.addresses);
    let said = wait_for_way(&tailnet, 0, "two", "by relay Headscale (999)");
    eprintln!("{}", said.trim());

    tailnet.mend();
    wait_for_way(&tailnet, 0, "two", "direct by ");
    exchange(&tailnet, &one, &two.addresses);

    headscale.stop();
    exchange(&tailnet, &one, &two.addresses);
    headscale.restart();
    one.process.signal(Signal::SIGKILL);
    let _ = one.process.ended();
    let again = headscale.join(&tailnet, 0);
    assert_eq!(again.addresses, one.addresses, "it is another node");
    tailnet.wait_until_reached(1, &again);
    tailnet.wait_until_reached(0, &two);
    exchange(&tailnet, &again, &two.addresses);

    // What changes afterwards is followed by who was there all the time.
    headscale.call(&format!("nodes rename -i {} other", headscale.node("one")));
    wait_for_way(&tailnet, 1, "other", "direct by ");
    headscale.call(&format!("nodes delete -i {} --force", headscale.node("one")));
    wait::until("the end of the deleted node", || {
        (!tailnet.pings(1, again.addresses[0])).then_some(())
    });
}

#[test]
fn go_client_and_node_reach_each_other_on_headscale_by_its_relay_and_directly_and_after_restarts() {
    isthmus_testkit::isolate!();
    if !can_run(&["headscale", "nft"]) {
        return;
    }
    let tailnet = Tailnet::new("go-headscale");
    let headscale = Headscale::start(&tailnet);
    tailnet.cut();
    let node = headscale.join(&tailnet, 0);
    let mut client = client::new(&tailnet, 1, "gopher");
    // A Go client insists on TLS at relays otherwise.
    client.set("TS_DEBUG_USE_DERP_HTTP", "1");
    client.start();
    client.log_in(URL, &headscale.auth_key(), &["--accept-dns=false"]);
    let theirs = client.addresses();
    client.wait_for_pong(node.addresses[0], "via DERP(");
    exchange(&tailnet, &node, &theirs);
    tailnet.mend();
    let pong = client.wait_for_pong(node.addresses[0], ":41641");
    eprintln!("{}: {pong}", client.version());
    wait_for_way(&tailnet, 0, "gopher", "direct by ");
    exchange(&tailnet, &node, &theirs);

    node.process.signal(Signal::SIGKILL);
    let _ = node.process.ended();
    let again = headscale.join(&tailnet, 0);
    assert_eq!(again.addresses, node.addresses);
    wait::until("our node again", || tailnet.pings(1, again.addresses[0]).then_some(()));
    exchange(&tailnet, &again, &theirs);
    client.kill();
    client.start();
    wait::until("the Go client again", || tailnet.pings(0, theirs[0]).then_some(()));
    exchange(&tailnet, &again, &theirs);
}

#[test]
fn node_whose_key_headscale_expires_logs_in_again_with_its_auth_key_and_else_has_no_traffic_until_it_is_valid_again() {
    isthmus_testkit::isolate!();
    if !require::judges(&["headscale"]) || !require::tun_device() {
        return;
    }
    let tailnet = Tailnet::new("headscale-expiry");
    let headscale = Headscale::start(&tailnet);
    let one = headscale.join(&tailnet, 0);
    let two = server::join(&tailnet, 1, &headscale.single_use_key());
    tailnet.wait_until_reached(0, &two);
    let says_expired = || tailnet.read("log").matches("the node key is expired").count();
    headscale.call(&format!("nodes expire -i {}", headscale.node("one")));
    wait::until("the node to know", || (says_expired() == 1).then_some(()));
    tailnet.wait_until_reached(1, &one);
    exchange(&tailnet, &one, &two.addresses);

    let number = headscale.node("two");
    headscale.call(&format!("nodes expire -i {number}"));
    wait::until("the other node to know", || (says_expired() == 2).then_some(()));
    wait::until("the end of the traffic", || {
        (!tailnet.pings(0, two.addresses[0]) && !tailnet.pings(1, one.addresses[0])).then_some(())
    });
    let login = wait::until("the refusal", || {
        let status = tailnet.ask_json(1, "status");
        (status["login"] == "needs-login").then_some(status["problem"].clone())
    });
    eprintln!("an expired node without a key: {login}");
    headscale.call(&format!("nodes expire --disable -i {number}"));
    // A refused node asks again within 45 seconds.
    wait::until_within("the traffic again", 2 * wait::PATIENCE, || {
        (tailnet.pings(0, two.addresses[0]) && tailnet.pings(1, one.addresses[0])).then_some(())
    });
}
