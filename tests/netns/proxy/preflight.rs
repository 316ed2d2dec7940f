//! What a proxy says when it lacks a right: one line, with what to grant.
//!
//! Rights are taken from a whole process, so each test runs itself again behind a program that takes one.

use std::env;
use std::process::Command;

use isthmus_testkit::{isolate, require};

/// Set in the second run.
const INSIDE: &str = "ISTHMUS_TEST_PREFLIGHT";

/// What the check of rights says in this process.
fn say() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(isthmus_proxy::check_rights());
    eprintln!(
        "verdict: {}",
        outcome.map_or_else(|error| error.to_string(), |()| "nothing is missing".to_owned())
    );
}

/// Runs `test` again behind `taker`; its verdict. None: the taker is missing, which was said.
fn verdict(test: &str, taker: &[&str]) -> Option<String> {
    if !require::program(taker[0]) {
        return None;
    }
    let output = Command::new(taker[0])
        .args(&taker[1..])
        .arg(env::current_exe().unwrap())
        .args([&format!("proxy::preflight::{test}"), "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("verdict: "));
    assert!(line.is_some(), "no verdict: {said}");
    line.map(str::to_owned)
}

fn is_inside() -> bool {
    let inside = env::var_os(INSIDE).is_some();
    if inside {
        say();
    }
    inside
}

#[test]
fn nothing_is_missing_with_net_admin_and_the_tun_device() {
    isolate!();
    if is_inside() || !std::fs::exists("/dev/net/tun").unwrap() {
        return;
    }
    let said = verdict("nothing_is_missing_with_net_admin_and_the_tun_device", &["env"]);
    assert_eq!(said.as_deref(), Some("nothing is missing"));
}

#[test]
fn missing_net_admin_is_named_with_its_security_context() {
    isolate!();
    if is_inside() {
        return;
    }
    let taker = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    if let Some(said) = verdict("missing_net_admin_is_named_with_its_security_context", &taker) {
        assert!(
            said.starts_with("cannot change the Pod's network: grant the container NET_ADMIN"),
            "{said}"
        );
        assert!(said.contains("capabilities: {drop: [ALL], add: [NET_ADMIN]}"), "{said}");
    }
}

#[test]
fn missing_tun_device_is_named_with_its_volume() {
    isolate!();
    if is_inside() {
        return;
    }
    let hide = "mount -t tmpfs tmpfs /dev/net && exec \"$0\" \"$@\"";
    if let Some(said) = verdict(
        "missing_tun_device_is_named_with_its_volume",
        &["unshare", "-m", "sh", "-c", hide],
    ) {
        let wanted =
            "cannot find /dev/net/tun: mount it into the container (hostPath: {path: /dev/net/tun, type: CharDevice})";
        assert_eq!(said, wanted);
    }
}

#[test]
fn tun_device_that_the_runtime_forbids_is_named_with_the_runtime() {
    isolate!();
    if is_inside() {
        return;
    }
    // A filesystem without devices refuses to open them as the runtime's rules do.
    let forbid = "mount -t tmpfs -o nodev tmpfs /dev/net && mknod /dev/net/tun c 10 200 && exec \"$0\" \"$@\"";
    let test = "tun_device_that_the_runtime_forbids_is_named_with_the_runtime";
    if let Some(said) = verdict(test, &["unshare", "-m", "sh", "-c", forbid]) {
        assert!(
            said.starts_with("cannot open /dev/net/tun: the container runtime forbids it"),
            "{said}"
        );
        assert!(said.contains("use runc 1.2.4 or later"), "{said}");
    }
}
