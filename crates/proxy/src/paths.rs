//! Chooses which way each family takes through the proxy: through the kernel, or, where the kernel cannot, through the
//! relay. Once the relay carries a family it stays with it until the process ends, so that nothing flaps.

mod probe;

use std::net::{IpAddr, SocketAddr};

use isthmus_proxy_core::{Mode, Path, PathSetting, Paths, RelayListeners};
use isthmus_runtime::ErrorChain;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::kernel::Kernel;
use crate::relay::{RelayError, RelayLimits, RelayMetrics};

/// What is known of the ways, and what was chosen.
pub struct PathChoice {
    setting: PathSetting,
    metrics: RelayMetrics,
    /// The kernel was seen not to forward IPv6.
    ipv6_is_not_forwarded: bool,
    /// Connections of sockets to cluster IPs are led elsewhere before they become packets.
    sockets_are_redirected: watch::Receiver<bool>,
    probe: Option<JoinHandle<()>>,
    /// Why there is no relay.
    trouble: Option<String>,
    announced: Option<Paths>,
}

impl PathChoice {
    /// Begins to find out. `cluster_ip` is the address of any TCP Service of this cluster that always answers, usually the
    /// API server's; without one, cluster IPs are taken to be reached by packets. Needs a tokio runtime.
    ///
    /// The rules of some plan must be in place: they make the kernel track connections.
    pub fn begin(setting: PathSetting, cluster_ip: Option<SocketAddr>, metrics: RelayMetrics) -> Self {
        let (found, sockets_are_redirected) = watch::channel(false);
        let wanted = cluster_ip.filter(|_| setting == PathSetting::Automatic);
        Self {
            setting,
            metrics,
            ipv6_is_not_forwarded: false,
            sockets_are_redirected,
            probe: wanted.map(|address| tokio::spawn(probe::run(address, found))),
            trouble: None,
            announced: None,
        }
    }

    /// Returns when something new is known, so that it is time to choose again.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn changed(&mut self) {
        if self.sockets_are_redirected.changed().await.is_err() {
            // The probe has said all that it has to say.
            std::future::pending::<()>().await;
        }
    }

    /// The ways for `mode`. Starts the relay when it is needed for the first time.
    pub async fn choose(&mut self, kernel: &mut Kernel, mode: &Mode) -> Paths {
        let forwards_ipv6 = kernel.routing().forwards_ipv6().await.unwrap_or(false);
        self.ipv6_is_not_forwarded |= !forwards_ipv6;
        let wanted = self.wants_relay(mode);
        let listeners = if wanted == (false, false) {
            None
        } else {
            let started = kernel.start_relay(RelayLimits::default(), &self.metrics).await;
            self.note(started)
        };
        let paths = resolve(wanted, listeners, forwards_ipv6);
        self.announce(paths, mode);
        paths
    }

    /// Which families the relay shall carry.
    fn wants_relay(&self, mode: &Mode) -> (bool, bool) {
        let redirected = self.is_redirected(mode);
        let (v4, v6) = match self.setting {
            PathSetting::Automatic => (redirected, redirected || self.ipv6_is_not_forwarded),
            PathSetting::Relay => (true, true),
            PathSetting::Kernel => (false, false),
        };
        let has = |is_family: fn(&IpAddr) -> bool| mode.targets().any(|target| is_family(&target));
        (v4 && has(IpAddr::is_ipv4), v6 && has(IpAddr::is_ipv6))
    }

    /// What goes to a cluster IP alone meets the plugin's load balancing.
    fn is_redirected(&self, mode: &Mode) -> bool {
        *self.sockets_are_redirected.borrow() && matches!(mode, Mode::Ingress(_))
    }

    /// Why a family is not carried that the relay would carry: one line for the user.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Why targets may not be reached although there are rules for them: one line for the user, where only the relay can do it
    /// and there is none.
    pub fn lacks_relay(&self, to_cluster_ips: bool) -> Option<String> {
        let trouble = self.trouble.as_ref()?;
        let what = if self.setting == PathSetting::Relay {
            "by the relay, as ISTHMUS_PATH asks"
        } else if to_cluster_ips && *self.sockets_are_redirected.borrow() {
            "to cluster IPs, which only sockets reach in this cluster"
        } else {
            return None;
        };
        Some(format!("cannot carry {what}: {trouble}"))
    }

    fn note(&mut self, started: Result<RelayListeners, RelayError>) -> Option<RelayListeners> {
        match started {
            Ok(listeners) => {
                self.trouble = None;
                Some(listeners)
            }
            Err(error) => {
                let trouble = ErrorChain(&error).to_string();
                if self.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(error = %trouble, "there is no relay");
                }
                self.trouble = Some(trouble);
                None
            }
        }
    }

    fn announce(&mut self, paths: Paths, mode: &Mode) {
        if *mode == Mode::Closed || self.announced == Some(paths) {
            return;
        }
        let name = |path: Option<Path>| match path {
            None => "none",
            Some(Path::Kernel) => "kernel",
            Some(Path::Relay(_)) => "relay",
        };
        tracing::info!(
            ipv4 = name(paths.v4),
            ipv6 = name(paths.v6),
            ipv6_is_forwarded = !self.ipv6_is_not_forwarded,
            cluster_ips_are_for_sockets_alone = self.is_redirected(mode),
            setting = ?self.setting,
            "ways through the proxy are chosen"
        );
        self.announced = Some(paths);
    }
}

