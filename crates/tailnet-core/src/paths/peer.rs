//! The paths of one peer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{
    ANSWER_LIMIT, HEARTBEAT, KEEP_OPEN, MAX_ENDPOINTS, MAX_LOST, OFFLINE_PAUSE, QUICK_LIMIT, Route, SEARCH_PAUSE,
    WANTED_PAUSE, is_probeable,
};
use crate::addresses::AddressSet;
use crate::key::DiscoKey;

/// Least pause between two wishes to be pinged.
const CALL_PAUSE: Duration = Duration::from_secs(2);

/// Addresses learned from the peer's own pings that are kept at most.
const MAX_LEARNED: usize = 8;

/// An address that answered this recently needs no ping because the peer pinged from there.
const FRESH: Duration = Duration::from_secs(10);

/// A path that answered this recently is not asked again because of a suspicion.
const SETTLED: Duration = Duration::from_millis(500);

/// Lost pings in a row after which a path is doubted.
const DOUBTED_AFTER: u32 = 2;

/// How often a better path is looked for while traffic flows, and the latency with which one is content.
const IMPROVE: (Duration, Duration) = (Duration::from_mins(1), Duration::from_millis(5));

/// A path is left for a faster one only when that saves this much, and a fifth of the time.
const WORTH_CHANGING: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct PeerPaths {
    pub(super) disco: DiscoKey,
    /// Traffic flows with the peer.
    pub(super) is_active: bool,
    online: Option<bool>,
    /// Where control says the peer is.
    named: Vec<SocketAddr>,
    /// Where the peer's pings came from.
    learned: BTreeMap<SocketAddr, Learned>,
    best: Option<Best>,
    last_call: Option<Instant>,
    last_called: Option<Instant>,
    last_search: Option<Instant>,
    pause: Duration,
}

/// An address that the peer pinged from.
#[derive(Debug)]
struct Learned {
    /// When it last did.
    heard: Instant,
    /// When it was last pinged because of that.
    pinged: Option<Instant>,
}

/// The path in use.
#[derive(Debug)]
struct Best {
    address: SocketAddr,
    latency: Duration,
    answered: Instant,
    pinged: Instant,
    lost: u32,
}

impl PeerPaths {
    pub(super) fn new(disco: DiscoKey) -> Self {
        Self {
            disco,
            is_active: false,
            online: None,
            named: Vec::new(),
            learned: BTreeMap::new(),
            best: None,
            last_call: None,
            last_called: None,
            last_search: None,
            pause: SEARCH_PAUSE.0,
        }
    }

    pub(super) fn path(&self) -> Option<SocketAddr> {
        self.best.as_ref().map(|best| best.address)
    }

    pub(super) fn route(&self) -> Option<Route> {
        self.best.as_ref().map(|best| Route {
            address: best.address,
            doubted: best.lost >= DOUBTED_AFTER,
        })
    }

