//! Three namespaces in a row, and what is asked of them.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use isthmus_proxy::{Kernel, Routed};
use isthmus_proxy_core::{Mode, Paths, Plan, ReservedPorts, TailnetAddresses, Tun};
use isthmus_testkit::netns::{Namespace, Net};
use isthmus_testkit::wait;

pub(super) const OWN: &str = "100.64.0.3";
pub(super) const DEVICE: &str = "100.64.0.5";
pub(super) const OTHER_DEVICE: &str = "100.64.0.77";
pub(super) const POD: &str = "10.244.1.5";
pub(super) const NODE: &str = "10.244.1.1";
pub(super) const SERVICE: &str = "10.96.0.7";
pub(super) const OWN6: &str = "fd7a:115c:a1e0::3";
pub(super) const DEVICE6: &str = "fd7a:115c:a1e0::5";
pub(super) const POD6: &str = "fd00:10:244:1::5";
pub(super) const NODE6: &str = "fd00:10:244:1::1";
pub(super) const SERVICE6: &str = "fd00:10:96::7";
/// Addresses that the cluster answers on and a peer must never reach.
pub(super) const FORBIDDEN: [&str; 4] = ["10.96.0.1", "10.244.2.7", "172.31.0.2", "169.254.169.254"];

pub(super) struct Topology {
    pub(super) peer: Namespace,
    pub(super) proxy: Namespace,
    pub(super) cluster: Namespace,
    _net: Net,
}

/// What came of trying to connect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Connected; the text the server sent.
    Text(String),
    /// A TCP reset, or an ICMP message of the same meaning.
    Refused,
    /// An ICMP message that there is no way.
    Unreachable,
    /// No answer within the patience of [`connect`].
    Silence,
}

impl Topology {
    /// Forwarding is off in the proxy's namespace, as the kernel leaves it in a namespace of its own.
    pub(super) fn new(name: &str) -> Self {
        let net = Net::new(name);
        let (peer, proxy, cluster) = (net.namespace("peer"), net.namespace("proxy"), net.namespace("cluster"));
        net.link(
            &peer,
            "wg0",
            &["100.64.0.9/10"],
            &proxy,
            "tailscale0",
            &["100.64.0.3/32"],
        );
        net.link(&cluster, "eth0", &["10.244.1.1/24"], &proxy, "eth0", &["10.244.1.5/24"]);
        proxy.sysctl("net.ipv4.ip_forward", "0");
        proxy.ip("route add default via 10.244.1.1");
        proxy.ip("link set tailscale0 mtu 1280");
        for device in [DEVICE, OTHER_DEVICE] {
            peer.ip(&format!("addr add {device}/32 dev wg0"));
        }
        for address in FORBIDDEN.iter().chain([&SERVICE]) {
            cluster.ip(&format!("addr add {address}/32 dev lo"));
            peer.ip(&format!("route add {address}/32 via {OWN}"));
        }
        peer.ip(&format!("route add 10.244.1.0/24 via {OWN}"));
        // The negative controls need a cluster that would answer, so that it is the proxy that refuses.
        cluster.ip("route add 100.64.0.0/10 via 10.244.1.5");
        let topology = Self {
            peer,
            proxy,
            cluster,
            _net: net,
        };
        topology.add_ipv6();
        topology
    }

    /// The same in IPv6. The tailnet's device knows no neighbours, so those of its stand-in are written down: the rules
    /// drop their discovery like anything else.
    fn add_ipv6(&self) {
        let (peer_mac, proxy_mac) = ("02:00:00:00:00:09", "02:00:00:00:00:03");
        self.peer.ip(&format!("link set wg0 address {peer_mac}"));
        self.proxy.ip(&format!("link set tailscale0 address {proxy_mac}"));
        for (namespace, device, address) in [
            (&self.peer, "wg0", "fd7a:115c:a1e0::9/64"),
            (&self.peer, "wg0", &format!("{DEVICE6}/128")),
            (&self.proxy, "tailscale0", &format!("{OWN6}/128")),
            (&self.proxy, "eth0", &format!("{POD6}/64")),
            (&self.cluster, "eth0", &format!("{NODE6}/64")),
            (&self.cluster, "lo", &format!("{SERVICE6}/128")),
        ] {
            namespace.ip(&format!("addr add {address} dev {device} nodad"));
        }
        for own in [OWN, OWN6] {
            self.peer
                .ip(&format!("neigh replace {own} lladdr {proxy_mac} dev wg0 nud permanent"));
        }
        for theirs in ["fd7a:115c:a1e0::9", DEVICE6] {
            self.proxy.ip(&format!(
                "neigh replace {theirs} lladdr {peer_mac} dev tailscale0 nud permanent"
            ));
        }
        self.proxy.ip(&format!("route add default via {NODE6}"));
        self.peer.ip(&format!("route add fd00::/8 via {OWN6}"));
        self.cluster.ip(&format!("route add fd7a:115c:a1e0::/64 via {POD6}"));
    }

