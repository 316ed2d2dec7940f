//! A tailbox in a process of its own: this test program once more.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use isthmus_tailbox::{AuthKeySpec, Config, Tailbox};
use isthmus_tailnet_wire::keys::{MachineKey, NodeKey};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ts_keys::MachineKeyPair;

use crate::client::{Client, within};

/// Tells the process that it is the other one.
const IS_SERVER: &str = "ISTHMUS_TEST_SERVER";
/// What stands before the line that says where it listens.
const READY: &str = "server: ";

/// A running process with a tailbox, which ends with this.
pub(super) struct Server {
    process: Child,
    /// Kept open: its harness writes to the end.
    _output: BufReader<ChildStdout>,
    address: SocketAddr,
    machine_key: MachineKey,
    /// A reusable auth key for ephemeral nodes.
    pub(super) auth_key: String,
}

/// What a process needs.
pub(super) struct Need {
    /// KiB of memory of its own.
    pub(super) heap: u64,
    /// Open files and sockets.
    pub(super) descriptors: usize,
}

impl Server {
    pub(super) fn start() -> Self {
        let name = format!("{}::the_server", module_path!().split_once("::").unwrap().1);
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut lines = (&mut output).lines().map(|line| line.unwrap());
        // The harness writes the test's name before it, without a new line.
        let line = lines.find_map(|line| line.split_once(READY).map(|(_, rest)| rest.to_owned()));
        let (address, machine_key, auth_key) = serde_json::from_str(&line.expect("the server starts")).unwrap();
        Self {
            process,
            _output: output,
            address,
            machine_key,
            auth_key,
        }
    }

    pub(super) async fn dial(&self, number: usize, machine: MachineKeyPair, node_key: NodeKey) -> Client {
        let name = format!("node-{number}");
        Client::dial(self.address, self.machine_key, &name, machine, node_key).await
    }

    pub(super) fn need(&self) -> Need {
        let folder = format!("/proc/{}", self.process.id());
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let heap = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        Need {
            heap: heap.trim().trim_end_matches(" kB").parse().unwrap(),
            descriptors: fs::read_dir(format!("{folder}/fd")).unwrap().count(),
        }
    }

    /// Waits until it has no more descriptors open than these.
    pub(super) async fn until_descriptors(&self, descriptors: usize) {
        within("the end of all connections", async {
            while self.need().descriptors > descriptors {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "heap {} KiB, {} descriptors", self.heap, self.descriptors)
    }
}

/// Lets this process open as many files as it may.
pub(super) fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server() {
    if std::env::var_os(IS_SERVER).is_none() {
        eprintln!("nothing to do: another test runs this in a process of its own");
        return;
    }
    raise_descriptor_limit();
    let tailbox = Tailbox::start(Config::default()).await.unwrap();
    let spec = AuthKeySpec {
        reusable: true,
        ephemeral: true,
        ..AuthKeySpec::default()
    };
    let key = tailbox.create_auth_key(spec).await.unwrap();
    let ready = serde_json::json!([tailbox.local_addr(), tailbox.machine_key(), key.expose()]);
    writeln!(io::stdout().lock(), "{READY}{ready}").unwrap();
    let end = tokio::task::spawn_blocking(|| io::stdin().lock().read(&mut [0]));
    let _ = end.await;
    tailbox.stop().await.unwrap();
}
