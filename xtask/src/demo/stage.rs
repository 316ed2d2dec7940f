//! What the cases are shown on: a cluster, a tailnet, a laptop and a database host, and the operator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{io::Write, thread};

use anyhow::{Context, Result, bail, ensure};
use isthmus_cluster::{Cluster, ClusterSpec, Tools, target_folder, workspace_folder};
use isthmus_testkit::netns::{Namespace, Nat, Process};
use isthmus_testkit::tailnet::{Member, Tailnet, Way};
use isthmus_testkit::workload;
use isthmus_testkit::world::{Host, World};
use serde_json::{Value, json};

use super::redis;
use super::report::Row;
use crate::debian;
use crate::image::{self, Built};
use crate::process::say;

/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long two nodes may search for the way that they shall find.
const SEARCH: Duration = Duration::from_secs(30);

/// Where the laptop and the database host are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Places {
    /// The laptop at home behind a NAT, the database behind a firewall that lets no UDP out.
    BehindRouters,
    /// Both on the outside network itself, for figures of the data path alone.
    Open,
}

impl Places {
    fn of_laptop(self) -> Nat {
        match self {
            Self::BehindRouters => Nat::PortFiltered,
            Self::Open => Nat::None,
        }
    }

    fn of_database(self) -> Nat {
        match self {
            Self::BehindRouters => Nat::Blocked,
            Self::Open => Nat::None,
        }
    }
}

/// Everything that the demo started.
pub(crate) struct Stage {
    cluster: Cluster,
    image: PathBuf,
    tailnet: Tailnet,
    pub(crate) laptop: Member,
    pub(crate) database: Member,
    /// A host that answers the cluster alone.
    pub(super) cloud: Host,
    _redis: [Process; 2],
    world: World,
}

/// Builds what is missing of isthmus and of the cluster's programs, side by side: neither build fills every core to its end.
fn build_all(debug: bool) -> Result<Built> {
    thread::scope(|scope| {
        let tools = scope.spawn(|| Tools::ensure(&say));
        let built = image::build_default(debug);
        tools.join().expect("a build does not panic")?;
        built
    })
}

impl Stage {
    /// Builds what is missing and starts all but the operator. The cluster is the demo's own and always a new one.
    pub(crate) fn set(debug: bool, places: Places) -> Result<Self> {
        debian::ensure_packages(&isthmus_cluster::missing_packages())?;
        debian::ensure_packages(&workload::missing_packages())?;
        let built = build_all(debug)?;
        clear();
        let spec = ClusterSpec::in_free_slot(&state_folder())?;
        let cluster = Cluster::up(&spec, &say)?;
        for image in [&built.image, &workload::write_image()?] {
            cluster.load(image)?;
        }
        let world = World::around(&cluster);
        let folder = spec.state.join("tailnet");
        remove(&folder)?;
        let tailnet = Tailnet::start_with_relay(world.host("tailnet", 2), &built.program, &folder)?;
        say(&format!("a tailnet runs at {}", tailnet.login_server()));
        let laptop = tailnet.join(world.host_behind(places.of_laptop(), "laptop", 3), "laptop")?;
        let database = tailnet.join(world.host_behind(places.of_database(), "database", 4), "database")?;
        say(&format!(
            "laptop {} and database {} are on it",
            laptop.address, database.address
        ));
        let cloud = world.host("cloud", 5);
        close_to_all_but(&cloud.namespace, &world.router_address())?;
        let redis = [
            redis::start(&database.host.namespace, &folder.join("database.redis"))?,
            redis::start(&cloud.namespace, &folder.join("cloud.redis"))?,
        ];
        Ok(Self {
            cluster,
            image: built.image,
            tailnet,
            laptop,
            database,
            cloud,
            _redis: redis,
            world,
        })
    }

