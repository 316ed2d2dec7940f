//! A tailnet of our own programs outside a cluster: `isthmus tailbox` on one host, `isthmus node` on others.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::netns::Process;
use crate::world::Host;

/// Port of the control server and its API.
const PORT: u16 = 8080;
/// The tag of devices that join with a key from [`Tailnet::auth_key`].
const TAG: &str = "tag:k8s";
/// How long a program may take to be there.
const PATIENCE: Duration = Duration::from_secs(45);

/// A running control server.
#[derive(Debug)]
pub struct Tailnet {
    host: Host,
    program: PathBuf,
    folder: PathBuf,
    client_id: String,
    client_secret: String,
    _process: Process,
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
    process: Process,
}

impl Tailnet {
    /// Starts `isthmus tailbox` on a host; `folder` takes its state, credentials and log.
    ///
    /// # Errors
    /// When it does not answer; the error shows the end of its log.
    pub fn start(host: Host, program: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(host, program, folder, &[])
    }

    /// The same with a policy, as HuJSON.
    ///
    /// # Errors
    /// As [`start`](Self::start), also for a policy that is none.
    pub fn start_with_policy(host: Host, program: &Path, folder: &Path, policy: &str) -> Result<Self> {
        let file = folder.join("policy.hujson");
        fs::write(&file, policy).with_context(|| format!("write {}", file.display()))?;
        Self::start_with(host, program, folder, &[Path::new("--policy"), &file])
    }

    fn start_with(host: Host, program: &Path, folder: &Path, options: &[&Path]) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let (credentials, log) = (folder.join("credentials.json"), folder.join("tailbox.log"));
        let mut command = Command::new(program);
        command
            .args(["tailbox", "--listen", &format!("{}:{PORT}", host.address)])
            .arg("--credentials-out")
            .arg(&credentials)
            .args(options);
        let process = spawn(&host, command, &log)?;
        let mut tailnet = Self {
            host,
            program: program.to_owned(),
            folder: folder.to_owned(),
            client_id: String::new(),
            client_secret: String::new(),
            _process: process,
        };
        tailnet.wait_until("the control server", &log, |tailnet| {
            tailnet.get("/key").is_ok() && credentials.exists()
        })?;
        let credentials: Value = serde_json::from_slice(&fs::read(&credentials).context("read the credentials")?)
            .context("understand the credentials")?;
        tailnet.client_id = text(&credentials, "client_id")?;
        tailnet.client_secret = text(&credentials, "client_secret")?;
        Ok(tailnet)
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

    /// A new auth key for devices.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn auth_key(&self) -> Result<String> {
        let devices = json!({"create": {"reusable": true, "ephemeral": false, "preauthorized": true, "tags": [TAG]}});
        let body = json!({"capabilities": {"devices": devices}, "expirySeconds": 3600}).to_string();
        let answer = self.call("/api/v2/tailnet/-/keys", Some(&body))?;
        text(&answer, "key")
    }

    /// The devices of the tailnet, as the API lists them.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn devices(&self) -> Result<Vec<Value>> {
        let answer = self.call("/api/v2/tailnet/-/devices", None)?;
        Ok(answer["devices"].as_array().cloned().unwrap_or_default())
    }

    /// The IPv4 address of the device with this host name; nothing while there is none.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn address_of(&self, hostname: &str) -> Result<Option<String>> {
        self.find_address(hostname, |address| !address.contains(':'))
    }

    /// The IPv6 address of the device with this host name; nothing while there is none.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn ipv6_address_of(&self, hostname: &str) -> Result<Option<String>> {
        self.find_address(hostname, |address| address.contains(':'))
    }

    /// The full name of the device with this host name; nothing while there is none.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn name_of(&self, hostname: &str) -> Result<Option<String>> {
        let device = self.device(hostname)?;
        Ok(device.and_then(|device| device["name"].as_str().map(str::to_owned)))
    }

    fn device(&self, hostname: &str) -> Result<Option<Value>> {
        let devices = self.devices()?;
        Ok(devices.into_iter().find(|device| device["hostname"] == hostname))
    }

    fn find_address(&self, hostname: &str, fits: impl Fn(&str) -> bool) -> Result<Option<String>> {
        let device = self.device(hostname)?;
        let addresses = device.as_ref().and_then(|device| device["addresses"].as_array());
        let found = addresses
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .find(|address| fits(address));
        Ok(found.map(str::to_owned))
    }

    /// Joins a host to the tailnet with `isthmus node` under this name, and waits until it has an address.
    ///
    /// # Errors
    /// When it does not get one; the error shows the end of its log.
    pub fn join(&self, host: Host, name: &str) -> Result<Member> {
        let (key, log) = (
            self.folder.join(format!("{name}.key")),
            self.folder.join(format!("{name}.log")),
        );
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
            .arg(self.folder.join(format!("{name}.state")));
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
            process,
        })
    }

    /// Sends a request to the API with a token of the OAuth client: a POST when there is a body, else a GET.
    fn call(&self, path: &str, body: Option<&str>) -> Result<Value> {
        let form = [
            ("client_id", self.client_id.as_str()),
            ("client_secret", &self.client_secret),
            ("grant_type", "client_credentials"),
        ];
        let (base, authorization) = (self.login_server(), "authorization");
        let request = || -> Result<Value> {
            let mut answer = ureq::post(format!("{base}/api/v2/oauth/token"))
                .send_form(form)
                .context("ask for a token")?;
            let token = text(
                &answer.body_mut().read_json::<Value>().context("understand the token")?,
                "access_token",
            )?;
            let bearer = format!("Bearer {token}");
            let url = format!("{base}{path}");
            let sent = match body {
                Some(body) => ureq::post(&url)
                    .header(authorization, &bearer)
                    .content_type("application/json")
                    .send(body),
                None => ureq::get(&url).header(authorization, &bearer).call(),
            };
            let mut answer = sent.with_context(|| format!("ask the API for {path}"))?;
            answer
                .body_mut()
                .read_json()
                .with_context(|| format!("understand the API's answer to {path}"))
        };
        self.host.namespace.enter(request)
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
                    read_tail(log)
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
}

fn spawn(host: &Host, mut command: Command, log: &Path) -> Result<Process> {
    let file = File::create(log).with_context(|| format!("open the log {}", log.display()))?;
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

fn read_tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| format!("(the log cannot be read: {error})"));
    let skip = text.lines().count().saturating_sub(30);
    text.lines().skip(skip).collect::<Vec<_>>().join("\n")
}
