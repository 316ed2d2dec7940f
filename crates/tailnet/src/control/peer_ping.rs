//! Pings of peers that control asks for: what is answered is what Go clients answer.

use std::net::IpAddr;

use isthmus_tailnet_core::netmap::{Netmap, Peer};
use isthmus_tailnet_wire::control::PingResponse;

use crate::dataplane::Path;
use crate::node::{NodeHandle, PingAnswer, PingKind};

/// The ways that control can ask for; nothing for what is none.
pub(super) fn kind(name: &str) -> Option<Kind> {
    match name {
        "disco" => Some(Kind::Of(PingKind::Disco)),
        "TSMP" => Some(Kind::Of(PingKind::Tsmp)),
        "ICMP" => Some(Kind::Of(PingKind::Icmp)),
        "peerapi" => Some(Kind::PeerApi),
        _ => None,
    }
}

/// One way to ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Of(PingKind),
    /// Over HTTP, at a server that this node neither has nor asks.
    PeerApi,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Of(PingKind::Disco) => "disco",
            Self::Of(PingKind::Tsmp) => "TSMP",
            Self::Of(PingKind::Icmp) => "ICMP",
            Self::PeerApi => "peerapi",
        }
    }
}

/// Pings the peer that takes packets for an address; gives nothing when that does not answer.
pub(super) async fn ping(node: &NodeHandle, address: IpAddr, kind: Kind) -> Option<PingResponse> {
    let netmap = node.status().borrow().netmap.clone()?;
    let response = PingResponse {
        kind: kind.name().to_owned(),
        ip: address.to_string(),
        ..PingResponse::default()
    };
    if netmap.own.addresses.contains(&address) {
        return Some(PingResponse {
            err: format!("{address} is local Tailscale IP"),
            is_local_ip: true,
            ..response
        });
    }
    let Some(peer) = peer_for(&netmap, address) else {
        return Some(failed(response, "no matching peer"));
    };
    let response = of_peer(response, peer);
    match kind {
        Kind::PeerApi => Some(failed(response, "this node does not ask peer APIs")),
        Kind::Of(kind) => {
            let answer = node.ping(peer.key, kind).await.ok()?;
            Some(answered(response, &netmap, kind, &answer))
        }
    }
}

fn failed(response: PingResponse, problem: &str) -> PingResponse {
    PingResponse {
        err: problem.to_owned(),
        ..response
    }
}

/// The peer with the longest route to an address.
fn peer_for(netmap: &Netmap, address: IpAddr) -> Option<&Peer> {
    let length = |peer: &Peer| {
        let nets = peer.allowed.iter().filter(|net| net.contains(&address));
        nets.map(ipnet::IpNet::prefix_len).max()
    };
    let routes = netmap.peers.values().filter_map(|peer| Some((length(peer)?, peer)));
    routes.max_by_key(|(length, _)| *length).map(|(_, peer)| &**peer)
}

fn of_peer(response: PingResponse, peer: &Peer) -> PingResponse {
    let first = peer.name.split('.').next().unwrap_or_default();
    PingResponse {
        node_ip: peer.addresses.first().map(ToString::to_string).unwrap_or_default(),
        node_name: first.to_owned(),
        ..response
    }
}

/// Only disco tells which way the answer came.
fn answered(response: PingResponse, netmap: &Netmap, kind: PingKind, answer: &PingAnswer) -> PingResponse {
    let mut response = PingResponse {
        latency_seconds: answer.latency.as_secs_f64(),
        ..response
    };
    match answer.path.filter(|_| kind == PingKind::Disco) {
        Some(Path::Direct(endpoint)) => response.endpoint = endpoint.to_string(),
        Some(Path::Relay(region)) => {
            response.derp_region_id = region.into();
            response.derp_region_code = netmap
                .relays
                .get(&region)
                .map(|region| region.code.clone())
                .unwrap_or_default();
        }
        None => {}
    }
    response
}
