//! A node that a control server tells its peers.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use isthmus_runtime::{Secret, Shutdown};
use isthmus_tailnet::control::read_authorities;
use isthmus_tailnet::state::FileStore;
use isthmus_tailnet::{LoginState, Node, NodeConfig, NodeStatus, ServicePort, ServicePortError, TunConfig};

use super::local::LocalSocket;

/// How to log in.
#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// URL of the control server to log in to
    #[arg(long, value_name = "URL")]
    pub(crate) login_server: Option<String>,
    /// File with the auth key of the first login; later starts need none
    #[arg(long, value_name = "FILE", requires = "login_server")]
    auth_key_file: Option<PathBuf>,
    /// Folder that keeps the node's identity, and what it needs to start while control is away
    #[arg(long, value_name = "DIR", default_value = "/var/lib/isthmus")]
    state_dir: PathBuf,
    /// Host name to ask for; the machine's own when left out
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// UDP port for traffic with peers; 0 for any
    #[arg(long, value_name = "PORT", default_value_t = isthmus_tailnet::udp::DEFAULT_PORT)]
    port: u16,
    /// Use subnet routes of peers
    #[arg(long, requires = "login_server")]
    accept_routes: bool,
    /// Offer to carry packets for a prefix (needs control's approval, and forwarding by this machine); may be repeated
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', requires = "login_server")]
    advertise_routes: Vec<ipnet::IpNet>,
    /// Offer to host a Tailscale Service with a port (needs control's approval); may be repeated, for more ports as well
    #[arg(long = "advertise-service", value_name = "svc:NAME=tcp:PORT", requires = "login_server", value_parser = service)]
    advertise_services: Vec<(String, ServicePort)>,
    /// File with the name servers for names that are not of the tailnet
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// Resolve no names at 100.100.100.100
    #[arg(long, requires = "login_server")]
    no_resolver: bool,
    /// File with certificates of further authorities to trust for the control server
    #[arg(long, value_name = "FILE", env = "SSL_CERT_FILE")]
    ca_file: Option<PathBuf>,
}

fn service(text: &str) -> Result<(String, ServicePort), String> {
    match text.split_once('=') {
        Some((name, port)) if name.starts_with("svc:") => {
            let port = port.parse().map_err(|error: ServicePortError| error.to_string())?;
            Ok((name.to_owned(), port))
        }
        Some(_) | None => Err("write svc:, the service's name, =, and a port like tcp:443".to_owned()),
    }
}

/// Runs a node until SIGINT or SIGTERM.
///
/// # Errors
/// When the node cannot start: no rights, unusable state or files.
pub(crate) async fn run(login_server: &str, arguments: &LoginArguments, tun: &TunConfig) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().context("cannot listen to signals")?;
    let socket = LocalSocket::bind(&arguments.state_dir)?;
    loop {
        let node = Node::start(config(login_server, arguments, tun)?).await?;
        let again = tokio::select! {
            again = follow(&node, &shutdown) => again?,
            () = socket.serve(node.handle()) => false,
        };
        node.shutdown().await;
        if !again {
            return Ok(());
        }
        tracing::info!("starting again with a new node key");
    }
}

/// Reports how the login goes until the shutdown begins (false) or the node has to be started again (true).
async fn follow(node: &Node, shutdown: &Shutdown) -> anyhow::Result<bool> {
    let mut status = node.status();
    let mut last = String::new();
    let mut waited = false;
    loop {
        tokio::select! {
            () = shutdown.begun() => return Ok(false),
            changed = status.changed() => changed.context("the node ended by itself")?,
        }
        let now = status.borrow_and_update().clone();
        if now.login == LoginState::RestartNeeded {
            return Ok(true);
        }
        if let Some(line) = running_line(&now)
            && line != last
        {
            writeln!(io::stdout().lock(), "{line}").context("cannot write to standard output")?;
            last = line;
        }
        let waits = now.login == LoginState::NeedsApproval;
        if waits && !waited {
            tracing::warn!("the machine waits for an administrator's approval");
        }
        waited = waits;
    }
}

/// The line for people and programs that wait: name and addresses of a running node.
fn running_line(status: &NodeStatus) -> Option<String> {
    let netmap = status.netmap.as_ref().filter(|_| status.is_running())?;
    let addresses: Vec<String> = netmap.own.addresses.iter().map(ToString::to_string).collect();
    Some(format!("running as {} with {}", netmap.own.fqdn(), addresses.join(" ")))
}

fn config(login_server: &str, arguments: &LoginArguments, tun: &TunConfig) -> anyhow::Result<NodeConfig> {
    let hostname = match &arguments.hostname {
        Some(name) => name.clone(),
        None => fs::read_to_string("/proc/sys/kernel/hostname").context("cannot read the machine's host name")?,
    };
    let state = FileStore::new(arguments.state_dir.join("node.json"));
    let mut config = NodeConfig::new(login_server, hostname.trim(), Arc::new(state));
    config.auth_key = arguments.auth_key_file.as_deref().map(read_key).transpose()?;
    config.cache = Some(arguments.state_dir.join("cache"));
    config.listen_port = arguments.port;
    config.tun = tun.clone();
    config.accept_routes = arguments.accept_routes;
    config.advertise_routes.clone_from(&arguments.advertise_routes);
    for (name, port) in &arguments.advertise_services {
        let ports = config.advertise_services.entry(name.clone()).or_default();
        ports.push(*port);
    }
    config.install_routes = true;
    config.resolver = (!arguments.no_resolver).then(|| arguments.resolv_conf.clone());
    config.extra_ca = arguments
        .ca_file
        .as_deref()
        .map(read_authorities)
        .transpose()?
        .unwrap_or_default();
    Ok(config)
}

fn read_key(path: &Path) -> anyhow::Result<Secret> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the auth key in {}", path.display()))?;
    let key = Secret::from_file_content(&text);
    anyhow::ensure!(!key.is_empty(), "the auth key file {} is empty", path.display());
    Ok(key)
}
