//! The order in which a cluster is started.
//!
//! etcd, the API server and the nodes' daemons may start at once. What asks the API server for its rights
//! (controllers, scheduler, kube-proxy) starts after it is ready, because it gives up or backs off when refused.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use super::{
    ApiClient, Cluster, ClusterSpec, Context, Daemon, Duration, Instant, Node, Progress, Record, Result, Tools, bail,
    control_plane_cgroup, network, run, state, sysctl, thread,
};
use crate::control_plane::{self, API_SERVER, ApiServerConfig, LEADERS};
use crate::dns;
use crate::etcd;
use crate::manifests;
use crate::node::write_json;
use crate::pki;
use crate::process::{Inside, Launch};
use crate::state::DaemonRecord;

const COMMANDS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

/// How long each stage may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

impl Cluster {
    pub(super) fn start(&mut self, tools: &Tools, progress: Progress<'_>) -> Result<()> {
        let began = Instant::now();
        let say = |what: &str| progress(&format!("{what:<28} {:>5.1} s", began.elapsed().as_secs_f32()));
        self.prepare_files(tools)?;
        sysctl::save()?;
        network::create_bridge(&self.spec)?;
        let api = ApiClient::new(&self.paths.pki(), &self.spec.addressing().api_url())?;
        self.start_all(tools, &api, &say)?;
        self.apply_base()?;
        let nodes = usize::from(self.spec.nodes);
        self.wait_for("nodes ready", || api.count_ready_nodes() == nodes)?;
        say(&format!("{nodes} nodes ready"));
        let (server, name) = (
            self.spec.addressing().dns(),
            format!("kubernetes.default.svc.{}", self.spec.cluster_domain),
        );
        let expected = Some(self.spec.addressing().kubernetes_service());
        self.wait_for("an answer of the cluster's DNS", || {
            dns::query_address(server, &name, Duration::from_millis(200)) == expected
        })?;
        say(&format!("DNS answers at {server}"));
        self.write_record()
    }

    fn prepare_files(&self, tools: &Tools) -> Result<()> {
        let kubebox = tools.kubebox();
        for folder in ["bin", "config", "log"].map(|folder| self.spec.state.join(folder)) {
            fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        }
        remove_old_logs(&self.paths.logs())?;
        for command in COMMANDS {
            symlink(&kubebox, self.paths.bin(command))
                .with_context(|| format!("name {command} in the state folder"))?;
        }
        self.write_pki()?;
        write_json(
            &self.paths.config("admission.json"),
            &control_plane::render_admission(&self.spec.psa_enforce),
        )?;
        write_json(&self.paths.config("audit.json"), &control_plane::render_audit_policy())
    }

    fn write_pki(&self) -> Result<()> {
        let net = self.spec.addressing();
        let mut plan = pki::plan_api_server(&self.spec.cluster_domain, net.api_server_all());
        plan.extend(pki::plan_controllers());
        for number in self.spec.node_numbers() {
            plan.extend(pki::plan_node(&format!("n{number}"), net.node_all(number)));
        }
        pki::write_all(&self.paths.pki(), &plan)?;
        let users = ["kube-controller-manager", "kube-scheduler", "kube-proxy"].map(str::to_owned);
        for user in users
            .into_iter()
            .chain(self.spec.node_numbers().map(|number| format!("n{number}")))
        {
            let kubeconfig = pki::build_kubeconfig(&self.paths.pki(), &self.spec.name(), &net.api_url(), &user)?;
            pki::write_secret_file(&self.paths.pki_file(&format!("{user}.kubeconfig")), &kubeconfig)?;
        }
        let admin = pki::build_kubeconfig(&self.paths.pki(), &self.spec.name(), &net.api_url(), "admin")?;
        pki::write_secret_file(&self.paths.kubeconfig(), &admin)
    }

