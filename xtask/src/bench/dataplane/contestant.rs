//! Who carries the loads, and how each is started on two machines.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use isthmus_testkit::go_client::GoClient;
use isthmus_testkit::netns::{Namespace, Process};
use isthmus_testkit::tailnet::{Member, Tailnet};
use isthmus_testkit::two_nodes::{IPV4, TwoNodes};
use isthmus_testkit::wait;

use super::ground::Ground;
use super::tools::Tools;

/// The address of the second node inside tunnels without a control server.
const INSIDE: &str = "10.120.0.2";

/// A program that carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Contestant {
    /// Ours with a file of peers: the data plane alone, as the tools for WireGuard have it.
    Isthmus,
    /// Ours in a tailnet.
    IsthmusJoined,
    Tailscaled,
    WireguardGo,
    Gotatun,
    Boringtun,
}

/// Two nodes that run.
pub(super) struct Running {
    /// The second node's address inside the tunnel.
    pub(super) address: String,
    /// The first node's device.
    pub(super) device: String,
    nodes: Nodes,
    /// The control server, where there is one; it ends with this.
    _tailnet: Option<Tailnet>,
}

enum Nodes {
    Processes([Process; 2]),
    Members([Member; 2]),
    Clients([GoClient; 2]),
}

impl Running {
    /// The process ids of both.
    pub(super) fn processes(&self) -> [u32; 2] {
        match &self.nodes {
            Nodes::Processes(two) => two.each_ref().map(Process::id),
            Nodes::Members(two) => two.each_ref().map(Member::pid),
            Nodes::Clients(two) => two.each_ref().map(GoClient::id),
        }
    }
}

impl Contestant {
    pub(super) const ALL: [Self; 6] = [
        Self::Isthmus,
        Self::IsthmusJoined,
        Self::Tailscaled,
        Self::WireguardGo,
        Self::Gotatun,
        Self::Boringtun,
    ];

    /// Whether its MTU can be chosen.
    pub(super) fn has_mtu(self) -> bool {
        self != Self::IsthmusJoined
    }

    /// Whether it knows relays.
    pub(super) fn has_relays(self) -> bool {
        matches!(self, Self::IsthmusJoined | Self::Tailscaled)
    }

    /// The program, where it is not ours.
    pub(super) fn program(self) -> Option<&'static str> {
        match self {
            Self::Isthmus | Self::IsthmusJoined => None,
            Self::Tailscaled => Some("tailscaled"),
            Self::WireguardGo => Some("wireguard-go"),
            Self::Gotatun => Some("gotatun-cli"),
            Self::Boringtun => Some("boringtun-cli"),
        }
    }

    /// Starts it on both machines, and waits until traffic passes the way it shall.
    pub(super) fn start(self, tools: &Tools, ground: &Ground, mtu: u16) -> Result<Running> {
        let running = match self {
            Self::Isthmus => start_isthmus(ground, mtu),
            Self::IsthmusJoined => start_joined(tools, ground)?,
            Self::Tailscaled => start_tailscaled(tools, ground, mtu)?,
            Self::WireguardGo | Self::Gotatun | Self::Boringtun => {
                let program = self.program().and_then(|name| tools.path(name));
                start_tool(
                    &program.context("only tools that are there are started")?,
                    self,
                    ground,
                    mtu,
                )?
            }
        };
        wait::until(&format!("{self} to carry"), || {
            let line = format!("ping -c 1 -W 1 {}", running.address);
            ground.first().run(&line).status.success().then_some(())
        });
        Ok(running)
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Isthmus => "isthmus, static peers",
            Self::IsthmusJoined => "isthmus",
            Self::Tailscaled => "tailscaled",
            Self::WireguardGo => "wireguard-go",
            Self::Gotatun => "gotatun",
            Self::Boringtun => "boringtun",
        })
    }
}

