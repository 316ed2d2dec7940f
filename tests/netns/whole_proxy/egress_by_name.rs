//! To a device by its name: the proxy follows the network map.

use isthmus_testkit::{isolate, wait};

use super::scene::{POD, Scene};
use crate::node::can_run;
use crate::proxy::topology::{Answer, ask_udp_from, connect, serve, serve_udp, text};

/// A port that a client never changes, as some programs that speak UDP do.
const FIXED: u16 = 5555;

#[test]
fn egress_follows_its_device_when_it_is_deleted_and_joins_again_with_another_address() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let scene = Scene::new("egress-name");
    serve(scene.device(), "database", 5432);
    serve_udp(scene.device(), "time", "0.0.0.0", 123);
    let proxy = scene.start(("TS_TAILNET_TARGET_FQDN", "One.Tail.Internal."));
    let own = scene.proxy_address();
    wait::until("a refusal while no device is called so", || {
        (connect(&scene.cluster, POD, 5432) == Answer::Refused).then_some(())
    });

    let device = scene.tailnet.start(0, &[]);
    let reached = text(&format!("database saw {own}"));
    let asked = text(&format!("time saw {own}"));
    wait::until("the device", || {
        (connect(&scene.cluster, POD, 5432) == reached).then_some(())
    });
    until_udp_is(&scene, &asked);

    let old = device.addresses.clone();
    scene.tailnet.control.remove(scene.tailnet.control.node("one"));
    drop(device);
    wait::until("a refusal once the device is deleted", || {
        (connect(&scene.cluster, POD, 5432) == Answer::Refused).then_some(())
    });
    until_udp_is(&scene, &Answer::Refused);

    std::fs::remove_dir_all(scene.tailnet.path("state-0")).unwrap();
    let device = scene.tailnet.start(0, &[]);
    assert_ne!(device.addresses, old, "the device has other addresses now");
    wait::until("the device that came back", || {
        (connect(&scene.cluster, POD, 5432) == reached).then_some(())
    });
    until_udp_is(&scene, &asked);
    drop(proxy);
}

/// What a client gets that keeps its port and asks again and again. What is remembered of its flow
/// is forgotten a moment after new rules are in place; until then it gets what it got before.
fn until_udp_is(scene: &Scene, answer: &Answer) {
    wait::until("the answer to a client that keeps its port", || {
        (ask_udp_from(&scene.cluster, FIXED, POD, 123) == *answer).then_some(())
    });
}
