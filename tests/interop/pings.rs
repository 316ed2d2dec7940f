//! What a Go client and a node of ours tell control that wants a peer pinged.

use isthmus_tailnet_wire::control::PingResponse;
use isthmus_testkit::wait;

use super::client::{self, can_run};
use super::world::Tailnet;

/// The answer without what differs from ping to ping: which ping, whom, by which name, and whether there are a time, a path, a problem.
fn form(said: &PingResponse) -> (String, [bool; 6]) {
    let what = [
        said.latency_seconds > 0.0,
        said.endpoint.is_empty(),
        said.derp_region_id == 0,
        said.derp_region_code.is_empty(),
        said.err.is_empty(),
        said.is_local_ip,
    ];
    let who = [
        !said.ip.is_empty(),
        !said.node_ip.is_empty(),
        !said.node_name.is_empty(),
    ];
    (format!("{} {who:?}", said.kind), what)
}

#[test]
fn node_tells_control_of_pings_in_the_form_of_a_go_client() {
    isthmus_testkit::isolate!();
    if !can_run(&["nft"]) {
        return;
    }
    let tailnet = Tailnet::with_relay("go-pings");
    tailnet.cut();
    let node = tailnet.start(0, &[]);
    let client = client::join(&tailnet);
    let [ours, theirs] = [node.addresses[0], client.addresses()[0]];
    client.wait_for_pong(ours, "via DERP(");
    wait::until("the Go client from our node", || tailnet.pings(0, theirs).then_some(()));
    let (one, gopher) = (tailnet.control.node("one"), tailnet.control.node("gopher"));
    let compare = |kind: &'static str, of_ours, of_theirs| {
        let ask = |node, address| tailnet.control.ping_from(node, kind, address).unwrap();
        let (own, foreign) = (ask(one, of_ours), ask(gopher, of_theirs));
        eprintln!("{own:?}\n{foreign:?}");
        assert_eq!(form(&own), form(&foreign), "ours and that of the Go client");
    };
    for kind in ["disco", "TSMP", "ICMP"] {
        compare(kind, theirs, ours);
    }
    compare("disco", ours, theirs);
    tailnet.mend();
    client.wait_for_pong(ours, ":41641");
    wait::until("the direct path of our node", || {
        let (pinged, _) = tailnet.ask(0, "ping gopher --count 1");
        pinged.contains("direct by ").then_some(())
    });
    compare("disco", theirs, ours);
    compare("TSMP", theirs, ours);
    let (tsmp, success) = tailnet.ask(0, "ping gopher --count 1 --tsmp");
    assert!(success, "{tsmp}");
    let pong = client.check(&["ping", "--tsmp", "--c=1", &ours.to_string()]);
    eprintln!("{}: {}{}", client.version(), tsmp, pong);
}
