//! etcd and kube-apiserver alone, for tests that need an API server and nothing that acts on it. Needs no rights.

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

use crate::Progress;
use crate::api::ApiClient;
use crate::control_plane::{self, ApiServerConfig};
use crate::etcd;
use crate::node::write_json;
use crate::pki;
use crate::process::Daemon;
use crate::tools::Tools;

const NAME: &str = "isthmus-api";
const PATIENCE: Duration = Duration::from_secs(90);
/// How often other ports are tried when a program found its port taken.
const ATTEMPTS: u32 = 3;

/// A running API server; it ends when this is dropped, and also when this process ends in any way.
#[derive(Debug)]
pub struct ApiServer {
    folder: TempDir,
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts etcd and kube-apiserver on free ports of the loopback interface and waits until they answer.
    ///
    /// # Errors
    /// Names the program that failed and shows the end of its log.
    pub fn start(progress: Progress<'_>) -> Result<Self> {
        let tools = Tools::ensure(progress)?;
        let mut attempt = 1;
        loop {
            match Self::start_once(&tools) {
                Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains("address already in use") => {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The log of every request, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    /// The `kubectl` of this API server's version, with the administrator's rights.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(self.folder.path().join("kubectl"));
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    fn start_once(tools: &Tools) -> Result<Self> {
        let folder = new_folder()?;
        let ports = free_ports()?;
        prepare_files(folder.path(), tools, ports.api)?;
        let (stop, stopped) = mpsc::channel::<()>();
        let (answer, answered) = mpsc::channel();
        let path = folder.path().to_owned();
        // The programs die with the thread that started them, so one thread starts them, stays and ends them.
        let keeper = thread::spawn(move || {
            let mut daemons = Vec::new();
            let result = start_daemons(&path, ports, &mut daemons);
            if answer.send(result).is_ok() {
                // Returns when the handle is dropped.
                let _ = stopped.recv();
            }
            daemons.iter_mut().rev().for_each(Daemon::kill);
        });
        let server = Self {
            folder,
            stop: Some(stop),
            keeper: Some(keeper),
        };
        answered
            .recv()
            .unwrap_or_else(|_| Err(anyhow!("starting the API server ended in a panic")))?;
        Ok(server)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            // A panic in there has been reported by then.
            let _ = keeper.join();
        }
    }
}

#[derive(Clone, Copy)]
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    api: u16,
}

/// A folder named after this process. One that is shared by tests is never dropped, so those of processes that are gone
/// are removed here.
fn new_folder() -> Result<TempDir> {
    let prefix = |process: &str| format!("{NAME}-{process}-");
    for entry in fs::read_dir(env::temp_dir())
        .context("list the folder of temporary files")?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(NAME).and_then(|rest| rest.split('-').nth(1));
        if process
            .is_some_and(|process| name.starts_with(&prefix(process)) && !Path::new("/proc").join(process).exists())
        {
            // Another process may be removing it as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let own = prefix(&process::id().to_string());
    tempfile::Builder::new()
        .prefix(&own)
        .tempdir()
        .context("make a folder for the API server")
}

fn free_ports() -> Result<Ports> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port");
    let port = |listener: &TcpListener| Ok::<u16, anyhow::Error>(listener.local_addr().context("read a port")?.port());
    let listeners = [listen()?, listen()?, listen()?];
    Ok(Ports {
        etcd: port(&listeners[0])?,
        etcd_peer: port(&listeners[1])?,
        api: port(&listeners[2])?,
    })
}

fn api_url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

fn prepare_files(folder: &Path, tools: &Tools, port: u16) -> Result<()> {
    for command in ["etcd", "kube-apiserver", "kubectl"] {
        symlink(tools.kubebox(), folder.join(command))
            .with_context(|| format!("name {command} in {}", folder.display()))?;
    }
    let pki = folder.join("pki");
    pki::write_all(
        &pki,
        &pki::plan_api_server("cluster.local", vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
    )?;
    pki::write_secret_file(
        &folder.join("kubeconfig"),
        &pki::build_kubeconfig(&pki, NAME, &api_url(port), "admin")?,
    )?;
    write_json(
        &folder.join("admission.json"),
        &control_plane::render_admission("privileged"),
    )?;
    write_json(&folder.join("audit.json"), &control_plane::render_audit_policy())
}

fn start_daemons(folder: &Path, ports: Ports, daemons: &mut Vec<Daemon>) -> Result<()> {
    let config = ApiServerConfig {
        pki: folder.join("pki"),
        etcd_port: ports.etcd,
        bind: Ipv4Addr::LOCALHOST.into(),
        port: ports.api,
        advertise: Ipv4Addr::LOCALHOST.into(),
        service_nets: "10.96.0.0/16,fd00:10:96::/112".to_owned(),
        admission: folder.join("admission.json"),
        audit_policy: folder.join("audit.json"),
        audit_log: folder.join("audit.log"),
        unreachable_s: 300,
        with_nodes: false,
    };
    daemons.push(spawn(
        folder,
        "etcd",
        &etcd::render_args(&folder.join("etcd-data"), ports.etcd, ports.etcd_peer),
    )?);
    daemons.push(spawn(folder, "kube-apiserver", &config.render_args())?);
    let api = ApiClient::new(&config.pki, &api_url(ports.api))?;
    let [etcd, server] = daemons.as_mut_slice() else {
        unreachable!("both were pushed above")
    };
    let mut etcd_result = Ok(());
    server.wait_until("become ready", PATIENCE, || {
        etcd_result = etcd.check();
        etcd_result.is_err() || api.is_ready()
    })?;
    etcd_result
}

/// Starts a program that is killed when the thread that started it ends, however that comes about.
fn spawn(folder: &Path, name: &str, args: &[String]) -> Result<Daemon> {
    let log = folder.join(format!("{name}.log"));
    let file = fs::File::create(&log).with_context(|| format!("open the log {}", log.display()))?;
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(folder.join(name))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("share the log between output and errors")?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("start {name}"))?;
    Ok(Daemon::adopt(name, child, log))
}
