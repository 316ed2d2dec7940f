//! A real two-node Kubernetes cluster on this machine, of processes in network namespaces. Development only.
//!
//! [`Cluster`] is kube-apiserver, its companions and two nodes (containerd, kubelet, kube-proxy), each node in a network
//! and a mount namespace of its own; it needs root. [`ApiServer`] is etcd and kube-apiserver alone and needs no rights.
//!
//! What a configuration says is rendered by pure functions; what touches the machine is named by its subject
//! (`cgroup`, `network`, `process`, `pki`). Absent on purpose: nothing here reaches beyond this machine, and no
//! imitation of any Kubernetes component exists.

mod addressing;
mod api;
mod apiserver;
mod cgroup;
mod cluster;
mod control_plane;
mod dns;
mod etcd;
mod host;
pub mod image;
mod manifests;
mod network;
mod node;
mod owner;
mod paths;
mod pki;
mod process;
mod spec;
mod state;
mod sysctl;
mod tools;

pub use addressing::Addressing;
pub use apiserver::ApiServer;
pub use cluster::{Cluster, Status};
pub use host::{find_program, missing_packages};
pub use spec::{ClusterSpec, default_state_folder, target_folder, workspace_folder};
pub use tools::{Tools, cache_folder};

/// Where progress lines go; called from several threads.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);
