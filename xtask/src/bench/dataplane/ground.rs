//! Where nodes are measured: two machines, a control server that both reach, and a client behind the first.

use std::path::Path;

use anyhow::Result;
use isthmus_testkit::netns::Namespace;
use isthmus_testkit::tailnet::Tailnet;
use isthmus_testkit::two_nodes::TwoNodes;
use isthmus_testkit::world::Host;
use tempfile::TempDir;

/// Where the control server and its relay are: a private address, because to any other Go clients insist on TLS. It forwards nothing, so
/// that it is no way from one machine to the other.
const CONTROL: &str = "10.99.0.1";

/// The machines.
pub(super) struct Ground {
    two: TwoNodes,
    control: Namespace,
    client: Namespace,
    files: TempDir,
}

impl Ground {
    /// The machines; without UDP between the two when they shall talk by relay.
    pub(super) fn new(isthmus: &Path, is_cut: bool) -> Result<Self> {
        let two = TwoNodes::new("bench", isthmus);
        let [control, client] = ["control", "client"].map(|name| two.net.namespace(name));
        let [a, b] = &two.machines;
        two.net
            .link(a, "control", &["10.99.0.2/30"], &control, "to-a", &["10.99.0.1/30"]);
        two.net
            .link(b, "control", &["10.99.0.6/30"], &control, "to-b", &["10.99.0.5/30"]);
        b.ip(&format!("route add {CONTROL}/32 via 10.99.0.5"));
        two.net
            .link(&client, "eth0", &["10.66.0.2/24"], a, "client", &["10.66.0.1/24"]);
        client.ip("route add default via 10.66.0.1");
        if is_cut {
            a.check("nft add table inet cut");
            a.check("nft add chain inet cut output { type filter hook output priority 0 ; }");
            a.check("nft add rule inet cut output oifname eth0 meta l4proto udp drop");
        }
        Ok(Self {
            two,
            control,
            client,
            files: TempDir::new()?,
        })
    }

    pub(super) fn two(&self) -> &TwoNodes {
        &self.two
    }

    pub(super) fn first(&self) -> &Namespace {
        &self.two.machines[0]
    }

    pub(super) fn second(&self) -> &Namespace {
        &self.two.machines[1]
    }

    /// Files of this measurement.
    pub(super) fn files(&self) -> &Path {
        self.files.path()
    }

    /// Starts a control server with a relay.
    pub(super) fn tailnet(&self, isthmus: &Path) -> Result<Tailnet> {
        let host = Host::new(self.control.clone(), CONTROL);
        Tailnet::start_with_relay(host, isthmus, &self.files().join("tailnet"))
    }

    /// A machine of the two as a host of a tailnet.
    pub(super) fn host(&self, which: usize) -> Host {
        Host::new(self.two.machines[which].clone(), &format!("192.0.2.{}", which + 1))
    }

    /// Lets the first machine forward and masquerade through a device, as a proxy does; gives the client behind it.
    pub(super) fn forward(&self, device: &str) -> Namespace {
        let router = self.first();
        router.sysctl("net.ipv4.ip_forward", "1");
        router.check("nft add table ip nat");
        router.check("nft add chain ip nat post { type nat hook postrouting priority 100 ; }");
        router.check(&format!("nft add rule ip nat post oifname {device} masquerade"));
        router.check("nft add chain ip nat clamp { type filter hook forward priority -150 ; }");
        router.check("nft add rule ip nat clamp tcp flags syn tcp option maxseg size set rt mtu");
        self.client.clone()
    }
}
