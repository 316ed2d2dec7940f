//! An API server and a tailnet for operators that are processes of their own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use isthmus_cluster::{ApiServer, workspace_folder};
use isthmus_runtime::Secret;
use isthmus_tailbox::{OauthClientConfig, Tailbox};
use isthmus_testkit::cluster::print_progress;
use isthmus_testkit::{binary, require, wait};
use kube::config::Kubeconfig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The user the operator's ServiceAccount is.
pub(crate) const OPERATOR: &str = "system:serviceaccount:isthmus:operator";
/// The OAuth client of the operators.
const CLIENT: (&str, &str) = ("operator", "the operator's secret");

/// An API server and a tailnet without an operator.
pub(crate) struct Stage {
    server: ApiServer,
    /// Serves the tailnet.
    pub(crate) runtime: Runtime,
    pub(crate) tailbox: Tailbox,
    folder: TempDir,
}

/// An operator that runs as a process; it is killed when this is dropped.
pub(crate) struct Operator {
    child: Child,
    metrics: SocketAddr,
    log: PathBuf,
    /// What its requests carry in the audit log.
    credential: String,
}

impl Stage {
    /// The stage that tests take in turns; nothing, said aloud, where no API server can be had.
    pub(crate) fn in_turn() -> Option<MutexGuard<'static, Self>> {
        static STAGE: OnceLock<Option<Mutex<Stage>>> = OnceLock::new();
        let stage = STAGE.get_or_init(|| Self::start().map(Mutex::new)).as_ref()?;
        // A test that failed leaves Services behind, which disturb nobody.
        Some(stage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A stage of one's own; nothing, said aloud, where no API server can be had.
    pub(crate) fn start() -> Option<Self> {
        if !(require::program("go") && require::program("setpriv")) {
            return None;
        }
        let server = ApiServer::start(&print_progress)
            .unwrap_or_else(|error| panic!("the API server does not start: {error:#}"));
        let runtime = Runtime::new().unwrap();
        let config = isthmus_tailbox::Config {
            oauth_clients: vec![OauthClientConfig {
                id: CLIENT.0.to_owned(),
                secret: Secret::new(CLIENT.1),
                tags: ["tag:k8s".to_owned()].into(),
            }],
            ..Default::default()
        };
        let tailbox = runtime.block_on(Tailbox::start(config)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("client_id"), CLIENT.0).unwrap();
        fs::write(folder.path().join("client_secret"), CLIENT.1).unwrap();
        let stage = Self {
            server,
            runtime,
            tailbox,
            folder,
        };
        let manifests = workspace_folder().join("deploy/manifests");
        stage.kubectl(&["apply", "-f", &manifests.display().to_string()]);
        Some(stage)
    }

    /// Starts an operator as its Pod would, with the rights of the operator's ServiceAccount.
    pub(crate) fn operator(&self, name: &str) -> Operator {
        self.operator_with(name, &[])
    }

    /// Starts an operator whose environment differs by `changes`.
    pub(crate) fn operator_with(&self, name: &str, changes: &[(&str, &str)]) -> Operator {
        let (account, credential) = self.rights(name);
        let server = self.address();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = free.local_addr().unwrap();
        drop(free);
        let log = self.folder.path().join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary::isthmus())
            .arg("operator")
            .env("KUBERNETES_SERVICE_HOST", server.ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", server.port().to_string())
            .env("OPERATOR_SERVICE_ACCOUNT", account)
            .env("POD_NAME", name)
            .env("OPERATOR_NAMESPACE", "isthmus")
            .env("OPERATOR_LOGIN_SERVER", self.tailbox.url())
            .env("OPERATOR_LISTEN", metrics.to_string())
            .env("CLIENT_ID_FILE", self.file("client_id"))
            .env("CLIENT_SECRET_FILE", self.file("client_secret"))
            .env("PROXY_IMAGE", "isthmus:test")
            .envs(changes.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        Operator {
            child: command.spawn().unwrap(),
            metrics,
            log,
            credential,
        }
    }

    /// A file of this stage, whether it exists or not.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder as the kubelet mounts it, with a token of its own, and the token's id in the audit log.
    fn rights(&self, name: &str) -> (PathBuf, String) {
        let token = self.kubectl(&["create", "token", "operator", "-n", "isthmus", "--duration", "2h"]);
        let folder = self.file(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("token"), &token).unwrap();
        fs::write(folder.join("namespace"), "isthmus").unwrap();
        fs::write(
            folder.join("ca.crt"),
            self.of_cluster("certificate-authority-data | base64decode"),
        )
        .unwrap();
        let mut kubeconfig = Kubeconfig::read_from(self.server.kubeconfig()).unwrap();
        kubeconfig.auth_infos[0].auth_info = Some(serde_json::from_value(json!({"token": token.trim()})).unwrap());
        let path = self.file(&format!("{name}.kubeconfig"));
        let mut text = serde_json::to_value(&kubeconfig).unwrap();
        // The library hides secrets when it writes.
        text["users"][0]["user"]["token"] = json!(token.trim());
        fs::write(&path, text.to_string()).unwrap();
        let id = self.kubectl(&["auth", "whoami", "-o", "json", "--kubeconfig", path.to_str().unwrap()]);
        let id: Value = serde_json::from_str(&id).unwrap();
        let id = &id["status"]["userInfo"]["extra"]["authentication.kubernetes.io/credential-id"][0];
        (folder, id.as_str().unwrap().to_owned())
    }

    fn address(&self) -> SocketAddr {
        let url = self.of_cluster("server");
        url.strip_prefix("https://").unwrap().parse().unwrap()
    }

    /// What the administrator's kubeconfig has of the cluster.
    fn of_cluster(&self, field: &str) -> String {
        let (field, function) = field.split_once(" | ").unwrap_or((field, "print"));
        let template = format!(r#"{{{{index .clusters 0 "cluster" "{field}" | {function}}}}}"#);
        self.kubectl(&["config", "view", "--raw", "-o", &format!("go-template={template}")])
    }

    /// A fresh namespace for one test.
    pub(crate) fn namespace(&self, name: &str) -> String {
        self.kubectl(&["create", "namespace", name]);
        name.to_owned()
    }

    /// Runs kubectl as the administrator and gives back its output.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.server.kubectl().args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Creates these objects as a user does.
    pub(crate) fn create(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let mut child = self
            .server
            .kubectl()
            .args(["create", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(list.to_string().as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// All objects of `kind` in `namespace` that `selector` selects; an empty one selects all.
    pub(crate) fn list(&self, kind: &str, namespace: &str, selector: &str) -> Vec<Value> {
        let list = self.kubectl(&["get", kind, "-n", namespace, "-l", selector, "-o", "json"]);
        let mut list: Value = serde_json::from_str(&list).unwrap();
        list["items"].as_array_mut().map(std::mem::take).unwrap_or_default()
    }

    /// An object, or nothing when it does not exist.
    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let text = self.kubectl(&["get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found"]);
        (!text.trim().is_empty()).then(|| serde_json::from_str(&text).unwrap())
    }

    /// The condition of a Service, once it has one.
    pub(crate) fn condition(&self, namespace: &str, name: &str) -> Option<Value> {
        let service = self.find("service", namespace, name)?;
        let condition = service["status"]["conditions"].get(0)?;
        (condition["type"] == "TailscaleProxyReady").then(|| condition.clone())
    }

    /// StatefulSets of proxies of the Services in `namespace`.
    pub(crate) fn proxies_of(&self, namespace: &str) -> Vec<Value> {
        self.list(
            "statefulset",
            "isthmus",
            &format!("tailscale.com/parent-resource-ns={namespace}"),
        )
    }

    /// Requests of operators in the audit log.
    pub(crate) fn operator_requests(&self) -> Vec<Value> {
        self.requests_with(OPERATOR)
    }

    /// Requests of one operator in the audit log, but for its Lease and its watches.
    pub(crate) fn requests_of(&self, operator: &Operator) -> Vec<Value> {
        let mut requests = self.requests_with(&operator.credential);
        requests.retain(|line| operator.asked(line));
        requests
    }

    fn requests_with(&self, text: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.server.audit_log()).unwrap();
        log.lines()
            .filter(|line| line.contains(text))
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &Value| line["user"]["username"] == OPERATOR)
            .collect()
    }

    /// The ids of the tailnet's auth keys.
    pub(crate) fn tailnet_keys(&self) -> BTreeSet<String> {
        let keys = self.runtime.block_on(self.api().list_keys()).unwrap();
        keys.into_iter().map(|key| key.id).filter(|id| id != CLIENT.0).collect()
    }

    /// The ids of the auth keys that proxies hold.
    pub(crate) fn held_keys(&self) -> BTreeSet<String> {
        let secrets = self.list("secret", "isthmus", "tailscale.com/managed=true");
        let id = |secret: &Value| {
            secret["metadata"]["annotations"]["isthmus.dev/auth-key-id"]
                .as_str()
                .map(str::to_owned)
        };
        secrets.iter().filter_map(id).collect()
    }

    /// The tailnet's API with the operators' rights.
    pub(crate) fn api(&self) -> isthmus_tailnet_api::Client {
        let config = isthmus_tailnet_api::Config {
            base_url: self.tailbox.url(),
            credentials: isthmus_tailnet_api::Credentials::Fixed {
                client_id: CLIENT.0.to_owned(),
                client_secret: Secret::new(CLIENT.1),
            },
            user_agent: "isthmus-test".to_owned(),
            timeout: Duration::from_secs(30),
            tls: isthmus_tailnet_api::client_config(None).unwrap(),
        };
        isthmus_tailnet_api::Client::new(config).unwrap()
    }

    /// The Lease's spec.
    pub(crate) fn lease(&self) -> Value {
        self.find("lease", "isthmus", "isthmus-operator").unwrap_or_default()["spec"].clone()
    }

    /// Waits until the replica called `name` holds the Lease.
    pub(crate) fn wait_for_leader(&self, name: &str) {
        wait::until(&format!("{name} to lead"), || {
            (self.lease()["holderIdentity"] == name).then_some(())
        });
    }
}

impl Operator {
    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, and says whether it ended well.
    pub(crate) fn wait_for_end(&mut self) -> bool {
        wait::until("the operator to end", || self.child.try_wait().unwrap()).success()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        status
            .lines()
            .all(|line| !line.starts_with("State:") || line.contains("zombie"))
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Whether a line of the audit log is a request of its own about anything but the Lease, and no watch. That the test
    /// asks who it is does not count.
    pub(crate) fn asked(&self, line: &Value) -> bool {
        let ids = &line["user"]["extra"]["authentication.kubernetes.io/credential-id"];
        let resource = line["objectRef"]["resource"].as_str().unwrap_or_default();
        ids[0] == self.credential.as_str()
            && line["verb"] != "watch"
            && !["leases", "selfsubjectreviews"].contains(&resource)
    }

    /// Whether such a request is a write.
    pub(crate) fn wrote(&self, line: &Value) -> bool {
        let verb = line["verb"].as_str().unwrap_or_default();
        self.asked(line) && ["create", "delete", "patch", "update"].contains(&verb)
    }

    /// Its metrics; nothing while it does not serve them.
    pub(crate) fn metrics(&self) -> Option<String> {
        let mut stream = TcpStream::connect(self.metrics).ok()?;
        let request = b"GET /metrics HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n";
        stream.write_all(request).ok()?;
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).ok()?;
        Some(metrics)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            print_end(&self.log);
        }
    }
}

#[expect(clippy::print_stderr, reason = "the log explains a test that fails")]
fn print_end(log: &Path) {
    let text = fs::read_to_string(log).unwrap_or_default();
    let skip = text.lines().count().saturating_sub(40);
    let end: Vec<&str> = text.lines().skip(skip).collect();
    eprintln!("{}:\n{}", log.display(), end.join("\n"));
}
