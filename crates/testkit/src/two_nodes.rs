//! Two machines, each with an `isthmus node` of a static peer file: what tests and benchmarks of the data plane run on.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::netns::{Namespace, Net, Process};
use crate::wait;

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

/// The MTU inside the tunnel unless another is asked for.
const MTU: u16 = 1280;

/// The beginning of the machines' IPv4 addresses outside the tunnel; 1 or 2 follows.
pub const IPV4: &str = "192.0.2.";

/// The beginning of the machines' IPv6 addresses outside the tunnel; 1 or 2 follows.
pub const IPV6: &str = "2001:db8::";

/// Two machines on one link. A node can be started on each; inside the tunnel the first is 10.120.0.1 and fd00:120::1, the
/// second 10.120.0.2 and fd00:120::2.
pub struct TwoNodes {
    /// The machines.
    pub machines: [Namespace; 2],
    /// The network that they are in.
    pub net: Net,
    binary: PathBuf,
    files: TempDir,
}

impl TwoNodes {
    /// The machines, linked, without nodes; `binary` is the `isthmus` they will run.
    pub fn new(name: &str, binary: &Path) -> Self {
        let net = Net::new(name);
        let machines = [net.namespace("a"), net.namespace("b")];
        let addresses = |n: usize| [format!("{IPV4}{n}/24"), format!("{IPV6}{n}/64")];
        let (a, b) = (addresses(1), addresses(2));
        let (a, b) = ([a[0].as_str(), &a[1]], [b[0].as_str(), &b[1]]);
        net.link(&machines[0], "eth0", &a, &machines[1], "eth0", &b);
        let files = TempDir::new().expect("the temporary folder can be written");
        Self {
            machines,
            net,
            binary: binary.to_owned(),
            files,
        }
    }

    /// Starts the first (0) or second (1) node with more `options`; its peer is the other one, at `endpoint`. It logs in JSON
    /// to [`log`](Self::log).
    pub fn start(&self, which: usize, endpoint: &str, options: &[&str]) -> Process {
        self.start_with_mtu(which, endpoint, MTU, options)
    }

    fn start_with_mtu(&self, which: usize, endpoint: &str, mtu: u16, options: &[&str]) -> Process {
        let (own, peer) = (which + 1, 2 - which);
        let text = serde_json::json!({
            "privateKey": KEYS[which].0,
            "mtu": mtu,
            "addresses": [format!("10.120.0.{own}/24"), format!("fd00:120::{own}/64")],
            "peers": [{
                "publicKey": KEYS[1 - which].1,
                "endpoint": endpoint,
                "allowedIps": [format!("10.120.0.{peer}/32"), format!("fd00:120::{peer}/128")],
            }],
        });
        let file = self.files.path().join(format!("{which}.json"));
        fs::write(&file, text.to_string()).expect("the temporary folder can be written");
        let log = File::options().append(true).create(true).open(self.log_file(which));
        let mut command = Command::new(&self.binary);
        command
            .args(["node", "--log-json", "--static-peers"])
            .arg(file)
            .args(options);
        command
            .stdin(Stdio::null())
            .stderr(log.expect("the temporary folder can be written"));
        self.machines[which].spawn(command)
    }

    /// Starts both nodes and waits until both families work inside the tunnel. `underlay` is [`IPV4`] or [`IPV6`].
    pub fn start_both(&self, underlay: &str, options: &[&str]) -> [Process; 2] {
        self.start_both_with_mtu(underlay, MTU, options)
    }

    /// The same with an MTU inside the tunnel.
    pub fn start_both_with_mtu(&self, underlay: &str, mtu: u16, options: &[&str]) -> [Process; 2] {
        let endpoint = |n: u16| {
            let address = format!("{underlay}{n}")
                .parse()
                .expect("the underlay is one of the two above");
            SocketAddr::new(address, 41641).to_string()
        };
        let nodes = [
            self.start_with_mtu(0, &endpoint(2), mtu, options),
            self.start_with_mtu(1, &endpoint(1), mtu, options),
        ];
        for address in ["10.120.0.2", "fd00:120::2"] {
            wait::until("the tunnel", || self.pings(0, address).then_some(()));
        }
        nodes
    }

    /// The private key of a node, and the public key of its peer, in hexadecimal digits.
    ///
    /// # Panics
    /// Never: the keys are known.
    pub fn hex_keys(which: usize) -> [String; 2] {
        let digits = |text: &str| {
            let bytes = STANDARD.decode(text).expect("the keys are written in base64");
            bytes
                .iter()
                .fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
        };
        [digits(KEYS[which].0), digits(KEYS[1 - which].1)]
    }

    /// Whether one ping from a machine is answered within a second.
    pub fn pings(&self, from: usize, address: &str) -> bool {
        self.machines[from]
            .run(&format!("ping -c 1 -W 1 {address}"))
            .status
            .success()
    }

    /// What a node has logged.
    pub fn log(&self, which: usize) -> String {
        fs::read_to_string(self.log_file(which)).unwrap_or_default()
    }

    fn log_file(&self, which: usize) -> PathBuf {
        self.files.path().join(format!("{which}.log"))
    }
}

impl Drop for TwoNodes {
    /// Shows what the nodes logged when the test failed.
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("first node:\n{}\nsecond node:\n{}", self.log(0), self.log(1));
        }
    }
}
