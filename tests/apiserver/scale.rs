//! Many Services: what one change costs, and what the operator needs. `--soak` makes it a thousand.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use isthmus_testkit::{soak, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::replicas::exposed;
use crate::replicas::stage::{Operator, Stage};

/// Keys are made at ten a second.
const PATIENCE: Duration = Duration::from_mins(10);
/// Kinds that need not be installed, which the operator asks for from time to time.
const OPTIONAL: [&str; 2] = ["proxyclasses", "servicemonitors"];

#[test]
fn one_change_costs_as_much_among_many_services_as_among_few() {
    let Some(stage) = Stage::start() else { return };
    let counts: &[usize] = if soak::is_asked() {
        &[1, 10, 100, 1000]
    } else {
        &[1, 10, 100]
    };
    let count = counts[counts.len() - 1];
    let namespace = stage.namespace("scale");
    let mut first = stage.operator("scale-a");
    stage.create(&[exposed(&namespace, "web-first")]);
    let mut costs = Vec::new();
    let mut existing = 1;
    for (index, count) in counts.iter().copied().enumerate() {
        let begun = Instant::now();
        let before = requests(&stage, &first);
        let services: Vec<Value> = (existing..count)
            .map(|number| exposed(&namespace, &format!("web-{number}")))
            .collect();
        if !services.is_empty() {
            stage.create(&services);
        }
        settle(&stage, &first, count);
        let each = difference(&requests(&stage, &first), &before);
        println!("{count} Services: settled after {} s", begun.elapsed().as_secs());
        println!("requests of the operator for {} of them: {each:?}", services.len());
        println!("memory: {}", memory(&first));
        existing = count;
        let port = 8080 + u16::try_from(index).unwrap();
        let cost = cost_of_a_change(&stage, &first, count, port);
        println!("requests for one change among {count}: {cost:?}");
        costs.push(cost);
    }
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");

    first.signal(Signal::SIGTERM);
    assert!(first.wait_for_end());
    let begun = Instant::now();
    let second = stage.operator("scale-b");
    settle(&stage, &second, count);
    let start = requests(&stage, &second);
    println!(
        "start among {count}: {} ms, requests {start:?}",
        begun.elapsed().as_millis()
    );
    println!("memory: {}", memory(&second));
    assert!(
        start.keys().all(|(verb, _)| verb == "get" || verb == "list"),
        "{start:?}"
    );
}

/// Changes a port of the first Service and gives back the requests that this causes.
fn cost_of_a_change(stage: &Stage, operator: &Operator, count: usize, port: u16) -> BTreeMap<(String, String), usize> {
    let before = requests(stage, operator);
    let patch = format!(r#"{{"spec":{{"ports":[{{"port":{port}}}]}}}}"#);
    stage.kubectl(&[
        "patch",
        "service",
        "web-first",
        "-n",
        "scale",
        "--type",
        "merge",
        "-p",
        &patch,
    ]);
    wait::until("the change to reach the proxy", || {
        (difference(&requests(stage, operator), &before).values().sum::<usize>() > 0).then_some(())
    });
    settle(stage, operator, count);
    difference(&requests(stage, operator), &before)
}

/// Waits until every Service has a proxy and a condition, nothing waits for a look, and nothing more is asked.
fn settle(stage: &Stage, operator: &Operator, count: usize) {
    let wanted = [
        format!(r#"isthmus_operator_managed{{kind="StatefulSet",state="present"}} {count}"#),
        format!(r#"isthmus_operator_managed{{kind="Service",state="pending"}} {count}"#),
        "isthmus_operator_queue_depth 0".to_owned(),
    ];
    wait::until_within("the operator to settle", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(500));
        let metrics = operator.metrics()?;
        if !wanted.iter().all(|line| metrics.lines().any(|found| found == line)) {
            return None;
        }
        let before = requests(stage, operator);
        // Longer than a condition rests.
        std::thread::sleep(Duration::from_secs(6));
        (requests(stage, operator) == before).then_some(())
    });
}

/// What an operator asked so far, by verb and resource, but for its Lease, its watches and [`OPTIONAL`] kinds.
fn requests(stage: &Stage, operator: &Operator) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for line in stage.requests_of(operator) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (text(&line["verb"]), text(&line["objectRef"]["resource"]));
        if OPTIONAL.contains(&key.1.as_str()) {
            continue;
        }
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

fn difference(
    after: &BTreeMap<(String, String), usize>,
    before: &BTreeMap<(String, String), usize>,
) -> BTreeMap<(String, String), usize> {
    let grown = |key: &(String, String), count: usize| count - before.get(key).copied().unwrap_or_default();
    after
        .iter()
        .map(|(key, count)| (key.clone(), grown(key, *count)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The process's memory, in the kernel's words.
fn memory(operator: &Operator) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", operator.pid())).unwrap();
    let wanted = ["VmHWM", "VmRSS", "RssAnon"];
    let lines = status
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines.map(|line| line.replace('\t', " ")).collect::<Vec<_>>().join(", ")
}
