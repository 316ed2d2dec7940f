//! What Services ask for, from `kubectl apply` to the bytes that flow: load balancers, aliases, devices by name.

use std::process::{Command, Stdio};
use std::time::Duration;

use isthmus_testkit::cluster::{SharedCluster, TestNamespace, shared};
use isthmus_testkit::netns::Process;
use isthmus_testkit::tailnet::{Member, Tailnet};
use isthmus_testkit::world::{Host, World};
use isthmus_testkit::{binary, wait, workload};
use serde_json::Value;

use crate::operator::{Installed, fetch};

mod ipv6;

/// How long a proxy may take from the Service to its first byte, image and login included.
const PATIENCE: Duration = Duration::from_secs(90);

/// A Pod that measures throughput.
const SERVER: &str = "apiVersion: v1
kind: Pod
metadata:
  name: iperf
  labels: {app: iperf}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: iperf
    image: IMAGE
    imagePullPolicy: Never
    args: [sh, -c, 'exec iperf3 -s']
    readinessProbe: {tcpSocket: {port: 5201}, periodSeconds: 1}
";

/// One control connection by TCP, measured datagrams by UDP, both on one port.
const BALANCER: &str = "apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: LoadBalancer
  loadBalancerClass: tailscale
  selector: {app: iperf}
  ports:
  - {name: control, port: 5201, protocol: TCP}
  - {name: data, port: 5201, protocol: UDP}
";

/// A database somewhere else, under a name that the cluster resolves.
const DATABASE: &str = "apiVersion: v1
kind: Service
metadata:
  name: origin
spec:
  clusterIP: None
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: origin
  labels: {kubernetes.io/service-name: origin}
addressType: IPv4
endpoints:
- addresses: ['ADDRESS']
---
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {tailscale.com/expose: 'true'}
spec:
  type: ExternalName
  externalName: origin.NAMESPACE.svc.cluster.local
  ports: [{port: 80}]
";

/// A device that is not there yet.
const DEVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {tailscale.com/tailnet-fqdn: 'Database.DOMAIN.'}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
";

/// The last to go is the world, after everything that runs in it.
struct Stage {
    operator: Installed,
    namespace: TestNamespace,
    laptop: Member,
    tailnet: Tailnet,
    world: World,
    folder: tempfile::TempDir,
}

fn stage(test: &str) -> Option<Stage> {
    let shared: &'static SharedCluster = shared()?;
    shared.load_isthmus();
    shared.cluster().load(&workload::write_image().unwrap()).unwrap();
    let namespace = shared.namespace(test);
    namespace.apply(&SERVER.replace("IMAGE", workload::IMAGE));
    namespace.apply(&workload::client_pod());
    let folder = tempfile::tempdir().unwrap();
    let world = World::around(shared.cluster());
    let tailnet = Tailnet::start(world.host("tailnet", 2), binary::isthmus(), folder.path()).unwrap();
    let laptop = tailnet.join(world.host("laptop", 3), "laptop").unwrap();
    let operator = Installed::new(shared, &namespace, &tailnet);
    namespace.wait_for("pod/iperf", "Ready");
    namespace.wait_for("pod/client", "Ready");
    Some(Stage {
        operator,
        namespace,
        laptop,
        tailnet,
        world,
        folder,
    })
}

impl Stage {
    fn service(&self) -> Value {
        serde_json::from_str(&self.namespace.run(&["get", "service", "web", "-o", "json"])).unwrap()
    }

    /// Waits for the condition to have this reason and to say `words`.
    fn wait_for(&self, reason: &str, words: &str) -> Value {
        wait::until_within(&format!("{reason} with {words:?}"), PATIENCE, || {
            let service = self.service();
            let condition = &service["status"]["conditions"][0];
            let says = condition["message"]
                .as_str()
                .is_some_and(|message| message.contains(words));
            (condition["reason"] == reason && says).then_some(service)
        })
    }

    /// What a Pod gets from a URL, if anything.
    fn ask(&self, url: &str) -> Option<String> {
        self.namespace.exec("client", &["curl", "-sSf", "-m", "3", url]).ok()
    }

    /// A web server on a host of its own, whose page names it.
    fn server(&self, host: &Host, text: &str) -> Process {
        let pages = self.folder.path().join(host.address.as_str());
        std::fs::create_dir_all(&pages).unwrap();
        std::fs::write(pages.join("index.html"), text).unwrap();
        let mut server = Command::new("busybox");
        server.args(["httpd", "-f", "-p", "80", "-h"]).arg(pages);
        host.namespace.spawn(server)
    }
}

/// Datagrams that arrived of a short measurement by UDP, or nothing when there was no answer.
fn datagrams(host: &Host, address: &str) -> Option<u64> {
    let mut iperf = Command::new("timeout");
    iperf.args([
        "8",
        "iperf3",
        "--json",
        "-u",
        "-b",
        "1M",
        "-l",
        "1000",
        "-k",
        "50",
        "--connect-timeout",
        "3000",
        "-c",
    ]);
    iperf.arg(address).stdout(Stdio::piped());
    let output = host.namespace.spawn(iperf).output();
    let report: Value = serde_json::from_slice(&output.stdout).ok()?;
    let sum = &report["end"]["sum"];
    Some(sum["packets"].as_u64()? - sum["lost_packets"].as_u64()?)
}

