//! Foreign clients join our control server: `tailscaled` and `tailscale`, when they are on `PATH`.
//!
//! They run without a TUN device, so that they leave the machine's resolver settings alone, and without any route out
//! of their namespaces.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use isthmus_tailbox::{AuthKeySpec, Config, Tailbox};
use isthmus_testkit::netns::{Namespace, Net, Process};
use isthmus_testkit::{isolate, require, wait};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The programs, or nothing where they are not installed: they are judges, which the project neither builds nor needs.
fn programs() -> Option<(PathBuf, PathBuf)> {
    require::find_program("tailscaled").zip(require::find_program("tailscale"))
}

/// A tailbox in a namespace.
struct Server {
    runtime: Runtime,
    tailbox: Tailbox,
}

impl Server {
    fn start(namespace: &Namespace, address: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime starts");
        let config = Config {
            listen: format!("{address}:8080").parse().expect("an address and a port"),
            ..Config::default()
        };
        // The listener belongs to the namespace of the thread that opens it, whichever thread serves it later.
        let tailbox = namespace.enter(|| runtime.block_on(Tailbox::start(config)).expect("tailbox starts"));
        Self { runtime, tailbox }
    }

    fn auth_key(&self) -> String {
        let spec = AuthKeySpec {
            reusable: true,
            tags: vec!["tag:laptop".to_owned()],
            ..AuthKeySpec::default()
        };
        let key = self.runtime.block_on(self.tailbox.create_auth_key(spec));
        key.expect("the state is kept in memory").expose().to_owned()
    }
}

/// A foreign client in a namespace.
struct Client<'a> {
    namespace: &'a Namespace,
    program: &'a Path,
    folder: TempDir,
    _daemon: Process,
}

impl<'a> Client<'a> {
    fn start(namespace: &'a Namespace, (daemon, program): &'a (PathBuf, PathBuf)) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the client");
        let mut command = Command::new(daemon);
        command
            .args([
                "--tun=userspace-networking",
                "--state=mem:",
                "--port=41641",
                "--no-logs-no-support",
            ])
            .arg(format!("--statedir={}", folder.path().display()))
            .arg(format!("--socket={}", folder.path().join("socket").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let daemon = namespace.spawn(command);
        let client = Self {
            namespace,
            program,
            folder,
            _daemon: daemon,
        };
        wait::until("the client's socket", || {
            client.folder.path().join("socket").exists().then_some(())
        });
        client
    }

    /// Runs the client's command line tool: whether it succeeded, and what it printed.
    fn call(&self, arguments: &str) -> (bool, String) {
        let mut command = Command::new(self.program);
        command
            .arg(format!("--socket={}", self.folder.path().join("socket").display()))
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = self.namespace.spawn(command).output();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn up(&self, server: &str, auth_key: &str, hostname: &str) {
        let (joined, text) = self.call(&format!(
            "up --timeout=45s --login-server=http://{server}:8080 --auth-key={auth_key} --hostname={hostname}"
        ));
        assert!(joined, "{hostname} joins: {text}");
    }

    fn status(&self) -> Value {
        let (_, text) = self.call("status --json");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The names of the peers it knows.
    fn peer_names(&self) -> Vec<String> {
        let status = self.status();
        let peers = status["Peer"].as_object().into_iter().flatten();
        peers
            .filter_map(|(_, peer)| peer["DNSName"].as_str().map(str::to_owned))
            .collect()
    }

    fn wait_for_peers(&self, names: &[&str]) {
        wait::until(&format!("the peers {names:?}"), || {
            (self.peer_names() == names).then_some(())
        });
    }
}

#[test]
fn foreign_clients_join_reach_each_other_and_leave() {
    isolate!();
    let Some(programs) = programs() else {
        eprintln!("skipped: tailscaled and tailscale are not on PATH");
        return;
    };
    let net = Net::new("go");
    let (hub, a, b) = (net.namespace("hub"), net.namespace("a"), net.namespace("b"));
    let switch = net.switch("lan");
    for (namespace, address) in [(&hub, "10.77.0.1/24"), (&a, "10.77.0.2/24"), (&b, "10.77.0.3/24")] {
        net.plug(&switch, namespace, "eth0", &[address]);
        // The client opens no path before it sees a default route; nothing answers behind this one.
        if address != "10.77.0.1/24" {
            namespace.ip("route add default via 10.77.0.1");
        }
    }
    let server = Server::start(&hub, "10.77.0.1");
    let key = server.auth_key();
    let (first, second) = (Client::start(&a, &programs), Client::start(&b, &programs));
    first.up("10.77.0.1", &key, "one");
    second.up("10.77.0.1", &key, "two");

    first.wait_for_peers(&["two.tail.internal."]);
    second.wait_for_peers(&["one.tail.internal."]);
    assert_eq!(first.status()["Self"]["TailscaleIPs"][0], "100.64.0.1");
    let (direct, text) = first.call("ping --c=10 --timeout=5s two");
    assert!(direct && text.contains("via 10.77.0.3:"), "a direct path: {text}");
    // Unlike the ping above, this one goes through the encrypted tunnel, where the first handshake may be lost.
    wait::until("a packet through the tunnel", || {
        first.call("ping --tsmp --c=1 --timeout=5s two").0.then_some(())
    });

    let removed = server
        .tailbox
        .nodes()
        .iter()
        .find(|node| node.hostinfo.hostname == "two")
        .expect("it joined")
        .id;
    server
        .runtime
        .block_on(server.tailbox.remove_node(removed))
        .expect("the state is kept in memory");
    first.wait_for_peers(&[]);
    wait::until("the logout of the removed node", || {
        (second.status()["BackendState"] == "NeedsLogin").then_some(())
    });
    second.up("10.77.0.1", &key, "two");
    first.wait_for_peers(&["two.tail.internal."]);
    assert_eq!(second.status()["Self"]["TailscaleIPs"][0], "100.64.0.3");
}