/// The ways, when the relay is wanted for these families and listens there.
fn resolve(wanted: (bool, bool), listeners: Option<RelayListeners>, forwards_ipv6: bool) -> Paths {
    let by_kernel = Paths {
        v6: forwards_ipv6.then_some(Path::Kernel),
        ..Paths::KERNEL
    };
    let Some(listeners) = listeners else { return by_kernel };
    Paths {
        v4: if wanted.0 {
            listeners.v4.map(Path::Relay)
        } else {
            by_kernel.v4
        },
        v6: if wanted.1 {
            listeners.v6.map(Path::Relay)
        } else {
            by_kernel.v6
        },
    }
}

impl Drop for PathChoice {
    fn drop(&mut self) {
        if let Some(probe) = &self.probe {
            probe.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_proxy_core::{IngressPorts, Mode, PathSetting, Paths};
    use tokio::sync::watch;

    use super::{PathChoice, resolve};
    use crate::nftables::NftablesError;
    use crate::relay::{RelayError, RelayMetrics};

    fn choice(setting: PathSetting, redirected: bool) -> PathChoice {
        PathChoice {
            setting,
            metrics: RelayMetrics::default(),
            ipv6_is_not_forwarded: false,
            sockets_are_redirected: watch::channel(redirected).1,
            probe: None,
            trouble: None,
            announced: None,
        }
    }

    /// What a kernel without the module says.
    fn no_tproxy() -> RelayError {
        RelayError::HandOver(NftablesError::Replace(nlink::Error::from_errno(-2)))
    }

    #[test]
    fn kernel_without_nft_tproxy_is_named_where_only_sockets_reach_cluster_ips() {
        let mode = Mode::ingress_to(["10.96.0.7".parse().unwrap()], IngressPorts::All);
        let mut choice = choice(PathSetting::Automatic, true);
        assert_eq!(choice.wants_relay(&mode), (true, false));
        assert_eq!(choice.lacks_relay(true), None, "it was not tried yet");
        let listeners = choice.note(Err(no_tproxy()));
        assert_eq!(resolve((true, false), listeners, true), Paths::KERNEL);
        let said = choice.lacks_relay(true).unwrap();
        assert!(
            said.starts_with("cannot carry to cluster IPs, which only sockets reach"),
            "{said}"
        );
        assert!(said.contains("modprobe nft_tproxy"), "{said}");
        assert_eq!(
            choice.lacks_relay(false),
            None,
            "other addresses are reached by packets"
        );
    }

    #[test]
    fn relay_that_is_asked_for_and_not_to_be_had_is_named() {
        let mut choice = choice(PathSetting::Relay, false);
        choice.note(Err(no_tproxy()));
        let said = choice.lacks_relay(false).unwrap();
        assert!(said.contains("ISTHMUS_PATH") && said.contains("nft_tproxy"), "{said}");
    }

    #[test]
    fn kernel_without_nft_tproxy_matters_to_nobody_whom_the_kernel_carries() {
        let mut choice = choice(PathSetting::Automatic, false);
        choice.note(Err(no_tproxy()));
        assert_eq!(choice.lacks_relay(true), None);
    }
}
