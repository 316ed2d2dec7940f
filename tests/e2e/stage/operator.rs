//! The operator, as docs/install.md installs and removes it.

use std::thread;

use isthmus_cluster::workspace_folder;
use isthmus_testkit::wait;
use serde_json::Value;

use super::{Stage, dump};

/// The operator in the cluster. When it is dropped, the Services of the namespace are removed, and then it. When the test
/// fails, it shows before what there is to see.
pub(crate) struct Operator<'a> {
    stage: &'a Stage,
}

impl<'a> Operator<'a> {
    pub(super) fn install(stage: &'a Stage) -> Self {
        let operator = Self { stage };
        operator.install_again();
        operator
    }

    /// Installs it where it was removed.
    pub(crate) fn install_again(&self) {
        let tailnet = &self.stage.tailnet;
        let kubectl = |arguments: &[&str]| self.kubectl(arguments);
        kubectl(&["apply", "-f", &folder("deploy/crds"), "-f", &folder("deploy/manifests")]);
        let server = format!("--from-literal=login-server={}", tailnet.login_server());
        kubectl(&["-n", "isthmus", "create", "configmap", "operator", &server]);
        let id = format!("--from-literal=client_id={}", tailnet.client_id());
        let secret = format!("--from-literal=client_secret={}", tailnet.client_secret());
        let create = ["-n", "isthmus", "create", "secret", "generic", "operator-oauth"];
        kubectl(&[&create[..], &[&id, &secret]].concat());
        self.roll_out();
    }

    /// Removes it with its namespace and everything in there.
    pub(crate) fn remove(&self) {
        let files = ["-f", &folder("deploy/manifests"), "-f", &folder("deploy/crds")];
        self.kubectl(&[&["delete", "--timeout=60s"], &files[..]].concat());
    }

    /// Ends it; everything else stays.
    pub(crate) fn stop(&self) {
        self.kubectl(&["-n", "isthmus", "scale", "deployment/operator", "--replicas=0"]);
        let label = "app.kubernetes.io/name=isthmus-operator";
        self.kubectl(&[
            "-n",
            "isthmus",
            "wait",
            "--for=delete",
            "pod",
            "-l",
            label,
            "--timeout=60s",
        ]);
    }

    /// Starts it again.
    pub(crate) fn start(&self) {
        self.kubectl(&["-n", "isthmus", "scale", "deployment/operator", "--replicas=1"]);
        self.roll_out();
    }

    /// Replaces it by a new one.
    pub(crate) fn restart(&self) {
        self.kubectl(&["-n", "isthmus", "rollout", "restart", "deployment/operator"]);
        self.roll_out();
    }

    fn roll_out(&self) {
        let status = ["-n", "isthmus", "rollout", "status", "deployment/operator"];
        self.kubectl(&[&status[..], &["--timeout=90s"]].concat());
    }

    /// Runs `kubectl` and returns what it printed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.stage.kubectl(arguments)
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        let mut kubectl = self.stage.cluster.cluster().kubectl();
        kubectl.args(["-n", "isthmus", "logs", "deployment/operator", "--tail=40"]);
        String::from_utf8_lossy(&kubectl.output().unwrap().stdout).into_owned()
    }

    /// What there is of proxies, in the words of kubectl.
    pub(crate) fn proxies(&self) -> String {
        let kinds = "pods,statefulsets,services,secrets,serviceaccounts,roles,rolebindings";
        let managed = "tailscale.com/managed=true";
        self.kubectl(&["-n", "isthmus", "get", kinds, "-l", managed, "-o", "name"])
    }

    /// The object of a kind that belongs to the proxy of a Service; nothing while there is not one.
    pub(crate) fn find(&self, kind: &str, service: &str) -> Option<Value> {
        let label = format!(
            "tailscale.com/parent-resource={service},tailscale.com/parent-resource-ns={}",
            self.stage.namespace.name()
        );
        let list = self.kubectl(&["-n", "isthmus", "get", kind, "-l", &label, "-o", "json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let objects = list["items"].as_array().unwrap();
        assert!(objects.len() < 2, "{service} has several of {kind}: {list:#}");
        objects.first().cloned()
    }

    /// The Pod of the proxy of a Service, once it is there and not on its way out.
    pub(crate) fn pod(&self, service: &str) -> Value {
        wait::until(&format!("the Pod of {service}"), || {
            self.find("pod", service)
                .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        })
    }
}

impl Drop for Operator<'_> {
    fn drop(&mut self) {
        let stage = self.stage;
        if thread::panicking() {
            dump::print(stage);
        }
        let delete = |arguments: &[&str]| {
            let mut kubectl = stage.cluster.cluster().kubectl();
            // What is gone already cannot be deleted, and the rest shows in the next test.
            let _ = kubectl.args(["delete", "--timeout=60s"]).args(arguments).output();
        };
        // While the operator is there: it holds each Service until the device is gone.
        delete(&["services", "--all", "-n", stage.namespace.name()]);
        delete(&["-f", &folder("deploy/manifests"), "-f", &folder("deploy/crds")]);
    }
}

fn folder(name: &str) -> String {
    workspace_folder().join(name).display().to_string()
}
