//! What the running node tells, as `--json` prints it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use isthmus_tailnet::dataplane::Path;
use isthmus_tailnet::{LoginState, NodeReport, NodeStatus, PeerReport};
use isthmus_tailnet_core::netcheck::NetworkReport;
use isthmus_tailnet_core::netmap::{Netmap, OwnNode, Peer, RegionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Status {
    /// How far the login is, in one word.
    pub(super) login: String,
    /// What is in the way of the login.
    pub(super) problem: Option<String>,
    /// Whether the control server is connected now.
    pub(super) connected: bool,
    /// This node, once it is logged in.
    pub(super) node: Option<Device>,
    /// All peers.
    pub(super) peers: Vec<PeerStatus>,
    /// Warnings of the control server.
    pub(super) health: Vec<String>,
}

/// A device of the tailnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) name: String,
    /// The device's id in management APIs.
    pub(super) id: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) tags: Vec<String>,
    /// Login name of the device's user; nothing for a tagged device.
    pub(super) user: Option<String>,
}

/// A peer and the way to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PeerStatus {
    #[serde(flatten)]
    pub(super) device: Device,
    pub(super) online: Option<bool>,
    pub(super) way: Way,
    /// Since when the way is this one.
    pub(super) since: Option<Timestamp>,
    /// Round trip over the direct path.
    pub(super) latency_ms: Option<f64>,
    /// Why the way is not direct.
    pub(super) why_not_direct: Option<String>,
    /// Bytes of authentic datagrams from the peer, and of those to it.
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    /// Seconds since the last handshake; nothing for never.
    pub(super) handshake_age_s: Option<u64>,
    /// Why there can be no session with the peer at all.
    pub(super) obstacle: Option<String>,
}

/// How datagrams travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    Direct(SocketAddr),
    Relay(Region),
    None,
}

/// A relay region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Region {
    pub(super) id: RegionId,
    pub(super) name: String,
}

/// The answer to `netcheck`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Network {
    /// Whether UDP gets out; nothing while that is being found out, and where no server can be asked.
    pub(super) udp: Option<bool>,
    pub(super) ipv4: Option<SocketAddr>,
    pub(super) ipv6: Option<SocketAddr>,
    /// Whether a NAT maps by destination ("hard").
    pub(super) mapping_varies_by_destination: Option<bool>,
    pub(super) home: Option<Region>,
    /// The nearest first.
    pub(super) latencies: Vec<RegionLatency>,
}

/// How far a relay region is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RegionLatency {
    #[serde(flatten)]
    pub(super) region: Region,
    /// Nothing when no relay of the region answers.
    pub(super) latency_ms: Option<f64>,
}

/// The answer to a ping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pong {
    pub(super) name: String,
    pub(super) address: Option<IpAddr>,
    pub(super) way: Way,
    /// Nothing when the peer did not answer.
    pub(super) latency_ms: Option<f64>,
    /// Why the way is not direct.
    pub(super) why_not_direct: Option<String>,
}

/// The answer to `whois`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Whois {
    #[serde(flatten)]
    pub(super) device: Device,
    /// Display name of the user.
    pub(super) user_name: Option<String>,
    /// The route by which the address belongs to the device, when it is not the device's own.
    pub(super) route: Option<String>,
}

pub(super) fn status(status: &NodeStatus, report: &NodeReport, now: SystemTime) -> Status {
    let (login, problem) = match &status.login {
        LoginState::Starting => ("starting", None),
        LoginState::Connecting { problem } => ("connecting", Some(problem.clone())),
        LoginState::Registering => ("registering", None),
        LoginState::NeedsLogin { message } => ("needs-login", Some(message.clone())),
        LoginState::NeedsApproval => ("needs-approval", None),
        LoginState::Running => ("running", None),
        LoginState::RestartNeeded => ("restarting", None),
    };
    let netmap = status.netmap.as_deref();
    let peers = netmap.into_iter().flat_map(|netmap| {
        let peers = netmap.peers.values();
        peers.map(move |peer| peer_status(netmap, peer, report.peers.get(&peer.key), now))
    });
    Status {
        login: login.to_owned(),
        problem,
        connected: status.connected,
        node: netmap.map(|netmap| own_device(netmap, &netmap.own)),
        peers: peers.collect(),
        health: netmap.map(|netmap| netmap.health.clone()).unwrap_or_default(),
    }
}

