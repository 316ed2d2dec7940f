//! Pings of peers that control asks for.

use isthmus_tailbox::AskError;
use isthmus_testkit::wait;

use super::world::Tailnet;
use crate::node::can_run;

#[test]
fn control_learns_how_a_node_reaches_a_peer_in_every_way_it_can_ask_for() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping", "nft"]) {
        return;
    }
    let tailnet = Tailnet::with_relay("pings");
    tailnet.cut();
    let (one, two) = (tailnet.start(0, &[]), tailnet.start(1, &[]));
    tailnet.wait_until_reached(0, &two);
    let number = tailnet.control.node("one");
    let ping = |kind, address| tailnet.control.ping_from(number, kind, address);
    for kind in ["disco", "TSMP", "ICMP"] {
        let said = ping(kind, two.addresses[0]).unwrap();
        assert_eq!(
            (said.kind.as_str(), said.node_name.as_str(), said.err.as_str()),
            (kind, "two", "")
        );
        let address = two.addresses[0].to_string();
        assert_eq!((&said.ip, &said.node_ip), (&address, &address));
        assert!(said.latency_seconds > 0.0, "{said:?}");
        let region = if kind == "disco" { 900 } else { 0 };
        assert_eq!((said.derp_region_id, said.endpoint.as_str()), (region, ""), "{said:?}");
    }
    tailnet.mend();
    let said = wait::until("an answer by the direct path", || {
        let said = ping("disco", two.addresses[1]).ok()?;
        said.endpoint.ends_with(":41641").then_some(said)
    });
    assert_eq!(
        (said.derp_region_id, said.derp_region_code.as_str()),
        (0, ""),
        "{said:?}"
    );

    let own = ping("disco", one.addresses[0]).unwrap();
    assert!(own.is_local_ip && own.err.contains("is local Tailscale IP"), "{own:?}");
    let nobody = ping("TSMP", [100, 64, 99, 99].into()).unwrap();
    assert_eq!(nobody.err, "no matching peer");
    let http = ping("peerapi", two.addresses[0]).unwrap();
    assert!(!http.err.is_empty(), "{http:?}");
    let gone = two.addresses[0];
    drop(two);
    wait::until("the end of the answers", || {
        (ping("ICMP", gone) == Err(AskError::Silent(number))).then_some(())
    });
}
