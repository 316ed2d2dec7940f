//! What the kernel accounts to a Pod, and to the whole machine.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use isthmus_testkit::netns::Namespace;
use serde::Serialize;

use crate::demo::stage::Stage;

/// A Pod's accounts in the kernel.
pub(super) struct Pod {
    processor: PathBuf,
    memory: PathBuf,
}

/// The memory of a Pod, in MiB.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Memory {
    /// What its processes have written.
    pub(super) own_mib: f64,
    /// With the pages of files that were read on its account.
    pub(super) all_mib: f64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB own, {:.1} MiB in all", self.own_mib, self.all_mib)
    }
}

impl Pod {
    pub(super) fn of_operator(stage: &Stage) -> Result<Self> {
        Self::find(stage, "isthmus", "app.kubernetes.io/name=isthmus-operator")
    }

    pub(super) fn of_proxy(stage: &Stage, service: &str) -> Result<Self> {
        Self::find(stage, "isthmus", &format!("tailscale.com/parent-resource={service}"))
    }

    /// The one Pod of the default namespace with this label.
    pub(super) fn of_workload(stage: &Stage, label: &str) -> Result<Self> {
        Self::find(stage, "default", label)
    }

    /// The accounts of the one Pod with this label: the kubelet names its control group after the Pod's UID.
    fn find(stage: &Stage, namespace: &str, label: &str) -> Result<Self> {
        let uid = stage.kubectl(&[
            "-n",
            namespace,
            "get",
            "pods",
            "-l",
            label,
            "-o",
            "jsonpath={.items[0].metadata.uid}",
        ])?;
        let group = |controller: &str| {
            let root = Path::new("/sys/fs/cgroup").join(controller);
            find_folder(&root, &format!("pod{uid}"), 6)
                .with_context(|| format!("{} has no control group of Pod {uid}", root.display()))
        };
        Ok(Self {
            processor: group("cpuacct")?,
            memory: group("memory")?,
        })
    }

    /// The network namespace that the Pod's containers share.
    pub(super) fn network(&self, name: &str) -> Result<Namespace> {
        let process = first_process(&self.processor)
            .with_context(|| format!("no process runs in {}", self.processor.display()))?;
        Namespace::of_process(name, process).with_context(|| format!("enter the network of process {process}"))
    }

    pub(super) fn processor_seconds(&self) -> Result<f64> {
        Ok(number(&self.processor.join("cpuacct.usage"))? / 1e9)
    }

    /// What the Pod holds: memory of its own, and with the page cache.
    pub(super) fn memory(&self) -> Result<Memory> {
        let stat = fs::read_to_string(self.memory.join("memory.stat")).context("read memory.stat")?;
        let own = stat
            .lines()
            .find_map(|line| line.strip_prefix("total_rss "))
            .context("memory.stat has total_rss")?;
        let own: f64 = own.trim().parse().context("total_rss is a number")?;
        let all = number(&self.memory.join("memory.usage_in_bytes"))?;
        Ok(Memory {
            own_mib: own / 1_048_576.0,
            all_mib: all / 1_048_576.0,
        })
    }
}

fn number(file: &Path) -> Result<f64> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    text.trim()
        .parse()
        .with_context(|| format!("{} holds a number", file.display()))
}

/// Some process of this control group or of one below it.
fn first_process(group: &Path) -> Option<u32> {
    let own = fs::read_to_string(group.join("cgroup.procs")).ok()?;
    let below = || subfolders(group).iter().find_map(|group| first_process(group));
    own.lines().next().and_then(|line| line.parse().ok()).or_else(below)
}

/// The first folder of this name at most `depth` levels below.
fn find_folder(below: &Path, name: &str, depth: u32) -> Option<PathBuf> {
    let folders = subfolders(below);
    let here = folders
        .iter()
        .find(|path| path.file_name().is_some_and(|own| own == name));
    here.cloned()
        .or_else(|| (depth > 1).then(|| folders.iter().find_map(|path| find_folder(path, name, depth - 1)))?)
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Seconds in which the machine's processors were busy.
pub(super) fn machine_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let first = stat.lines().next().context("/proc/stat has a line")?;
    let ticks: Vec<f64> = first
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    ensure!(ticks.len() > 7, "/proc/stat has too few columns");
    // user, nice, system, irq, softirq; a tick is a hundredth of a second.
    Ok((ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / 100.0)
}
