//! The Go client joins a tailbox and talks to a node of ours, directly and by our relay.

use std::net::{IpAddr, SocketAddr};

use isthmus_testkit::transfer::{content, transfer};
use isthmus_testkit::wait;
use nix::sys::signal::Signal;

use super::client::{self, can_run};
use super::world::{RunningNode, Tailnet};

/// Content arrives both ways as it was sent, from the sender's tailnet address.
pub(crate) fn exchange(tailnet: &Tailnet, node: &RunningNode, theirs: &[IpAddr]) {
    let [ours_machine, theirs_machine] = &tailnet.machines;
    let content = content();
    for (own, their) in node.addresses.iter().zip(theirs) {
        for (from, to, destination, source) in [
            (ours_machine, theirs_machine, *their, *own),
            (theirs_machine, ours_machine, *own, *their),
        ] {
            let (arrived, peer) = transfer(from, to, SocketAddr::new(destination, 7000), &content);
            assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
            assert_eq!(peer.ip(), source);
        }
    }
}

#[test]
fn go_client_and_node_reach_each_other_directly_while_control_is_away_and_after_restarts() {
    isthmus_testkit::isolate!();
    if !can_run(&[]) {
        return;
    }
    let tailnet = Tailnet::new("go-client");
    let node = tailnet.start(0, &[]);
    let mut client = client::join(&tailnet);
    let pong = wait::until("a direct pong", || {
        let (_, line) = client.call(&["ping", "--c=1", "--timeout=5s", &node.addresses[0].to_string()]);
        let direct = ["via 10.9.0.1:41641", "via [2001:db8::1]:41641"];
        direct.iter().any(|via| line.contains(via)).then_some(line)
    });
    eprintln!("{}: {}", client.version(), pong.trim());
    assert_eq!(node.name, "one.tail.internal");
    let theirs = client.addresses();
    wait::until("the Go client from our node", || {
        tailnet.pings(0, theirs[0]).then_some(())
    });
    exchange(&tailnet, &node, &theirs);

    tailnet.control.stop();
    assert!(tailnet.pings(0, theirs[0]), "traffic stopped with the control server");
    tailnet.control.restart();

    node.process.signal(Signal::SIGKILL);
    let _ = node.process.ended();
    let node = tailnet.start(0, &[]);
    wait::until("our node again", || tailnet.pings(1, node.addresses[0]).then_some(()));
    exchange(&tailnet, &node, &theirs);

    client.kill();
    assert!(!tailnet.pings(0, theirs[0]), "a killed client answers");
    client.start();
    wait::until("the Go client again", || tailnet.pings(0, theirs[0]).then_some(()));
    assert_eq!(client.addresses(), theirs);
    exchange(&tailnet, &node, &theirs);
}

#[test]
fn go_client_and_node_reach_each_other_by_our_relay_until_there_is_a_direct_path_and_again_without() {
    isthmus_testkit::isolate!();
    if !can_run(&["nft"]) {
        return;
    }
    let tailnet = Tailnet::with_relay("go-relay");
    tailnet.cut();
    let node = tailnet.start(0, &[]);
    let client = client::join(&tailnet);
    let theirs = client.addresses();
    let pong = client.wait_for_pong(node.addresses[0], "via DERP(");
    eprintln!("{}: {pong}", client.version());
    exchange(&tailnet, &node, &theirs);
    let peer = client.peer("one").expect("it knows our node");
    assert_eq!(
        (&peer["CurAddr"], &peer["Online"]),
        (&"".into(), &true.into()),
        "{peer}"
    );
    assert!(!peer["Relay"].as_str().unwrap_or_default().is_empty(), "{peer}");
    let (pinged, _) = tailnet.ask(0, "ping gopher --count 1");
    assert!(
        pinged.contains("by relay ") && pinged.contains("not direct: "),
        "{pinged}"
    );

    let netcheck = client.json(&["netcheck", "--format=json"]);
    assert_eq!(
        (&netcheck["UDP"], &netcheck["PreferredDERP"]),
        (&true.into(), &900.into()),
        "{netcheck}"
    );
    assert!(
        netcheck["GlobalV4"]
            .as_str()
            .unwrap_or_default()
            .starts_with("10.9.0.2:"),
        "{netcheck}"
    );
    assert!(netcheck["RegionLatency"]["900"].as_u64() > Some(0), "{netcheck}");
    let whois = client.json(&["whois", "--json", &node.addresses[0].to_string()]);
    assert_eq!(whois["Node"]["Name"], "one.tail.internal.", "{whois}");
    assert_eq!(whois["UserProfile"]["LoginName"], "owner@tail.internal", "{whois}");
    let whois = tailnet.ask_json(0, &format!("whois {}", theirs[0]));
    assert_eq!(whois["name"], "gopher.tail.internal");

    tailnet.mend();
    client.wait_for_pong(node.addresses[0], ":41641");
    wait::until("the direct path of our node", || {
        tailnet.pings(0, theirs[0]);
        let (pinged, _) = tailnet.ask(0, "ping gopher --count 1");
        pinged.contains("direct by ").then_some(())
    });
    exchange(&tailnet, &node, &theirs);
    tailnet.cut();
    wait::until("the relay again", || tailnet.pings(0, theirs[0]).then_some(()));
    exchange(&tailnet, &node, &theirs);
}
