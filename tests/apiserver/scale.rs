//! Many Services: what one change costs, and what the operator needs. `--soak` makes it a thousand.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use isthmus_testkit::{soak, wait};
use k8s_openapi::jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::replicas::exposed;
use crate::replicas::stage::{Operator, Stage};

/// KiB of its own that an operator may have after its start, in any build; its program adds less than twenty MiB in a
/// release build, and the bar is 60 MiB.
const HEAP: u64 = 40 << 10;
/// Keys are made at ten a second.
const PATIENCE: Duration = Duration::from_mins(10);
/// Kinds that need not be installed, which the operator asks for from time to time.
const OPTIONAL: [&str; 2] = ["proxyclasses", "servicemonitors"];

#[test]
fn one_change_costs_as_much_among_many_services_as_among_few() {
    let Some(stage) = Stage::start() else { return };
    let counts: &[usize] = if soak::is_asked() {
        &[1, 21, 100, 1000]
    } else {
        &[1, 21, 100]
    };
    let count = counts[counts.len() - 1];
    let namespace = stage.namespace("scale");
    let mut first = stage.operator("scale-a");
    stage.create(&[exposed(&namespace, "web-first")]);
    let mut costs = Vec::new();
    let mut existing = 1;
    for (index, count) in counts.iter().copied().enumerate() {
        let before = requests(&stage, &first);
        let lines = stage.requests_of(&first).len();
        let services: Vec<Value> = (existing..count)
            .map(|number| exposed(&namespace, &format!("web-{number}")))
            .collect();
        if !services.is_empty() {
            stage.create(&services);
        }
        settle(&stage, &first, count);
        let each = difference(&requests(&stage, &first), &before);
        println!("{count} Services, {} of them new: {each:?}", services.len());
        let (all, sets) = spans(&stage.requests_of(&first)[lines..]);
        println!("the last StatefulSet was there after {sets} ms, the last word said after {all} ms");
        println!("memory: {}", Memory::of(&first));
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
    wait::until_within("the second operator to have looked at everything", PATIENCE, || {
        has_looked(&second, count).then_some(())
    });
    println!(
        "start among {count}: {} ms, the bar is seconds",
        begun.elapsed().as_millis()
    );
    settle(&stage, &second, count);
    let start = requests(&stage, &second);
    let memory = Memory::of(&second);
    println!("requests of the start: {start:?}");
    println!("memory among {count}: {memory}, the bar is 60 MiB");
    assert!(
        start.keys().all(|(verb, _)| verb == "get" || verb == "list"),
        "{start:?}"
    );
    let pages: usize = start.values().sum();
    assert!(pages <= 20 + count / 10, "{start:?}");
    assert!(memory.heap <= HEAP, "{memory}");
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
    wait::until_within("the operator to settle", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(500));
        assert!(!operator.has_ended(), "{}", operator.log());
        if !has_looked(operator, count) {
            return None;
        }
        let before = requests(stage, operator);
        // Longer than a condition rests.
        std::thread::sleep(Duration::from_secs(6));
        (requests(stage, operator) == before).then_some(())
    });
}

/// Whether it has seen proxies and conditions of `count` Services and none waits for a look.
fn has_looked(operator: &Operator, count: usize) -> bool {
    let wanted = [
        format!(r#"isthmus_operator_managed{{kind="StatefulSet",state="present"}} {count}"#),
        format!(r#"isthmus_operator_managed{{kind="Service",state="pending"}} {count}"#),
        "isthmus_operator_queue_depth 0".to_owned(),
    ];
    let metrics = operator.metrics().unwrap_or_default();
    wanted.iter().all(|line| metrics.lines().any(|found| found == line))
}

/// Milliseconds from the first to the last of these lines of the audit log, and to the last that is about a StatefulSet.
fn spans(lines: &[Value]) -> (i64, i64) {
    let time = |line: &Value, field: &str| -> Timestamp { line[field].as_str().unwrap().parse().unwrap() };
    let begun = lines.iter().map(|line| time(line, "requestReceivedTimestamp")).min();
    let since = |end: Option<Timestamp>| {
        let span = end.zip(begun).map(|(end, begun)| end.duration_since(begun).as_millis());
        span.map_or(0, |span| i64::try_from(span).unwrap())
    };
    let ends = |line: &Value| time(line, "stageTimestamp");
    let of_sets = lines
        .iter()
        .filter(|line| line["objectRef"]["resource"] == "statefulsets");
    (since(lines.iter().map(ends).max()), since(of_sets.map(ends).max()))
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

/// The memory of a process, in KiB.
struct Memory {
    /// What is its own.
    heap: u64,
    /// With the pages of its program.
    resident: u64,
    /// The most it ever had.
    peak: u64,
}

impl Memory {
    fn of(operator: &Operator) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", operator.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':')
                .trim()
                .trim_end_matches(" kB")
                .parse()
                .unwrap()
        };
        Self {
            heap: field("RssAnon"),
            resident: field("VmRSS"),
            peak: field("VmHWM"),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { heap, resident, peak } = self;
        write!(
            formatter,
            "heap {heap} KiB, resident {resident} KiB, at most {peak} KiB"
        )
    }
}
