//! What the network around this node is like: which addresses the world sees, and which relay region is near.
//!
//! A state machine without I/O: time and randomness come in, STUN requests to send come out. Where UDP does not work, the regions to be
//! measured by HTTPS come out as well.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use isthmus_tailnet_wire::stun::TransactionId;

use crate::netmap::{Region, RegionId};

pub use report::NetworkReport;

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

/// How often relays are asked by HTTPS where UDP does not work, how long they may take, and how long an answer holds.
const HTTPS: (Duration, Duration, Duration) = (Duration::from_mins(5), Duration::from_secs(5), Duration::from_mins(11));

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
    /// Nobody answered in the round before.
    was_silent: bool,
    https: Option<Instant>,
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
    until: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    began: Instant,
    tries: u32,
    last: Instant,
}

impl Round {
    /// Whether all requests were sent and the last had its time.
    fn is_over(&self, now: Instant) -> bool {
        self.tries >= TRIES && self.last + AGAIN <= now
    }
}

impl Netcheck {
    /// Begins as if `home` had been chosen before: the home of the run before.
    pub fn with_home(home: Option<RegionId>) -> Self {
        Self {
            home,
            ..Self::default()
        }
    }

    /// Takes the regions of a network map, and the addresses of those servers that have only a name; a new round begins when they
    /// changed.
    pub fn update(&mut self, regions: &BTreeMap<RegionId, Region>, resolved: &BTreeMap<String, Vec<IpAddr>>) {
        let servers = |region: &Region| {
            let servers = region.stun.iter().take(SERVERS);
            let addresses = servers.flat_map(|server| {
                let by_name = resolved.get(&server.host).filter(|_| server.addresses.is_empty());
                let addresses = by_name.unwrap_or(&server.addresses);
                let port = server.port;
                addresses
                    .iter()
                    .map(move |address| SocketAddr::new(*address, port))
                    .collect::<Vec<_>>()
            });
            addresses.collect::<Vec<_>>()
        };
        let all = regions
            .iter()
            .flat_map(|(id, region)| servers(region).into_iter().map(|server| (*id, server)));
        // A server on this machine sees nothing of the world.
        let all: Vec<_> = all.filter(|(_, server)| !server.ip().is_loopback()).collect();
        self.candidates = regions
            .iter()
            .filter(|(_, region)| region.may_be_home)
            .map(|(id, _)| *id)
            .collect();
        if self.servers != all {
            self.servers = all;
            self.heard.retain(|region, _| regions.contains_key(region));
            self.restart();
        }
    }

    /// Begins again: the machine has other addresses now.
    pub fn restart(&mut self) {
        self.observed.clear();
        self.sent.clear();
        self.answered.clear();
        (self.round, self.https, self.was_silent) = (None, None, false);
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
            before => {
                self.was_silent = before.is_some() && self.answered.is_empty();
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

    /// The regions to measure by HTTPS now: those that may be home, when a whole round went by without an answer.
    pub fn by_https(&mut self, now: Instant) -> Vec<RegionId> {
        let is_silent = self.answered.is_empty() && self.round.is_some_and(|round| round.is_over(now));
        let is_due = self.https.is_none_or(|last| last + HTTPS.0 <= now);
        if self.candidates.len() < 2 || !is_silent || !is_due {
            return Vec::new();
        }
        self.https = Some(now);
        self.candidates.iter().copied().collect()
    }

    /// Takes an answer. One that nobody asked for, or that comes from elsewhere, is ignored.
    pub fn receive(&mut self, from: SocketAddr, id: TransactionId, observed: SocketAddr, now: Instant) {
        let Some(sent) = self.sent.get(&id).copied().filter(|sent| sent.to == from) else {
            return;
        };
        self.sent.remove(&id);
        self.answered.insert(from);
        self.observed.insert(from, (observed, now));
        self.hear(sent.region, now.saturating_duration_since(sent.at), now + STALE);
    }

    /// Takes how long a relay of a region took to answer by HTTPS.
    pub fn receive_https(&mut self, region: RegionId, latency: Duration, now: Instant) {
        self.hear(region, latency, now + HTTPS.2);
    }

    fn hear(&mut self, region: RegionId, latency: Duration, until: Instant) {
        let heard = self.heard.entry(region).or_insert(Heard { latency, until });
        // Half of the old value damps a single slow answer.
        heard.latency = (heard.latency + latency) / 2;
        heard.until = until;
    }

    /// The addresses that the world sees of this node.
    pub fn observed(&self) -> BTreeSet<SocketAddr> {
        self.observed.values().map(|(observed, _)| *observed).collect()
    }

    /// How long a region takes to answer, as far as it did not long ago.
    fn latency(&self, region: RegionId, now: Instant) -> Option<Duration> {
        let heard = self.heard.get(&region).filter(|heard| heard.until > now);
        heard.map(|heard| heard.latency)
    }

    /// The region that shall be home: the only one at once; of several the nearest that answers, and the first one when none answered in
    /// a whole round, nor by HTTPS. A home is left only for one that is nearer by a third, or when it is silent.
    pub fn home(&mut self, now: Instant) -> Option<RegionId> {
        let latency = |id: RegionId| self.latency(id, now);
        let nearest = self.candidates.iter().filter_map(|id| Some((latency(*id)?, *id))).min();
        let present = self.home.filter(|home| self.candidates.contains(home));
        let is_over = self.round.is_some_and(|round| round.is_over(now));
        let has_waited = is_over && self.https.is_some_and(|asked| asked + HTTPS.1 <= now);
        let first = self.candidates.first().copied();
        let fallback = first.filter(|_| self.candidates.len() == 1 || has_waited);
        self.home = match (present, nearest) {
            (Some(home), Some((best, id))) => match latency(home) {
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
