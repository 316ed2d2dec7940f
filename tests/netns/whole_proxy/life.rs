//! Starts, restarts and ends of a proxy.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Instant;

use isthmus_testkit::netns::Process;
use isthmus_testkit::{isolate, wait};
use nix::sys::signal::Signal;

use super::scene::{POD, Scene};
use crate::node::can_run;
use crate::proxy::topology::{Answer, address, connect, serve, text};

const TARGET: (&str, &str) = ("TS_TAILNET_TARGET_FQDN", "one.tail.internal");

impl Scene {
    /// Starts the proxy and waits until it is logged in.
    fn started(&self, target: (&str, &str)) -> Process {
        let proxy = self.start(target);
        self.proxy_address();
        proxy
    }
}

fn kill(process: Process) {
    process.signal(Signal::SIGKILL);
    let _ = process.ended();
}

#[test]
fn restarted_proxy_carries_while_control_is_away() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let scene = Scene::new("proxy-outage");
    serve(scene.device(), "database", 5432);
    let device = scene.tailnet.start(0, &[]);
    let proxy = scene.start(TARGET);
    let own = scene.proxy_address();
    let reached = text(&format!("database saw {own}"));
    wait::until("the device", || {
        (connect(&scene.cluster, POD, 5432) == reached).then_some(())
    });
    wait::until("the map to be kept", || {
        scene
            .tailnet
            .read("state-proxy/netmap.json")
            .contains("one.tail.internal")
            .then_some(())
    });
    for file in fs::read_dir(scene.tailnet.path("state-proxy")).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }

    scene.tailnet.control.stop();
    kill(proxy);
    assert!(
        !matches!(connect(&scene.cluster, POD, 5432), Answer::Text(_)),
        "nothing passes without the proxy"
    );
    let _proxy = scene.start(TARGET);
    wait::until("the device, with control away", || {
        (connect(&scene.cluster, POD, 5432) == reached).then_some(())
    });

    // Else it joins again as soon as it is removed.
    drop(device);
    scene.tailnet.control.restart();
    scene.tailnet.control.remove(scene.tailnet.control.node("one"));
    wait::until("what control says when it is back", || {
        (connect(&scene.cluster, POD, 5432) == Answer::Refused).then_some(())
    });
}

#[test]
fn proxy_killed_during_its_first_login_comes_back_as_the_same_device() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let scene = Scene::new("first-login");
    let state = || scene.tailnet.read("state-proxy/tailscaled.state");

    scene.tailnet.control.stop();
    let proxy = scene.start(TARGET);
    wait::until("keys before the login", || (!state().is_empty()).then_some(()));
    kill(proxy);
    let keys = state();
    scene.tailnet.control.restart();

    let proxy = scene.start(TARGET);
    wait::until("control to know the device", || {
        (scene.tailnet.control.count("proxy") > 0).then_some(())
    });
    kill(proxy);
    for _ in 0..3 {
        let proxy = scene.start(TARGET);
        scene.proxy_address();
        kill(proxy);
    }
    assert_eq!(scene.tailnet.control.count("proxy"), 1);
    let machine_key = |text: &str| {
        let values: serde_json::Value = serde_json::from_str(text).unwrap();
        values["_machinekey"].clone()
    };
    assert_eq!(machine_key(&state()), machine_key(&keys));
}

/// At how many moments of a first login, evenly spread, a proxy is killed.
const MOMENTS: u32 = 12;

#[test]
fn proxy_killed_at_any_moment_of_its_first_login_is_one_device() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let scene = Scene::new("first-moments");
    let state = scene.tailnet.path("state-proxy");
    let control = &scene.tailnet.control;
    let began = Instant::now();
    kill(scene.started(TARGET));
    let whole = began.elapsed();
    let mut seen = BTreeMap::new();
    for moment in 0..=MOMENTS {
        fs::remove_dir_all(&state).unwrap();
        let before = control.count("proxy");
        let proxy = scene.start(TARGET);
        // No moment decides the test; together they reach the states between.
        thread::sleep(whole * moment / MOMENTS);
        kill(proxy);
        let stored = scene.tailnet.read("state-proxy/tailscaled.state");
        let reached = match (stored.is_empty(), control.count("proxy") > before) {
            (true, _) => "no keys",
            (false, false) => "keys stored",
            (false, true) => "known to control",
        };
        *seen.entry(reached).or_insert(0) += 1;
        kill(scene.started(TARGET));
        let devices = control.count("proxy") - before;
        assert_eq!(devices, 1, "devices of a proxy killed with {reached}");
    }
    eprintln!("a login took {whole:?}; killed with: {seen:?}");
}

#[test]
fn host_name_of_the_document_is_announced_without_a_restart() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let scene = Scene::new("rename");
    scene.write_login("proxy");
    let mut proxy = scene.start_with_document(TARGET);
    let own = scene.proxy_address();
    assert_eq!(scene.tailnet.control.count("proxy"), 1);
    scene.write_login("renamed");
    wait::until("the new name", || {
        (scene.tailnet.control.count("renamed") == 1).then_some(())
    });
    assert_eq!(scene.tailnet.control.count("proxy"), 0);
    assert_eq!(scene.proxy_address(), own);
    assert_eq!(proxy.try_ended(), None);
}

#[test]
fn open_connection_may_finish_when_the_proxy_is_told_to_end() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let scene = Scene::new("drain");
    let _device = scene.tailnet.start(0, &[]);
    let listener = scene.device().enter(|| TcpListener::bind("0.0.0.0:5432").unwrap());
    let proxy = scene.start(TARGET);
    scene.proxy_address();
    let target = SocketAddr::new(address(POD), 5432);
    let mut client = wait::until("a connection", || {
        scene
            .cluster
            .enter(|| TcpStream::connect_timeout(&target, wait::PATIENCE).ok())
    });
    let (mut server, _) = listener.accept().unwrap();
    exchange(&mut client, &mut server);

    wait::until("the proxy to be ready", || is_ready(&scene).then_some(()));
    proxy.signal(Signal::SIGTERM);
    wait::until("the end to be announced", || (!is_ready(&scene)).then_some(()));
    for _ in 0..20 {
        exchange(&mut client, &mut server);
    }
    client.write_all(b"last words").unwrap();
    drop(client);
    let mut rest = String::new();
    server.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last words");
    drop(server);
    assert!(proxy.ended().success());
    assert!(!matches!(connect(&scene.cluster, POD, 5432), Answer::Text(_)));
}

fn is_ready(scene: &Scene) -> bool {
    scene.get(9002, "/healthz").is_some()
}

/// A byte there and one back.
fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    for stream in [&*client, &*server] {
        stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    }
    client.write_all(b"a").unwrap();
    server.read_exact(&mut [0]).unwrap();
    server.write_all(b"b").unwrap();
    client.read_exact(&mut [0]).unwrap();
}
