//! What is written down about a running cluster, so that another process can look after it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::process;
use crate::spec::ClusterSpec;

/// A cluster that came up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) spec: ClusterSpec,
    pub(crate) daemons: Vec<DaemonRecord>,
}

/// One of its daemons.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DaemonRecord {
    /// The component, with the node before it.
    pub(crate) name: String,
    /// The name of the program that the process runs.
    pub(crate) program: String,
    /// The top-level control group that the process is in.
    pub(crate) cgroup: String,
    pub(crate) pid: u32,
}

impl DaemonRecord {
    /// Whether the process still runs that program in that group; a process id alone says nothing.
    pub(crate) fn runs(&self) -> bool {
        process::runs(self.pid, &self.program, &Cgroup::new(&self.cgroup))
    }
}

/// Reads the record; nothing when no cluster came up in this state folder, or the text is of another version.
pub(crate) fn read(path: &Path) -> Result<Option<Record>> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Writes the record, whole or not at all.
pub(crate) fn write(path: &Path, record: &Record) -> Result<()> {
    let text = serde_json::to_vec_pretty(record).context("write down the cluster")?;
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("write {}", path.display()))
}
