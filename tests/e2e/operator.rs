//! The operator on the real cluster, from `kubectl apply` to a Service that is gone without a trace.

use std::process::{Command, Stdio};

use isthmus_cluster::workspace_folder;
use isthmus_testkit::cluster::{SharedCluster, TestNamespace, shared};
use isthmus_testkit::tailnet::Tailnet;
use isthmus_testkit::world::{Host, World};
use isthmus_testkit::{binary, wait, workload};
use serde_json::Value;

pub(crate) const WEB: &str = "apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: IMAGE
    imagePullPolicy: Never
    args: [sh, -c, 'echo from the cluster > /www/index.html; exec httpd -f -p 80 -h /www']
    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {tailscale.com/expose: 'true'}
spec:
  selector: {app: web}
  ports: [{port: 80}]
";

/// The operator in the cluster; it is removed at the end, also of a test that fails.
pub(crate) struct Installed {
    shared: &'static SharedCluster,
    /// Where its Services are.
    namespace: String,
}

impl Installed {
    pub(crate) fn new(shared: &'static SharedCluster, namespace: &TestNamespace, tailnet: &Tailnet) -> Self {
        let installed = Self {
            shared,
            namespace: namespace.name().to_owned(),
        };
        installed.kubectl(&["apply", "-f", &folder("deploy/crds"), "-f", &folder("deploy/manifests")]);
        let server = format!("--from-literal=login-server={}", tailnet.login_server());
        installed.kubectl(&["-n", "isthmus", "create", "configmap", "operator", &server]);
        let id = format!("--from-literal=client_id={}", tailnet.client_id());
        let secret = format!("--from-literal=client_secret={}", tailnet.client_secret());
        installed.kubectl(&[
            "-n",
            "isthmus",
            "create",
            "secret",
            "generic",
            "operator-oauth",
            &id,
            &secret,
        ]);
        installed.rolled_out();
        installed
    }

    fn rolled_out(&self) {
        self.kubectl(&[
            "-n",
            "isthmus",
            "rollout",
            "status",
            "deployment/operator",
            "--timeout=90s",
        ]);
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.shared.cluster().kubectl().args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {error}\n{}",
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        let mut kubectl = self.shared.cluster().kubectl();
        kubectl.args(["-n", "isthmus", "logs", "deployment/operator", "--tail=40"]);
        String::from_utf8_lossy(&kubectl.output().unwrap().stdout).into_owned()
    }

    /// What is left of proxies, in the words of kubectl.
    fn proxies(&self) -> String {
        let kinds = "pods,statefulsets,services,secrets,serviceaccounts,roles,rolebindings";
        self.kubectl(&[
            "-n",
            "isthmus",
            "get",
            kinds,
            "-l",
            "tailscale.com/managed=true",
            "-o",
            "name",
        ])
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let delete = |arguments: &[&str]| {
            let mut kubectl = self.shared.cluster().kubectl();
            // What is gone already cannot be deleted, and the rest shows in the next test.
            let _ = kubectl.args(["delete", "--timeout=60s"]).args(arguments).output();
        };
        // While the operator is there: it holds each Service until the device is gone.
        delete(&["services", "--all", "-n", &self.namespace]);
        delete(&["-f", &folder("deploy/manifests"), "-f", &folder("deploy/crds")]);
    }
}

fn folder(name: &str) -> String {
    workspace_folder().join(name).display().to_string()
}

pub(crate) fn fetch(host: &Host, address: &str) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args(["-sSf", "--max-time", "3", &format!("http://{address}/")])
        .stdout(Stdio::piped());
    let output = host.namespace.spawn(curl).output();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn condition(namespace: &TestNamespace) -> Value {
    let service: Value = serde_json::from_str(&namespace.run(&["get", "service", "web", "-o", "json"])).unwrap();
    service["status"]["conditions"][0].clone()
}

#[test]
fn exposed_service_is_reached_survives_its_operator_and_is_gone_without_a_trace() {
    let Some(shared) = shared() else { return };
    shared.load_isthmus();
    shared.cluster().load(&workload::write_image().unwrap()).unwrap();
    let namespace = shared.namespace("operator");
    let world = World::around(shared.cluster());
    let folder = tempfile::tempdir().unwrap();
    let tailnet = Tailnet::start(world.host("tailnet", 2), binary::isthmus(), folder.path()).unwrap();
    let laptop = tailnet.join(world.host("laptop", 3), "laptop").unwrap();
    let operator = Installed::new(shared, &namespace, &tailnet);

    namespace.apply(&WEB.replace("IMAGE", workload::IMAGE));
    let device = format!("{}-web", namespace.name());
    wait::until("the condition to be true", || {
        (condition(&namespace)["status"] == "True").then_some(())
    });
    let address = tailnet
        .address_of(&device)
        .unwrap()
        .expect("the condition is true, so the device exists");
    let message = condition(&namespace)["message"].to_string();
    assert!(message.contains(&address), "{message}");
    assert_eq!(
        fetch(&laptop.host, &address).as_deref(),
        Some("from the cluster\n"),
        "{message}"
    );

    operator.kubectl(&["-n", "isthmus", "rollout", "restart", "deployment/operator"]);
    operator.rolled_out();
    assert!(
        fetch(&laptop.host, &address).is_some(),
        "traffic stopped with the operator"
    );
    namespace.run(&["delete", "service", "web", "--timeout=60s"]);
    assert_eq!(operator.proxies(), "");
    assert_eq!(tailnet.address_of(&device).unwrap(), None, "the device is left");
    assert_eq!(fetch(&laptop.host, &address), None);
}