#[test]
fn load_balancer_carries_tcp_and_udp_and_says_where_it_is() {
    let Some(stage) = stage("load_balancer") else { return };
    let laptop = &stage.laptop.host;
    stage.namespace.apply(BALANCER);
    let cluster_ip = stage.service()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert_eq!(
        datagrams(laptop, &cluster_ip),
        None,
        "the laptop has a way in without the tailnet"
    );
    let service = stage.wait_for("ProxyCreated", "is on the tailnet as");
    let entries = &service["status"]["loadBalancer"]["ingress"];
    let device = format!("{}-web", stage.namespace.name());
    let address = stage.tailnet.address_of(&device).unwrap().expect("the device exists");
    assert!(
        entries[0]["hostname"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{device}.")),
        "{entries}"
    );
    assert_eq!(
        (&entries[1]["ip"], &entries[1]["ipMode"]),
        (&Value::from(address.as_str()), &Value::from("Proxy"))
    );
    assert_eq!(datagrams(laptop, &address), Some(50));

    let without_udp = r#"[{"op": "remove", "path": "/spec/ports/1"}]"#;
    stage
        .namespace
        .run(&["patch", "service", "web", "--type=json", "-p", without_udp]);
    wait::until("the port of the datagrams to be closed", || {
        (datagrams(laptop, &address).unwrap_or(0) == 0).then_some(())
    });
    let classless = r#"{"spec":{"type":"ClusterIP","loadBalancerClass":null}}"#;
    stage
        .namespace
        .run(&["patch", "service", "web", "--type=merge", "-p", classless]);
    wait::until_within("the device to be gone", PATIENCE, || {
        stage.tailnet.address_of(&device).unwrap().is_none().then_some(())
    });
    let log = stage.operator.log();
    wait::until(&format!("the Service to be nobody's: {log}"), || {
        stage.service()["metadata"]["finalizers"].is_null().then_some(())
    });
    assert_eq!(datagrams(laptop, &address), None);
}

#[test]
fn database_outside_the_cluster_is_reached_by_an_alias() {
    let Some(stage) = stage("database") else { return };
    let database = stage.world.host("database", 4);
    let _server = stage.server(&database, "rows of the database\n");
    // The laptop is cut off from the database, which only the cluster reaches.
    stage
        .laptop
        .host
        .namespace
        .ip(&format!("route add blackhole {}/32", database.address));
    assert_eq!(fetch(&stage.laptop.host, &database.address), None);
    let manifest = DATABASE.replace("ADDRESS", &database.address);
    stage
        .namespace
        .apply(&manifest.replace("NAMESPACE", stage.namespace.name()));
    stage.wait_for("ProxyCreated", "is on the tailnet as");
    let device = format!("{}-web", stage.namespace.name());
    let address = stage.tailnet.address_of(&device).unwrap().expect("the device exists");
    assert_eq!(
        fetch(&stage.laptop.host, &address).as_deref(),
        Some("rows of the database\n")
    );

    let invalid = r#"{"spec":{"externalName":"localhost"}}"#;
    stage
        .namespace
        .run(&["patch", "service", "web", "--type=merge", "-p", invalid]);
    stage.wait_for("ProxyInvalid", "spec.externalName: `localhost`");
    let still = fetch(&stage.laptop.host, &address);
    assert_eq!(still.as_deref(), Some("rows of the database\n"), "what worked stays");
}

#[test]
fn device_is_reached_by_its_name_as_soon_as_it_is_there() {
    let Some(stage) = stage("by_name") else { return };
    let devices = stage.tailnet.devices().unwrap();
    let (_, domain) = devices[0]["name"].as_str().unwrap().split_once('.').unwrap();
    stage.namespace.apply(&DEVICE.replace("DOMAIN", domain));
    stage.wait_for("ProxyPending", &format!("database.{domain}"));
    let proxy = || {
        let selector = format!("tailscale.com/parent-resource-ns={}", stage.namespace.name());
        stage.namespace.run(&[
            "get",
            "pods",
            "-n",
            "isthmus",
            "-l",
            &selector,
            "-o",
            "jsonpath={.items[*].metadata.uid}",
        ])
    };
    let (before, url) = (proxy(), format!("http://web.{}/", stage.namespace.name()));
    let ask = |url: &str| stage.ask(url);
    assert_eq!(ask(&url), None, "nobody is there yet");

    let member = stage.tailnet.join(stage.world.host("database", 4), "database").unwrap();
    let _server = stage.server(&member.host, "rows of the device\n");
    stage.wait_for("ProxyCreated", "is on the tailnet as");
    wait::until("the rows", || {
        (ask(&url).as_deref() == Some("rows of the device\n")).then_some(())
    });
    assert_eq!(
        ask(&format!("http://{}/", member.address)),
        None,
        "Pods have a way around the proxy"
    );
    assert_eq!(proxy(), before, "the proxy was started anew");
}
