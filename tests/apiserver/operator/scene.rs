//! What the operator's tests share: one API server, one tailnet, one operator, each test in a namespace of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use isthmus_cluster::{ApiServer, workspace_folder};
use isthmus_operator::{Config, run};
use isthmus_operator_core::settings::Settings;
use isthmus_runtime::{Secret, Shutdown};
use isthmus_tailbox::{OauthClientConfig, Tailbox};
use isthmus_tailnet_api as tailnet;
use isthmus_testkit::{apiserver, wait};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The user the operator's ServiceAccount is.
const OPERATOR: &str = "system:serviceaccount:isthmus:operator";

/// One API server, one tailnet, one operator.
pub(crate) struct Scene {
    server: &'static ApiServer,
    runtime: Runtime,
    tailnet: tailnet::Client,
    metrics: SocketAddr,
}

impl Scene {
    /// The scene that all tests of this process share; nothing, said aloud, where no API server can be had.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Scene>> = OnceLock::new();
        SHARED.get_or_init(|| apiserver::shared().map(Self::start)).as_ref()
    }

    fn start(server: &'static ApiServer) -> Self {
        let runtime = Runtime::new().unwrap();
        let credentials = OauthClientConfig {
            id: "operator".to_owned(),
            secret: Secret::new("the operator's secret"),
            tags: ["tag:k8s".to_owned()].into(),
        };
        let config = isthmus_tailbox::Config {
            oauth_clients: vec![credentials],
            ..Default::default()
        };
        let tailbox = runtime.block_on(Tailbox::start(config)).unwrap();
        let url = tailbox.url();
        // Serves until the process ends.
        std::mem::forget(tailbox);
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = free.local_addr().unwrap();
        drop(free);
        let scene = Self {
            server,
            runtime,
            tailnet: tailnet_client(&url),
            metrics,
        };
        scene.install();
        let config = Config {
            settings: settings(&url),
            tailnet: tailnet_client(&url),
            listen: metrics,
            instance: "operator-test".to_owned(),
        };
        let client = scene.client_with_the_operators_rights();
        scene.runtime.spawn(async move {
            let ended = run(client, config, Shutdown::new()).await;
            panic!("the operator ended: {ended:?}");
        });
        scene
    }

    /// Applies the manifests that users apply.
    fn install(&self) {
        let folder = |name: &str| workspace_folder().join(name).display().to_string();
        self.kubectl(&["apply", "-f", &folder("deploy/crds"), "-f", &folder("deploy/manifests")]);
    }

    fn client_with_the_operators_rights(&self) -> kube::Client {
        let token = self.kubectl(&["create", "token", "operator", "-n", "isthmus", "--duration", "2h"]);
        let mut kubeconfig = Kubeconfig::read_from(self.server.kubeconfig()).unwrap();
        let rights = serde_json::from_value(json!({"token": token.trim()})).unwrap();
        kubeconfig.auth_infos[0].auth_info = Some(rights);
        let options = KubeConfigOptions::default();
        self.runtime.block_on(async {
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .unwrap();
            kube::Client::try_from(config).unwrap()
        })
    }

    /// A fresh namespace for one test.
    pub(crate) fn namespace(&self, test: &str) -> String {
        let name = format!("operator-{test}");
        self.kubectl(&["create", "namespace", &name]);
        name
    }

    /// Runs kubectl as the administrator and gives back its output.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.server.kubectl().args(arguments).output().unwrap();
        let refused = arguments.starts_with(&["auth", "can-i"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || refused, "kubectl {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Applies one object as a user does.
    pub(crate) fn apply(&self, object: &Value) {
        let mut kubectl = self.server.kubectl();
        let mut child = kubectl
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(object.to_string().as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success(), "{object}");
    }

    /// What the API server answers to an object that it refuses.
    pub(crate) fn refusal(&self, object: &Value) -> String {
        let mut kubectl = self.server.kubectl();
        let mut child = kubectl
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(object.to_string().as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "{object} was taken");
        String::from_utf8(output.stderr).unwrap()
    }

    /// An object, or nothing when it does not exist.
    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let text = self.kubectl(&["get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found"]);
        (!text.trim().is_empty()).then(|| serde_json::from_str(&text).unwrap())
    }

    /// An object that exists.
    pub(crate) fn get(&self, kind: &str, namespace: &str, name: &str) -> Value {
        self.find(kind, namespace, name)
            .unwrap_or_else(|| panic!("no {kind} {name} in {namespace}"))
    }

    /// The name of the proxy of Service `web` in `namespace`, once its StatefulSet exists.
    pub(crate) fn proxy_of(&self, namespace: &str) -> Option<String> {
        let selector = format!("tailscale.com/parent-resource-ns={namespace}");
        let list = self.kubectl(&["get", "statefulset", "-n", "isthmus", "-l", &selector, "-o", "json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        Some(list["items"].get(0)?["metadata"]["name"].as_str()?.to_owned())
    }

    /// Plays the proxy `name`, for want of Pods: it runs, has a device, and carries what it is told by `carries`, the
    /// list in its status.
    pub(crate) fn play_proxy(&self, name: &str, carries: &Value) {
        let pod = format!("{name}-0");
        let template = &self.get("statefulset", "isthmus", name)["spec"]["template"];
        if self.find("pod", "isthmus", &pod).is_none() {
            self.apply(&json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod, "namespace": "isthmus", "labels": template["metadata"]["labels"]},
                "spec": template["spec"],
            }));
            let ready = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
            self.kubectl(&[
                "patch",
                "pod",
                &pod,
                "-n",
                "isthmus",
                "--subresource=status",
                "-p",
                ready,
            ]);
        }
        let uid = &self.get("pod", "isthmus", &pod)["metadata"]["uid"];
        let config = decoded(&self.get("secret", "isthmus", &pod), "isthmus.json");
        let applied: Value = serde_json::from_str(&config).unwrap();
        let status = json!({"version": 1, "podUID": uid, "applied": applied, "carries": carries});
        let reported = json!({"stringData": {
            "device_id": format!("device-of-{name}"),
            "device_fqdn": "web.tail.internal.",
            "device_ips": r#"["100.64.0.9","fd7a:115c:a1e0::9"]"#,
            "isthmus-status.json": status.to_string(),
        }});
        self.kubectl(&["patch", "secret", &pod, "-n", "isthmus", "-p", &reported.to_string()]);
    }

    /// Takes away the Pod that [`Self::play_proxy`] made.
    pub(crate) fn stop_proxy(&self, name: &str) {
        let pod = format!("{name}-0");
        self.kubectl(&["delete", "pod", &pod, "-n", "isthmus", "--force", "--grace-period=0"]);
    }

    /// Waits for the condition of Service `web` to have this reason.
    pub(crate) fn wait_for_reason(&self, namespace: &str, reason: &str) -> Value {
        wait::until(reason, || {
            let service = self.get("service", namespace, "web");
            let condition = &service["status"]["conditions"][0];
            (condition["type"] == "TailscaleProxyReady" && condition["reason"] == reason).then_some(service)
        })
    }

    /// Requests of the operator in the audit log with one of `verbs`, or with any, that `matches`.
    pub(crate) fn operator_requests(&self, verbs: &[&str], matches: impl Fn(&&Value) -> bool) -> Vec<Value> {
        let log = std::fs::read_to_string(self.server.audit_log()).unwrap();
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let ours = lines.into_iter().filter(|line: &Value| {
            let verb = line["verb"].as_str().unwrap_or_default();
            line["user"]["username"] == OPERATOR && (verbs.is_empty() || verbs.contains(&verb)) && matches(&line)
        });
        ours.collect()
    }

    /// How often the operator has looked at a Service, by its own count.
    pub(crate) fn looks(&self) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).unwrap();
        let count = metrics.lines().find_map(|line| {
            line.strip_prefix(r#"isthmus_operator_reconcile_seconds_count{controller="service-proxy"} "#)
        });
        count.map_or(0, |count| count.trim().parse().unwrap())
    }

    /// The ids of the tailnet's keys.
    pub(crate) fn tailnet_keys(&self) -> Vec<String> {
        let keys = self.runtime.block_on(self.tailnet.list_keys()).unwrap();
        keys.into_iter().map(|key| key.id).collect()
    }
}

