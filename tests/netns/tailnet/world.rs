//! A control server and machines to run nodes on.

#[path = "control.rs"]
mod control;

use std::fs::{self, File};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::thread;

use isthmus_testkit::netns::{Namespace, Net, Process, Switch};
use isthmus_testkit::{binary, wait};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use control::Options;

use control::Control;

/// A control server and two machines on one link.
pub(crate) struct Tailnet {
    pub(crate) machines: [Namespace; 2],
    pub(crate) control: Control,
    pub(crate) net: Net,
    /// Machines that nodes are behind.
    pub(crate) routers: Vec<Namespace>,
    files: TempDir,
    switch: Switch,
}

/// A running node and what it said of itself.
pub(crate) struct RunningNode {
    pub(crate) process: Process,
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Tailnet {
    /// Starts the control server; no node runs yet.
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, Options::default())
    }

    /// The same with a policy.
    pub(crate) fn with_policy(name: &str, policy: &str) -> Self {
        Self::with(
            name,
            Options {
                policy: Some(policy.to_owned()),
                ..Options::default()
            },
        )
    }

    /// The same with a relay at the control server.
    pub(crate) fn with_relay(name: &str) -> Self {
        let options = Options {
            relay: true,
            ..Options::default()
        };
        Self::with(name, options)
    }

    /// The same with these options of the control server.
    pub(crate) fn with(name: &str, options: Options) -> Self {
        let net = Net::new(name);
        let switch = net.switch("link");
        let [a, b, control] = ["a", "b", "control"].map(|name| net.namespace(name));
        for (number, machine) in [(1, &a), (2, &b), (9, &control)] {
            let addresses = [format!("10.9.0.{number}/24"), format!("2001:db8::{number}/64")];
            net.plug(&switch, machine, "eth0", &[&addresses[0], &addresses[1]]);
        }
        let files = TempDir::new().unwrap();
        let control = Control::start(&control, &files.path().join("tailbox.json"), options);
        fs::write(files.path().join("key"), control.auth_key()).unwrap();
        Self {
            machines: [a, b],
            control,
            files,
            net,
            routers: Vec::new(),
            switch,
        }
    }

    /// Puts another machine on the link of all.
    pub(crate) fn plug(&self, machine: &Namespace, address: &str) {
        self.net.plug(&self.switch, machine, "eth0", &[address]);
    }

    /// Starts the node of a machine and waits until it is logged in.
    pub(crate) fn start(&self, which: usize, options: &[&str]) -> RunningNode {
        let process = self.spawn(which, &["--auth-key-file", &self.path("key")], options);
        self.wait_for(which, process)
    }

    /// Starts the node of a machine.
    pub(crate) fn spawn(&self, which: usize, key: &[&str], options: &[&str]) -> Process {
        let files = which.to_string();
        let names = [["one", "two"][which], &files];
        self.spawn_on(&self.machines[which], names, key, options)
    }

    /// Starts a node on any machine, with this host name and with files that are called after the second name.
    pub(crate) fn spawn_on(&self, machine: &Namespace, names: [&str; 2], key: &[&str], options: &[&str]) -> Process {
        self.spawn_at(self.control.url(), machine, names, key, options)
    }

    /// The same at another control server.
    pub(crate) fn spawn_at(
        &self,
        control: &str,
        machine: &Namespace,
        [name, files]: [&str; 2],
        key: &[&str],
        options: &[&str],
    ) -> Process {
        let mut command = Command::new(binary::isthmus());
        command.args(["node", "--log", "info,isthmus_tailnet=debug,boringtun=debug"]);
        command.args(["--login-server", control, "--hostname", name]);
        command
            .args(["--state-dir", &self.path(&format!("state-{files}"))])
            .args(key)
            .args(options);
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.path("log"))
            .unwrap();
        let out = File::create(self.path(&format!("out-{files}"))).unwrap();
        command.stdin(Stdio::null()).stdout(out).stderr(log);
        machine.spawn(command)
    }

    /// Waits until a started node is logged in.
    pub(crate) fn wait_for(&self, which: usize, process: Process) -> RunningNode {
        self.wait_for_files_of(&which.to_string(), process)
    }

    /// The same for a node whose files are called after `files`.
    pub(crate) fn wait_for_files_of(&self, files: &str, process: Process) -> RunningNode {
        let line = wait::until("the node's login", || {
            let text = self.read(&format!("out-{files}"));
            text.split_once('\n').map(|(line, _)| line.to_owned())
        });
        let (name, addresses) = line
            .strip_prefix("running as ")
            .and_then(|rest| rest.split_once(" with "))
            .expect("a running node says its name and addresses");
        let addresses = addresses.split(' ').map(|address| address.parse().unwrap()).collect();
        RunningNode {
            process,
            name: name.to_owned(),
            addresses,
        }
    }

    /// Whether one ping gets through the tailnet.
    pub(crate) fn pings(&self, from: usize, address: IpAddr) -> bool {
        self.machines[from]
            .run(&format!("ping -c 1 -W 1 {address}"))
            .status
            .success()
    }

    /// Waits until a machine reaches all addresses of a node.
    pub(crate) fn wait_until_reached(&self, from: usize, node: &RunningNode) {
        for address in &node.addresses {
            wait::until(&format!("the way to {address}"), || {
                self.pings(from, *address).then_some(())
            });
        }
    }

    /// Asks the node of a machine, as a person does; gives what it prints, and whether it succeeded.
    pub(crate) fn ask(&self, which: usize, question: &str) -> (String, bool) {
        let (program, state) = (binary::isthmus().display(), self.path(&format!("state-{which}")));
        let output = self.machines[which].run(&format!("{program} node {question} --state-dir {state}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text + &String::from_utf8_lossy(&output.stderr), output.status.success())
    }

    /// The same for a question whose answer is JSON.
    pub(crate) fn ask_json(&self, which: usize, question: &str) -> Value {
        let (text, success) = self.ask(which, &format!("{question} --json"));
        assert!(success, "{question}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Lets no UDP pass between the two machines.
    pub(crate) fn cut(&self) {
        let [a, _] = &self.machines;
        a.check("nft add table inet cut");
        for (hook, side) in [("output", "daddr"), ("input", "saddr")] {
            a.check(&format!(
                "nft add chain inet cut {hook} {{ type filter hook {hook} priority 0 ; }}"
            ));
            a.check(&format!(
                "nft add rule inet cut {hook} meta l4proto udp ip {side} 10.9.0.2 drop"
            ));
            a.check(&format!(
                "nft add rule inet cut {hook} meta l4proto udp ip6 {side} 2001:db8::2 drop"
            ));
        }
    }

    /// Lets UDP pass again.
    pub(crate) fn mend(&self) {
        self.machines[0].check("nft delete table inet cut");
    }

    /// What was written to a file of the test.
    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.files.path().join(file).display().to_string()
    }
}

impl Drop for Tailnet {
    /// Shows what the nodes logged when the test failed.
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.read("log"));
        }
    }
}
