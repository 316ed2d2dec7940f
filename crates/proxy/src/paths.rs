//! Chooses which way each family takes through the proxy: through the kernel, or, where the kernel cannot, through the
//! relay. Once the relay carries a family it stays with it until the process ends, so that nothing flaps.

mod probe;

use std::net::SocketAddr;

use isthmus_proxy_core::{Mode, Path, PathSetting, Paths, RelayListeners};
use isthmus_runtime::ErrorChain;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::kernel::Kernel;
use crate::relay::{RelayLimits, RelayMetrics};

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
        // What goes to a cluster IP alone meets the plugin's load balancing.
        let redirected = *self.sockets_are_redirected.borrow() && matches!(mode, Mode::Ingress(_));
        let (relay_v4, relay_v6) = match self.setting {
            PathSetting::Automatic => (redirected, redirected || self.ipv6_is_not_forwarded),
            PathSetting::Relay => (true, true),
            PathSetting::Kernel => (false, false),
        };
        let relay_v4 = relay_v4 && mode.targets().any(|target| target.is_ipv4());
        let relay_v6 = relay_v6 && mode.targets().any(|target| target.is_ipv6());
        let listeners = if relay_v4 || relay_v6 {
            self.relay(kernel).await
        } else {
            None
        };
        let kernel_v6 = forwards_ipv6.then_some(Path::Kernel);
        let relayed = |listeners: RelayListeners| Paths {
            v4: if relay_v4 {
                listeners.v4.map(Path::Relay)
            } else {
                Some(Path::Kernel)
            },
            v6: if relay_v6 {
                listeners.v6.map(Path::Relay)
            } else {
                kernel_v6
            },
        };
        let by_kernel = Paths {
            v6: kernel_v6,
            ..Paths::KERNEL
        };
        let paths = listeners.map_or(by_kernel, relayed);
        self.announce(paths, mode, redirected);
        paths
    }

    /// Why a family is not carried that the relay would carry: one line for the user.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    async fn relay(&mut self, kernel: &mut Kernel) -> Option<RelayListeners> {
        match kernel.start_relay(RelayLimits::default(), &self.metrics).await {
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

    fn announce(&mut self, paths: Paths, mode: &Mode, redirected: bool) {
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
            cluster_ips_are_for_sockets_alone = redirected,
            setting = ?self.setting,
            "ways through the proxy are chosen"
        );
        self.announced = Some(paths);
    }
}

impl Drop for PathChoice {
    fn drop(&mut self) {
        if let Some(probe) = &self.probe {
            probe.abort();
        }
    }
}
