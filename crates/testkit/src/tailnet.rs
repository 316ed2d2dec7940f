//! A tailnet of our own programs outside a cluster: `isthmus tailbox` on one host, `isthmus node` on others.

mod api;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::log::read_tail;
use crate::netns::Process;
use crate::world::Host;

/// Port of the control server and its API.
const PORT: u16 = 8080;
/// Port of the relay, where there is one.
const RELAY_PORT: u16 = 3340;
/// How long a program may take to be there.
const PATIENCE: Duration = Duration::from_secs(45);

/// A running control server.
#[derive(Debug)]
pub struct Tailnet {
    host: Host,
    program: PathBuf,
    folder: PathBuf,
    /// Further arguments of the control server.
    options: Vec<OsString>,
    client_id: String,
    client_secret: String,
    /// The control server, while it runs.
    process: Mutex<Option<Process>>,
}

/// A device of the tailnet on a host of its own.
#[derive(Debug)]
pub struct Member {
    /// Where it runs.
    pub host: Host,
    /// Its IPv4 address on the tailnet.
    pub address: String,
    /// What it logs.
    pub log: PathBuf,
    program: PathBuf,
    state: PathBuf,
    process: Process,
}

/// How datagrams travel between a member and a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From one to the other.
    Direct,
    /// By a relay.
    Relayed,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Relayed => "by relay",
        })
    }
}

impl Tailnet {
    /// Starts `isthmus tailbox` on a host; `folder` takes its state, credentials and log.
    ///
    /// # Errors
    /// When it does not answer; the error shows the end of its log.
    pub fn start(host: Host, program: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(host, program, folder, Vec::new())
    }

    /// The same with a policy, as HuJSON.
    ///
    /// # Errors
    /// As [`start`](Self::start), also for a policy that is none.
    pub fn start_with_policy(host: Host, program: &Path, folder: &Path, policy: &str) -> Result<Self> {
        let file = folder.join("policy.hujson");
        fs::write(&file, policy).with_context(|| format!("write {}", file.display()))?;
        Self::start_with(host, program, folder, vec!["--policy".into(), file.into()])
    }

