//! Which way the proxy chooses: the kernel where it works, the relay where it does not.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use isthmus_proxy::{Kernel, PathChoice, RelayMetrics};
use isthmus_proxy_core::{IngressPorts, Mode, Path, PathSetting, Paths, Plan, TailnetAddresses};
use isthmus_testkit::{isolate, require, wait};

use super::topology::{
    Answer, NODE, OWN, OWN6, POD, POD6, SERVICE, SERVICE6, Topology, address, ask_udp, connect, serve_at, serve_udp,
    text,
};

/// The API server's cluster IP, as every Pod is told.
const API: &str = "10.96.0.1";

fn to_service() -> Mode {
    Mode::ingress_to([SERVICE, SERVICE6].map(address), IngressPorts::All)
}

/// A proxy that chooses, and what it changes.
struct Chooser {
    kernel: Kernel,
    choice: PathChoice,
}

impl Chooser {
    /// Chooses, and puts the plan in place.
    async fn apply(&mut self, mode: Mode) -> Paths {
        let paths = self.choice.choose(&mut self.kernel, &mode).await;
        let plan = Plan {
            paths,
            tailnet: TailnetAddresses::from_addresses([OWN, OWN6].map(address)),
            pod: [POD, POD6].map(address).into(),
            ..Topology::plan(mode)
        };
        self.kernel.apply(&plan).await.expect("the plan is put in place");
        paths
    }
}

fn choose<R: Send>(topology: &Topology, setting: PathSetting, work: impl AsyncFnOnce(Chooser) -> R + Send) -> R {
    topology.proxy.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(async {
            let kernel = Kernel::open().expect("netlink sockets open");
            kernel
                .apply(&Topology::plan(Mode::Closed))
                .await
                .expect("the proxy is closed");
            let api = SocketAddr::new(address(API), 443);
            let choice = PathChoice::begin(setting, Some(api), RelayMetrics::default());
            work(Chooser { kernel, choice }).await
        })
    })
}

fn is_relay(path: Option<Path>) -> bool {
    matches!(path, Some(Path::Relay(_)))
}

#[test]
fn ipv6_is_relayed_and_ipv4_forwarded_where_ipv6_forwarding_is_off() {
    isolate!();
    let topology = Topology::new("choice-v6");
    serve_at(&topology.cluster, "four", SERVICE, 80);
    serve_at(&topology.cluster, "six", SERVICE6, 80);
    choose(&topology, PathSetting::Automatic, async |mut chooser| {
        let paths = chooser.apply(to_service()).await;
        assert_eq!(paths.v4, Some(Path::Kernel));
        assert!(is_relay(paths.v6), "{paths:?}");
        assert_eq!(connect(&topology.peer, OWN, 80), text("four saw 10.244.1.5"));
        assert_eq!(connect(&topology.peer, OWN6, 80), text(&format!("six saw {POD6}")));
        // A family that was relayed stays relayed.
        topology.proxy.sysctl("net.ipv6.conf.all.forwarding", "1");
        assert!(is_relay(chooser.apply(to_service()).await.v6));
    });
}

#[test]
fn ipv6_is_forwarded_where_the_kernel_forwards_it() {
    isolate!();
    let topology = Topology::new("choice-v6-kernel");
    topology.proxy.sysctl("net.ipv6.conf.all.forwarding", "1");
    serve_at(&topology.cluster, "six", SERVICE6, 80);
    serve_udp(&topology.cluster, "dns", SERVICE6, 53);
    choose(&topology, PathSetting::Automatic, async |mut chooser| {
        assert_eq!(chooser.apply(to_service()).await.v6, Some(Path::Kernel));
        assert_eq!(connect(&topology.peer, OWN6, 80), text(&format!("six saw {POD6}")));
        assert_eq!(ask_udp(&topology.peer, OWN6, 53), text(&format!("dns saw {POD6}")));
    });
}