fn tailnet_client(url: &str) -> tailnet::Client {
    let config = tailnet::Config {
        base_url: url.to_owned(),
        credentials: tailnet::Credentials::Fixed {
            client_id: "operator".to_owned(),
            client_secret: Secret::new("the operator's secret"),
        },
        user_agent: "isthmus-test".to_owned(),
        timeout: Duration::from_secs(30),
        tls: tailnet::client_config(None).unwrap(),
    };
    tailnet::Client::new(config).unwrap()
}

fn settings(url: &str) -> Settings {
    Settings {
        namespace: "isthmus".to_owned(),
        proxy_image: "isthmus:test".to_owned(),
        proxy_image_pull_policy: None,
        proxy_priority_class: None,
        proxy_default_class: None,
        proxy_tags: vec!["tag:k8s".to_owned()],
        default_load_balancer: false,
        login_server: url.to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        cluster_id: String::new(),
    }
}

/// A Service `web` that is exposed, with a fixed cluster IP.
pub(crate) fn exposed(namespace: &str, cluster_ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace, "annotations": {"tailscale.com/expose": "true"}},
        "spec": {"clusterIP": cluster_ip, "selector": {"app": "web"}, "ports": [{"port": 80}]},
    })
}

/// A Service `web` that leads to `target`.
pub(crate) fn leading_to(namespace: &str, annotation: &str, target: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace, "annotations": {annotation: target}},
        "spec": {"type": "ExternalName", "externalName": "placeholder"},
    })
}

/// The text under a key of a Secret.
pub(crate) fn decoded(secret: &Value, key: &str) -> String {
    let typed: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret.clone()).unwrap();
    String::from_utf8(typed.data.unwrap()[key].0.clone()).unwrap()
}
