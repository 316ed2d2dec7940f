//! Debian packages that the tests and the demo need.

use std::{collections::BTreeSet, env, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::process::say;

/// Installs the packages of those programs that are not on the search path; see [`ensure_packages`].
pub(crate) fn ensure_programs(programs: &[(&str, &'static str)]) -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let folders: Vec<PathBuf> = env::split_paths(&path).chain(system).collect();
    let found = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    let missing = programs.iter().filter(|(program, _)| !found(program));
    let packages: BTreeSet<&str> = missing.map(|(_, package)| *package).collect();
    ensure_packages(&packages.into_iter().collect::<Vec<_>>())
}

/// Installs packages that are missing when this is root on a Debian machine; else says what to type.
pub(crate) fn ensure_packages(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let root = nix::unistd::Uid::effective().is_root();
    if !root || Command::new("apt-get").arg("--version").output().is_err() {
        bail!("programs are missing, type: sudo apt-get install -y --no-install-recommends {list}");
    }
    say(&format!("installing Debian packages: {list}"));
    let install = || -> Result<bool> {
        let status = Command::new("apt-get")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .context("run apt-get install")?;
        Ok(status.success())
    };
    if install()? {
        return Ok(());
    }
    // A machine that never installed anything has no list of packages.
    Command::new("apt-get")
        .args(["update", "-q"])
        .status()
        .context("run apt-get update")?;
    ensure!(install()?, "apt-get could not install {list}");
    Ok(())
}
