//! Settings of the machine that a cluster changes, kept while any cluster runs and put back after the last one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::owner;

/// What every kubelet sets, and what routing between the nodes needs.
const CHANGED: [&str; 6] = [
    "kernel.keys.root_maxbytes",
    "kernel.keys.root_maxkeys",
    "kernel.panic",
    "kernel.panic_on_oops",
    "net.ipv4.ip_forward",
    "vm.overcommit_memory",
];

/// Keeps the present values, unless another cluster has done so.
pub(crate) fn save() -> Result<()> {
    let _lock = owner::lock(owner::LOCK)?;
    if kept().exists() {
        return Ok(());
    }
    let values: BTreeMap<&str, String> = CHANGED
        .iter()
        .filter_map(|name| Some((*name, fs::read_to_string(file(name)).ok()?.trim().to_owned())))
        .collect();
    let text = serde_json::to_string(&values).context("write down the sysctls of the machine")?;
    fs::write(kept(), text).with_context(|| format!("write {}", kept().display()))
}

/// Puts the kept values back when no cluster is registered any more.
pub(crate) fn restore() -> Result<()> {
    let _lock = owner::lock(owner::LOCK)?;
    if owner::any_left() || !kept().exists() {
        return Ok(());
    }
    let text = fs::read_to_string(kept()).with_context(|| format!("read {}", kept().display()))?;
    let values: BTreeMap<String, String> =
        serde_json::from_str(&text).with_context(|| format!("understand {}", kept().display()))?;
    for (name, value) in &values {
        let present = fs::read_to_string(file(name)).unwrap_or_default();
        if present.trim() != value {
            fs::write(file(name), value).with_context(|| format!("put the sysctl {name} back to {value}"))?;
        }
    }
    fs::remove_file(kept()).with_context(|| format!("remove {}", kept().display()))
}

fn kept() -> PathBuf {
    owner::register().join("sysctls.json")
}

fn file(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}
