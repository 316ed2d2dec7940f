//! A node: the path search and the check of the network, driven as the engine drives them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use isthmus_tailnet_core::addresses::AddressSet;
use isthmus_tailnet_core::disco::{Message, TransactionId};
use isthmus_tailnet_core::key::{DiscoKey, NodeKey};
use isthmus_tailnet_core::netcheck::Netcheck;
use isthmus_tailnet_core::netmap::{Region, RegionId, StunServer};
use isthmus_tailnet_core::paths::{Action, Paths, Target};

use crate::network::STUN;

pub(crate) const REGION: RegionId = 1;

/// How long a session with a peer lives without traffic: as WireGuard has it.
const SESSION: u64 = 180_000;

/// What a node wants sent.
#[derive(Debug)]
pub(crate) enum Out {
    Disco {
        to: SocketAddr,
        message: Message,
    },
    ByRelay {
        peer: NodeKey,
        message: Message,
    },
    Stun {
        to: SocketAddr,
        id: TransactionId,
    },
    /// A datagram with traffic; nowhere means by relay.
    Data {
        peer: NodeKey,
        to: Option<SocketAddr>,
    },
}

#[derive(Debug, Default, Clone, Copy)]
struct Flow {
    sent: u64,
    received: u64,
    silent: u32,
    last_sent: u64,
    last_received: u64,
    last: Option<u64>,
}

pub(crate) struct Node {
    pub(crate) key: NodeKey,
    pub(crate) disco: DiscoKey,
    pub(crate) site: usize,
    pub(crate) stay: u8,
    pub(crate) socket: SocketAddr,
    /// Until when there is no connection to the relay.
    pub(crate) no_relay_until: u64,
    /// What control knows.
    pub(crate) told: Vec<SocketAddr>,
    pub(crate) paths: Paths,
    netcheck: Netcheck,
    flows: BTreeMap<NodeKey, Flow>,
    start: Instant,
    counter: u64,
    run: u8,
    /// Pings to each address that were answered, with the time of the last answer.
    answered: BTreeMap<SocketAddr, u64>,
    sent: BTreeMap<TransactionId, SocketAddr>,
    /// Pings sent, and the second half of the story's checks of them.
    pub(crate) pings: u64,
    /// A path that was taken without an answer from it.
    pub(crate) blind: Option<SocketAddr>,
}

fn netcheck() -> Netcheck {
    let mut netcheck = Netcheck::default();
    let server = |address: SocketAddr| StunServer {
        host: address.ip().to_string(),
        addresses: vec![address.ip()],
        port: address.port(),
    };
    let region = Region {
        stun: STUN.map(server).to_vec(),
        may_be_home: true,
        ..crate::world::region()
    };
    netcheck.update(&BTreeMap::from([(REGION, region)]), &BTreeMap::new());
    netcheck
}

impl Node {
    pub(crate) fn new(number: usize, socket: SocketAddr, start: Instant) -> Self {
        let number = u8::try_from(number).unwrap() + 1;
        let key = NodeKey::from_bytes([number; 32]);
        Self {
            key,
            disco: disco(number, 0),
            site: usize::from(number) - 1,
            stay: 0,
            socket,
            no_relay_until: 0,
            told: Vec::new(),
            paths: Paths::new(key),
            netcheck: netcheck(),
            flows: BTreeMap::new(),
            start,
            counter: 0,
            run: 0,
            answered: BTreeMap::new(),
            sent: BTreeMap::new(),
            pings: 0,
            blind: None,
        }
    }

    pub(crate) fn restart(&mut self) {
        self.run += 1;
        self.disco = disco(self.key.as_bytes()[0], self.run);
        self.paths = Paths::new(self.key);
        self.netcheck = netcheck();
        self.flows.clear();
        self.answered.clear();
        self.sent.clear();
    }

    fn at(&self, now: u64) -> Instant {
        self.start + Duration::from_millis(now)
    }

    /// What a call to the paths, which get time and random names, wants sent.
    fn call(
        &mut self,
        now: u64,
        f: impl FnOnce(&mut Paths, Instant, &mut dyn FnMut() -> TransactionId) -> Vec<Action>,
    ) -> Vec<Out> {
        let at = self.at(now);
        let (counter, own) = (&mut self.counter, self.key.as_bytes()[0]);
        let mut random = || {
            *counter += 1;
            let mut id = [own; 12];
            id[..8].copy_from_slice(&counter.to_be_bytes());
            id
        };
        let actions = f(&mut self.paths, at, &mut random);
        actions.into_iter().filter_map(|action| self.out(action, now)).collect()
    }

    fn out(&mut self, action: Action, now: u64) -> Option<Out> {
        match action {
            Action::Send { to, message, .. } => {
                if let Message::Ping { id, .. } = &message {
                    self.pings += 1;
                    self.sent.insert(*id, to);
                }
                Some(Out::Disco { to, message })
            }
            Action::Relay { peer, message, .. } => {
                (now >= self.no_relay_until).then_some(Out::ByRelay { peer, message })
            }
            Action::Path { path: Some(path), .. } => {
                // The answer is noted before the paths are told of it.
                if self.answered.get(&path) != Some(&now) {
                    self.blind = Some(path);
                }
                None
            }
            Action::Path { path: None, .. } | Action::Doubt { .. } => None,
        }
    }

