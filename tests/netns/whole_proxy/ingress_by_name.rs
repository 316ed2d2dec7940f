//! To a host by its name in DNS: the proxy asks again and again.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use isthmus_testkit::netns::Process;
use isthmus_testkit::{isolate, wait};

use super::scene::{HOSTS, POD, Scene};
use crate::node::can_run;
use crate::proxy::topology::{Answer, address, connect, serve, serve_at, text};

const NAME: &str = "db.example.com";

const TARGET: (&str, &str) = ("TS_EXPERIMENTAL_DEST_DNS_NAME", NAME);

/// A scene in which each host behind the cluster says who it is, and a proxy to [`NAME`].
fn started(name: &str, first: &[&str]) -> (Scene, Process, String) {
    let scene = Scene::new(name);
    for (name, host) in ["one", "two", "metadata"].into_iter().zip(HOSTS) {
        serve_at(&scene.cluster, name, host, 5432);
    }
    scene.names.set(NAME, first);
    let proxy = scene.start(TARGET);
    let own = scene.proxy_address();
    (scene, proxy, own)
}

fn saw(name: &str) -> Answer {
    text(&format!("{name} saw {POD}"))
}

fn wait_for(scene: &Scene, own: &str, answer: &Answer) {
    wait::until(&format!("{answer:?}"), || {
        (connect(scene.device(), own, 5432) == *answer).then_some(())
    });
}

#[test]
fn ingress_follows_a_name_of_dns_and_keeps_its_last_answer_when_dns_fails() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let (scene, _proxy, own) = started("ingress-name", &[HOSTS[0]]);
    let _laptop = scene.tailnet.start(0, &[]);
    wait_for(&scene, &own, &saw("one"));
    let mut held = hold(&scene, &own);

    scene.names.set(NAME, &[HOSTS[1]]);
    wait_for(&scene, &own, &saw("two"));
    scene.names.wait_for_questions();
    assert_eq!(connect(scene.device(), &own, 5432), saw("two"));
    assert_lives(&mut held);

    scene.names.fail(true);
    scene.names.wait_for_questions();
    for _ in 0..5 {
        assert_eq!(
            connect(scene.device(), &own, 5432),
            saw("two"),
            "the last answer stays in use"
        );
    }

    scene.names.fail(false);
    scene.names.set(NAME, &HOSTS[..2]);
    let both = BTreeSet::from([format!("{:?}", saw("one")), format!("{:?}", saw("two"))]);
    wait::until("both addresses in use", || {
        let seen: BTreeSet<_> = (0..20)
            .map(|_| format!("{:?}", connect(scene.device(), &own, 5432)))
            .collect();
        (seen == both).then_some(())
    });
}

#[test]
fn external_name_to_metadata_is_refused() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let (scene, _proxy, own) = started("metadata", &[HOSTS[2]]);
    let _laptop = scene.tailnet.start(0, &[]);
    scene.names.wait_for_questions();
    for _ in 0..3 {
        assert_eq!(connect(scene.device(), &own, 5432), Answer::Silence);
    }
    // The same proxy leads to what the name may have.
    scene.names.set(NAME, &[HOSTS[0], HOSTS[2]]);
    wait_for(&scene, &own, &saw("one"));
    for _ in 0..20 {
        assert_eq!(connect(scene.device(), &own, 5432), saw("one"), "and only to that");
    }
}

#[test]
fn rebinding_external_name_is_refused() {
    isolate!();
    if !can_run(&["ip", "unshare"]) {
        return;
    }
    let (scene, _proxy, own) = started("rebinding", &[HOSTS[0]]);
    let laptop = scene.tailnet.start(0, &[]);
    // What a forbidden address would lead to answers, so that it is the proxy that refuses.
    serve(&scene.tailnet.machines[1], "pod", 5432);
    serve(scene.device(), "tailnet", 5432);
    wait_for(&scene, &own, &saw("one"));
    let mut held = hold(&scene, &own);
    for rebound in [HOSTS[2], POD, "127.0.0.1", &laptop.addresses[0].to_string(), &own] {
        scene.names.set(NAME, &[rebound]);
        wait_for(&scene, &own, &Answer::Silence);
        scene.names.wait_for_questions();
        assert_eq!(connect(scene.device(), &own, 5432), Answer::Silence, "{rebound}");
    }
    assert_reset(&mut held);
    scene.names.set(NAME, &[HOSTS[1]]);
    wait_for(&scene, &own, &saw("two"));
}

/// A connection from the device to another port of the first host, over which both ends hold a socket.
fn hold(scene: &Scene, own: &str) -> (TcpStream, TcpStream) {
    let listener = scene.cluster.enter(|| TcpListener::bind((HOSTS[0], 5433)).unwrap());
    let target = SocketAddr::new(address(own), 5433);
    let client = scene
        .device()
        .enter(|| TcpStream::connect_timeout(&target, wait::PATIENCE).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    let mut client = client;
    client.write_all(b"a").unwrap();
    server.read_exact(&mut [0]).unwrap();
    (client, server)
}

/// What the client sends arrives.
fn assert_lives((client, server): &mut (TcpStream, TcpStream)) {
    server.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    client.write_all(b"b").unwrap();
    let mut sent = [0];
    server.read_exact(&mut sent).unwrap();
    assert_eq!(sent, *b"b");
}

/// What the client sends no longer arrives, and it learns of that at once.
fn assert_reset((client, server): &mut (TcpStream, TcpStream)) {
    client.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    let _ = client.write_all(b"b");
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    server.set_nonblocking(true).unwrap();
    assert!(server.read(&mut [0]).is_err(), "the old target got what was sent later");
}