/// As with Cilium's socket load balancing: a cluster IP answers to sockets of the Pod, and packets to it are lost.
#[test]
fn service_that_answers_to_sockets_alone_is_reached_through_the_relay() {
    isolate!();
    if !require::program("nft") {
        return;
    }
    let topology = Topology::new("choice-sockets");
    let Topology {
        peer, proxy, cluster, ..
    } = &topology;
    for cluster_ip in [SERVICE, API] {
        cluster.ip(&format!("addr del {cluster_ip}/32 dev lo"));
        cluster.ip(&format!("route add blackhole {cluster_ip}/32"));
    }
    proxy.check("nft add table ip plugin");
    proxy.check("nft add chain ip plugin connect { type nat hook output priority -100 ; }");
    proxy.check(&format!(
        "nft add rule ip plugin connect ip daddr 10.96.0.0/16 dnat to {NODE}"
    ));
    serve_at(cluster, "web", NODE, 80);
    serve_udp(cluster, "dns", NODE, 53);
    let api = cluster.enter(|| TcpListener::bind((NODE, 443)).unwrap());
    api.set_nonblocking(true).unwrap();
    assert_eq!(
        connect(proxy, SERVICE, 80),
        text("web saw 10.244.1.5"),
        "a socket of the Pod reaches it"
    );
    choose(&topology, PathSetting::Kernel, async |mut chooser| {
        chooser.apply(to_service()).await;
        assert_eq!(connect(peer, OWN, 80), Answer::Silence, "packets do not reach it");
    });
    choose(&topology, PathSetting::Automatic, async |mut chooser| {
        tokio::time::timeout(wait::PATIENCE, chooser.choice.changed())
            .await
            .expect("the probe finds it");
        assert!(is_relay(chooser.apply(to_service()).await.v4));
        assert_eq!(connect(peer, OWN, 80), text("web saw 10.244.1.5"));
        assert_eq!(ask_udp(peer, OWN, 53), text("dns saw 10.244.1.5"));
        // Nothing of an egress goes to a cluster IP.
        assert_eq!(
            chooser.apply(Mode::egress_to([address("100.64.0.5")])).await.v4,
            Some(Path::Kernel)
        );
    });
}

#[test]
fn packets_that_reach_cluster_ips_stay_with_the_kernel() {
    isolate!();
    let topology = Topology::new("choice-packets");
    let api = topology.cluster.enter(|| TcpListener::bind((API, 443)).unwrap());
    let asked = thread::spawn(move || api.accept().is_ok());
    serve_at(&topology.cluster, "web", SERVICE, 80);
    choose(&topology, PathSetting::Automatic, async |mut chooser| {
        let mut waited = Duration::ZERO;
        while !asked.is_finished() {
            assert!(waited < wait::PATIENCE, "the probe asks");
            tokio::time::sleep(Duration::from_millis(10)).await;
            waited += Duration::from_millis(10);
        }
        let changed = tokio::time::timeout(Duration::from_secs(1), chooser.choice.changed()).await;
        assert!(changed.is_err(), "nothing speaks against the kernel");
        assert_eq!(chooser.apply(to_service()).await.v4, Some(Path::Kernel));
        assert_eq!(connect(&topology.peer, OWN, 80), text("web saw 10.244.1.5"));
    });
}

#[test]
fn relay_carries_both_families_when_it_is_asked_for() {
    isolate!();
    let topology = Topology::new("choice-forced");
    topology.proxy.sysctl("net.ipv6.conf.all.forwarding", "1");
    serve_at(&topology.cluster, "web", SERVICE, 80);
    choose(&topology, PathSetting::Relay, async |mut chooser| {
        let paths = chooser.apply(to_service()).await;
        assert!(is_relay(paths.v4) && is_relay(paths.v6), "{paths:?}");
        assert_eq!(connect(&topology.peer, OWN, 80), text("web saw 10.244.1.5"));
    });
}
