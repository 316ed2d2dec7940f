//! The network of the cluster: names, both families, and cables that are pulled.

use std::process::Command;

use isthmus_cluster::{Cluster, ClusterSpec, target_folder};
use isthmus_testkit::cluster::{TestNamespace, can_run_cluster, hostile, print_progress, shared};
use isthmus_testkit::world::World;
use isthmus_testkit::{wait, workload};

/// A Pod with a web server on one node, and a Service of both families in front of it.
fn web_server(name: &str, node: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: {}
    imagePullPolicy: Never
    args: [sh, -c, 'echo page of {name} > /www/index.html; exec httpd -f -p 80 -h /www']
    readinessProbe: {{httpGet: {{port: 80}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {{app: {name}}}
  ports: [{{port: 80}}]
",
        workload::IMAGE
    )
}

/// A namespace with the web server `one` on node n1 and `two` on node n2.
fn two_servers(test: &str) -> Option<TestNamespace> {
    let shared = shared()?;
    shared.cluster().load(&workload::write_image().unwrap()).unwrap();
    let namespace = shared.namespace(test);
    namespace.apply(&format!("{}---\n{}", web_server("one", "n1"), web_server("two", "n2")));
    namespace.wait_for("pod/one", "Ready");
    namespace.wait_for("pod/two", "Ready");
    Some(namespace)
}

/// What `one` gets from a URL, once it gets anything.
fn fetch(namespace: &TestNamespace, url: &str) -> String {
    wait::until(&format!("an answer of {url}"), || {
        namespace.exec("one", &["curl", "-sS", "-m", "3", url]).ok()
    })
}

#[test]
fn pods_on_two_nodes_reach_each_other_by_both_families() {
    let Some(namespace) = two_servers("pods_reach_each_other") else {
        return;
    };
    let addresses = namespace.run(&["get", "pod", "two", "-o", "jsonpath={.status.podIPs[*].ip}"]);
    let addresses: Vec<&str> = addresses.split(' ').collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    assert_eq!(fetch(&namespace, &format!("http://{}/", addresses[0])), "page of two\n");
    assert_eq!(
        fetch(&namespace, &format!("http://[{}]/", addresses[1])),
        "page of two\n"
    );
}

#[test]
fn services_answer_by_name_by_both_families() {
    let Some(namespace) = two_servers("services_answer_by_name") else {
        return;
    };
    let name = format!("two.{}.svc.cluster.local", namespace.name());
    assert_eq!(fetch(&namespace, &format!("http://{name}/")), "page of two\n");
    let addresses = namespace.run(&["get", "service", "two", "-o", "jsonpath={.spec.clusterIPs[*]}"]);
    let ipv6 = addresses.split(' ').find(|address| address.contains(':')).unwrap();
    assert_eq!(fetch(&namespace, &format!("http://[{ipv6}]/")), "page of two\n");
    let found = namespace.exec("one", &["nslookup", "-type=a", &name]).unwrap();
    assert!(found.contains(addresses.split(' ').next().unwrap()), "{found}");
}

#[test]
fn hostile_profile_has_another_domain_and_pods_without_forwarding() {
    let Some(hostile) = hostile() else { return };
    // Tests with a world may take the API server away meanwhile.
    let _world = World::around(hostile.cluster());
    hostile.cluster().load(&workload::write_image().unwrap()).unwrap();
    let namespace = hostile.namespace("hostile_profile");
    namespace.apply(&web_server("one", "n1"));
    namespace.wait_for("pod/one", "Ready");
    let name = format!("one.{}.svc.corp.internal", namespace.name());
    assert_eq!(fetch(&namespace, &format!("http://{name}/")), "page of one\n");
    assert_eq!(
        namespace
            .exec("one", &["cat", "/proc/sys/net/ipv4/ip_forward"])
            .unwrap(),
        "0\n"
    );
}

#[test]
fn cut_node_is_unreachable_until_it_is_healed() {
    if !can_run_cluster() {
        return;
    }
    let spec = ClusterSpec::in_free_slot(&target_folder().join("cluster-cut")).unwrap();
    let mut cluster = Cluster::up(&spec, &print_progress).unwrap_or_else(|error| panic!("{error:#}"));
    let n2 = spec.addressing().node(2).to_string();
    let reaches = || ping(&cluster, &n2);
    assert!(reaches(), "n1 reaches n2 before the cut");
    cluster.cut("n2").unwrap();
    wait::until("n2 to be unreachable", || (!reaches()).then_some(()));
    cluster.heal("n2").unwrap();
    wait::until("n2 to be reachable again", || reaches().then_some(()));
    assert!(cluster.cut("n9").unwrap_err().to_string().contains("n1 to n2"));
    cluster.down().unwrap();
}

/// Whether node n1 opens a connection to the kubelet at this address.
fn ping(cluster: &Cluster, address: &str) -> bool {
    let mut command: Command = cluster.node_exec("n1").unwrap();
    command
        .args([
            "curl",
            "-sk",
            "-m",
            "2",
            "-o",
            "/dev/null",
            &format!("https://{address}:10250/"),
        ])
        .status()
        .unwrap()
        .success()
}