    /// Applies the operator with the credentials of the tailnet, and waits until it is ready.
    pub(crate) fn install_operator(&self) -> Result<()> {
        let settings = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "operator", "namespace": "isthmus"},
                "data": {"login-server": self.tailnet.login_server()}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "operator-oauth", "namespace": "isthmus"},
                "stringData": {"client_id": self.tailnet.client_id(), "client_secret": self.tailnet.client_secret()}},
        ]});
        let folder = |name: &str| workspace_folder().join(name).display().to_string();
        self.kubectl(&["apply", "-f", &folder("deploy/crds"), "-f", &folder("deploy/manifests")])?;
        self.apply(&settings.to_string())?;
        self.kubectl(&[
            "-n",
            "isthmus",
            "rollout",
            "status",
            "deployment/operator",
            "--timeout=120s",
        ])?;
        say("the operator is ready");
        Ok(())
    }

    /// The text of an example of the repository.
    pub(super) fn example(file: &str) -> Result<String> {
        let path = workspace_folder().join("deploy/examples").join(file);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// The `kubectl` of the cluster's version, set up for it.
    pub(crate) fn kubectl_command(&self) -> Command {
        self.cluster.kubectl()
    }

    /// Runs `kubectl` and returns what it printed.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self
            .kubectl_command()
            .args(args)
            .stdin(Stdio::null())
            .output()
            .context("run kubectl")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {} failed: {}",
            args.join(" "),
            complaint.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies YAML documents.
    pub(crate) fn apply(&self, documents: &str) -> Result<()> {
        let mut command = self.cluster.kubectl();
        command
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("run kubectl apply")?;
        let mut input = child.stdin.take().context("take the input of kubectl")?;
        input
            .write_all(documents.as_bytes())
            .context("hand documents to kubectl")?;
        drop(input);
        let output = child.wait_with_output().context("wait for kubectl apply")?;
        ensure!(
            output.status.success(),
            "apply failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Whether the proxy of a Service in the namespace `default` is ready, as its condition says.
    pub(crate) fn proxy_is_ready(&self, service: &str) -> Result<bool> {
        let service = self.kubectl(&["get", "service", service, "-o", "json"])?;
        let service: Value = serde_json::from_str(&service).context("understand the Service")?;
        let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
        Ok(conditions
            .iter()
            .any(|one| one["type"] == "TailscaleProxyReady" && one["status"] == "True"))
    }

    /// The address of one family that the proxy's Pod of a Service has in the cluster.
    pub(super) fn proxy_pod_address(&self, service: &str, ipv6: bool) -> Result<String> {
        let label = format!("tailscale.com/parent-resource={service}");
        let path = "jsonpath={.items[0].status.podIPs[*].ip}";
        let addresses = self.kubectl(&["-n", "isthmus", "get", "pods", "-l", &label, "-o", path])?;
        let of_family = addresses
            .split_whitespace()
            .find(|address| address.contains(':') == ipv6);
        Ok(of_family.context("the Pod has an address of the family")?.to_owned())
    }

    /// How datagrams travel between a member and the device with this address, after the two had time to find the way that is
    /// expected.
    pub(super) fn way(member: &Member, device: &str, expected: Way) -> Result<String> {
        let deadline = Instant::now() + SEARCH;
        loop {
            let way = member.way_to(device)?;
            if way == Some(expected) || Instant::now() > deadline {
                return Ok(way.map_or_else(|| "none".to_owned(), |way| way.to_string()));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The address under which the cluster's Pods appear outside.
    pub(super) fn router_address(&self) -> String {
        self.world.router_address()
    }

    /// The file of the image that the operator and the proxies run.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// The audit log of the API server.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.cluster.audit_log()
    }

    /// The tailnet address of a device.
    pub(crate) fn address_of(&self, device: &str) -> Result<Option<String>> {
        self.tailnet.address_of(device)
    }

    /// The IPv6 address of a device of the tailnet, if there is one of this name.
    pub(crate) fn ipv6_address_of(&self, device: &str) -> Result<Option<String>> {
        self.tailnet.ipv6_address_of(device)
    }

    /// The full name of a device on the tailnet.
    pub(super) fn name_of(&self, device: &str) -> Result<Option<String>> {
        self.tailnet.name_of(device)
    }

    /// The `kubectl` of the cluster's version.
    pub(super) fn kubectl_path(&self) -> PathBuf {
        PathBuf::from(self.cluster.kubectl().get_program())
    }

    /// What to try while the stage stands, and how to end it.
    pub(super) fn invitation(&self, rows: &[Row]) -> String {
        let (kubeconfig, bin) = (self.cluster.kubeconfig(), self.kubectl_path());
        let requests: Vec<&str> = rows.iter().map(|row| row.repeat.as_str()).collect();
        format!(
            "
Everything stays up. Try, in another terminal as root:
  export KUBECONFIG={}
  {} get services,statefulsets,pods -A
  {}
Enter the laptop:   nsenter --net={}
Enter the database: nsenter --net={}
Ctrl-C ends the tailnet; `cargo xtask cluster down --all` also ends the cluster.",
            kubeconfig.display(),
            bin.display(),
            requests.join("\n  "),
            self.laptop.host.namespace.path(),
            self.database.host.namespace.path(),
        )
    }

    /// Prints what helps to find out why a case failed.
    pub(crate) fn dump(&self) {
        let pods = ["get", "services,statefulsets,pods", "-A", "-o", "wide"];
        let logs = ["-n", "isthmus", "logs", "--all-containers", "--prefix", "--tail=40"];
        let operator = [&logs[..], &["deployment/operator"]].concat();
        let proxies = [&logs[..], &["-l", "tailscale.com/managed=true"]].concat();
        for args in [
            &pods[..],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
            &operator,
            &proxies,
        ] {
            match self.kubectl(args) {
                Ok(text) => say(&format!("# kubectl {}\n{text}", args.join(" "))),
                Err(error) => say(&format!("{error:#}")),
            }
        }
        for log in [&self.laptop.log, &self.database.log] {
            say(&format!(
                "# {}\n{}",
                log.display(),
                fs::read_to_string(log).unwrap_or_default()
            ));
        }
    }

    /// Ends the cluster; the rest ends with this process.
    pub(crate) fn strike(&mut self) -> Result<()> {
        self.cluster.down()
    }
}

/// Ends the cluster of a stage that could not be set.
pub(super) fn clear() {
    let down = || -> Result<()> {
        match ClusterSpec::in_held_slot(&state_folder())? {
            Some(spec) => Cluster::handle(&spec).down(),
            None => Ok(()),
        }
    };
    if let Err(error) = down() {
        say(&format!("clearing failed: {error:#}"));
    }
}

fn state_folder() -> PathBuf {
    target_folder().join("cluster-demo")
}

/// Calls until there is a value, or an error, or the patience is over.
pub(crate) fn until<T>(what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited {PATIENCE:?} for {what} in vain");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a program on a host; what it printed, or what it complained about.
pub(crate) fn run_on(namespace: &Namespace, program: &str, args: &[&str]) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = namespace.spawn(command).output();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Lets a host answer one address alone, as the firewall of a cloud provider does. The host itself is let through.
fn close_to_all_but(namespace: &Namespace, address: &str) -> Result<()> {
    let rules = format!(
        "table ip firewall {{
            chain input {{
                type filter hook input priority filter; policy drop;
                iifname lo accept
                ct state established,related accept
                ip saddr {address} accept
            }}
        }}"
    );
    run_on(namespace, "nft", &[&rules])
        .map(drop)
        .map_err(anyhow::Error::msg)
        .context("close the host of the cloud")
}

fn remove(folder: &PathBuf) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}
