//! Where a cluster keeps its files.

use std::path::{Path, PathBuf};

use crate::owner;

/// The files of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    state: PathBuf,
    run: PathBuf,
}

impl Paths {
    pub(crate) fn new(state: &Path, name: &str) -> Self {
        Self {
            state: state.to_owned(),
            run: owner::run_folder(name),
        }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.state.join("cluster.json")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    pub(crate) fn pki_file(&self, file: &str) -> PathBuf {
        self.pki().join(file)
    }

    pub(crate) fn bin(&self, command: &str) -> PathBuf {
        self.state.join("bin").join(command)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.state.join("log")
    }

    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.logs().join("audit.log")
    }

    pub(crate) fn etcd(&self) -> PathBuf {
        self.state.join("etcd")
    }

    pub(crate) fn config(&self, file: &str) -> PathBuf {
        self.state.join("config").join(file)
    }

    pub(crate) fn node(&self, node: &str) -> PathBuf {
        self.state.join(node)
    }

    /// The socket of a node's containerd, outside the state folder because the path of a socket has at most 107 bytes.
    pub(crate) fn containerd_socket(&self, node: &str) -> PathBuf {
        self.run.join(format!("{node}.sock"))
    }
}
