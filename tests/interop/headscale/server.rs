//! A Headscale on a machine of its own.

use std::fs::{self, File};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use isthmus_testkit::log::read_tail;
use isthmus_testkit::netns::{Namespace, Process};
use isthmus_testkit::wait;
use serde_json::{Value, json};

use crate::world::{RunningNode, Tailnet};

const ADDRESS: &str = "10.9.0.7:8090";

/// Its URL, for nodes and for its API.
pub(super) const URL: &str = "http://10.9.0.7:8090";

/// Everybody reaches everybody, and the tags of these tests may be given.
const POLICY: &str =
    r#"{"tagOwners": {"tag:k8s": [], "tag:web": []}, "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#;

/// A Headscale that can be stopped and started again with its memory. It has a relay, and like all of it without TLS.
pub(super) struct Headscale {
    pub(super) machine: Namespace,
    config: String,
    log: String,
    user: String,
    process: Option<Process>,
}

impl Headscale {
    pub(super) fn start(tailnet: &Tailnet) -> Self {
        let machine = tailnet.net.namespace("headscale");
        tailnet.plug(&machine, "10.9.0.7/24");
        let path = |file: &str| tailnet.path(&format!("headscale-{file}"));
        let policy = path("policy.json");
        fs::write(&policy, POLICY).unwrap();
        let relay = json!({
            "enabled": true, "region_id": 999, "region_code": "head", "region_name": "Headscale", "ipv4": "10.9.0.7",
            "stun_listen_addr": "10.9.0.7:3478", "private_key_path": path("derp"),
        });
        let config = json!({
            "server_url": URL, "listen_addr": ADDRESS, "metrics_listen_addr": "", "disable_check_updates": true,
            "noise": {"private_key_path": path("noise")}, "unix_socket": path("socket"),
            "prefixes": {"v4": "100.64.0.0/16", "v6": "fd7a:115c:a1e0:1::/64", "allocation": "sequential"},
            "database": {"type": "sqlite", "sqlite": {"path": path("db")}},
            "policy": {"mode": "file", "path": policy},
            "dns": {"magic_dns": true, "base_domain": "head.test", "override_local_dns": false, "nameservers": {"global": []}},
            "derp": {"urls": [], "auto_update_enabled": false, "server": relay},
            "log": {"level": "info"},
        });
        let file = path("config.json");
        fs::write(&file, config.to_string()).unwrap();
        let mut server = Self {
            machine,
            config: file,
            log: path("log"),
            user: String::new(),
            process: None,
        };
        server.restart();
        let user = server.json("users create people -o json");
        server.user = user["id"].to_string();
        eprintln!(
            "Headscale {}",
            server.call("version").lines().next().unwrap_or_default()
        );
        server
    }

    /// Kills the server.
    pub(super) fn stop(&mut self) {
        self.process = None;
    }

    /// Starts the server, or starts it again.
    pub(super) fn restart(&mut self) {
        self.stop();
        let mut serve = Command::new("headscale");
        serve.args(["serve", "-c", &self.config]);
        let log = File::options().append(true).create(true).open(&self.log).unwrap();
        serve.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(self.machine.spawn(serve));
        wait::until("Headscale", || {
            let reached = self.machine.enter(|| TcpStream::connect(ADDRESS)).is_ok();
            (reached && self.machine.run(&self.line("users list -o json")).status.success()).then_some(())
        });
    }

    fn line(&self, command: &str) -> String {
        format!("headscale -c {} {command}", self.config)
    }

    /// What `headscale` prints.
    pub(super) fn call(&self, command: &str) -> String {
        self.machine.check(&self.line(command))
    }

    /// The same as JSON.
    pub(super) fn json(&self, command: &str) -> Value {
        let text = self.call(command);
        let read = serde_json::from_str(&text);
        assert!(read.is_ok(), "{command}: {text}");
        read.unwrap()
    }

    /// An auth key that any number of nodes may use.
    pub(super) fn auth_key(&self) -> String {
        self.make_key("--reusable")
    }

    /// An auth key for one login.
    pub(super) fn single_use_key(&self) -> String {
        self.make_key("")
    }

    fn make_key(&self, options: &str) -> String {
        let line = format!(
            "preauthkeys create --user {} --expiration 24h -o json {options}",
            self.user
        );
        self.json(&line)["key"].as_str().expect("a key has a text").to_owned()
    }

    /// A key of the API.
    pub(super) fn api_key(&self) -> String {
        let text = self.call("apikeys create -o json");
        serde_json::from_str::<String>(&text).unwrap_or(text).trim().to_owned()
    }

    /// The number of the node with this host name.
    pub(super) fn node(&self, hostname: &str) -> String {
        let nodes = self.json("nodes list -o json");
        let mut nodes = nodes.as_array().expect("a list").iter();
        let node = nodes
            .find(|node| node["name"] == hostname)
            .expect("the node is registered");
        node["id"].to_string()
    }

    /// Starts a node of ours on a machine with an auth key that many may use, and waits until it is logged in.
    pub(super) fn join(&self, tailnet: &Tailnet, which: usize) -> RunningNode {
        join(tailnet, which, &self.auth_key())
    }
}

/// Starts a node of ours on a machine, and waits until it is logged in.
pub(super) fn join(tailnet: &Tailnet, which: usize, key: &str) -> RunningNode {
    let (file, files) = (tailnet.path("headscale-key"), which.to_string());
    fs::write(&file, key).unwrap();
    let names = [["one", "two"][which], &files];
    let key = ["--auth-key-file", &file];
    let process = tailnet.spawn_at(URL, &tailnet.machines[which], names, &key, &[]);
    tailnet.wait_for(which, process)
}

impl Drop for Headscale {
    /// Shows the end of its log when the test failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Headscale says:\n{}", read_tail(self.log.as_ref(), 60));
        }
    }
}