    /// Takes what control says of the peers.
    pub(crate) fn learn(&mut self, peers: Vec<Target>, now: u64) -> Vec<Out> {
        let own: AddressSet = [IpNet::from(self.socket.ip())].into_iter().collect();
        self.call(now, |paths, _, _| paths.update(peers, own))
    }

    /// Every 250 ms.
    pub(crate) fn tick(&mut self, now: u64) -> Vec<Out> {
        let mut out = self.look_at_flows(now);
        out.extend(self.call(now, Paths::tick));
        let at = self.at(now);
        let counter = &mut self.counter;
        let probes = self.netcheck.tick(at, &mut || {
            *counter += 1;
            let mut id = [0xee; 12];
            id[..8].copy_from_slice(&counter.to_be_bytes());
            id
        });
        out.extend(probes.into_iter().map(|probe| Out::Stun {
            to: probe.to,
            id: probe.id,
        }));
        out
    }

    fn look_at_flows(&mut self, now: u64) -> Vec<Out> {
        self.flows
            .retain(|_, flow| flow.last.is_some_and(|last| last + SESSION > now));
        let active: Vec<_> = self.flows.keys().copied().collect();
        self.paths.set_active(&active);
        let mut suspected = Vec::new();
        for (key, flow) in &mut self.flows {
            let is_unanswered = flow.sent > flow.last_sent && flow.received == flow.last_received;
            flow.silent = if is_unanswered { flow.silent + 1 } else { 0 };
            (flow.last_sent, flow.last_received) = (flow.sent, flow.received);
            if flow.silent >= 2 {
                suspected.push(*key);
            }
        }
        let mut out = Vec::new();
        for key in suspected {
            out.extend(self.call(now, |paths, at, random| paths.suspect(&key, at, random)));
        }
        out
    }

    /// The addresses at which this node can be reached, as it tells control.
    pub(crate) fn endpoints(&mut self) -> Vec<SocketAddr> {
        let mut all = vec![self.socket];
        all.extend(
            self.netcheck
                .observed()
                .into_iter()
                .filter(|observed| *observed != self.socket),
        );
        self.paths.set_own_endpoints(&all);
        all
    }

    pub(crate) fn moved(&mut self, now: u64) -> Vec<Out> {
        self.netcheck.restart();
        self.endpoints();
        self.call(now, Paths::unsettle)
    }

    pub(crate) fn take_stun(&mut self, from: SocketAddr, id: TransactionId, observed: SocketAddr, now: u64) {
        let at = self.at(now);
        self.netcheck.receive(from, id, observed, at);
    }

    pub(crate) fn take_disco(&mut self, from: SocketAddr, sender: &DiscoKey, message: &Message, now: u64) -> Vec<Out> {
        if let Message::Pong { id, .. } = message
            && let Some(to) = self.sent.remove(id)
        {
            self.answered.insert(to, now);
        }
        self.call(now, |paths, at, random| {
            paths.receive(from, sender, message, at, random)
        })
    }

    pub(crate) fn take_relayed(&mut self, peer: NodeKey, sender: &DiscoKey, message: &Message, now: u64) -> Vec<Out> {
        self.call(now, |paths, at, random| {
            paths.receive_relayed((&peer, REGION), sender, message, at, random)
        })
    }

    /// Sends a datagram with traffic by the way that the engine would choose.
    pub(crate) fn talk(&mut self, peer: NodeKey, has_relay: bool, now: u64) -> Vec<Out> {
        let flow = self.flows.entry(peer).or_default();
        flow.sent += 1;
        flow.last = Some(now);
        let relay = has_relay && now >= self.no_relay_until;
        match self.paths.route(&peer) {
            Some(route) if !(route.doubted && relay) => vec![Out::Data {
                peer,
                to: Some(route.address),
            }],
            _ if relay => vec![Out::Data { peer, to: None }],
            _ => self.call(now, |paths, at, random| paths.wanted(&peer, at, random)),
        }
    }

    /// Takes traffic; what comes by relay speaks against the direct path.
    pub(crate) fn hear(&mut self, peer: NodeKey, by_relay: bool, now: u64) -> Vec<Out> {
        let flow = self.flows.entry(peer).or_default();
        flow.received += 1;
        flow.last = Some(now);
        if by_relay {
            self.call(now, |paths, at, random| paths.suspect(&peer, at, random))
        } else {
            Vec::new()
        }
    }

    /// Bytes that all of its memory takes when it is written down.
    pub(crate) fn size(&self) -> usize {
        format!("{:?}{:?}", self.paths, self.netcheck).len()
    }
}

fn disco(number: u8, run: u8) -> DiscoKey {
    let mut key = [number; 32];
    key[0] = run;
    DiscoKey::from_bytes(key)
}
