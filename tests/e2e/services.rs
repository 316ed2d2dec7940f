//! What Services ask for, from `kubectl apply` to the bytes that flow: load balancers, aliases, devices by name.

use std::process::{Command, Stdio};

use isthmus_testkit::cluster::{SharedCluster, hostile, shared};
use isthmus_testkit::wait;
use isthmus_testkit::world::Host;
use serde_json::Value;

use crate::stage::{PATIENCE, Stage};

mod ipv6;

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

/// A stage with the measuring server and a client.
fn stage(cluster: Option<&'static SharedCluster>, test: &str) -> Option<Stage> {
    let stage = Stage::on(cluster, test)?;
    stage.run_client();
    stage.run_pods(SERVER, &["iperf"]);
    Some(stage)
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
    let Some(stage) = stage(shared(), "load_balancer") else {
        return;
    };
    let operator = stage.install_operator();
    let laptop = &stage.laptop.host;
    stage.namespace.apply(BALANCER);
    let cluster_ip = stage.service("web")["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert_eq!(
        datagrams(laptop, &cluster_ip),
        None,
        "the laptop has a way in without the tailnet"
    );
    let service = stage.wait_for("web", "ProxyCreated", "is on the tailnet as");
    let entries = &service["status"]["loadBalancer"]["ingress"];
    let device = stage.device("web");
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
    let log = operator.log();
    wait::until(&format!("the Service to be nobody's: {log}"), || {
        stage.service("web")["metadata"]["finalizers"].is_null().then_some(())
    });
    assert_eq!(datagrams(laptop, &address), None);
}

#[test]
fn database_outside_the_cluster_is_reached_by_an_alias() {
    let Some(stage) = stage(shared(), "database") else {
        return;
    };
    let _operator = stage.install_operator();
    let database = stage.world.host("database", 4);
    let _server = stage.serve(&database, "rows of the database\n");
    // The laptop is cut off from the database, which only the cluster reaches.
    stage
        .laptop
        .host
        .namespace
        .ip(&format!("route add blackhole {}/32", database.address));
    assert_eq!(stage.fetch(&database.address), None);
    let manifest = DATABASE.replace("ADDRESS", &database.address);
    stage
        .namespace
        .apply(&manifest.replace("NAMESPACE", stage.namespace.name()));
    let address = stage.wait_until_ready("web");
    assert_eq!(stage.fetch(&address).as_deref(), Some("rows of the database\n"));

    let invalid = r#"{"spec":{"externalName":"localhost"}}"#;
    stage
        .namespace
        .run(&["patch", "service", "web", "--type=merge", "-p", invalid]);
    stage.wait_for("web", "ProxyInvalid", "spec.externalName: `localhost`");
    let still = stage.fetch(&address);
    assert_eq!(still.as_deref(), Some("rows of the database\n"), "what worked stays");
}

#[test]
fn device_is_reached_by_its_name_as_soon_as_it_is_there_also_in_a_cluster_with_another_domain() {
    let Some(stage) = stage(hostile(), "by_name") else {
        return;
    };
    let operator = stage.install_operator();
    let devices = stage.tailnet.devices().unwrap();
    let (_, domain) = devices[0]["name"].as_str().unwrap().split_once('.').unwrap();
    stage.namespace.apply(&DEVICE.replace("DOMAIN", domain));
    stage.wait_for("web", "ProxyPending", &format!("database.{domain}"));
    let alias = stage.get("service/web", ".spec.externalName");
    assert!(alias.ends_with(".isthmus.svc.corp.internal"), "{alias}");
    let proxy = || operator.pod("web")["metadata"]["uid"].clone();
    let (before, url) = (proxy(), format!("http://web.{}/", stage.namespace.name()));
    assert_eq!(stage.ask(&url), None, "nobody is there yet");

    let member = stage.tailnet.join(stage.world.host("database", 4), "database").unwrap();
    let _server = stage.serve(&member.host, "rows of the device\n");
    stage.wait_for("web", "ProxyCreated", "is on the tailnet as");
    wait::until("the rows", || {
        (stage.ask(&url).as_deref() == Some("rows of the device\n")).then_some(())
    });
    assert_eq!(
        stage.ask(&format!("http://{}/", member.address)),
        None,
        "Pods have a way around the proxy"
    );
    assert_eq!(proxy(), before, "the proxy was started anew");
}
