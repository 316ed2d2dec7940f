//! The cluster as a whole: up, down, and what can be done to it while it runs.

mod outage;
mod start;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, umount2};

use crate::Progress;
use crate::api::ApiClient;
use crate::cgroup::Cgroup;
use crate::host;
use crate::network;
use crate::node::Node;
use crate::owner;
use crate::paths::Paths;
use crate::process::{Daemon, run};
use crate::spec::ClusterSpec;
use crate::state::{self, Record};
use crate::sysctl;
use crate::tools::Tools;

/// How many nodes a cluster may have, and so how many are looked for when one is taken down.
const MOST_NODES: u8 = 8;

/// A cluster of this machine. It goes on running when this handle is dropped.
#[derive(Debug)]
pub struct Cluster {
    spec: ClusterSpec,
    paths: Paths,
    /// The daemons that this process started, which it must collect when they end.
    children: Vec<Daemon>,
}

/// How a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing of it is there.
    Down,
    /// Everything that was started still runs.
    Up,
    /// It came up, and these components have ended since.
    Broken(Vec<String>),
    /// Something of it is there that never came up as a whole.
    LeftOver,
}

impl Cluster {
    /// Brings the cluster up; one that runs with the same settings is left as it is, and leftovers are cleared first.
    ///
    /// # Errors
    /// Names the component that failed and shows the end of its log; nothing stays behind then.
    pub fn up(spec: &ClusterSpec, progress: Progress<'_>) -> Result<Self> {
        spec.check()?;
        host::check()?;
        let _lock = owner::lock(&format!("{}.lock", spec.name()))?;
        let mut cluster = Self::handle(spec);
        match cluster.status()? {
            Status::Up => {
                cluster.check_same_settings()?;
                return Ok(cluster);
            }
            // Files stay when the machine was switched off under a cluster.
            Status::Down => cluster.remove_files()?,
            Status::Broken(ended) => {
                progress(&format!(
                    "these components have ended: {}; starting anew",
                    ended.join(", ")
                ));
                cluster.clear()?;
            }
            Status::LeftOver => {
                progress("clearing what an unfinished run left behind");
                cluster.clear()?;
            }
        }
        let tools = Tools::ensure(progress)?;
        owner::claim(&spec.name(), &spec.state)?;
        if let Err(error) = cluster.start(&tools, progress) {
            progress("clearing what was started");
            if let Err(second) = cluster.clear() {
                progress(&format!("clearing failed as well: {second:#}"));
            }
            return Err(error);
        }
        Ok(cluster)
    }

    /// A handle on the cluster of these settings, whether it runs or not.
    pub fn handle(spec: &ClusterSpec) -> Self {
        Self {
            spec: spec.clone(),
            paths: Paths::new(&spec.state, &spec.name()),
            children: Vec::new(),
        }
    }

    /// Ends the cluster and removes everything of it except its logs. Nothing to do is no error.
    ///
    /// # Errors
    /// When something cannot be removed, or its names belong to another state folder.
    pub fn down(&mut self) -> Result<()> {
        let _lock = owner::lock(&format!("{}.lock", self.spec.name()))?;
        self.status()?;
        match owner::owner_of(&self.spec.name())? {
            Some(_) => self.clear(),
            None => Ok(()),
        }
    }

    /// How the cluster is, from what runs and what is there.
    ///
    /// # Errors
    /// When its names are in use by something that is not ours.
    pub fn status(&self) -> Result<Status> {
        let name = self.spec.name();
        let there = network::in_use(&name) || self.cgroups().any(|group| group.exists());
        match owner::owner_of(&name)? {
            Some(owner) if owner == self.spec.state => {}
            Some(owner) => bail!(
                "the cluster name {name} belongs to {}: choose another slot or take that one down",
                owner.display()
            ),
            None if there => bail!(
                "interfaces, namespaces or cgroups named {name} exist that no cluster of ours registered: remove them or choose another slot"
            ),
            None => return Ok(Status::Down),
        }
        let Some(record) = state::read(&self.paths.record())? else {
            return Ok(if there { Status::LeftOver } else { Status::Down });
        };
        let ended: Vec<String> = record
            .daemons
            .iter()
            .filter(|daemon| !daemon.runs())
            .map(|daemon| daemon.name.clone())
            .collect();
        Ok(if ended.is_empty() {
            Status::Up
        } else {
            Status::Broken(ended)
        })
    }

    /// The settings of this cluster.
    pub fn spec(&self) -> &ClusterSpec {
        &self.spec
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.paths.kubeconfig()
    }

