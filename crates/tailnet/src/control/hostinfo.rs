//! What the node tells about its machine. It holds nothing that fluctuates: some servers send a full update to everyone on each change.

use isthmus_tailnet_wire::control::Hostinfo;

use super::ClientConfig;

/// The Hostinfo of every request of this run.
pub(crate) fn hostinfo(config: &ClientConfig) -> Hostinfo {
    Hostinfo {
        ipn_version: format!("{}-isthmus", env!("CARGO_PKG_VERSION")),
        os: "linux".to_owned(),
        app: config.app.clone(),
        hostname: config.hostname.clone(),
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
