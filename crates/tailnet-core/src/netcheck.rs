//! What the network around this node is like: which addresses the world sees, and which relay region is near.
//!
//! A state machine without I/O: time and randomness come in, STUN requests to send come out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use isthmus_tailnet_wire::stun::TransactionId;

use crate::netmap::{Region, RegionId};

/// Time between two rounds: NATs keep a mapping for 30 seconds at least, so the observed address stays true.
const ROUND: Duration = Duration::from_secs(24);

/// Pause between the requests of a round, as long as there is no answer.
const AGAIN: Duration = Duration::from_millis(500);

/// Requests to one server in a round.
const TRIES: u32 = 3;

/// A request is forgotten after this time.
const FORGET_AFTER: Duration = Duration::from_secs(3);

/// A region whose last answer is older than this counts as silent.
const STALE: Duration = Duration::from_secs(80);

/// Servers that are asked in a region.
const SERVERS: usize = 2;

/// A STUN request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The server.
    pub to: SocketAddr,
    /// Names the request.
    pub id: TransactionId,
}

/// What is known of the network.
#[derive(Debug, Default)]
pub struct Netcheck {
    servers: Vec<(RegionId, SocketAddr)>,
    candidates: BTreeSet<RegionId>,
    sent: BTreeMap<TransactionId, Sent>,
    answered: BTreeSet<SocketAddr>,
    heard: BTreeMap<RegionId, Heard>,
    observed: BTreeMap<SocketAddr, (SocketAddr, Instant)>,
    round: Option<Round>,
    home: Option<RegionId>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    region: RegionId,
    to: SocketAddr,
    at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    latency: Duration,
    at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    began: Instant,
    tries: u32,
    last: Instant,
}

impl Netcheck {
    /// Takes the regions of a network map; a new round begins when they changed.
    pub fn update(&mut self, regions: &BTreeMap<RegionId, Region>) {
        let servers = |region: &Region| {
            let relays = region.relays.iter().take(SERVERS);
            relays
                .filter_map(|relay| Some((relay, relay.stun?)))
                .flat_map(|(relay, port)| {
                    relay
                        .addresses
                        .iter()
                        .map(move |address| SocketAddr::new(*address, port))
                })
                .collect::<Vec<_>>()
        };
        let all = regions
            .iter()
            .flat_map(|(id, region)| servers(region).into_iter().map(|server| (*id, server)));
        let all: Vec<_> = all.collect();
        self.candidates = regions
            .iter()
            .filter(|(_, region)| region.may_be_home)
            .map(|(id, _)| *id)
            .collect();
        if self.servers != all {
            self.servers = all;
            self.heard.retain(|region, _| regions.contains_key(region));
            self.observed.clear();
            self.round = None;
        }
    }

    /// The requests that are due; to be called every 250 ms or so.
    pub fn tick(&mut self, now: Instant, random: &mut dyn FnMut() -> TransactionId) -> Vec<Probe> {
        self.sent.retain(|_, sent| sent.at + FORGET_AFTER > now);
        self.observed.retain(|_, (_, at)| *at + STALE > now);
        let round = match self.round {
            Some(round) if round.began + ROUND > now => {
                if round.tries >= TRIES || round.last + AGAIN > now {
                    return Vec::new();
                }
                Round {
                    tries: round.tries + 1,
                    last: now,
                    ..round
                }
            }
            _ => {
                self.answered.clear();
                Round {
                    began: now,
                    tries: 1,
                    last: now,
                }
            }
        };
        self.round = Some(round);
        let silent = self
            .servers
            .iter()
            .filter(|(_, server)| !self.answered.contains(server));
        let mut probes = Vec::new();
        for (region, to) in silent.copied() {
            let id = random();
            self.sent.insert(id, Sent { region, to, at: now });
            probes.push(Probe { to, id });
        }
        probes
    }

    /// Takes an answer. One that nobody asked for, or that comes from elsewhere, is ignored.
    pub fn receive(&mut self, from: SocketAddr, id: TransactionId, observed: SocketAddr, now: Instant) {
        let Some(sent) = self.sent.get(&id).copied().filter(|sent| sent.to == from) else {
            return;
        };
        self.sent.remove(&id);
        self.answered.insert(from);
        self.observed.insert(from, (observed, now));
        let latency = now.saturating_duration_since(sent.at);
        let heard = self.heard.entry(sent.region).or_insert(Heard { latency, at: now });
        // Half of the old value damps a single slow answer.
        heard.latency = (heard.latency + latency) / 2;
        heard.at = now;
    }

    /// The addresses that the world sees of this node.
    pub fn observed(&self) -> BTreeSet<SocketAddr> {
        self.observed.values().map(|(observed, _)| *observed).collect()
    }

    /// The region that shall be home: the only one at once; of several the nearest that answers, and the first one when none answered in
    /// a whole round. A home is left only for one that is nearer by a third, or when it is silent.
    pub fn home(&mut self, now: Instant) -> Option<RegionId> {
        let latency = |id: &RegionId| {
            self.heard
                .get(id)
                .filter(|heard| heard.at + STALE > now)
                .map(|heard| heard.latency)
        };
        let nearest = self.candidates.iter().filter_map(|id| Some((latency(id)?, *id))).min();
        let present = self.home.filter(|home| self.candidates.contains(home));
        let has_waited = self
            .round
            .is_some_and(|round| round.tries >= TRIES && round.last + AGAIN <= now);
        let first = self.candidates.first().copied();
        let fallback = first.filter(|_| self.candidates.len() == 1 || has_waited);
        self.home = match (present, nearest) {
            (Some(home), Some((best, id))) => match latency(&home) {
                Some(own) if best * 3 >= own * 2 => Some(home),
                Some(_) | None => Some(id),
            },
            (Some(home), None) => Some(home),
            (None, Some((_, id))) => Some(id),
            (None, None) => fallback,
        };
        self.home
    }
}

#[cfg(test)]
mod tests;