    /// The API server's log of every request, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.paths.audit_log()
    }

    /// The folder of the components' logs.
    pub fn logs(&self) -> PathBuf {
        self.paths.logs()
    }

    /// The `kubectl` of this cluster's version, with the administrator's rights.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(self.paths.bin("kubectl"));
        command.env("KUBECONFIG", self.paths.kubeconfig());
        command
    }

    /// Loads an image file into every node.
    ///
    /// # Errors
    /// When the cluster does not run, or containerd refuses the file.
    pub fn load(&self, image: &Path) -> Result<()> {
        self.check_running()?;
        let image = image
            .canonicalize()
            .with_context(|| format!("find the image {}", image.display()))?;
        self.spec
            .node_numbers()
            .try_for_each(|number| Node::new(&self.spec, &self.paths, number).import(&image))
    }

    /// Cuts a node off the network, as a pulled cable would.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn cut(&self, node: &str) -> Result<()> {
        network::set_node_link(&self.spec.name(), self.node_number(node)?, false)
    }

    /// Ends a cut.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn heal(&self, node: &str) -> Result<()> {
        network::set_node_link(&self.spec.name(), self.node_number(node)?, true)
    }

    /// A command that will run in a node's network and mount namespaces; give it the program as an argument.
    ///
    /// # Errors
    /// When there is no such node or it does not run.
    pub fn node_exec(&self, node: &str) -> Result<Command> {
        self.node_number(node)?;
        let record = state::read(&self.paths.record())?.context("the cluster is not up")?;
        let init = record
            .daemons
            .iter()
            .find(|daemon| daemon.name == format!("{node} init"))
            .with_context(|| format!("{node} does not run"))?;
        ensure!(init.runs(), "{node} does not run any more");
        let mut command = Command::new("nsenter");
        command.args(["-t", &init.pid.to_string(), "-m", "-n", "--"]);
        Ok(command)
    }

    fn cgroups(&self) -> impl Iterator<Item = Cgroup> + use<> {
        let name = self.spec.name();
        std::iter::once(control_plane_cgroup(&name))
            .chain((1..=MOST_NODES).map(move |node| Cgroup::new(network::node_link(&name, node))))
    }

    fn node_number(&self, node: &str) -> Result<u8> {
        let known = node
            .strip_prefix('n')
            .and_then(|number| number.parse().ok())
            .filter(|number| self.spec.node_numbers().any(|n| n == *number));
        known.with_context(|| format!("there is no node {node}: choose n1 to n{}", self.spec.nodes))
    }

    fn check_running(&self) -> Result<()> {
        match self.status()? {
            Status::Up => Ok(()),
            Status::Down | Status::LeftOver => bail!("the cluster is not up"),
            Status::Broken(ended) => bail!(
                "the cluster is broken, these components have ended: {}",
                ended.join(", ")
            ),
        }
    }

    fn check_same_settings(&self) -> Result<()> {
        let record = state::read(&self.paths.record())?.context("the cluster's record has gone")?;
        ensure!(
            record.spec == self.spec,
            "the cluster runs with other settings: take it down first"
        );
        Ok(())
    }

    /// Removes everything of the cluster from the machine, and its files except the logs.
    fn clear(&mut self) -> Result<()> {
        let name = self.spec.name();
        for group in self.cgroups() {
            group.kill_members()?;
        }
        for mut child in self.children.drain(..) {
            child.reap();
        }
        unmount_below(&self.spec.state)?;
        for node in 1..=MOST_NODES {
            network::remove_node(&name, node)?;
        }
        network::remove_bridge(&name)?;
        for group in self.cgroups() {
            group.remove()?;
        }
        self.remove_files()?;
        owner::release(&name)?;
        sysctl::restore()
    }

    fn remove_files(&self) -> Result<()> {
        let audit = self.paths.audit_log();
        if audit.exists() {
            fs::rename(&audit, audit.with_file_name("audit.previous.log"))
                .context("keep the audit log of the last run")?;
        }
        let nodes = (1..=MOST_NODES).map(|node| self.paths.node(&format!("n{node}")));
        let folders = ["bin", "config", "etcd", "pki"].map(|folder| self.spec.state.join(folder));
        for folder in nodes.chain(folders) {
            remove_folder(&folder)?;
        }
        for file in [self.paths.record(), self.paths.kubeconfig()] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", file.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn control_plane_cgroup(name: &str) -> Cgroup {
    Cgroup::new(format!("{name}-cp"))
}

/// Mounts of ours live in the nodes' mount namespaces and go with them; one that reached the host is taken off here.
fn unmount_below(folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("list the mounts of the machine")?;
    let mut points: Vec<&Path> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(Path::new)
        .filter(|point| point.starts_with(folder))
        .collect();
    points.sort();
    for point in points.into_iter().rev() {
        umount2(point, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", point.display()))?;
    }
    Ok(())
}

/// The mounts of a node that ended just now go a moment later than its processes.
fn remove_folder(folder: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(error).with_context(|| format!("remove {}", folder.display())),
        }
    }
}
