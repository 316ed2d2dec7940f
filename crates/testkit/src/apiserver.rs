//! The API server that the tests of one process share: etcd and kube-apiserver, nothing that acts on objects.

use std::sync::OnceLock;

use isthmus_cluster::ApiServer;

use crate::cluster::print_progress;
use crate::require;

/// The shared API server, started if need be; nothing, said aloud, when its programs cannot be built here.
///
/// It ends with the test process. Tests keep out of each other's way by namespaces of their own.
///
/// # Panics
/// When starting it fails.
pub fn shared() -> Option<&'static ApiServer> {
    static SHARED: OnceLock<Option<ApiServer>> = OnceLock::new();
    SHARED
        .get_or_init(|| (require::program("go") && require::program("setpriv")).then(start))
        .as_ref()
}

fn start() -> ApiServer {
    ApiServer::start(&print_progress).unwrap_or_else(|error| panic!("the API server does not start: {error:#}"))
}
