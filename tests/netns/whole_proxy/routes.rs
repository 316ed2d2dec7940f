//! To an address behind a subnet router.

use isthmus_tailbox::Edit;
use isthmus_testkit::{isolate, wait};

use super::scene::{POD, Scene};
use crate::node::can_run;
use crate::proxy::topology::{Answer, connect, serve, text};

const SUBNET: &str = "10.77.0.0/24";
const HOST: &str = "10.77.0.5";

#[test]
fn address_behind_a_subnet_router_is_reached_while_the_document_accepts_routes() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let scene = Scene::new("accept-routes");
    let (router, net) = (scene.device(), &scene.tailnet.net);
    let (switch, host) = (net.switch("subnet"), net.namespace("host"));
    net.plug(&switch, router, "eth1", &["10.77.0.1/24"]);
    net.plug(&switch, &host, "eth0", &["10.77.0.5/24"]);
    host.ip("route add 100.64.0.0/10 via 10.77.0.1");
    router.sysctl("net.ipv4.ip_forward", "1");
    serve(&host, "host", 5432);
    let _router = scene.tailnet.start(0, &["--advertise-routes", SUBNET]);
    let control = &scene.tailnet.control;
    control.edit(control.node("one"), Edit::Routes([SUBNET.parse().unwrap()].into()));

    scene.write_login("proxy");
    let mut proxy = scene.start_with_document(("TS_TAILNET_TARGET_IP", HOST));
    let own = scene.proxy_address();
    let reached = text(&format!("host saw {own}"));
    wait::until("the peer", || {
        let peers = scene.get(9002, "/metrics")?;
        peers.contains("isthmus_proxy_peers 1\n").then_some(())
    });
    for _ in 0..3 {
        assert_eq!(
            connect(&scene.cluster, POD, 5432),
            Answer::Silence,
            "no route is accepted"
        );
    }

    for _ in 0..2 {
        scene.write_login_with("proxy", true);
        wait::until("the host behind the router", || {
            (connect(&scene.cluster, POD, 5432) == reached).then_some(())
        });
        scene.write_login_with("proxy", false);
        wait::until("the end of the route", || {
            (connect(&scene.cluster, POD, 5432) == Answer::Silence).then_some(())
        });
    }
    assert_eq!(proxy.try_ended(), None, "the proxy was started anew");
    assert_eq!(scene.proxy_address(), own);
}
