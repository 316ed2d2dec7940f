//! Control groups: what a process belongs to is what says that it is ours.
//!
//! Every daemon enters a group of ours before it runs, and what it starts inherits that or is put below it by the
//! kubelet. So the members of our groups are exactly the processes of the cluster, and ending them needs no names.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ROOT: &str = "/sys/fs/cgroup";
/// The hierarchy without a controller, which follows every process.
const TRACKING: &str = "systemd";
/// The hierarchies that a daemon enters: the one that tracks it, and the one that measures its memory.
const ENTERED: [&str; 2] = [TRACKING, "memory"];
/// How long members may take to go after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(20);

/// A top-level control group of ours, of the same name in every hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    name: String,
}

impl Cgroup {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Makes the group in every hierarchy, with a subgroup `system` for daemons.
    pub(crate) fn create(&self) -> Result<()> {
        for hierarchy in hierarchies()? {
            let group = hierarchy.join(&self.name);
            fs::create_dir_all(&group).with_context(|| format!("make the cgroup {}", group.display()))?;
            if hierarchy.ends_with("cpuset") {
                inherit_cpuset(&hierarchy, &group)?;
            }
        }
        for hierarchy in ENTERED {
            let group = Path::new(ROOT).join(hierarchy).join(&self.name).join("system");
            fs::create_dir_all(&group).with_context(|| format!("make the cgroup {}", group.display()))?;
        }
        Ok(())
    }

    /// The files that a process writes its id to when it enters the group of daemons.
    pub(crate) fn entrances(&self) -> impl Iterator<Item = PathBuf> {
        ENTERED
            .map(|hierarchy| {
                Path::new(ROOT)
                    .join(hierarchy)
                    .join(&self.name)
                    .join("system/cgroup.procs")
            })
            .into_iter()
    }

    /// Whether this process is a member of the group or of one below it.
    pub(crate) fn holds(&self, pid: u32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| names_group(&text, &self.name))
    }

    /// Every process in the group and below it.
    pub(crate) fn members(&self) -> Vec<u32> {
        let mut members = Vec::new();
        collect_members(&Path::new(ROOT).join(TRACKING).join(&self.name), &mut members);
        members
    }

    /// Ends every member at once and waits until none is left.
    pub(crate) fn kill_members(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let members = self.members();
            if members.is_empty() {
                return Ok(());
            }
            for pid in members.iter().copied().filter(|pid| self.holds(*pid)) {
                // A member that ended meanwhile is what was wanted.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            if Instant::now() > deadline {
                bail!("processes {members:?} of the cgroup {} do not end", self.name);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the group exists in any hierarchy.
    pub(crate) fn exists(&self) -> bool {
        hierarchies().is_ok_and(|all| all.iter().any(|hierarchy| hierarchy.join(&self.name).exists()))
    }

    /// Removes the group and those below it from every hierarchy.
    pub(crate) fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for hierarchy in hierarchies()? {
            let group = hierarchy.join(&self.name);
            while group.exists() {
                remove_tree(&group);
                if Instant::now() > deadline {
                    bail!("the cgroup {} cannot be removed", group.display());
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

/// Refuses a machine whose control groups this crate cannot use.
pub(crate) fn check_machine() -> Result<()> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        bail!(
            "this machine has cgroup v2 only, which the local cluster does not support yet: boot with systemd.unified_cgroup_hierarchy=0"
        );
    }
    for hierarchy in ENTERED {
        if !Path::new(ROOT).join(hierarchy).is_dir() {
            bail!("the cgroup hierarchy {ROOT}/{hierarchy} is not mounted");
        }
    }
    Ok(())
}

/// The mounted hierarchies, version 1 and the controller-less version 2 beside them.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = fs::read_dir(ROOT)
        .with_context(|| format!("list {ROOT}"))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| !path.is_symlink() && path.join("cgroup.procs").exists())
        .collect();
    all.sort();
    Ok(all)
}

/// A new group of the cpuset hierarchy has no processors and admits nobody until it is given some.
fn inherit_cpuset(hierarchy: &Path, group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let all = fs::read_to_string(hierarchy.join(file)).with_context(|| format!("read {file} of the machine"))?;
        fs::write(group.join(file), all.trim()).with_context(|| format!("write {file} of {}", group.display()))?;
    }
    Ok(())
}

/// Whether a `/proc/PID/cgroup` text says that the process is in the group of this name or below it.
fn names_group(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(hierarchy), Some(path)) = (parts.next(), parts.next()) else {
            return false;
        };
        let inside = path.strip_prefix('/').and_then(|path| path.strip_prefix(name));
        hierarchy == format!("name={TRACKING}") && inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn collect_members(group: &Path, members: &mut Vec<u32>) {
    if let Ok(text) = fs::read_to_string(group.join("cgroup.procs")) {
        members.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    for below in subgroups(group) {
        collect_members(&below, members);
    }
}

/// Removes the deepest groups first; one that still has a member stays, and the caller tries again.
fn remove_tree(group: &Path) {
    for below in subgroups(group) {
        remove_tree(&below);
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != ErrorKind::NotFound => {}
        Ok(()) | Err(_) => {}
    }
}

fn subgroups(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests;
