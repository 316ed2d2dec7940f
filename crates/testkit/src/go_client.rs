//! A foreign client, `tailscaled`, on a machine of a test or benchmark. Nobody must have it: see [`require::judges`](crate::require::judges).

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::log::read_tail;
use crate::netns::{Namespace, Process};
use crate::wait;

/// Runs a program with a private copy of `/etc`: the Go client writes its own `resolv.conf`, and copies of the old one beside it.
const WITH_OWN_ETC: &str =
    "mkdir -p \"$0\" && cp -a /etc/. \"$0\" 2>/dev/null; mount --bind \"$0\" /etc && exec \"$@\"";

/// A Go client. Killed when dropped.
#[derive(Debug)]
pub struct GoClient {
    machine: Namespace,
    name: String,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    daemon: Option<Process>,
}

impl GoClient {
    /// One that does not run yet; `folder` takes its files, `name` is the host name it asks for.
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub fn new(machine: &Namespace, folder: &Path, name: &str) -> Self {
        fs::create_dir_all(folder).expect("the temporary folder can be written");
        Self {
            machine: machine.clone(),
            name: name.to_owned(),
            folder: folder.to_owned(),
            environment: Vec::new(),
            daemon: None,
        }
    }

    /// Sets an environment variable of the daemon, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The file that it keeps its state in.
    pub fn state_file(&self) -> PathBuf {
        self.folder.join("tailscaled.state")
    }

    /// Starts the daemon, or starts it again.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(&mut self) {
        let socket = self.socket();
        let _ = fs::remove_file(&socket);
        let mut daemon = Command::new("unshare");
        let private = ["-m", "--propagation", "private", "sh", "-c", WITH_OWN_ETC];
        daemon.args(private).arg(self.folder.join("etc"));
        daemon.args(["tailscaled", "--tun=tailscale0", "--no-logs-no-support", "--port=41641"]);
        daemon.arg("--socket").arg(&socket).arg("--statedir").arg(&self.folder);
        daemon.env("TS_NO_LOGS_NO_SUPPORT", "true");
        daemon.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = File::options().append(true).create(true).open(self.folder.join("log"));
        daemon
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("the temporary folder can be written"));
        self.daemon = Some(self.machine.spawn(daemon));
        wait::until("the Go client's socket", || socket.exists().then_some(()));
    }

    /// Kills the daemon, so that nobody can notice but by its silence.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Ends the daemon as the system does: it takes its rules out of the machine.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(signal);
            let _ = daemon.ended();
        }
    }

    /// Logs in with an auth key.
    ///
    /// # Panics
    /// When it does not get in.
    pub fn log_in(&self, server: &str, key: &str, options: &[&str]) {
        let server = format!("--login-server={server}");
        let (key, name) = (format!("--auth-key={key}"), format!("--hostname={}", self.name));
        let mut up = vec!["up", "--timeout=10s", &server, &key, &name];
        up.extend(options);
        let mut last = String::new();
        wait::until("the Go client's login", || {
            let (success, text) = self.call(&up);
            if text != last {
                eprintln!("{}: {text}", self.name);
                last = text;
            }
            success.then_some(())
        });
    }

    /// Runs `tailscale`: what it printed, and whether it succeeded.
    pub fn call(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.command(arguments);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// The same, which has to succeed.
    ///
    /// # Panics
    /// When it fails; the message shows what it printed.
    pub fn check(&self, arguments: &[&str]) -> String {
        let (success, text) = self.call(arguments);
        assert!(success, "tailscale {arguments:?}: {text}");
        text
    }

    /// What `tailscale` prints, as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_slice(&self.command(arguments).stdout).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tailscale");
        command.arg(format!("--socket={}", self.socket().display()));
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.machine.spawn(command).output()
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Its own addresses, IPv4 first.
    ///
    /// # Panics
    /// When it is not logged in.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let text = self.check(&["ip"]);
        text.lines()
            .map(|line| line.parse().expect("a line is an address"))
            .collect()
    }

    /// `NeedsLogin`, `Running` and so on.
    pub fn state(&self) -> String {
        let status = self.json(&["status", "--json"]);
        status["BackendState"].as_str().unwrap_or_default().to_owned()
    }

    /// What it knows of the peer with this host name.
    pub fn peer(&self, name: &str) -> Option<Value> {
        let status = self.json(&["status", "--json"]);
        let mut peers = status["Peer"].as_object()?.values();
        peers.find(|peer| peer["HostName"] == name).cloned()
    }

    /// Pings a peer until an answer came the way that is described by a part of the line.
    ///
    /// # Panics
    /// When none comes that way.
    pub fn wait_for_pong(&self, peer: IpAddr, way: &str) -> String {
        let peer = peer.to_string();
        wait::until(&format!("a pong {way}"), || {
            let (_, line) = self.call(&["ping", "--c=1", "--timeout=5s", &peer]);
            line.contains(way).then_some(line.trim().to_owned())
        })
    }

    /// A counter of the daemon.
    ///
    /// # Panics
    /// When the daemon does not answer.
    pub fn count(&self, name: &str) -> u64 {
        let text = self.check(&["debug", "metrics"]);
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines
            .find(|(counter, _)| *counter == name)
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or_default()
    }

    /// The process id of the daemon.
    ///
    /// # Panics
    /// When it does not run.
    pub fn id(&self) -> u32 {
        self.daemon.as_ref().expect("it runs").id()
    }

    /// Runs a program as the daemon's neighbour, with its `/etc`.
    ///
    /// # Panics
    /// When the daemon does not run.
    pub fn beside(&self, line: &str) -> Output {
        self.machine
            .run(&format!("nsenter --mount=/proc/{}/ns/mnt {line}", self.id()))
    }

    /// The first line of its version.
    ///
    /// # Panics
    /// When the program does not run.
    pub fn version(&self) -> String {
        self.check(&["version"]).lines().next().unwrap_or_default().to_owned()
    }
}

impl Drop for GoClient {
    /// Shows the end of its log when the test failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} says:\n{}", self.name, read_tail(&self.folder.join("log"), 60));
        }
    }
}
