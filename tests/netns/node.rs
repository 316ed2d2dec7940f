//! Two nodes without a control server, shown by traffic through them.

mod limits;
mod traffic;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use isthmus_testkit::netns::{Namespace, Net, Process};
use isthmus_testkit::{binary, require, wait};
use tempfile::TempDir;

/// Private keys of the two nodes (any 32 bytes will do), and the public keys that belong to them.
const KEYS: [(&str, &str); 2] = [
    (
        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
        "pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=",
    ),
    (
        "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
        "zo060cy2M+x7cMF4FKXHbs0CloUFDTRHRboFhw5YfVk=",
    ),
];

/// Beginnings of the machines' addresses outside the tunnel.
pub(crate) const IPV4: &str = "192.0.2.";
pub(crate) const IPV6: &str = "2001:db8::";

/// Two machines on one link, and a node to be started on each.
pub(crate) struct TwoNodes {
    pub(crate) machines: [Namespace; 2],
    files: TempDir,
    _net: Net,
}

/// Whether this machine can run the tests here.
pub(crate) fn can_run(programs: &[&str]) -> bool {
    require::tun_device() && programs.iter().all(|program| require::program(program))
}

impl TwoNodes {
    /// The machines, linked, without nodes.
    pub(crate) fn new(name: &str) -> Self {
        let net = Net::new(name);
        let machines = [net.namespace("a"), net.namespace("b")];
        let addresses = |n: usize| [format!("192.0.2.{n}/24"), format!("2001:db8::{n}/64")];
        let (a, b) = (addresses(1), addresses(2));
        net.link(
            &machines[0],
            "eth0",
            &[&a[0], &a[1]],
            &machines[1],
            "eth0",
            &[&b[0], &b[1]],
        );
        Self {
            machines,
            files: TempDir::new().unwrap(),
            _net: net,
        }
    }

    /// Starts a node; its peer is the other one, at `endpoint`.
    pub(crate) fn start(&self, which: usize, endpoint: &str, options: &[&str]) -> Process {
        let (own, peer) = (which + 1, 2 - which);
        let text = serde_json::json!({
            "privateKey": KEYS[which].0,
            "addresses": [format!("10.120.0.{own}/24"), format!("fd00:120::{own}/64")],
            "peers": [{
                "publicKey": KEYS[1 - which].1,
                "endpoint": endpoint,
                "allowedIps": [format!("10.120.0.{peer}/32"), format!("fd00:120::{peer}/128")],
            }],
        });
        let file = self.files.path().join(format!("{which}.json"));
        fs::write(&file, text.to_string()).unwrap();
        let mut command = Command::new(binary::isthmus());
        let log = fs::File::options().append(true).create(true).open(self.log()).unwrap();
        let log_level = "info,isthmus_tailnet=debug,boringtun=debug";
        command
            .args(["node", "--log", log_level, "--static-peers"])
            .arg(file)
            .args(options);
        command.stdin(Stdio::null()).stderr(log);
        self.machines[which].spawn(command)
    }

    fn log(&self) -> PathBuf {
        self.files.path().join("log")
    }

    /// Starts both nodes and waits until both families work inside the tunnel. `underlay` is what comes before a machine's
    /// number in its address outside.
    pub(crate) fn start_both(&self, underlay: &str, options: &[&str]) -> [Process; 2] {
        let endpoint = |n: u16| SocketAddr::new(format!("{underlay}{n}").parse().unwrap(), 41641).to_string();
        let nodes = [
            self.start(0, &endpoint(2), options),
            self.start(1, &endpoint(1), options),
        ];
        for address in ["10.120.0.2", "fd00:120::2"] {
            wait::until("the tunnel", || self.pings(0, address).then_some(()));
        }
        nodes
    }

    /// Whether one ping gets through the tunnel.
    pub(crate) fn pings(&self, from: usize, address: &str) -> bool {
        self.machines[from]
            .run(&format!("ping -c 1 -W 1 {address}"))
            .status
            .success()
    }
}

impl Drop for TwoNodes {
    /// Shows what the nodes logged when the test failed.
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

/// 1 MiB that no other content can be mistaken for.
pub(crate) fn content() -> Vec<u8> {
    (0..1_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// Sends `content` over TCP from one machine to an address of the other and returns what arrived, and from whom.
pub(crate) fn transfer(from: &Namespace, to: &Namespace, address: SocketAddr, content: &[u8]) -> (Vec<u8>, SocketAddr) {
    let listener = to.enter(|| TcpListener::bind(address)).unwrap();
    let reader = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        (bytes, peer)
    });
    from.enter(|| TcpStream::connect(address))
        .unwrap()
        .write_all(content)
        .unwrap();
    reader.join().unwrap()
}