    pub(super) fn plan(mode: Mode) -> Plan {
        Plan {
            mode,
            paths: Paths::KERNEL,
            tailnet: TailnetAddresses::from_addresses([address(OWN)]),
            pod: BTreeSet::from([address(POD)]),
            tun: Tun {
                name: "tailscale0".to_owned(),
                mtu: 1280,
            },
            reserved: ReservedPorts {
                wireguard: 41641,
                health: 9002,
                debug: None,
            },
        }
    }

    /// Puts a plan in place in the proxy's namespace.
    pub(super) fn apply(&self, plan: &Plan) -> Routed {
        self.in_proxy(async |kernel| kernel.apply(plan).await.expect("the plan is put in place"))
    }

    pub(super) fn in_proxy<R: Send>(&self, work: impl AsyncFnOnce(&Kernel) -> R + Send) -> R {
        self.proxy.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts");
            runtime.block_on(async { work(&Kernel::open().expect("netlink sockets open")).await })
        })
    }
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address in a test is one")
}

/// Serves, on every address of `namespace` with this port, `name` and the client's address, one connection at a time.
pub(crate) fn serve(namespace: &Namespace, name: &'static str, port: u16) {
    serve_at(namespace, name, "0.0.0.0", port);
}

/// The same on one address.
pub(crate) fn serve_at(namespace: &Namespace, name: &'static str, own: &str, port: u16) {
    let listener = namespace.enter(|| TcpListener::bind((own, port)).expect("the port is free"));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            greet(stream, name);
        }
    });
}

fn greet(mut stream: TcpStream, name: &str) {
    let client = stream
        .peer_addr()
        .map(|client| client.ip().to_string())
        .unwrap_or_default();
    let _ = stream.write_all(format!("{name} saw {client}").as_bytes());
}

/// Answers every datagram to this address and port with `name` and the sender's address.
pub(crate) fn serve_udp(namespace: &Namespace, name: &'static str, own: &str, port: u16) {
    let own = SocketAddr::new(address(own), port);
    let socket = namespace.enter(|| UdpSocket::bind(own).expect("the port is free"));
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} saw {}", client.ip()).as_bytes(), client);
        }
    });
}

/// Connects from `namespace` and reads what the server sends.
pub(crate) fn connect(namespace: &Namespace, target: &str, port: u16) -> Answer {
    let target = SocketAddr::new(address(target), port);
    namespace.enter(
        || match TcpStream::connect_timeout(&target, Duration::from_millis(1500)) {
            Ok(mut stream) => {
                let mut text = String::new();
                stream
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .expect("a timeout can be set");
                match stream.read_to_string(&mut text) {
                    Ok(_) => Answer::Text(text),
                    Err(error) => answer_of(error.kind()),
                }
            }
            Err(error) => answer_of(error.kind()),
        },
    )
}

/// Sends one datagram from `namespace` and reads the answer.
pub(crate) fn ask_udp(namespace: &Namespace, target: &str, port: u16) -> Answer {
    ask_udp_from(namespace, 0, target, port)
}

/// The same from a fixed port, as clients with one flow for ever do; 0 for any.
pub(crate) fn ask_udp_from(namespace: &Namespace, own_port: u16, target: &str, port: u16) -> Answer {
    let target = SocketAddr::new(address(target), port);
    namespace.enter(|| {
        let any = if target.is_ipv4() { "0.0.0.0" } else { "::" };
        let socket = UdpSocket::bind((any, own_port)).expect("the port is free");
        socket
            .connect(target)
            .expect("a datagram socket connects to anything that has a route");
        socket
            .set_read_timeout(Some(Duration::from_millis(1500)))
            .expect("a timeout can be set");
        let mut buffer = [0; 64];
        match socket.send(b"hello").and_then(|_| socket.recv(&mut buffer)) {
            Ok(length) => Answer::Text(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(error) => answer_of(error.kind()),
        }
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the enum of the standard library is open")]
fn answer_of(kind: ErrorKind) -> Answer {
    match kind {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Answer::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Answer::Unreachable,
        _ => Answer::Silence,
    }
}

pub(crate) fn text(text: &str) -> Answer {
    Answer::Text(text.to_owned())
}

/// Asks over a connected socket until there is an answer, as every client of datagrams does.
pub(super) fn ask(client: &UdpSocket) -> String {
    let patience = Some(Duration::from_millis(500));
    client.set_read_timeout(patience).expect("a timeout can be set");
    let mut buffer = [0; 128];
    wait::until("an answer", || {
        client.send(b"hello").ok()?;
        let length = client.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}