    /// Starts the control plane here and each node on a thread of its own.
    fn start_all(&mut self, tools: &Tools, api: &ApiClient, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
        let (spec, paths) = (self.spec.clone(), self.paths.clone());
        let nodes: Vec<Node<'_>> = spec
            .node_numbers()
            .map(|number| Node::new(&spec, &paths, number))
            .collect();
        let started = thread::scope(|scope| {
            let running: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.start(tools))).collect();
            let control_plane = self.start_control_plane(api, say);
            let nodes: Vec<_> = running
                .into_iter()
                .map(|node| {
                    node.join()
                        .unwrap_or_else(|_| bail!("starting a node ended in a panic"))
                })
                .collect();
            control_plane.map(|()| nodes)
        })?;
        for (node, daemons) in nodes.iter().zip(started) {
            let daemons = daemons?;
            let init = daemons.first().context("a node begins with its init")?.pid();
            self.children.extend(daemons);
            self.children.push(node.start_proxy(init)?);
        }
        Ok(())
    }

    fn start_control_plane(&mut self, api: &ApiClient, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
        let (net, pki) = (self.spec.addressing(), self.paths.pki());
        control_plane_cgroup(&self.spec.name()).create()?;
        self.launch(
            "etcd",
            etcd::render_args(&self.paths.etcd(), net.etcd_port(), net.etcd_peer_port()),
        )?;
        self.launch(API_SERVER, self.api_server_config().render_args())?;
        self.wait_for("the API server to be ready", || api.is_ready())?;
        say("API server ready");
        for name in LEADERS {
            self.launch(name, control_plane::render_leader_args(name, &self.spec, &pki))?;
        }
        Ok(())
    }

    pub(super) fn api_server_config(&self) -> ApiServerConfig {
        let net = self.spec.addressing();
        let bind: IpAddr = if self.spec.ipv6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        ApiServerConfig {
            pki: self.paths.pki(),
            etcd_port: net.etcd_port(),
            bind,
            port: net.api_port(),
            advertise: net.host().into(),
            service_nets: net.service_nets(),
            admission: self.paths.config("admission.json"),
            audit_policy: self.paths.config("audit.json"),
            audit_log: self.paths.audit_log(),
            unreachable_s: self.spec.unreachable_s,
            with_nodes: true,
        }
    }

    fn launch(&mut self, component: &str, args: Vec<String>) -> Result<()> {
        let daemon = self.launch_in_control_plane(component, args)?;
        self.children.push(daemon);
        Ok(())
    }

    pub(super) fn launch_in_control_plane(&self, component: &str, args: Vec<String>) -> Result<Daemon> {
        let launch = Launch {
            name: component,
            program: &self.paths.bin(component),
            args,
            inside: Inside::Host,
            cgroup: &control_plane_cgroup(&self.spec.name()),
            log: self.paths.log(component),
            folder: &self.spec.state,
        };
        launch.start()
    }

    fn apply_base(&self) -> Result<()> {
        let file = self.paths.config("base.yaml");
        fs::write(&file, manifests::render_base(&self.spec)).with_context(|| format!("write {}", file.display()))?;
        run(self
            .kubectl()
            .args(["apply", "--server-side", "--force-conflicts", "-f"])
            .arg(&file)
            .stdout(Stdio::null()))
        .context("apply the base objects")?;
        Ok(())
    }

    /// Waits until the condition holds; fails at once when a daemon ends, naming it.
    fn wait_for(&mut self, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            self.children.iter_mut().try_for_each(Daemon::check)?;
            if Instant::now() > deadline {
                bail!(
                    "waited {PATIENCE:?} for {what} in vain; the logs are in {}",
                    self.paths.logs().display()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn write_record(&self) -> Result<()> {
        let daemons = self
            .children
            .iter()
            .map(|daemon| record_of(daemon, &self.spec))
            .collect();
        state::write(
            &self.paths.record(),
            &Record {
                spec: self.spec.clone(),
                daemons,
            },
        )
    }
}

/// A daemon's name is its component, with the node before it.
fn record_of(daemon: &Daemon, spec: &ClusterSpec) -> DaemonRecord {
    let (group, component) = match daemon.name.split_once(' ') {
        Some((node, component)) => (format!("{}-{node}", spec.name()), component),
        None => (format!("{}-cp", spec.name()), daemon.name.as_str()),
    };
    let program = if component == "init" { "sleep" } else { component };
    DaemonRecord {
        name: daemon.name.clone(),
        program: program.to_owned(),
        cgroup: group,
        pid: daemon.pid(),
    }
}

fn remove_old_logs(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)
        .with_context(|| format!("list {}", folder.display()))?
        .flatten()
    {
        if !entry.file_name().to_string_lossy().starts_with("audit") {
            fs::remove_file(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}
