//! What the proxy needs of its container and node, asked before anything is done.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use thiserror::Error;

use crate::nftables::{NftablesError, PacketFilter};

/// The device that makes TUN devices.
const TUN_DEVICE: &str = "/dev/net/tun";

/// `EPERM` and its kin as netlink gives them.
const DENIED: [i32; 2] = [1, 13];

/// One missing right, and how to grant it.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// No NET_ADMIN.
    #[error(
        "cannot change the Pod's network: grant the container NET_ADMIN and root (securityContext: runAsUser: 0, \
         capabilities: {{drop: [ALL], add: [NET_ADMIN]}})"
    )]
    NetAdmin(#[source] NftablesError),
    /// No nf_tables in the kernel.
    #[error("cannot use nftables: load the kernel module nf_tables on the node (modprobe nf_tables)")]
    Nftables(#[source] NftablesError),
    /// No TUN device in the container.
    #[error(
        "cannot find {TUN_DEVICE}: mount it into the container (hostPath: {{path: {TUN_DEVICE}, type: CharDevice}})"
    )]
    TunMissing(#[source] io::Error),
    /// The TUN device may not be opened.
    #[error(
        "cannot open {TUN_DEVICE}: the container runtime forbids it, as runc 1.2.0 to 1.2.3 do; use runc 1.2.4 or later \
         on the node, and run the container as root"
    )]
    TunDenied(#[source] io::Error),
    /// The kernel has no TUN devices.
    #[error("cannot use {TUN_DEVICE}: load the kernel module tun on the node (modprobe tun)")]
    TunUnsupported(#[source] io::Error),
}

/// Asks for everything, and reports the first thing that is missing.
pub async fn check_rights() -> Result<(), PreflightError> {
    check_packet_filter().await?;
    open_tun(Path::new(TUN_DEVICE))
}

async fn check_packet_filter() -> Result<(), PreflightError> {
    let answer = match PacketFilter::open() {
        Ok(filter) => filter.probe().await,
        Err(error) => Err(error),
    };
    answer.map_err(missing)
}

/// What is missing where the kernel's packet filter answers like this.
fn missing(error: NftablesError) -> PreflightError {
    let denied = matches!(&error, NftablesError::List(source) if source.errno().is_some_and(|e| DENIED.contains(&e)));
    if denied {
        PreflightError::NetAdmin(error)
    } else {
        PreflightError::Nftables(error)
    }
}

fn open_tun(path: &Path) -> Result<(), PreflightError> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map(drop).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            PreflightError::TunMissing(error)
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            PreflightError::TunDenied(error)
        } else {
            PreflightError::TunUnsupported(error)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{PreflightError, missing, open_tun};
    use crate::nftables::NftablesError;

    /// `ENOENT`, `EPROTONOSUPPORT` and `EOPNOTSUPP`: what kernels say that have no such module.
    const ABSENT: [i32; 3] = [2, 93, 95];

    #[test]
    fn kernel_without_nf_tables_is_told_from_a_missing_right() {
        for number in ABSENT {
            let errors = [NftablesError::Open, NftablesError::List];
            for error in errors.map(|error| missing(error(nlink::Error::from_errno(-number)))) {
                let said = error.to_string();
                assert!(said.contains("load the kernel module nf_tables on the node"), "{said}");
            }
        }
        let denied = missing(NftablesError::List(nlink::Error::from_errno(-1)));
        assert!(matches!(denied, PreflightError::NetAdmin(_)), "{denied}");
    }

    #[test]
    fn missing_tun_device_is_named_with_its_mount() {
        let error = open_tun(Path::new("/nonexistent/tun")).unwrap_err();
        assert!(matches!(error, PreflightError::TunMissing(_)));
        assert!(error.to_string().contains("type: CharDevice"));
    }

    #[test]
    fn file_that_is_no_device_is_not_called_missing() {
        let error = open_tun(Path::new("/")).unwrap_err();
        assert!(matches!(error, PreflightError::TunUnsupported(_)), "{error}");
    }
}