fn start_isthmus(ground: &Ground, mtu: u16) -> Running {
    Running {
        address: INSIDE.to_owned(),
        device: "isthmus0".to_owned(),
        nodes: Nodes::Processes(ground.two().start_both_with_mtu(IPV4, mtu, &[])),
        _tailnet: None,
    }
}

fn start_joined(tools: &Tools, ground: &Ground) -> Result<Running> {
    let tailnet = ground.tailnet(tools.isthmus())?;
    let members = [
        tailnet.join(ground.host(0), "one")?,
        tailnet.join(ground.host(1), "two")?,
    ];
    Ok(Running {
        address: members[1].address.clone(),
        device: "isthmus0".to_owned(),
        nodes: Nodes::Members(members),
        _tailnet: Some(tailnet),
    })
}

fn start_tailscaled(tools: &Tools, ground: &Ground, mtu: u16) -> Result<Running> {
    let tailnet = ground.tailnet(tools.isthmus())?;
    let key = tailnet.auth_key()?;
    let clients = [0, 1].map(|which| {
        let name = ["one", "two"][which];
        let mut client = GoClient::new(&ground.host(which).namespace, &ground.files().join(name), name);
        client.set("TS_DEBUG_MTU", &mtu.to_string());
        client.start();
        client.log_in(&tailnet.login_server(), &key, &["--accept-dns=false"]);
        client
    });
    let address = clients[1].addresses();
    let address = address.first().context("a client that is logged in has an address")?;
    Ok(Running {
        address: address.to_string(),
        device: "tailscale0".to_owned(),
        nodes: Nodes::Clients(clients),
        _tailnet: Some(tailnet),
    })
}

/// Starts a tool that makes a device of WireGuard, and tells it its keys by its socket, as `wg` does.
fn start_tool(program: &Path, contestant: Contestant, ground: &Ground, mtu: u16) -> Result<Running> {
    // Sockets of all namespaces are in one folder.
    let device = |which: usize| format!("isb{}-{which}", std::process::id());
    let mut nodes = Vec::new();
    for (which, machine) in ground.two().machines.iter().enumerate() {
        let device = device(which);
        let mut command = Command::new(program);
        if contestant == Contestant::WireguardGo {
            command.arg("-f");
        } else {
            command.args(["--foreground", "--disable-drop-privileges"]);
        }
        command
            .arg(&device)
            .env("LOG_LEVEL", "error")
            .env("WG_LOG_LEVEL", "error");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        nodes.push(machine.spawn(command));
        configure(&device, which)?;
        bring_up(machine, &device, which, mtu);
    }
    let nodes: [Process; 2] = nodes.try_into().ok().context("there are two machines")?;
    Ok(Running {
        address: INSIDE.to_owned(),
        device: device(0),
        nodes: Nodes::Processes(nodes),
        _tailnet: None,
    })
}

fn configure(device: &str, which: usize) -> Result<()> {
    let path = PathBuf::from(format!("/var/run/wireguard/{device}.sock"));
    let mut socket = wait::until("the tool's socket", || UnixStream::connect(&path).ok());
    let [private, public] = TwoNodes::hex_keys(which);
    let peer = 2 - which;
    write!(
        socket,
        "set=1\nprivate_key={private}\nlisten_port=51820\npublic_key={public}\nendpoint={IPV4}{peer}:51820\nallowed_ip=10.120.0.{peer}/32\n\n"
    )
    .context("write to the tool's socket")?;
    let mut answer = [0; 256];
    let length = socket.read(&mut answer).context("read from the tool's socket")?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    anyhow::ensure!(answer.contains("errno=0"), "the tool does not take its keys: {answer}");
    Ok(())
}

fn bring_up(machine: &Namespace, device: &str, which: usize, mtu: u16) {
    machine.ip(&format!("addr add 10.120.0.{}/24 dev {device}", which + 1));
    machine.ip(&format!("link set {device} mtu {mtu} up"));
}
