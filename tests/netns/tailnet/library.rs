//! A node as a library: what its owner can change and see while it runs.

use std::sync::Arc;
use std::time::Duration;

use isthmus_runtime::Secret;
use isthmus_tailbox::Edit;
use isthmus_tailnet::state::MemoryStore;
use isthmus_tailnet::{LoginState, Node, NodeConfig, NodePrefs, NodeStatus};
use isthmus_testkit::netns::Namespace;

use super::world::Tailnet;
use crate::node::can_run;

/// How long anything may take. A refused node asks again within 45 seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a node on the first machine, and `work` with it.
pub(crate) fn with_node<F: Future<Output = ()>>(
    tailnet: &Tailnet,
    key: Option<&str>,
    work: impl FnOnce(Node) -> F + Send,
) {
    let (url, machine) = (tailnet.control.url(), &tailnet.machines[0]);
    machine.enter(|| {
        let mut config = NodeConfig::new(url, "one", Arc::new(MemoryStore::default()));
        config.auth_key = key.map(Secret::new);
        config.install_routes = true;
        // Tests wait with their own thread; the node needs another to run on.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let node = Node::start(config).await.unwrap();
            until(&node, "the login", NodeStatus::is_running).await;
            work(node).await;
        });
    });
}

/// Waits until the node's status satisfies a condition.
pub(crate) async fn until(node: &Node, what: &str, condition: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
    let mut status = node.status();
    let met = tokio::time::timeout(PATIENCE, status.wait_for(|status| condition(status))).await;
    let last = node.status().borrow().clone();
    assert!(met.is_ok(), "{what} does not come: {:?}", last.login);
    last
}

async fn until_route(machine: &Namespace, net: &str, present: bool) {
    let look = async {
        while machine.ip("route").contains(net) != present {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let met = tokio::time::timeout(PATIENCE, look).await;
    assert!(met.is_ok(), "the route to {net} is not as it should be ({present})");
}

#[test]
fn changed_host_name_and_routes_take_effect_while_the_node_runs() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip"]) {
        return;
    }
    let policy = r#"{"autoApprovers": {"routes": {"10.0.0.0/8": ["autogroup:member"]}}}"#;
    let tailnet = Tailnet::with_policy("prefs", policy);
    let two = tailnet.start(1, &["--advertise-routes", "10.77.0.0/24"]);
    let machine = tailnet.machines[0].clone();
    let key = tailnet.control.auth_key().to_owned();
    with_node(&tailnet, Some(&key), async |node| {
        let name = |status: &NodeStatus| status.netmap.as_ref().map(|map| map.own.fqdn().to_owned());
        until(&node, "the peer", |status| {
            status
                .netmap
                .as_ref()
                .is_some_and(|map| map.peers.values().any(|peer| peer.allowed.len() == 3))
        })
        .await;
        until_route(&machine, "100.64.0.1", true).await;
        until_route(&machine, "10.77.0.0", false).await;

        let prefs = NodePrefs {
            hostname: "renamed".into(),
            accept_routes: true,
            advertise_routes: ["10.66.0.0/24".parse().unwrap()].into(),
            ..NodePrefs::default()
        };
        node.set_prefs(prefs.clone());
        until_route(&machine, "10.77.0.0", true).await;
        let status = until(&node, "the new name", |status| {
            name(status).as_deref() == Some("renamed.tail.internal")
        })
        .await;
        let own = &status.netmap.as_ref().unwrap().own;
        assert_eq!(
            own.allowed.len(),
            3,
            "the offered route is approved with the new name: {:?}",
            own.allowed
        );

        node.set_prefs(NodePrefs {
            accept_routes: false,
            ..prefs
        });
        until_route(&machine, "10.77.0.0", false).await;
        node.shutdown().await;
    });
    drop(two);
}

#[test]
fn node_whose_key_expires_needs_a_login_and_comes_back_when_it_is_valid_again() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let tailnet = Tailnet::new("expiry");
    let two = tailnet.start(1, &[]);
    let machine = tailnet.machines[0].clone();
    let address = two.addresses[0];
    let pings = || machine.run(&format!("ping -c 1 -W 1 {address}")).status.success();
    let control = &tailnet.control;
    let single = control.single_use_key();
    with_node(&tailnet, Some(&single), async |node| {
        while !pings() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let id = control.node("one");
        control.edit(id, Edit::Expire);
        until(&node, "the end of the login", |status| {
            matches!(status.login, LoginState::NeedsLogin { .. })
        })
        .await;
        assert!(!pings(), "an expired node still talks to its peers");
        let refused = until(
            &node,
            "control's words",
            |status| matches!(&status.login, LoginState::NeedsLogin { message } if message.contains("is used up")),
        );
        refused.await;
        control.edit(id, Edit::ExpiryDisabled(true));
        until(&node, "the login", NodeStatus::is_running).await;
        while !pings() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        node.shutdown().await;
    });
}

#[test]
fn node_that_control_removed_needs_a_login_in_the_words_of_control() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip"]) {
        return;
    }
    let tailnet = Tailnet::new("removed");
    let control = &tailnet.control;
    let single = control.single_use_key();
    with_node(&tailnet, Some(&single), async |node| {
        control.remove(control.node("one"));
        until(
            &node,
            "control's words",
            |status| matches!(&status.login, LoginState::NeedsLogin { message } if message.contains("is used up")),
        )
        .await;
        node.shutdown().await;
    });
}

#[test]
fn peer_whose_key_expires_is_cut_off() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let tailnet = Tailnet::new("cutoff");
    let (one, two) = (tailnet.start(0, &[]), tailnet.start(1, &[]));
    tailnet.wait_until_reached(0, &two);
    tailnet.control.edit(tailnet.control.node("two"), Edit::Expire);
    isthmus_testkit::wait::until("the end of the session", || {
        (!tailnet.pings(0, two.addresses[0])).then_some(())
    });
    drop(one);
}

#[test]
fn new_node_begins_the_handshake_with_peers_that_may_wait_for_it() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip"]) {
        return;
    }
    let tailnet = Tailnet::new("greeting");
    let nodes = [tailnet.start(0, &[]), tailnet.start(1, &[])];
    isthmus_testkit::wait::until("a handshake without traffic", || {
        let log = tailnet.read("log");
        (log.contains("greeting a peer") && log.matches("a handshake with a peer is complete").count() >= 2)
            .then_some(())
    });
    drop(nodes);
}

#[test]
fn offloads_that_control_forbids_are_switched_off() {
    isthmus_testkit::isolate!();
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let policy = r#"{"nodeAttrs": [{"target": ["*"], "attr": ["disable-udp-gso", "disable-udp-gro"]}]}"#;
    let tailnet = Tailnet::with_policy("offloads", policy);
    let (one, two) = (tailnet.start(0, &[]), tailnet.start(1, &[]));
    isthmus_testkit::wait::until("the nodes to obey", || {
        (tailnet
            .read("log")
            .matches("control changed the offloads of this node")
            .count()
            == 2)
            .then_some(())
    });
    tailnet.wait_until_reached(0, &two);
    drop(one);
}
