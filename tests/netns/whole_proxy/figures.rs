//! What a proxy tells about itself: metrics, and pages for whoever looks for a fault.

use isthmus_testkit::{isolate, wait};

use super::scene::{POD, Scene};
use crate::node::can_run;
use crate::proxy::topology::{Answer, connect, serve, text};

const TARGET: (&str, &str) = ("TS_TAILNET_TARGET_FQDN", "one.tail.internal");

/// The value of a sample, as `/metrics` has it now.
fn metric(scene: &Scene, sample: &str) -> u64 {
    let page = scene.get(9002, "/metrics").expect("the proxy serves metrics");
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    assert!(line.is_some(), "no {sample} in {page}");
    line.unwrap().parse().unwrap()
}

#[test]
fn metrics_tell_traffic_by_path_and_an_idle_proxy_from_one_that_is_cut_off() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let scene = Scene::new("figures");
    let _proxy = scene.start(TARGET);
    let own = scene.proxy_address();
    let is = |sample: &str, value: u64| {
        wait::until(&format!("{sample} to be {value}"), || {
            (metric(&scene, sample) == value).then_some(())
        });
    };
    is("isthmus_proxy_control_connected", 1);
    is("isthmus_proxy_device_up", 1);
    for sample in [
        "isthmus_proxy_peers",
        "isthmus_proxy_peers_active",
        "isthmus_proxy_targets",
        "isthmus_proxy_config_in_place",
        "isthmus_proxy_last_handshake_timestamp_seconds",
        "tailscaled_inbound_bytes_total{path=\"direct_ipv4\"}",
    ] {
        is(sample, 0);
    }
    is("tailscaled_health_messages{type=\"warning\"}", 1);

    serve(scene.device(), "database", 5432);
    let _device = scene.tailnet.start(0, &[]);
    let reached = text(&format!("database saw {own}"));
    let is_there = || connect(&scene.cluster, POD, 5432) == reached;
    wait::until("the device", || is_there().then_some(()));
    is("isthmus_proxy_peers", 1);
    is("isthmus_proxy_peers_active", 1);
    is("isthmus_proxy_targets", 2);
    is("isthmus_proxy_config_in_place", 1);
    is("tailscaled_health_messages{type=\"warning\"}", 0);
    assert!(metric(&scene, "isthmus_proxy_last_handshake_timestamp_seconds") > 1_700_000_000);

    let traffic = ["inbound", "outbound"].map(|direction| format!("tailscaled_{direction}_bytes_total"));
    let direct = || {
        let of = |name: &String, path: &str| metric(&scene, &format!("{name}{{path=\"{path}\"}}"));
        traffic
            .each_ref()
            .map(|name| of(name, "direct_ipv4") + of(name, "direct_ipv6"))
    };
    let before = direct();
    assert!(is_there());
    let after = direct();
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
    let relayed = metric(&scene, "tailscaled_inbound_bytes_total{path=\"derp\"}");
    assert_eq!(relayed, 0, "there is no relay");

    scene.tailnet.control.stop();
    is("isthmus_proxy_control_connected", 0);
    assert!(is_there(), "traffic goes on");
    is("isthmus_proxy_config_in_place", 1);
    scene.tailnet.control.restart();
    is("isthmus_proxy_control_connected", 1);
}

#[test]
fn debug_pages_are_shown_to_the_cluster_without_secrets_and_not_to_the_tailnet() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let scene = Scene::new("debug");
    serve(scene.device(), "database", 5432);
    serve(scene.device(), "other", 9001);
    let _device = scene.tailnet.start(0, &[]);
    scene.write_login("proxy");
    let proxy = scene.start_with_document(TARGET);
    let own = scene.proxy_address();
    let of_target = text(&format!("other saw {own}"));
    wait::until("the device's own port 9001", || {
        (connect(&scene.cluster, POD, 9001) == of_target).then_some(())
    });
    drop(proxy);

    let _proxy = scene.start_and_debug(TARGET);
    let reached = text(&format!("database saw {own}"));
    wait::until("the device", || {
        (connect(&scene.cluster, POD, 5432) == reached).then_some(())
    });
    let page = |path: &str| scene.get(9001, path).expect("the page is shown");
    let status: serde_json::Value = serde_json::from_str(&page("/debug/status")).unwrap();
    assert_eq!(
        (&status["login"], &status["device"]["name"], &status["problem"]),
        (
            &"Running".into(),
            &"proxy.tail.internal".into(),
            &serde_json::Value::Null
        )
    );
    let peers: serde_json::Value = serde_json::from_str(&page("/debug/peers")).unwrap();
    assert_eq!(peers[0]["name"], "one.tail.internal");
    assert!(peers[0]["path"].as_str().unwrap().starts_with("direct to "), "{peers}");
    assert!(peers[0]["sent"]["bytes"].as_u64().unwrap() > 0, "{peers}");
    assert!(page("/debug/rules").contains("100.64.0."), "the target's address");

    let all = ["/debug/", "/debug/status", "/debug/peers", "/debug/rules"]
        .map(page)
        .concat();
    let state: serde_json::Value = serde_json::from_str(&scene.tailnet.read("state-proxy/tailscaled.state")).unwrap();
    let machine_key = state["_machinekey"].as_str().expect("a stored key").to_owned();
    for secret in [scene.tailnet.control.auth_key(), &machine_key, "privkey:"] {
        assert!(!all.contains(secret), "a secret is shown");
    }
    for port in [9001, 9002] {
        assert_eq!(connect(scene.device(), &own, port), Answer::Silence, "over the tailnet");
    }
}
