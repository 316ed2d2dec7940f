//! Which segmentation and coalescing the node uses, and the switches that turn it off.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Which offloads may be used. All are on unless the kernel is known to corrupt what they send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each switch is one the control server or the user can name"
)]
pub struct Offloads {
    /// Take super-packets from the TUN and give it super-packets. Read once, when the TUN is made.
    pub tun: bool,
    /// Join TCP packets for the TUN to super-packets (node attribute `disable-tun-tcp-gro`).
    pub tun_tcp_gro: bool,
    /// Join UDP packets for the TUN to super-packets (node attribute `disable-tun-udp-gro`).
    pub tun_udp_gro: bool,
    /// Send many datagrams by one system call (node attribute `disable-udp-gso`).
    pub udp_gso: bool,
    /// Let the kernel join received datagrams (node attribute `disable-udp-gro`).
    pub udp_gro: bool,
    /// Send batches whose last datagram is as long as the others by one system call as well (node attribute
    /// `never-gso-equal-tail`).
    pub gso_equal_tail: bool,
}

impl Offloads {
    /// Everything on.
    pub const ALL: Self = Self {
        tun: true,
        tun_tcp_gro: true,
        tun_udp_gro: true,
        udp_gso: true,
        udp_gro: true,
        gso_equal_tail: true,
    };

    /// Everything off.
    pub const NONE: Self = Self {
        tun: false,
        tun_tcp_gro: false,
        tun_udp_gro: false,
        udp_gso: false,
        udp_gro: false,
        gso_equal_tail: false,
    };

    /// What is safe on the running kernel.
    pub fn for_this_kernel() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self::for_kernel(release.trim())
    }

    /// What is safe on a kernel with this release, like `6.12.3-amd64`. Linux 7.0.0 to 7.1.4 corrupt UDP batches of
    /// equal length (tailscale#19777).
    fn for_kernel(release: &str) -> Self {
        let corrupts_gso = kernel_version(release).is_some_and(|version| ((7, 0, 0)..=(7, 1, 4)).contains(&version));
        Self {
            udp_gso: !corrupts_gso,
            ..Self::ALL
        }
    }

    /// These offloads without those that control's node attributes switch off.
    #[must_use]
    pub fn obeying(self, attributes: &[String]) -> Self {
        let allowed = |name: &str| !attributes.iter().any(|attribute| attribute == name);
        Self {
            tun: self.tun,
            tun_tcp_gro: self.tun_tcp_gro && allowed("disable-tun-tcp-gro"),
            tun_udp_gro: self.tun_udp_gro && allowed("disable-tun-udp-gro"),
            udp_gso: self.udp_gso && allowed("disable-udp-gso"),
            udp_gro: self.udp_gro && allowed("disable-udp-gro"),
            gso_equal_tail: self.gso_equal_tail && allowed("never-gso-equal-tail"),
        }
    }

    fn to_bits(self) -> u8 {
        let switches = [
            self.tun,
            self.tun_tcp_gro,
            self.tun_udp_gro,
            self.udp_gso,
            self.udp_gro,
            self.gso_equal_tail,
        ];
        switches.iter().fold(0, |bits, on| bits << 1 | u8::from(*on))
    }

    fn from_bits(bits: u8) -> Self {
        let on = |at: u8| bits >> at & 1 == 1;
        Self {
            tun: on(5),
            tun_tcp_gro: on(4),
            tun_udp_gro: on(3),
            udp_gso: on(2),
            udp_gro: on(1),
            gso_equal_tail: on(0),
        }
    }
}

/// The offloads in use, shared by TUN, socket and whoever switches them. Clones share one state.
#[derive(Debug, Clone)]
pub struct OffloadSwitch(Arc<AtomicU8>);

impl OffloadSwitch {
    /// A switch in this position.
    pub fn new(offloads: Offloads) -> Self {
        Self(Arc::new(AtomicU8::new(offloads.to_bits())))
    }

    /// Changes what is used, from the next batch on.
    pub fn set(&self, offloads: Offloads) {
        self.0.store(offloads.to_bits(), Ordering::Relaxed);
    }

    /// What is used.
    pub fn get(&self) -> Offloads {
        Offloads::from_bits(self.0.load(Ordering::Relaxed))
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((major, minor, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
