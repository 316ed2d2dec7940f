//! Several operators at one API server: who leads, and what happens when that changes.

pub(crate) mod stage;

use std::collections::BTreeSet;

use isthmus_testkit::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use stage::Stage;

/// An exposed Service called `name`.
pub(crate) fn exposed(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": {"tailscale.com/expose": "true"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    })
}

fn ten(namespace: &str) -> Vec<Value> {
    (0..10)
        .map(|number| exposed(namespace, &format!("web-{number}")))
        .collect()
}

fn wait_for_proxies(stage: &Stage, namespace: &str, count: usize) {
    wait::until(&format!("{count} proxies"), || {
        (stage.proxies_of(namespace).len() >= count).then_some(())
    });
}

#[test]
fn two_operators_at_once_make_no_duplicates() {
    let Some(stage) = Stage::in_turn() else { return };
    let namespace = stage.namespace("race");
    let first = stage.operator("race-a");
    let second = stage.operator("race-b");
    stage.create(&ten(&namespace));
    wait_for_proxies(&stage, &namespace, 10);

    let parents: BTreeSet<String> = stage
        .proxies_of(&namespace)
        .iter()
        .map(|set| set["metadata"]["labels"]["tailscale.com/parent-resource"].to_string())
        .collect();
    assert_eq!((stage.proxies_of(&namespace).len(), parents.len()), (10, 10));
    wait::until("every auth key to be held by a proxy", || {
        (stage.tailnet_keys() == stage.held_keys()).then_some(())
    });
    let requests = stage.operator_requests();
    let writes = [&first, &second].map(|operator| requests.iter().filter(|line| operator.wrote(line)).count());
    assert!(writes.contains(&0), "both wrote: {writes:?}");
}

#[test]
fn successor_leads_as_soon_as_the_leader_was_told_to_end() {
    let Some(stage) = Stage::in_turn() else { return };
    let namespace = stage.namespace("hand-over");
    let mut first = stage.operator("hand-over-a");
    stage.wait_for_leader("hand-over-a");
    let second = stage.operator("hand-over-b");
    wait::until("the second to answer", || second.metrics());
    let changes = stage.lease()["leaseTransitions"].as_i64().unwrap();

    let told = std::time::Instant::now();
    first.signal(Signal::SIGTERM);
    assert!(first.wait_for_end(), "{}", first.log());
    // A Lease that is given back is nobody's; one that has to run out keeps its holder.
    let holder = stage.lease()["holderIdentity"].clone();
    assert!(holder.is_null() || holder == "hand-over-b", "{holder}");
    stage.wait_for_leader("hand-over-b");
    println!("hand-over after SIGTERM: {} ms", told.elapsed().as_millis());
    assert_eq!(stage.lease()["leaseTransitions"], changes + 1);
    stage.create(&[exposed(&namespace, "web")]);
    wait_for_proxies(&stage, &namespace, 1);
}

#[test]
fn leader_that_slept_through_its_lease_writes_nothing_when_it_wakes() {
    let Some(stage) = Stage::in_turn() else { return };
    let namespace = stage.namespace("asleep");
    let mut first = stage.operator("asleep-a");
    stage.wait_for_leader("asleep-a");
    let second = stage.operator("asleep-b");
    first.signal(Signal::SIGSTOP);
    // These wait in the sleeper's sockets.
    stage.create(&ten(&namespace));
    stage.wait_for_leader("asleep-b");
    wait_for_proxies(&stage, &namespace, 10);

    let writes_of_first = || {
        stage
            .operator_requests()
            .iter()
            .filter(|line| first.wrote(line))
            .count()
    };
    let before = writes_of_first();
    first.signal(Signal::SIGCONT);
    wait::until("the sleeper to notice", || {
        first.log().contains("lost the lease").then_some(())
    });
    assert_eq!(writes_of_first(), before);
    assert!(!first.wait_for_end(), "it went on without the Lease");
    assert!(stage.operator_requests().iter().any(|line| second.wrote(line)));
}
