//! What the tests of this target stand on: a cluster, a namespace in it, and a tailnet outside with a laptop on it.

mod dump;
mod operator;
mod pod_process;
mod requests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use isthmus_testkit::cluster::{SharedCluster, TestNamespace};
use isthmus_testkit::netns::Process;
use isthmus_testkit::tailnet::{Member, Tailnet};
use isthmus_testkit::world::{Host, World};
use isthmus_testkit::{binary, wait, workload};
use serde_json::Value;

pub(crate) use operator::Operator;
pub(crate) use pod_process::PodProcess;
pub(crate) use requests::Requests;

/// How long a proxy may take from the Service to its first byte, image and login included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A Pod with a web server, whose page is [`PAGE`].
pub(crate) const WEB_POD: &str = "apiVersion: v1
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
";

/// What [`WEB_POD`] serves.
pub(crate) const PAGE: &str = "from the cluster\n";

/// An exposed Service in front of [`WEB_POD`].
pub(crate) const WEB_SERVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {tailscale.com/expose: 'true'}
spec:
  selector: {app: web}
  ports: [{name: first, port: 80}]
";

/// A test's stage. Everything on it is gone when it is dropped.
pub(crate) struct Stage {
    pub(crate) namespace: TestNamespace,
    pub(crate) laptop: Member,
    pub(crate) tailnet: Tailnet,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) cluster: &'static SharedCluster,
    /// Last, after everything that runs in it.
    pub(crate) world: World,
}

impl Stage {
    /// Sets the stage on this cluster; nothing when there is none. It waits until the stage before is gone, so that a test may
    /// take parts of the cluster away.
    pub(crate) fn on(cluster: Option<&'static SharedCluster>, test: &str) -> Option<Self> {
        Self::with_policy(cluster, test, None)
    }

    /// The same with a policy of the tailnet, as HuJSON.
    pub(crate) fn with_policy(
        cluster: Option<&'static SharedCluster>,
        test: &str,
        policy: Option<&str>,
    ) -> Option<Self> {
        let cluster = cluster?;
        let world = World::around(cluster.cluster());
        cluster.load_images();
        let namespace = cluster.namespace(test);
        let folder = tempfile::tempdir().unwrap();
        let (host, program) = (world.host("tailnet", 2), binary::isthmus());
        let tailnet = match policy {
            Some(policy) => Tailnet::start_with_policy(host, program, folder.path(), policy),
            None => Tailnet::start(host, program, folder.path()),
        };
        let tailnet = tailnet.unwrap();
        let laptop = tailnet.join(world.host("laptop", 3), "laptop").unwrap();
        Some(Self {
            namespace,
            laptop,
            tailnet,
            folder,
            cluster,
            world,
        })
    }

    /// Installs the operator. It is removed when the handle is dropped, and the namespace's Services before it.
    pub(crate) fn install_operator(&self) -> Operator<'_> {
        Operator::install(self)
    }

    /// Applies a manifest whose Pods run the workload's image, and waits for these of them.
    pub(crate) fn run_pods(&self, manifest: &str, pods: &[&str]) {
        self.namespace.apply(&manifest.replace("IMAGE", workload::IMAGE));
        for pod in pods {
            self.namespace.wait_for(&format!("pod/{pod}"), "Ready");
        }
    }

    /// Runs the Pod `client`, to ask from.
    pub(crate) fn run_client(&self) {
        self.run_pods(&workload::client_pod(), &["client"]);
    }

    /// Runs `kubectl` in all of the cluster and returns what it printed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.cluster.cluster().kubectl().args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// One field of an object of the namespace, as the path of a JSONPath expression.
    pub(crate) fn get(&self, object: &str, path: &str) -> String {
        self.namespace
            .run(&["get", object, "-o", &format!("jsonpath={{{path}}}")])
    }

    /// A Service of the namespace.
    pub(crate) fn service(&self, name: &str) -> Value {
        serde_json::from_str(&self.namespace.run(&["get", "service", name, "-o", "json"])).unwrap()
    }

    /// Waits for the condition of a Service to have this reason and to say `words`.
    pub(crate) fn wait_for(&self, service: &str, reason: &str, words: &str) -> Value {
        let what = format!("Service {service} to be {reason} with {words:?}");
        wait::until_within(&what, PATIENCE, || {
            let service = self.service(service);
            let condition = &service["status"]["conditions"][0];
            let says = condition["message"]
                .as_str()
                .is_some_and(|message| message.contains(words));
            (condition["reason"] == reason && says).then_some(service)
        })
    }

    /// Waits until the proxy of a Service is ready, and returns its device's address.
    pub(crate) fn wait_until_ready(&self, service: &str) -> String {
        self.wait_for(service, "ProxyCreated", "is on the tailnet as");
        let found = self.tailnet.address_of(&self.device(service)).unwrap();
        found.expect("the condition is true, so the device exists")
    }

    /// The host name of the device of a Service.
    pub(crate) fn device(&self, service: &str) -> String {
        format!("{}-{service}", self.namespace.name())
    }

    /// What the laptop gets from a web server, if anything.
    pub(crate) fn fetch(&self, address: &str) -> Option<String> {
        fetch(&self.laptop.host, address)
    }

    /// What the Pod `client` gets from a URL, if anything.
    pub(crate) fn ask(&self, url: &str) -> Option<String> {
        self.namespace.exec("client", &["curl", "-sSf", "-m", "3", url]).ok()
    }

    /// A web server on a host of its own, whose page is `text`.
    pub(crate) fn serve(&self, host: &Host, text: &str) -> Process {
        let pages = self.pages(host);
        fs::write(pages.join("index.html"), text).unwrap();
        // Of both families.
        httpd(host, "80", &pages)
    }

    /// A web server on a host that says at `/cgi-bin/who` who asked.
    pub(crate) fn serve_who_asked(&self, host: &Host, listen: &str) -> Process {
        let pages = self.pages(host);
        let script = pages.join("cgi-bin/who");
        fs::create_dir_all(pages.join("cgi-bin")).unwrap();
        fs::write(&script, "#!/bin/sh\necho\necho device saw $REMOTE_ADDR\n").unwrap();
        Command::new("chmod").arg("755").arg(&script).status().unwrap();
        httpd(host, listen, &pages)
    }

    fn pages(&self, host: &Host) -> PathBuf {
        let pages = self.folder.path().join(format!("pages-{}", host.address));
        fs::create_dir_all(&pages).unwrap();
        pages
    }
}

fn httpd(host: &Host, listen: &str, pages: &Path) -> Process {
    let mut server = Command::new("busybox");
    server.args(["httpd", "-f", "-p", listen, "-h"]).arg(pages);
    host.namespace.spawn(server)
}

/// What a host gets from a web server, if anything.
pub(crate) fn fetch(host: &Host, address: &str) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args(["-sf", "--max-time", "3", &format!("http://{address}/")])
        .stdout(Stdio::piped());
    let output = host.namespace.spawn(curl).output();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
