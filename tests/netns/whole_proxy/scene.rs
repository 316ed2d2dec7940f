//! A tailnet with a device and a proxy, and a cluster behind the proxy.
//!
//! ```text
//!  device ──┐
//!  control ─┼─ 10.9.0.0/24 ── proxy ── 10.244.1.0/24 ── cluster
//! ```

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use isthmus_testkit::netns::{Namespace, Process};
use isthmus_testkit::{binary, wait};

use super::name_server::NameServer;
use crate::proxy::topology::address;
use crate::tailnet::world::Tailnet;

/// The Pod's address.
pub(super) const POD: &str = "10.244.1.5";

/// The cluster's address, where its name server is.
const CLUSTER: &str = "10.244.1.1";

/// Addresses behind the cluster: two hosts, and what a proxy must never lead to.
pub(super) const HOSTS: [&str; 3] = ["192.0.2.7", "192.0.2.8", "169.254.169.254"];

pub(super) struct Scene {
    pub(super) tailnet: Tailnet,
    pub(super) cluster: Namespace,
    pub(super) names: NameServer,
}

impl Scene {
    pub(super) fn new(name: &str) -> Self {
        let tailnet = Tailnet::new(name);
        let cluster = tailnet.net.namespace("cluster");
        let pod = &tailnet.machines[1];
        let ends = [format!("{CLUSTER}/24"), format!("{POD}/24")];
        tailnet
            .net
            .link(&cluster, "eth0", &[&ends[0]], pod, "eth1", &[&ends[1]]);
        pod.ip(&format!("route add default via {CLUSTER}"));
        for host in HOSTS {
            cluster.ip(&format!("addr add {host}/32 dev lo"));
        }
        let names = NameServer::start(&cluster, CLUSTER);
        fs::write(
            tailnet.path("resolv.conf"),
            format!("nameserver {CLUSTER}\noptions timeout:1\n"),
        )
        .unwrap();
        Self {
            tailnet,
            cluster,
            names,
        }
    }

    /// The device.
    pub(super) fn device(&self) -> &Namespace {
        &self.tailnet.machines[0]
    }

    /// Starts the proxy with target and login in the environment.
    pub(super) fn start(&self, target: (&str, &str)) -> Process {
        let control = format!("--login-server={}", self.tailnet.control.url());
        let login = [
            ("TS_AUTHKEY", self.tailnet.control.auth_key()),
            ("TS_HOSTNAME", "proxy"),
            ("TS_EXTRA_ARGS", &control),
        ];
        self.start_with(target, &login)
    }

    /// Starts the proxy with the login in a document, which [`write_login`](Self::write_login) has written.
    pub(super) fn start_with_document(&self, target: (&str, &str)) -> Process {
        let folder = self.tailnet.path("documents");
        self.start_with(target, &[("TS_EXPERIMENTAL_VERSIONED_CONFIG_DIR", &folder)])
    }

    /// The same, where port 9001 shows what the proxy does.
    pub(super) fn start_and_debug(&self, target: (&str, &str)) -> Process {
        let folder = self.tailnet.path("documents");
        let login = ("TS_EXPERIMENTAL_VERSIONED_CONFIG_DIR", folder.as_str());
        self.start_with(target, &[login, ("TS_DEBUG_ADDR_PORT", "[::]:9001")])
    }

    /// What the proxy answers to the cluster at a path; nothing when it is not 200.
    pub(super) fn get(&self, port: u16, path: &str) -> Option<String> {
        let address = SocketAddr::new(address(POD), port);
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&address, wait::PATIENCE)?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n"
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = self.cluster.enter(ask).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// Writes the document of a login as this host.
    pub(super) fn write_login(&self, hostname: &str) {
        self.write_login_with(hostname, false);
    }

    /// The same, and whether routes are accepted.
    pub(super) fn write_login_with(&self, hostname: &str, accept_routes: bool) {
        let document = serde_json::json!({
            "Version": "alpha0",
            "ServerURL": self.tailnet.control.url(),
            "AuthKey": self.tailnet.control.auth_key(),
            "Hostname": hostname,
            "acceptRoutes": accept_routes,
        });
        fs::create_dir_all(self.tailnet.path("documents")).unwrap();
        let beside = self.tailnet.path("login.new");
        fs::write(&beside, document.to_string()).unwrap();
        fs::rename(beside, self.tailnet.path("documents/cap-107.hujson")).unwrap();
    }

    /// In a mount namespace with a `resolv.conf` of its own.
    fn start_with(&self, target: (&str, &str), login: &[(&str, &str)]) -> Process {
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, &self.tailnet.path("resolv.conf")]);
        command.arg(binary::isthmus()).arg("proxy");
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.tailnet.path("log"))
            .unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.env_remove("KUBERNETES_SERVICE_HOST");
        for (name, value) in [
            target,
            ("TS_KUBE_SECRET", ""),
            ("TS_STATE_DIR", &self.tailnet.path("state-proxy")),
            ("TS_USERSPACE", "false"),
            ("POD_IPS", POD),
            ("ISTHMUS_LOG", "info,isthmus_proxy=debug"),
        ] {
            command.env(name, value);
        }
        command.envs(login.iter().copied());
        self.tailnet.machines[1].spawn(command)
    }

    /// The proxy's IPv4 address on the tailnet, once it has one.
    pub(super) fn proxy_address(&self) -> String {
        wait::until("the proxy's address", || {
            let shown = self.tailnet.machines[1].run("ip -4 -o addr show tailscale0");
            let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
            let (_, rest) = shown.split_once(" inet ")?;
            rest.split(['/', ' ']).next().map(str::to_owned)
        })
    }
}
