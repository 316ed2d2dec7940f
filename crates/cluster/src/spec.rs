//! What a cluster shall be like: the settings that a profile changes.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::addressing::Addressing;
use crate::owner;

/// Highest slot: it is a digit in addresses of both families.
const MAX_SLOT: u8 = 9;

/// The settings of one cluster. The default is dual-stack with stock kubelet settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Folder of everything the cluster writes; the kubeconfig is `kubeconfig` in it.
    pub state: PathBuf,
    /// Which of the clusters of this machine: it decides names, addresses and ports. 0 to 9.
    pub slot: u8,
    /// How many nodes, 1 to 8, named `n1`, `n2`, …
    pub nodes: u8,
    /// The DNS domain of the cluster.
    pub cluster_domain: String,
    /// Whether Pods, Services and nodes have IPv6 addresses beside IPv4.
    pub ipv6: bool,
    /// Sysctls that the network plugin sets in every new Pod, as a cluster's administrator may.
    pub pod_sysctls: BTreeMap<String, String>,
    /// The Pod Security level of namespaces without a label: `privileged`, `baseline` or `restricted`.
    pub psa_enforce: String,
    /// Seconds without a sign of life after which a node counts as not ready. At least 16.
    pub node_grace_s: u32,
    /// Seconds that Pods stay bound to a node that is not ready or unreachable.
    pub unreachable_s: u32,
}

impl ClusterSpec {
    /// The default settings with this state folder and slot.
    pub fn new(state: impl Into<PathBuf>, slot: u8) -> Self {
        Self {
            state: state.into(),
            slot,
            nodes: 2,
            cluster_domain: "cluster.local".to_owned(),
            ipv6: true,
            pod_sysctls: BTreeMap::new(),
            psa_enforce: "privileged".to_owned(),
            node_grace_s: 50,
            unreachable_s: 300,
        }
    }

    /// The default settings for this state folder, in the slot that it holds or else in the first free one, which it
    /// holds from now on until [`Cluster::down`](crate::Cluster::down).
    ///
    /// # Errors
    /// When the machine-wide register of clusters cannot be written, or every slot is taken.
    pub fn in_free_slot(state: &Path) -> Result<Self> {
        Ok(Self::new(state, owner::claim_slot(state, MAX_SLOT)?))
    }

    /// The default settings for this state folder in the slot that it holds; nothing when it holds none.
    ///
    /// # Errors
    /// When the machine-wide register of clusters cannot be read.
    pub fn in_held_slot(state: &Path) -> Result<Option<Self>> {
        let slot = owner::held_slot(state, MAX_SLOT)?;
        Ok(slot.map(|slot| Self::new(state, slot)))
    }

    /// The default settings of every cluster whose state folder is in this folder.
    ///
    /// # Errors
    /// When the machine-wide register of clusters cannot be read.
    pub fn all_below(folder: &Path) -> Result<Vec<Self>> {
        let held = owner::slots_below(folder, MAX_SLOT)?;
        Ok(held.into_iter().map(|(slot, state)| Self::new(state, slot)).collect())
    }

    /// The settings that a proxy must survive: another domain, Pods that start without forwarding, strict namespaces.
    #[must_use]
    pub fn hostile(mut self) -> Self {
        "corp.internal".clone_into(&mut self.cluster_domain);
        "baseline".clone_into(&mut self.psa_enforce);
        self.pod_sysctls
            .insert("net.ipv4.ip_forward".to_owned(), "0".to_owned());
        self
    }

    /// The name that every interface, namespace and cgroup of this cluster begins with.
    pub fn name(&self) -> String {
        slot_name(self.slot)
    }

    /// The addresses and ports of this cluster.
    pub fn addressing(&self) -> Addressing {
        Addressing::new(self.slot, self.ipv6)
    }

    /// The numbers of the nodes, from 1.
    pub fn node_numbers(&self) -> impl Iterator<Item = u8> + use<> {
        1..=self.nodes
    }

    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// Names the setting and its range.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.slot <= MAX_SLOT,
            "the slot is {}: choose 0 to {MAX_SLOT}",
            self.slot
        );
        ensure!(
            (1..=8).contains(&self.nodes),
            "{} nodes are asked for: choose 1 to 8",
            self.nodes
        );
        ensure!(
            self.node_grace_s >= 16,
            "node_grace_s is {}: choose 16 or more, a kubelet reports every 4 s",
            self.node_grace_s
        );
        ensure!(
            ["privileged", "baseline", "restricted"].contains(&self.psa_enforce.as_str()),
            "psa_enforce is {:?}: choose privileged, baseline or restricted",
            self.psa_enforce
        );
        Ok(())
    }
}

/// The name of the cluster in this slot.
pub(crate) fn slot_name(slot: u8) -> String {
    if slot == 0 {
        "isthmus".to_owned()
    } else {
        format!("isthmus{slot}")
    }
}

/// The folder of the default cluster: `cluster` beside cargo's other results.
pub fn default_state_folder() -> PathBuf {
    target_folder().join("cluster")
}

/// The folder that cargo builds into.
pub fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_folder().join("target"), PathBuf::from)
}

/// The root of the repository.
pub fn workspace_folder() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent);
    crates
        .expect("the crate is a folder of the workspace's crates")
        .to_owned()
}
