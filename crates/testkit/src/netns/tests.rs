use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use super::Net;

fn current_namespace() -> String {
    fs::read_link("/proc/thread-self/ns/net").unwrap().display().to_string()
}

#[test]
fn linked_namespaces_reach_each_other_and_nothing_else() {
    crate::isolate!();
    let net = Net::new("linked");
    let (a, b, lone) = (net.namespace("a"), net.namespace("b"), net.namespace("lone"));
    net.link(
        &a,
        "eth0",
        &["10.0.0.1/24", "fd00::1/64"],
        &b,
        "eth0",
        &["10.0.0.2/24", "fd00::2/64"],
    );
    a.check("ping -c 1 -W 5 10.0.0.2");
    a.check("ping -c 1 -W 5 fd00::2");
    assert!(!lone.run("ping -c 1 -W 1 10.0.0.2").status.success());
}

#[test]
fn switch_connects_every_plugged_namespace() {
    crate::isolate!();
    let net = Net::new("switched");
    let switch = net.switch("lan");
    let hosts: Vec<_> = (1..=3).map(|n| net.namespace(&format!("host{n}"))).collect();
    for (n, host) in (1..).zip(&hosts) {
        net.plug(&switch, host, "eth0", &[&format!("10.0.0.{n}/24")]);
    }
    hosts[0].check("ping -c 1 -W 5 10.0.0.3");
    hosts[2].check("ping -c 1 -W 5 10.0.0.2");
}

#[test]
fn caller_keeps_its_namespace_when_the_closure_panics() {
    crate::isolate!();
    let before = current_namespace();
    let namespace = Net::new("panic").namespace("inside");
    assert_ne!(namespace.enter(current_namespace), before);
    let outcome = catch_unwind(AssertUnwindSafe(|| namespace.enter(|| panic!("on purpose"))));
    assert!(outcome.is_err());
    assert_eq!(current_namespace(), before);
}

#[test]
fn process_is_gone_when_its_handle_is_dropped() {
    crate::isolate!();
    let namespace = Net::new("drop").namespace("inside");
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let process = namespace.spawn(sleep);
    let proc_entry = format!("/proc/{}", process.id());
    assert!(fs::exists(&proc_entry).unwrap());
    drop(process);
    assert!(!fs::exists(&proc_entry).unwrap());
}

#[test]
fn sysctl_changes_only_its_own_namespace() {
    crate::isolate!();
    let net = Net::new("sysctl");
    let (a, b) = (net.namespace("a"), net.namespace("b"));
    a.sysctl("net.ipv4.ip_forward", "1");
    b.sysctl("net.ipv4.ip_forward", "0");
    assert_eq!(a.check("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
    assert_eq!(b.check("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");
}
