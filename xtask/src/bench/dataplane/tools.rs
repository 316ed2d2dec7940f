//! The programs of others that are there.

use std::path::{Path, PathBuf};

use anyhow::Result;
use isthmus_cluster::cache_folder;
use isthmus_testkit::require::find_program;

use super::contestant::Contestant;
use crate::process::{cargo, say, step};

/// Programs of crates.io, and their versions.
const CRATES: [(&str, &str); 2] = [("gotatun-cli", "0.10.2"), ("boringtun-cli", "0.7.1")];

/// The programs.
pub(super) struct Tools {
    isthmus: PathBuf,
    /// Where those of crates.io are.
    installed: PathBuf,
}

impl Tools {
    /// Looks for the programs, and installs those of crates.io when that is asked for. Says what is missing.
    pub(super) fn find(isthmus: PathBuf, install: bool) -> Result<Self> {
        let tools = Self {
            isthmus,
            installed: cache_folder()?.join("bench"),
        };
        for (name, version) in CRATES {
            if install && tools.path(name).is_none() {
                let krate = format!("{name}@{version}");
                let mut cargo = cargo();
                cargo.args(["install", "--locked", "--quiet", &krate, "--root"]);
                step(&format!("install {krate}"), cargo.arg(&tools.installed))?;
            }
        }
        for contestant in Contestant::ALL {
            if !tools.has(contestant) {
                say(&format!("not measured: {contestant}, which is not there"));
            }
        }
        Ok(tools)
    }

    /// Whether this contestant can be measured.
    pub(super) fn has(&self, contestant: Contestant) -> bool {
        let client = contestant != Contestant::Tailscaled || find_program("tailscale").is_some();
        client && contestant.program().is_none_or(|name| self.path(name).is_some())
    }

    /// Where a program is.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let installed = self.installed.join("bin").join(name);
        if installed.is_file() {
            Some(installed)
        } else {
            find_program(name)
        }
    }

    /// The binary of ours.
    pub(super) fn isthmus(&self) -> &Path {
        &self.isthmus
    }
}