    /// Round trip over the path.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.best.as_ref().map(|best| best.latency)
    }

    pub(super) fn is_offline(&self) -> bool {
        self.online == Some(false)
    }

    /// How many addresses a search pings.
    pub(super) fn known_endpoints(&self) -> usize {
        let learned = self.learned.keys().filter(|address| !self.named.contains(address));
        self.named.len() + learned.count()
    }

    /// Whether the peer is said to be, or was heard, at an address.
    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        self.named.contains(&address) || self.learned.contains_key(&address) || self.path() == Some(address)
    }

    /// Takes what the network map says; true when it says something that was not known.
    pub(super) fn set_endpoints(&mut self, all: &[SocketAddr], online: Option<bool>, forbidden: &AddressSet) -> bool {
        let mut named: Vec<_> = all
            .iter()
            .copied()
            .filter(|endpoint| is_probeable(*endpoint, forbidden))
            .collect();
        named.truncate(MAX_ENDPOINTS - MAX_LEARNED);
        self.learned.retain(|address, _| is_probeable(*address, forbidden));
        let came_online = online == Some(true) && self.online == Some(false);
        let has_news = came_online || named.iter().any(|endpoint| !self.named.contains(endpoint));
        (self.named, self.online) = (named, online);
        has_news
    }

    /// Whether a search begins now.
    pub(super) fn has_begun_search(&self, now: Instant) -> bool {
        self.last_search == Some(now)
    }

    /// Whether the peer may be asked to ping now; it is noted as asked.
    pub(super) fn may_call(&mut self, now: Instant) -> bool {
        let due = self.last_call.is_none_or(|last| last + CALL_PAUSE <= now);
        if due {
            self.last_call = Some(now);
        }
        due
    }

    /// Whether a wish of the peer to be pinged is heard now; it is noted as heard.
    pub(super) fn may_be_called(&mut self, now: Instant) -> bool {
        let due = self.last_called.is_none_or(|last| last + WANTED_PAUSE <= now);
        if due {
            self.last_called = Some(now);
        }
        due
    }

    /// The peer wants to be pinged at these endpoints, of which those are given that may be.
    pub(super) fn called(&mut self, endpoints: &[SocketAddr], forbidden: &AddressSet, now: Instant) -> Vec<SocketAddr> {
        let to = endpoints
            .iter()
            .copied()
            .filter(|endpoint| is_probeable(*endpoint, forbidden));
        let to: Vec<_> = to.take(MAX_ENDPOINTS - MAX_LEARNED).collect();
        if self.best.is_none() {
            self.last_search = Some(now);
            self.search_soon();
        }
        to
    }

    /// Starts the pauses between searches anew.
    pub(super) fn search_soon(&mut self) {
        self.pause = SEARCH_PAUSE.0;
    }

    pub(super) fn may_search_for_traffic(&self, now: Instant) -> bool {
        self.best.is_none() && self.last_search.is_none_or(|last| last + WANTED_PAUSE <= now)
    }

    /// Where to ping in a search for a path.
    pub(super) fn begin_search(&mut self, now: Instant) -> Vec<SocketAddr> {
        self.last_search = Some(now);
        self.pause = (self.pause * 2).min(SEARCH_PAUSE.1);
        let learned = self.learned.keys().filter(|address| !self.named.contains(address));
        self.named.iter().chain(learned).copied().collect()
    }

    /// The peer pinged from `from`, where an answer `is_awaited` from already; true when it is worth to ping there in answer. That is now
    /// and then: both sides may do so, and would go on for ever.
    pub(super) fn heard_from(&mut self, from: SocketAddr, is_awaited: bool, now: Instant) -> bool {
        let pause = if self.best.is_some() { FRESH } else { WANTED_PAUSE };
        let is_fresh = |best: &Best| best.address == from && best.answered + FRESH > now;
        let is_known = self.best.as_ref().is_some_and(is_fresh);
        let learned = self.learned.entry(from).or_insert(Learned {
            heard: now,
            pinged: None,
        });
        learned.heard = now;
        let pings = !is_known && !is_awaited && learned.pinged.is_none_or(|last| last + pause <= now);
        if pings {
            learned.pinged = Some(now);
        }
        if self.learned.len() > MAX_LEARNED
            && let Some(oldest) = self
                .learned
                .iter()
                .min_by_key(|(_, learned)| learned.heard)
                .map(|(address, _)| *address)
        {
            self.learned.remove(&oldest);
        }
        pings
    }

    /// The peer may be elsewhere: gives the address of the path, to be pinged, unless that is being done or it has just answered.
    pub(super) fn look_after(&mut self, now: Instant) -> Option<SocketAddr> {
        let best = self.best.as_mut()?;
        if best.pinged > best.answered || best.answered + SETTLED > now {
            return None;
        }
        best.pinged = now;
        Some(best.address)
    }

    /// Traffic speaks against the path, which counts as a lost ping: gives its address, to be pinged, as [`Self::look_after`] does.
    pub(super) fn suspect(&mut self, now: Instant) -> Option<SocketAddr> {
        let address = self.look_after(now)?;
        let best = self.best.as_mut()?;
        best.lost = best.lost.max(1);
        Some(address)
    }

    /// The machine's addresses changed: the path may be dead, and any that answers is better. Gives its address, to be pinged.
    pub(super) fn unsettle(&mut self, now: Instant) -> Option<SocketAddr> {
        self.search_soon();
        let best = self.best.as_mut()?;
        best.lost = best.lost.max(1);
        best.pinged = now;
        Some(best.address)
    }

    /// `address` answered a ping after `latency`.
    pub(super) fn answered(&mut self, address: SocketAddr, latency: Duration, now: Instant) {
        let replaces = match &self.best {
            None => true,
            Some(best) if best.address == address => true,
            Some(best) => best.lost > 0 || is_worth_changing(best.latency, latency),
        };
        if replaces {
            self.best = Some(Best {
                address,
                latency,
                answered: now,
                pinged: now,
                lost: 0,
            });
            self.pause = SEARCH_PAUSE.0;
        }
    }

    /// Gives up the path when it is dead; gives the addresses to ping now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<SocketAddr> {
        let is_active = self.is_active;
        let Some(best) = &mut self.best else {
            return self.due_search(now);
        };
        let since = now.saturating_duration_since(best.pinged);
        if best.pinged <= best.answered {
            let pause = if is_active { HEARTBEAT } else { KEEP_OPEN };
            return if since >= pause { self.check(now) } else { Vec::new() };
        }
        if since < best.patience(is_active) {
            return Vec::new();
        }
        best.lost += 1;
        best.pinged = now;
        let address = best.address;
        if best.lost >= MAX_LOST {
            self.best = None;
            self.search_soon();
        }
        let mut to = self.begin_search(now);
        if !to.contains(&address) {
            to.push(address);
        }
        to
    }

    /// Pings the path; now and then, when it is slow, every other as well.
    fn check(&mut self, now: Instant) -> Vec<SocketAddr> {
        let Some(best) = &mut self.best else { return Vec::new() };
        best.pinged = now;
        let address = best.address;
        let (pause, content) = IMPROVE;
        let searched = self.last_search.is_some_and(|last| last + pause > now);
        if !self.is_active || best.latency <= content || searched {
            return vec![address];
        }
        let mut to = self.begin_search(now);
        to.retain(|other| *other != address);
        to.push(address);
        to
    }

    fn due_search(&mut self, now: Instant) -> Vec<SocketAddr> {
        let Some(last) = self.last_search else {
            return Vec::new();
        };
        let pause = if self.online == Some(false) {
            OFFLINE_PAUSE
        } else {
            self.pause
        };
        if last + pause > now {
            Vec::new()
        } else {
            self.begin_search(now)
        }
    }
}

impl Best {
    /// How long an answer is awaited: with traffic on the path only a few round trips, for the first two.
    fn patience(&self, is_active: bool) -> Duration {
        if is_active && self.lost < DOUBTED_AFTER {
            (self.latency * 4).clamp(QUICK_LIMIT, ANSWER_LIMIT)
        } else {
            ANSWER_LIMIT
        }
    }
}

fn is_worth_changing(present: Duration, other: Duration) -> bool {
    other + WORTH_CHANGING < present && other * 5 < present * 4
}
