//! Answers questions of the node's owner.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use isthmus_tailnet_core::disco::{Message, TransactionId};
use isthmus_tailnet_core::echo;
use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netmap::Peer;
use isthmus_tailnet_core::tsmp;
use tokio::sync::oneshot;

use super::Engine;
use crate::dataplane::Path;
use crate::disco::random_id;
use crate::node::{NodeReport, PeerReport, PingAnswer, PingKind};

/// How long the answer to a ping is awaited.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question.
pub(crate) enum Ask {
    /// How peers are reached, and what the network is like.
    Report(oneshot::Sender<NodeReport>),
    /// Ping a peer by its path. Nothing is answered when the peer does not.
    Ping {
        /// The peer.
        peer: NodeKey,
        /// How.
        kind: PingKind,
        /// Who waits.
        reply: oneshot::Sender<PingAnswer>,
    },
}

/// Pings whose answers somebody waits for.
#[derive(Default)]
pub(crate) struct Awaited {
    disco: BTreeMap<TransactionId, Waiting>,
    tsmp: BTreeMap<[u8; tsmp::DATA], Waiting>,
    echoes: BTreeMap<[u8; echo::DATA], Waiting>,
}

struct Waiting {
    sent: Instant,
    path: Option<Path>,
    reply: oneshot::Sender<PingAnswer>,
}

impl Awaited {
    /// Takes the answer to a disco ping, and where it came from.
    pub(super) fn take_disco(&mut self, message: &Message, from: Path) {
        if let Message::Pong { id, .. } = message
            && let Some(waiting) = self.disco.remove(id)
        {
            waiting.answer(Some(from));
        }
    }

    /// Takes the answer to a TSMP ping.
    pub(super) fn take_tsmp(&mut self, data: [u8; tsmp::DATA]) {
        if let Some(waiting) = self.tsmp.remove(&data) {
            let path = waiting.path;
            waiting.answer(path);
        }
    }

    /// Takes the reply to an echo request.
    pub(super) fn take_echo(&mut self, data: [u8; echo::DATA]) {
        if let Some(waiting) = self.echoes.remove(&data) {
            let path = waiting.path;
            waiting.answer(path);
        }
    }

    /// Whether an echo is waited for.
    pub(super) fn has_echoes(&self) -> bool {
        !self.echoes.is_empty()
    }

    /// Forgets the pings that were not answered.
    pub(super) fn forget(&mut self, now: Instant) {
        let is_fresh = |waiting: &Waiting| waiting.sent + PATIENCE > now;
        self.disco.retain(|_, waiting| is_fresh(waiting));
        self.tsmp.retain(|_, waiting| is_fresh(waiting));
        self.echoes.retain(|_, waiting| is_fresh(waiting));
    }
}

impl Waiting {
    fn answer(self, path: Option<Path>) {
        let latency = self.sent.elapsed();
        // Who asked may have gone.
        let _ = self.reply.send(PingAnswer { latency, path });
    }
}

impl Engine {
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Report(reply) => drop(reply.send(self.report())),
            Ask::Ping { peer, kind, reply } => self.ping(&peer, kind, reply),
        }
    }

    fn report(&self) -> NodeReport {
        let network = self.netcheck.report(Instant::now());
        let reading = self.plane.meter().read();
        let peers = self.applied.peers.iter().map(|(peer, _)| {
            let way = self.applied.ways.get(&peer.key);
            let direct = self.paths.direct_state(&peer.key, &network);
            let report = PeerReport {
                path: way.and_then(|way| way.path),
                since: way.map_or_else(SystemTime::now, |way| way.since),
                latency: direct.latency,
                why_not_direct: direct.obstacle,
                traffic: reading
                    .as_ref()
                    .and_then(|reading| reading.peer(&peer.key))
                    .unwrap_or_default(),
            };
            (peer.key, report)
        });
        NodeReport {
            peers: peers.collect(),
            network,
        }
    }

    fn ping(&mut self, key: &NodeKey, kind: PingKind, reply: oneshot::Sender<PingAnswer>) {
        let Some((peer, _)) = self.applied.peers.iter().find(|(peer, _)| peer.key == *key).cloned() else {
            return;
        };
        let (sent, path) = (Instant::now(), self.path_to(&peer));
        let waiting = Waiting { sent, path, reply };
        // Whoever pings wants to know whether there is a direct path.
        let actions = self.paths.wanted(key, sent, &mut random_id);
        self.act(actions);
        match kind {
            PingKind::Disco => self.ping_by_disco(&peer, waiting),
            PingKind::Tsmp => self.ping_by_tsmp(&peer, waiting),
            PingKind::Icmp => self.ping_by_icmp(&peer, waiting),
        }
    }

    fn ping_by_disco(&mut self, peer: &Peer, waiting: Waiting) {
        match waiting.path {
            Some(Path::Direct(_)) => {
                if let Some((id, actions)) = self.paths.ask(&peer.key, waiting.sent, &mut random_id) {
                    self.awaited.disco.insert(id, waiting);
                    self.act(actions);
                }
            }
            Some(Path::Relay(region)) => {
                let id = random_id();
                let message = Message::Ping {
                    id,
                    node: Some(self.own),
                };
                let datagram = peer.disco.and_then(|disco| self.disco.seal(&disco, &message));
                if let Some(datagram) = datagram {
                    self.awaited.disco.insert(id, waiting);
                    self.relays.send(region, peer.key, datagram);
                }
            }
            None => {}
        }
    }

    fn ping_by_tsmp(&mut self, peer: &Peer, waiting: Waiting) {
        let data = rand::random();
        let packet = self.ends(peer).and_then(|(from, to)| tsmp::ping(from, to, data));
        if let Some(mut packet) = packet {
            self.awaited.tsmp.insert(data, waiting);
            self.plane.send_packet(&mut packet);
        }
    }

    fn ping_by_icmp(&mut self, peer: &Peer, waiting: Waiting) {
        let data = rand::random();
        let packet = self.ends(peer).and_then(|(from, to)| echo::request(from, to, data));
        if let Some(mut packet) = packet {
            self.awaited.echoes.insert(data, waiting);
            self.hooks.await_echoes(true);
            self.plane.send_packet(&mut packet);
        }
    }

    /// An address of this node and one of the peer, of one family.
    fn ends(&self, peer: &Peer) -> Option<(IpAddr, IpAddr)> {
        let own = &self.applied.netmap.as_ref()?.own.addresses;
        let mut pairs = own.iter().filter_map(|own| {
            let mut theirs = peer.addresses.iter();
            let address = theirs.find(|address| address.is_ipv4() == own.is_ipv4())?;
            Some((*own, *address))
        });
        pairs.next()
    }
}
