//! The local cluster as tests use it: one for all tests, a namespace for each.
//!
//! The cluster is started by the first test that asks and goes on running, so that the next run finds it up; a lock
//! keeps two test processes from using it at once. Tests that cut nodes or change the cluster bring up one of their
//! own with [`Cluster::up`].

mod namespace;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};

use isthmus_cluster::{Cluster, ClusterSpec, default_state_folder, target_folder};
use nix::unistd::Uid;

pub use namespace::TestNamespace;

use crate::{require, workload};

/// The cluster that the tests of this process share.
#[derive(Debug)]
pub struct SharedCluster {
    cluster: Cluster,
    images: Once,
    /// Held until this process ends.
    _lock: File,
}

/// The shared cluster, started if need be; nothing, said aloud, when this machine cannot run one.
///
/// # Panics
/// When starting it fails.
pub fn shared() -> Option<&'static SharedCluster> {
    static SHARED: OnceLock<Option<SharedCluster>> = OnceLock::new();
    get(&SHARED, &default_state_folder(), |spec| spec)
}

/// Like [`shared`], a second cluster with the settings that a proxy must survive: another domain, Pods that start
/// without forwarding, strict namespaces.
///
/// # Panics
/// When starting it fails.
pub fn hostile() -> Option<&'static SharedCluster> {
    static HOSTILE: OnceLock<Option<SharedCluster>> = OnceLock::new();
    get(&HOSTILE, &hostile_state_folder(), ClusterSpec::hostile)
}

/// The folder of the [`hostile`] cluster.
pub fn hostile_state_folder() -> PathBuf {
    target_folder().join("cluster-hostile")
}

fn get(
    cell: &'static OnceLock<Option<SharedCluster>>,
    state: &Path,
    profile: impl FnOnce(ClusterSpec) -> ClusterSpec,
) -> Option<&'static SharedCluster> {
    cell.get_or_init(|| can_run_cluster().then(|| SharedCluster::start(state, profile)))
        .as_ref()
}

/// True when this process may start a cluster; else says why not.
pub fn can_run_cluster() -> bool {
    if !Uid::effective().is_root() {
        return require::missing("a cluster needs root");
    }
    let packages = isthmus_cluster::missing_packages();
    packages.is_empty() || require::missing(&format!("Debian packages are missing: {}", packages.join(" ")))
}

/// Prints a line of progress to the test's captured output.
pub fn print_progress(line: &str) {
    eprintln!("{line}");
}

impl SharedCluster {
    /// A namespace for one test, of which `test` becomes the name; Pods in it may ask for any right.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn namespace(&'static self, test: &str) -> TestNamespace {
        TestNamespace::create(&self.cluster, test)
    }

    /// The cluster itself.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Loads the image of isthmus that `cargo xtask image` wrote.
    ///
    /// # Panics
    /// When it was not written or cannot be loaded.
    pub fn load_isthmus(&self) {
        let image = target_folder().join("image/isthmus.tar");
        let loaded = self.cluster.load(&image);
        loaded.unwrap_or_else(|error| panic!("{error:#}; `cargo xtask image` writes the image"));
    }

    /// Loads the images of isthmus and of the workload, the first time that it is called.
    ///
    /// # Panics
    /// When they cannot be written or loaded.
    pub fn load_images(&self) {
        self.images.call_once(|| {
            self.load_isthmus();
            let workload = workload::write_image().and_then(|image| self.cluster.load(&image));
            workload.unwrap_or_else(|error| panic!("{error:#}"));
        });
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.cluster.kubeconfig()
    }

    fn start(state: &Path, profile: impl FnOnce(ClusterSpec) -> ClusterSpec) -> Self {
        fs::create_dir_all(state).expect("make the cluster's folder");
        let lock = File::create(state.join("tests.lock")).expect("open the lock of the tests");
        if lock.try_lock().is_err() {
            eprintln!("another test process uses the cluster: waiting for it");
            lock.lock().expect("take the lock of the tests");
        }
        let spec = ClusterSpec::in_free_slot(state).map(profile);
        let cluster = spec.and_then(|spec| Cluster::up(&spec, &print_progress));
        let cluster = cluster.unwrap_or_else(|error| panic!("the cluster does not come up: {error:#}"));
        Self {
            cluster,
            images: Once::new(),
            _lock: lock,
        }
    }
}
