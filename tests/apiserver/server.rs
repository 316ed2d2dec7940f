//! The API server of this tier itself.

use std::net::{SocketAddr, TcpStream};
use std::process::Output;
use std::time::Duration;

use isthmus_cluster::ApiServer;
use isthmus_testkit::cluster::print_progress;
use isthmus_testkit::{apiserver, require, wait};

fn kubectl(server: &ApiServer, args: &[&str]) -> Output {
    server.kubectl().args(args).output().unwrap()
}

/// The address in the kubeconfig's `server: https://ADDRESS`.
fn address(server: &ApiServer) -> SocketAddr {
    let kubeconfig = std::fs::read_to_string(server.kubeconfig()).unwrap();
    kubeconfig
        .split_once("https://")
        .unwrap()
        .1
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn administrator_may_write_and_the_audit_log_has_it() {
    let Some(server) = apiserver::shared() else { return };
    let created = kubectl(server, &["create", "namespace", "audit-log-has-it"]);
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let log = std::fs::read_to_string(server.audit_log()).unwrap();
    assert!(
        log.lines()
            .any(|line| line.contains("audit-log-has-it") && line.contains(r#""verb":"create""#))
    );
}

#[test]
fn stranger_is_refused() {
    let Some(server) = apiserver::shared() else { return };
    let answer = kubectl(
        server,
        &[
            "auth",
            "can-i",
            "create",
            "pods",
            "--as",
            "system:serviceaccount:default:stranger",
        ],
    );
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "no");
}

#[test]
fn dropped_server_does_not_listen_any_more() {
    if !(require::program("go") && require::program("setpriv")) {
        return;
    }
    let server = ApiServer::start(&print_progress).unwrap();
    let address = address(&server);
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("the server listens");
    drop(server);
    wait::until("the port to be closed", || {
        TcpStream::connect(address).is_err().then_some(())
    });
}
