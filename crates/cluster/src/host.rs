//! What the machine must offer, checked before anything is started.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};
use nix::unistd::Uid;

use crate::cgroup;

/// A program that the cluster starts, and the Debian package it comes in.
const PROGRAMS: [(&str, &str); 9] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
    ("sysctl", "procps"),
    ("unshare", "util-linux"),
];

/// Where Debian keeps network plugins, and the package.
const PLUGINS: (&str, &str) = ("/usr/lib/cni", "containernetworking-plugins");

/// The folder of the network plugins.
pub(crate) fn plugin_folder() -> &'static str {
    PLUGINS.0
}

/// Fails with one line that says what is missing and how to get it.
pub(crate) fn check() -> Result<()> {
    if !Uid::effective().is_root() {
        bail!("the local cluster needs root for namespaces and cgroups: run it with sudo");
    }
    let missing = missing_packages();
    if !missing.is_empty() {
        bail!("programs are missing: apt-get install {}", missing.join(" "));
    }
    cgroup::check_machine()
}

/// The Debian packages that the cluster needs and that are not installed, sorted.
pub fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !PathBuf::from(PLUGINS.0).join("bridge").exists() {
        missing.push(PLUGINS.1);
    }
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// The first program of this name on the search path or in the folders of system programs.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