fn peer_status(netmap: &Netmap, peer: &Peer, report: Option<&PeerReport>, now: SystemTime) -> PeerStatus {
    PeerStatus {
        device: device(netmap, peer),
        online: peer.online,
        way: way(netmap, report.and_then(|report| report.path)),
        since: report.and_then(|report| Timestamp::try_from(report.since).ok()),
        latency_ms: report.and_then(|report| report.latency).map(milliseconds),
        why_not_direct: report.and_then(why_not_direct),
        received_bytes: report.map_or(0, |report| report.traffic.received.bytes),
        sent_bytes: report.map_or(0, |report| report.traffic.sent.bytes),
        handshake_age_s: report
            .and_then(|report| report.traffic.last_handshake)
            .map(|age| age.as_secs()),
        obstacle: peer.obstacle_at(now).map(|obstacle| obstacle.to_string()),
    }
}

pub(super) fn why_not_direct(report: &PeerReport) -> Option<String> {
    report.why_not_direct.map(|why| why.to_string())
}

pub(super) fn network(report: &NetworkReport, netmap: Option<&Netmap>) -> Network {
    let regions = netmap.map(|netmap| &netmap.relays);
    let mut latencies: Vec<RegionLatency> = regions
        .into_iter()
        .flat_map(|regions| regions.keys())
        .map(|id| RegionLatency {
            region: region(netmap, *id),
            latency_ms: report.latencies.get(id).copied().map(milliseconds),
        })
        .collect();
    let micros = |latency: &RegionLatency| {
        report
            .latencies
            .get(&latency.region.id)
            .copied()
            .unwrap_or(Duration::MAX)
    };
    latencies.sort_by_key(micros);
    Network {
        udp: report.udp,
        ipv4: report.ipv4,
        ipv6: report.ipv6,
        mapping_varies_by_destination: report.mapping_varies,
        home: report.home.map(|home| region(netmap, home)),
        latencies,
    }
}

/// Who an address belongs to; nothing for one that no device has or routes.
pub(super) fn whois(netmap: &Netmap, address: IpAddr) -> Option<Whois> {
    let is_own = netmap.own.addresses.contains(&address);
    let (device, user, route) = if is_own {
        (own_device(netmap, &netmap.own), netmap.own.user, None)
    } else {
        let (peer, route) = owner(netmap, address)?;
        (device(netmap, peer), peer.user, route)
    };
    let person = netmap.users.get(&user).filter(|_| device.tags.is_empty());
    Some(Whois {
        user_name: person.map(|user| user.name.clone()),
        device,
        route,
    })
}

/// The peer that has an address, or else the one with the longest route to it; a default route leads everywhere and tells nothing.
fn owner(netmap: &Netmap, address: IpAddr) -> Option<(&Peer, Option<String>)> {
    if let Some(peer) = netmap.peer_by_address(address) {
        return Some((peer, None));
    }
    let routes = netmap.peers.values().flat_map(|peer| {
        let nets = peer.allowed.iter();
        nets.map(move |net| (peer, net))
    });
    let leading = routes.filter(|(_, net)| net.contains(&address) && net.prefix_len() > 0);
    let (peer, net) = leading.max_by_key(|(_, net)| net.prefix_len())?;
    Some((peer, Some(net.to_string())))
}

pub(super) fn way(netmap: &Netmap, path: Option<Path>) -> Way {
    match path {
        Some(Path::Direct(address)) => Way::Direct(address),
        Some(Path::Relay(id)) => Way::Relay(region(Some(netmap), id)),
        None => Way::None,
    }
}

fn region(netmap: Option<&Netmap>, id: RegionId) -> Region {
    let known = netmap.and_then(|netmap| netmap.relays.get(&id));
    Region {
        id,
        name: known.map(|region| region.name.clone()).unwrap_or_default(),
    }
}

pub(super) fn milliseconds(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1000.0
}

fn own_device(netmap: &Netmap, own: &OwnNode) -> Device {
    Device {
        name: own.fqdn().to_owned(),
        id: own.stable_id.clone(),
        addresses: own.addresses.clone(),
        tags: own.tags.clone(),
        user: user(netmap, own.user, &own.tags),
    }
}

fn device(netmap: &Netmap, peer: &Peer) -> Device {
    Device {
        name: peer.name.trim_end_matches('.').to_owned(),
        id: peer.stable_id.clone(),
        addresses: peer.addresses.clone(),
        tags: peer.tags.clone(),
        user: user(netmap, peer.user, &peer.tags),
    }
}

fn user(netmap: &Netmap, number: i64, tags: &[String]) -> Option<String> {
    let user = netmap.users.get(&number).filter(|_| tags.is_empty());
    user.map(|user| user.login.clone())
}

#[cfg(test)]
mod tests;
