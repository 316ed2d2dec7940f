//! What the node tells about its machine. It holds nothing that fluctuates: some servers send a full update to everyone on each change.

use isthmus_tailnet_wire::control::Hostinfo;

use super::ClientConfig;
use crate::node::NodePrefs;

/// The Hostinfo of every request, until the preferences change.
pub(crate) fn hostinfo(config: &ClientConfig, prefs: &NodePrefs) -> Hostinfo {
    Hostinfo {
        ipn_version: format!("{}-isthmus", env!("CARGO_PKG_VERSION")),
        os: "linux".to_owned(),
        app: config.app.clone(),
        hostname: prefs.hostname.clone(),
        routable_ips: prefs.advertise_routes.iter().copied().collect(),
        services_hash: prefs.services().hash,
        machine: std::env::consts::ARCH.to_owned(),
        go_arch: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
        .to_owned(),
        ..Hostinfo::default()
    }
}
