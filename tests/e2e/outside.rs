//! The network outside the cluster, on which everything else stands: Pods get out, nothing gets in.

use std::path::Path;
use std::process::Command;

use isthmus_testkit::cluster::{TestNamespace, shared};
use isthmus_testkit::netns::Process;
use isthmus_testkit::world::{Host, World};
use isthmus_testkit::{wait, workload};

const SLEEPER: &str = "apiVersion: v1
kind: Pod
metadata:
  name: pod
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: IMAGE
    imagePullPolicy: Never
    args: [httpd, -f, -p, '80', -h, /etc]
    readinessProbe: {httpGet: {path: /passwd, port: 80}, periodSeconds: 1}
";

/// A web server on a host whose page says who asked.
fn serve_who_asked(host: &Host, folder: &Path) -> Process {
    let script = folder.join("cgi-bin/who");
    std::fs::create_dir(folder.join("cgi-bin")).unwrap();
    std::fs::write(&script, "#!/bin/sh\necho\necho $REMOTE_ADDR\n").unwrap();
    Command::new("chmod").arg("755").arg(&script).status().unwrap();
    let mut server = Command::new("busybox");
    server.args(["httpd", "-f", "-p", "0.0.0.0:80", "-h"]).arg(folder);
    host.namespace.spawn(server)
}

fn ask(namespace: &TestNamespace, url: &str) -> String {
    wait::until(&format!("an answer of {url}"), || {
        namespace.exec("pod", &["curl", "-sSf", "-m", "3", url]).ok()
    })
}

#[test]
fn pods_get_out_under_the_routers_address_and_nothing_outside_has_a_way_in() {
    let Some(shared) = shared() else { return };
    shared.cluster().load(&workload::write_image().unwrap()).unwrap();
    let world = World::around(shared.cluster());
    let laptop = world.host("laptop", 3);
    let pages = tempfile::tempdir().unwrap();
    let _server = serve_who_asked(&laptop, pages.path());
    let namespace = shared.namespace("pods_get_out");
    namespace.apply(&SLEEPER.replace("IMAGE", workload::IMAGE));
    namespace.wait_for("pod/pod", "Ready");
    assert_eq!(ask(&namespace, "http://203.0.113.3/cgi-bin/who").trim(), "203.0.113.1");

    let pod = namespace.run(&["get", "pod", "pod", "-o", "jsonpath={.status.podIP}"]);
    let net = shared.cluster().spec().addressing();
    for address in [
        pod,
        net.kubernetes_service().to_string(),
        net.node(1).to_string(),
        net.host().to_string(),
    ] {
        let output = laptop.namespace.run(&format!("curl -sS -m 3 http://{address}/passwd"));
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains("Couldn't connect"), "{address}: {complaint}");
    }
}
