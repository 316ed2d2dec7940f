//! `isthmus node`: a node on this machine, outside of any cluster.

mod local;
mod login;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use isthmus_runtime::{Shutdown, log};
use isthmus_tailnet::dataplane::{DataPlane, DataPlaneConfig, Hooks};
use isthmus_tailnet::offloads::{OffloadSwitch, Offloads};
use isthmus_tailnet::static_peers::StaticPeers;
use isthmus_tailnet::tun::{Tun, TunConfig};
use isthmus_tailnet::udp::UdpLink;

/// How to run a node.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("peers").required(true).args(["static_peers", "login_server"]))]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    ask: Option<local::Ask>,
    #[command(flatten)]
    login: login::LoginArguments,
    /// A JSON file with the node's own key, addresses and port, and its peers' keys, endpoints and addresses
    #[arg(long, value_name = "FILE")]
    static_peers: Option<PathBuf>,
    /// Name of the TUN device
    #[arg(long, default_value = "isthmus0", value_name = "NAME")]
    tun: String,
    /// Send and receive every packet on its own, for networks and kernels that corrupt batches
    #[arg(long)]
    no_offloads: bool,
    /// What to log: a level, or directives such as `info,isthmus_tailnet=debug`
    #[arg(
        long,
        env = "ISTHMUS_LOG",
        default_value = "info,boringtun=off",
        value_name = "FILTER"
    )]
    log: String,
    /// Log in JSON, one object a line
    #[arg(long)]
    log_json: bool,
}

/// Runs a node until SIGINT or SIGTERM, or asks the one that runs.
///
/// # Errors
/// When the peer file cannot be used or the node's device or socket cannot be made.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(what) = arguments.ask {
        return local::ask(what).await;
    }
    let format = if arguments.log_json {
        log::Format::Json
    } else {
        log::Format::Text
    };
    log::init(&arguments.log, format)?;
    let Some(static_peers) = &arguments.static_peers else {
        let tun = isthmus_tailnet::TunConfig {
            name: arguments.tun,
            offloads: !arguments.no_offloads,
            ..isthmus_tailnet::TunConfig::default()
        };
        let server = arguments.login.login_server.as_deref().unwrap_or_default();
        return login::run(server, &arguments.login, &tun).await;
    };
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().context("cannot listen to signals")?;
    let peers = read_peers(static_peers)?;
    let offloads = if arguments.no_offloads {
        Offloads::NONE
    } else {
        Offloads::for_this_kernel()
    };
    let offloads = OffloadSwitch::new(offloads);
    let udp = UdpLink::bind(peers.listen_port, offloads.clone())?;
    let config = TunConfig {
        name: arguments.tun.clone(),
        mtu: peers.mtu,
        addresses: peers.addresses.clone(),
    };
    let tun = Arc::new(Tun::create(&config, offloads)?);
    let config = DataPlaneConfig {
        private_key: peers.private_key.clone(),
        mtu: peers.mtu,
    };
    let (plane, hooks) = DataPlane::start(&config, tun, udp)?;
    plane.apply(peers.snapshot());
    tracing::info!(
        tun = arguments.tun,
        port = plane.local_port()?,
        peers = peers.peers.len(),
        "node is up"
    );
    follow(hooks, &shutdown).await;
    let counts = plane.counts();
    drop(plane);
    tracing::info!(
        tun_reads = counts.tun_reads,
        tun_read_bytes = counts.tun_read_bytes,
        tun_packets_written = counts.tun_packets_written,
        udp_sends = counts.udp_sends,
        udp_send_bytes = counts.udp_send_bytes,
        udp_receives = counts.udp_receives,
        udp_receive_bytes = counts.udp_receive_bytes,
        inbound_dropped = counts.inbound_dropped.total(),
        outbound_dropped = counts.outbound_dropped.total(),
        "node ended"
    );
    Ok(())
}

fn read_peers(path: &Path) -> anyhow::Result<StaticPeers> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the peer file {}", path.display()))?;
    StaticPeers::parse(&text).with_context(|| format!("the peer file is {}", path.display()))
}

/// Reports what happens to peers until the shutdown begins. Nobody here speaks disco: such datagrams are thrown away.
async fn follow(mut hooks: Hooks, shutdown: &Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            Some(event) = hooks.events.recv() => tracing::debug!(?event, "peer event"),
            Some(_) = hooks.datagrams.recv() => {}
        }
    }
}
