//! A node: namespaces of its own, and in them containerd, kubelet and kube-proxy.

mod config;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

pub(crate) use config::PAUSE_IMAGE;

use crate::cgroup::Cgroup;
use crate::host;
use crate::network;
use crate::paths::Paths;
use crate::process::{Daemon, Inside, Launch, run};
use crate::spec::ClusterSpec;
use crate::tools::Tools;

/// How long a node's daemon may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// One node of a cluster.
pub(crate) struct Node<'a> {
    spec: &'a ClusterSpec,
    paths: &'a Paths,
    number: u8,
    pub(crate) name: String,
    cgroup: Cgroup,
}

impl<'a> Node<'a> {
    pub(crate) fn new(spec: &'a ClusterSpec, paths: &'a Paths, number: u8) -> Self {
        let cgroup = Cgroup::new(network::node_link(&spec.name(), number));
        Self {
            spec,
            paths,
            number,
            name: format!("n{number}"),
            cgroup,
        }
    }

    /// Makes the node and starts all of it that does not need the API server to answer.
    pub(crate) fn start(&self, tools: &Tools) -> Result<Vec<Daemon>> {
        network::create_node(self.spec, self.number)?;
        network::route_from_host(self.spec, self.number)?;
        self.cgroup.create()?;
        self.write_config()?;
        let init = self.start_init()?;
        let containerd = self.start_containerd(init.pid())?;
        self.import(&tools.pause_image())?;
        let kubelet = self.start_kubelet(init.pid())?;
        self.import(&tools.coredns_image())?;
        Ok(vec![init, containerd, kubelet])
    }

    /// Starts the kubelet.
    pub(crate) fn start_kubelet(&self, init: u32) -> Result<Daemon> {
        self.start_kubernetes(
            "kubelet",
            init,
            config::render_kubelet_args(self.spec, self.number, &self.name, self.paths),
        )
    }

    /// Starts kube-proxy, which backs off for seconds when the API server does not know the node's rights yet.
    pub(crate) fn start_proxy(&self, init: u32) -> Result<Daemon> {
        self.start_kubernetes(
            "kube-proxy",
            init,
            vec![format!("--config={}", self.folder().join("proxy.json").display())],
        )
    }

    /// Loads an image file into the node's containerd.
    pub(crate) fn import(&self, image: &Path) -> Result<()> {
        let socket = self.paths.containerd_socket(&self.name);
        run(Command::new("ctr")
            .arg("-a")
            .arg(socket)
            .args(["-n", "k8s.io", "images", "import"])
            .arg(image))
        .with_context(|| format!("load {} into {}", image.display(), self.name))?;
        Ok(())
    }

    fn folder(&self) -> std::path::PathBuf {
        self.paths.node(&self.name)
    }

    fn log(&self, daemon: &str) -> std::path::PathBuf {
        self.paths.log(&format!("{}-{daemon}", self.name))
    }

    fn write_config(&self) -> Result<()> {
        let folder = self.folder();
        for own in ["cni", "kubelet", "podlogs", "containerd"] {
            fs::create_dir_all(folder.join(own)).with_context(|| format!("make {}/{own}", folder.display()))?;
        }
        for point in config::MOUNT_POINTS {
            fs::create_dir_all(point).with_context(|| format!("make {point}"))?;
        }
        write_json(
            &folder.join("cni/10-isthmus.conflist"),
            &config::render_network(self.spec, self.number, &folder),
        )?;
        write_json(
            &folder.join("kubelet.json"),
            &config::render_kubelet(
                self.spec,
                &self.name,
                &network::node_link(&self.spec.name(), self.number),
                self.paths,
            ),
        )?;
        write_json(
            &folder.join("proxy.json"),
            &config::render_proxy(self.spec, &self.name, self.paths),
        )?;
        let socket = self.paths.containerd_socket(&self.name);
        write_text(
            &folder.join("containerd.toml"),
            &config::render_containerd(&folder, &socket),
        )?;
        // Nothing answers there: names outside the cluster fail at once, as the machine's own network must not be asked.
        write_text(
            &folder.join("resolv.conf"),
            &format!("nameserver {}\n", self.spec.addressing().host()),
        )
    }

    fn start_init(&self) -> Result<Daemon> {
        let folder = self.folder();
        let namespace = network::namespace_file(&network::node_link(&self.spec.name(), self.number));
        let mut init = Launch {
            name: &format!("{} init", self.name),
            program: Path::new("sh"),
            args: vec!["-c".to_owned(), config::render_init(&folder)],
            inside: Inside::NewMounts(namespace),
            cgroup: &self.cgroup,
            log: self.log("init"),
            folder: &folder,
        }
        .start()?;
        init.wait_until("make its mounts", PATIENCE, || folder.join("mounts-ready").exists())?;
        Ok(init)
    }

    fn start_containerd(&self, init: u32) -> Result<Daemon> {
        let program = host::find_program("containerd").context("find the program containerd")?;
        let log = self.log("containerd");
        let mut containerd = Launch {
            name: &format!("{} containerd", self.name),
            program: &program,
            args: vec![
                "-c".to_owned(),
                self.folder().join("containerd.toml").display().to_string(),
            ],
            inside: Inside::Process(init),
            cgroup: &self.cgroup,
            log: log.clone(),
            folder: &self.folder(),
        }
        .start()?;
        // Its socket answers before its runtime interface does, and a kubelet that comes too early gives up.
        containerd.wait_until("offer its runtime interface", PATIENCE, || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("Start streaming server"))
        })?;
        Ok(containerd)
    }

    fn start_kubernetes(&self, component: &str, init: u32, args: Vec<String>) -> Result<Daemon> {
        Launch {
            name: &format!("{} {component}", self.name),
            program: &self.paths.bin(component),
            args,
            inside: Inside::Process(init),
            cgroup: &self.cgroup,
            log: self.log(component),
            folder: &self.folder(),
        }
        .start()
    }
}

/// Writes a configuration file.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_text(path, &format!("{value:#}\n"))
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests;
