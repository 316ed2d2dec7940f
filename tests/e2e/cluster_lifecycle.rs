//! Coming up, going down, and what happens when that is disturbed.
//!
//! These tests have a cluster of their own, in a slot of its own, and use it one after the other.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use isthmus_cluster::{Cluster, ClusterSpec, Status, target_folder};
use isthmus_testkit::cluster::{can_run_cluster, print_progress};
use isthmus_testkit::wait;

/// Set for the copy of this test program that is killed while it brings a cluster up.
const VICTIM: &str = "ISTHMUS_TEST_VICTIM";

/// The cluster of these tests, held by one test at a time and taken down at its end.
struct Own {
    spec: ClusterSpec,
    _turn: MutexGuard<'static, ()>,
}

impl Own {
    fn take() -> Option<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        can_run_cluster().then(|| Self {
            spec: ClusterSpec::in_free_slot(&state_folder()).unwrap(),
            _turn: turn,
        })
    }

    fn up(&self) -> Cluster {
        Cluster::up(&self.spec, &print_progress).unwrap_or_else(|error| panic!("{error:#}"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        Cluster::handle(&self.spec).down().unwrap();
    }
}

fn state_folder() -> PathBuf {
    target_folder().join("cluster-lifecycle")
}

/// Everything on the machine that carries the cluster's name or has one of its files open as its program.
fn leftovers(spec: &ClusterSpec) -> BTreeSet<String> {
    let name = spec.name();
    let state = spec.state.display().to_string();
    let ours = |text: &str| text.contains(&format!("{name}-")) || text.contains(&state);
    let mut found = BTreeSet::new();
    for folder in ["/run/netns", "/sys/class/net"]
        .map(PathBuf::from)
        .into_iter()
        .chain(cgroup_hierarchies())
    {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        found.extend(
            entries
                .map(|entry| entry.path().display().to_string())
                .filter(|path| ours(path)),
        );
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| ours(line)).map(str::to_owned));
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains(&state) {
            found.insert(format!("process {}", line.replace('\0', " ")));
        }
    }
    found
}

fn cgroup_hierarchies() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
}

fn pids(spec: &ClusterSpec) -> String {
    fs::read_to_string(spec.state.join("cluster.json")).unwrap()
}

#[test]
fn second_up_changes_nothing() {
    let Some(own) = Own::take() else { return };
    let first = own.up();
    let before = pids(&own.spec);
    let second = own.up();
    assert_eq!(second.status().unwrap(), Status::Up);
    assert_eq!(pids(&own.spec), before);
    assert!(first.kubectl().args(["get", "nodes"]).status().unwrap().success());
}

#[test]
fn down_leaves_no_process_namespace_mount_or_cgroup() {
    let Some(own) = Own::take() else { return };
    let mut cluster = own.up();
    assert!(
        !leftovers(&own.spec).is_empty(),
        "a running cluster is seen by this test"
    );
    let kubeconfig = cluster.kubeconfig();
    cluster.down().unwrap();
    assert_eq!(leftovers(&own.spec), BTreeSet::new());
    assert!(!kubeconfig.exists());
    assert_eq!(cluster.status().unwrap(), Status::Down);
}

#[test]
fn cluster_outlives_its_starter_and_another_process_ends_it() {
    let Some(own) = Own::take() else { return };
    drop(own.up());
    let mut cluster = Cluster::handle(&own.spec);
    assert_eq!(cluster.status().unwrap(), Status::Up);
    cluster.down().unwrap();
    assert_eq!(cluster.status().unwrap(), Status::Down);
}

#[test]
fn what_a_killed_run_left_is_recognised_and_cleared() {
    if std::env::var_os(VICTIM).is_some() {
        let spec = ClusterSpec::in_free_slot(&state_folder()).unwrap();
        Cluster::up(&spec, &print_progress).unwrap();
        return;
    }
    let Some(own) = Own::take() else { return };
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "cluster_lifecycle::what_a_killed_run_left_is_recognised_and_cleared",
        ])
        .env(VICTIM, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let audit_log = Cluster::handle(&own.spec).audit_log();
    wait::until("the killed run to have started an API server", || {
        audit_log.exists().then_some(())
    });
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert_eq!(Cluster::handle(&own.spec).status().unwrap(), Status::LeftOver);
    let cluster = own.up();
    assert_eq!(cluster.status().unwrap(), Status::Up);
}

#[test]
fn failed_up_names_the_component_shows_its_log_and_leaves_nothing() {
    let Some(own) = Own::take() else { return };
    let port = own.spec.addressing().etcd_port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let error = format!("{:#}", Cluster::up(&own.spec, &print_progress).unwrap_err());
    assert!(
        error.contains("etcd") && error.contains("address already in use"),
        "{error}"
    );
    assert_eq!(leftovers(&own.spec), BTreeSet::new());
}

#[test]
fn cluster_with_a_dead_component_is_reported_broken_and_started_anew() {
    let Some(own) = Own::take() else { return };
    let cluster = own.up();
    let record: serde_json::Value = serde_json::from_str(&pids(&own.spec)).unwrap();
    let scheduler = record["daemons"]
        .as_array()
        .unwrap()
        .iter()
        .find(|daemon| daemon["name"] == "kube-scheduler")
        .unwrap();
    assert!(
        Command::new("kill")
            .args(["-9", &scheduler["pid"].to_string()])
            .status()
            .unwrap()
            .success()
    );
    wait::until("the cluster to be reported broken", || {
        (cluster.status().unwrap() == Status::Broken(vec!["kube-scheduler".to_owned()])).then_some(())
    });
    assert_eq!(own.up().status().unwrap(), Status::Up);
}