    /// The same with a relay, for nodes that have no direct path.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with_relay(host: Host, program: &Path, folder: &Path) -> Result<Self> {
        let relay = format!("{}:{RELAY_PORT}", host.address);
        Self::start_with(host, program, folder, vec!["--relay".into(), relay.into()])
    }

    fn start_with(host: Host, program: &Path, folder: &Path, options: Vec<OsString>) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let mut tailnet = Self {
            host,
            program: program.to_owned(),
            folder: folder.to_owned(),
            options,
            client_id: String::new(),
            client_secret: String::new(),
            process: Mutex::default(),
        };
        tailnet.start_again()?;
        let credentials = tailnet.credentials_file();
        let credentials: Value = serde_json::from_slice(&fs::read(&credentials).context("read the credentials")?)
            .context("understand the credentials")?;
        tailnet.client_id = text(&credentials, "client_id")?;
        tailnet.client_secret = text(&credentials, "client_secret")?;
        Ok(tailnet)
    }

    /// Ends the control server as a crash would. Its state stays.
    pub fn stop(&self) {
        self.process().take();
    }

    /// Starts the control server with the state that it had, and waits until it answers. One that runs is replaced.
    ///
    /// # Errors
    /// When it does not answer; the error shows the end of its log.
    pub fn start_again(&self) -> Result<()> {
        self.stop();
        let (credentials, log) = (self.credentials_file(), self.folder.join("tailbox.log"));
        let mut command = Command::new(&self.program);
        command
            .args(["tailbox", "--listen", &format!("{}:{PORT}", self.host.address)])
            .arg("--credentials-out")
            .arg(&credentials)
            .arg("--state")
            .arg(self.folder.join("tailbox.json"))
            .args(&self.options);
        *self.process() = Some(spawn(&self.host, command, &log)?);
        self.wait_until("the control server", &log, |tailnet| {
            tailnet.get("/key").is_ok() && credentials.exists()
        })
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn credentials_file(&self) -> PathBuf {
        self.folder.join("credentials.json")
    }

    /// The URL of the control server and its API.
    pub fn login_server(&self) -> String {
        format!("http://{}:{PORT}", self.host.address)
    }

    /// The id of the OAuth client that may make keys and delete devices.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Its secret.
    pub fn client_secret(&self) -> &str {
        &self.client_secret
    }

    /// Joins a host to the tailnet with `isthmus node` under this name, and waits until it has an address.
    ///
    /// # Errors
    /// When it does not get one; the error shows the end of its log.
    pub fn join(&self, host: Host, name: &str) -> Result<Member> {
        let [key, log, state] = ["key", "log", "state"].map(|kind| self.folder.join(format!("{name}.{kind}")));
        fs::write(&key, self.auth_key()?).with_context(|| format!("write {}", key.display()))?;
        let mut command = Command::new(&self.program);
        command
            .args([
                "node",
                "--login-server",
                &self.login_server(),
                "--hostname",
                name,
                "--auth-key-file",
            ])
            .arg(&key)
            .arg("--state-dir")
            .arg(&state);
        let process = spawn(&host, command, &log)?;
        let mut address = None;
        self.wait_until(name, &log, |tailnet| {
            address = tailnet.address_of(name).ok().flatten();
            address.as_deref().is_some_and(|address| has_address(&host, address))
        })?;
        let address = address.context("the device has an address by now")?;
        Ok(Member {
            host,
            address,
            log,
            program: self.program.clone(),
            state,
            process,
        })
    }

    fn get(&self, path: &str) -> Result<()> {
        let url = format!("{}{path}", self.login_server());
        self.host
            .namespace
            .enter(|| ureq::get(&url).call().map(|_| ()))
            .with_context(|| format!("ask for {path}"))
    }

    fn wait_until(&self, what: &str, log: &Path, mut condition: impl FnMut(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            if Instant::now() > deadline {
                bail!(
                    "{what} is not there after {PATIENCE:?}; {} says:\n{}",
                    log.display(),
                    read_tail(log, 30)
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Member {
    /// The process id of the node.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How datagrams travel between the member and the peer with this address, as its node tells people; nothing while it
    /// knows no such peer or no way.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn way_to(&self, peer: &str) -> Result<Option<Way>> {
        let mut ask = Command::new(&self.program);
        ask.args(["node", "status", "--json", "--state-dir"]).arg(&self.state);
        let output = ask.output().context("run isthmus node status")?;
        ensure!(
            output.status.success(),
            "isthmus node status fails: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let status: Value = serde_json::from_slice(&output.stdout).context("understand the status")?;
        let peers = status["peers"].as_array().into_iter().flatten();
        let mut found = peers.filter(|one| {
            let addresses = one["addresses"].as_array();
            addresses.is_some_and(|addresses| addresses.contains(&Value::from(peer)))
        });
        Ok(found.next().and_then(|peer| {
            let way = &peer["way"];
            let direct = way.get("direct").map(|_| Way::Direct);
            direct.or_else(|| way.get("relay").map(|_| Way::Relayed))
        }))
    }
}

fn spawn(host: &Host, mut command: Command, log: &Path) -> Result<Process> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open the log {}", log.display()))?;
    let errors = file.try_clone().context("share the log between output and errors")?;
    command.stdin(Stdio::null()).stdout(file).stderr(errors);
    Ok(host.namespace.spawn(command))
}

fn has_address(host: &Host, address: &str) -> bool {
    let output = host.namespace.run("ip -o addr show");
    String::from_utf8_lossy(&output.stdout).contains(&format!(" {address}/"))
}

fn text(value: &Value, key: &str) -> Result<String> {
    value[key]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("the answer has no {key}"))
}
