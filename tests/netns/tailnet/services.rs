//! Tailscale Services that a node of ours hosts, and records that it lets control publish.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use isthmus_tailnet::{NodePrefs, NodeStatus, PublishError};
use isthmus_testkit::netns::Namespace;
use isthmus_testkit::wait;

use super::library::{until, with_node};
use super::world::{Options, Tailnet};
use crate::node::{can_run, content, transfer};

/// Where control answers authorities.
const DNS: &str = "10.9.0.9:53";

const POLICY: &str = r#"{"tagOwners": {"tag:web": []}, "autoApprovers": {"services": {"svc:web": ["tag:web"]}},
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#;

/// Waits without holding up the node, which runs on the same thread.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let met = tokio::time::timeout(Duration::from_mins(1), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(met.await.is_ok(), "{what} does not come");
}

fn services(status: &NodeStatus) -> Option<Vec<IpAddr>> {
    status.netmap.as_ref()?.own.services.get("svc:web").cloned()
}

#[test]
fn service_is_reached_at_its_own_address_while_its_host_offers_it() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let tailnet = Tailnet::with_policy("services", POLICY);
    let [v4, v6] = tailnet.control.put_service("svc:web", "tcp:7000");
    let two = tailnet.start(1, &[]);
    let key = tailnet.control.key_with_tags(&["tag:web"]);
    let [host, client] = &tailnet.machines;
    let reaches = |address: IpAddr| client.run(&format!("ping -c 1 -W 1 {address}")).status.success();
    with_node(&tailnet, Some(&key), async |node| {
        let own = node.status().borrow().netmap.as_ref().unwrap().own.addresses[0];
        eventually("the host itself", || reaches(own)).await;
        assert!(!reaches(v4), "nobody hosts the service");
        assert_eq!(services(&node.status().borrow()), None);

        let mut prefs = node.prefs();
        prefs
            .advertise_services
            .insert("svc:web".to_owned(), vec!["tcp:7000".parse().unwrap()]);
        node.set_prefs(prefs.clone());
        let status = until(&node, "the assignment", |status| services(status).is_some()).await;
        assert_eq!(services(&status).unwrap(), [v4, v6]);
        for address in [v4, v6] {
            eventually("the service", || reaches(address)).await;
            let content = content();
            let (arrived, peer) = transfer(client, host, SocketAddr::new(address, 7000), &content);
            assert!(arrived == content, "{} bytes arrived, or other ones", arrived.len());
            assert!(
                two.addresses.contains(&peer.ip()),
                "{peer} is not the client's own address"
            );
        }

        node.set_prefs(NodePrefs {
            advertise_services: [].into(),
            ..prefs
        });
        until(&node, "the end of the assignment", |status| services(status).is_none()).await;
        wait::until("the end of the service", || {
            (!reaches(v4) && !reaches(v6)).then_some(())
        });
        assert!(reaches(own), "only the service has ended");
        node.shutdown().await;
    });
}

#[test]
fn node_answers_what_control_asks_of_it() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip"]) {
        return;
    }
    let tailnet = Tailnet::new("asked");
    let node = tailnet.start(0, &[]);
    let (control, id) = (&tailnet.control, tailnet.control.node("one"));
    let echoed = wait::until("the answer", || control.ask(id, "POST", "/echo").ok());
    assert_eq!((echoed.status, echoed.body.as_slice()), (200, &b"body"[..]));
    let services = control.ask(id, "GET", "/vip-services").unwrap();
    assert_eq!(services.body, br#"{"VIPServices":[],"ServicesHash":""}"#);
    assert_eq!(control.ask(id, "POST", "/debug/prefs").unwrap().status, 404);
    drop(node);
}

#[test]
fn record_of_a_node_is_published_by_control_for_its_own_names_alone() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip"]) {
        return;
    }
    let options = Options {
        dns: true,
        ..Options::default()
    };
    let tailnet = Tailnet::with("records", options);
    let (key, machine) = (tailnet.control.single_use_key(), &tailnet.machines[1]);
    with_node(&tailnet, Some(&key), async |node| {
        let status = node.status().borrow().clone();
        let domains = status.netmap.unwrap().dns.cert_domains.clone();
        assert_eq!(domains, ["one.tail.internal"]);
        let name = "_acme-challenge.one.tail.internal";
        assert!(!text_is_published(machine, name, "a-proof"));
        node.publish_txt(name, "a-proof").await.unwrap();
        assert!(text_is_published(machine, name, "a-proof"));
        let refused = node.publish_txt("_acme-challenge.two.tail.internal", "stolen").await;
        assert!(
            matches!(refused, Err(PublishError::Refused { status: 403, .. })),
            "{refused:?}"
        );
        tailnet.control.stop();
        until(&node, "the loss of control", |status| !status.connected).await;
        let lost = node.publish_txt(name, "late").await;
        assert!(matches!(lost, Err(PublishError::NotConnected { .. })), "{lost:?}");
        node.shutdown().await;
    });
}

/// Asks control's name server for the texts of a name, as an authority does.
fn text_is_published(machine: &Namespace, name: &str, text: &str) -> bool {
    // A header with one question, the name, and the type TXT in the class IN.
    let mut question = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 16, 0, 1]);
    machine.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.send_to(&question, DNS).unwrap();
        let mut answer = [0; 1024];
        let length = socket.recv(&mut answer).unwrap();
        answer[..length]
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}
