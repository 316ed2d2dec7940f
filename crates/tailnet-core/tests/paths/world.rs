//! Nodes, the network between them, and what has to hold.

mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use isthmus_tailnet_core::disco::{Message, TransactionId};
use isthmus_tailnet_core::key::DiscoKey;
use isthmus_tailnet_core::netmap::Region;
use isthmus_testkit::chance::Random;

use crate::network::Network;
use crate::node::Node;
use crate::story::{Step, Story};

const TICK: u64 = 250;
/// Between two datagrams of a conversation.
const TALK: u64 = 100;
/// Of quiet time all is settled after this much: the last search for a path may be 20 seconds off, NATs remember for 30.
const SETTLING: u64 = 150_000;
/// The part of it at its end in which it is watched.
const WATCHED: u64 = 20_000;
/// Longest silence of a conversation over a path that died while there is a relay, beside some round trips.
const DEATH: u64 = 2_500;
/// The most that all of a node's memory of paths may take, written down.
const MEMORY: usize = 40_000;

/// What stories had to tell.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) seconds: u64,
    pub(crate) datagrams: u64,
    /// Pairs that were settled on a direct path, by relay, or had no way.
    pub(crate) direct: u64,
    pub(crate) relayed: u64,
    pub(crate) unreached: u64,
    /// Paths that died while there was talk.
    pub(crate) deaths: u64,
    /// The longest silence after a death, in milliseconds.
    pub(crate) longest_silence: u64,
}

impl Told {
    pub(crate) fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.datagrams += other.datagrams;
        self.direct += other.direct;
        self.relayed += other.relayed;
        self.unreached += other.unreached;
        self.deaths += other.deaths;
        self.longest_silence = self.longest_silence.max(other.longest_silence);
    }
}

/// A region of relays as these tests need it.
pub(crate) fn region() -> Region {
    Region {
        code: String::new(),
        name: String::new(),
        may_be_home: true,
        relays: Vec::new(),
        stun: Vec::new(),
    }
}

enum Event {
    Tick(usize),
    Talk(usize, usize),
    Disco {
        to: SocketAddr,
        from: SocketAddr,
        sender: DiscoKey,
        message: Message,
    },
    Relayed {
        to: usize,
        from: usize,
        sender: DiscoKey,
        message: Message,
    },
    Stun {
        to: SocketAddr,
        from: SocketAddr,
        id: TransactionId,
        observed: SocketAddr,
    },
    Data {
        to: SocketAddr,
        from: usize,
    },
    RelayedData {
        to: usize,
        from: usize,
    },
    Netmap(usize),
    Moved(usize),
}

/// How a conversation went in one direction.
#[derive(Debug, Default, Clone, Copy)]
struct Heard {
    direct: u64,
    relayed: u64,
    last: u64,
    longest_silence: u64,
}

pub(crate) struct World<'a> {
    story: &'a Story,
    random: Random,
    network: Network,
    nodes: Vec<Node>,
    talking: BTreeSet<(usize, usize)>,
    /// What is under way, by the time it arrives.
    events: BTreeMap<(u64, u64), Event>,
    number: u64,
    now: u64,
    heard: BTreeMap<(usize, usize), Heard>,
    told: Told,
}

impl<'a> World<'a> {
    pub(crate) fn new(story: &'a Story, random: Random) -> Self {
        let network = Network::new(&story.sites);
        let start = Instant::now();
        let nodes = (0..story.nodes)
            .map(|number| Node::new(number, network.address(number, number, 0), start))
            .collect();
        let mut world = Self {
            story,
            random,
            network,
            nodes,
            talking: BTreeSet::new(),
            events: BTreeMap::new(),
            number: 0,
            now: 1,
            heard: BTreeMap::new(),
            told: Told::default(),
        };
        for node in 0..story.nodes {
            let phase = world.random.below(TICK);
            world.soon(phase, Event::Tick(node));
            world.soon(50, Event::Netmap(node));
        }
        world
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.now / 1000
    }

    fn soon(&mut self, delay: u64, event: Event) {
        self.number += 1;
        self.events.insert((self.now + delay, self.number), event);
    }

    /// Lets a step happen, and looks at what came of it.
    pub(crate) fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Wait(seconds) => self.pass(seconds * 1000),
            Step::Settle => self.settle(),
            Step::Talk(a, b, talks) => {
                let pair = (a.min(b), a.max(b));
                if talks && self.talking.insert(pair) {
                    self.soon(1, Event::Talk(pair.0, pair.1));
                } else if !talks {
                    self.talking.remove(&pair);
                }
                self.pass(1)
            }
            Step::Roam(node, site) => {
                self.roam(node, site);
                self.pass(1)
            }
            Step::Restart(node) => {
                self.nodes[node].restart();
                self.tell_all();
                self.pass(1)
            }
            Step::Forget(site) => {
                self.network.forget(site);
                self.pass(1)
            }
            Step::Cut(a, b, is_cut) => self.cut(a, b, is_cut),
            Step::NoRelay(node, seconds) => {
                self.nodes[node].no_relay_until = self.now + seconds * 1000;
                self.pass(1)
            }
        }
    }

    pub(crate) fn end(mut self) -> Result<Told, String> {
        self.told.seconds = self.now / 1000;
        for node in &self.nodes {
            let size = node.size();
            if size > MEMORY {
                return Err(format!("the memory of a node takes {size} bytes"));
            }
        }
        Ok(self.told)
    }

    fn roam(&mut self, node: usize, site: usize) {
        let stay = self.nodes[node].stay.wrapping_add(1);
        let socket = self.network.address(site, node, stay);
        let node_state = &mut self.nodes[node];
        (node_state.site, node_state.stay, node_state.socket) = (site, stay, socket);
        // Its connection to the relay is dead as well, until it is made anew.
        node_state.no_relay_until = node_state.no_relay_until.max(self.now + 1500);
        let noticed = 50 + self.random.below(500);
        self.soon(noticed, Event::Moved(node));
    }

    /// Cuts the direct way between the sites of two nodes. While they talk over it and both have a relay, their traffic is
    /// silent for a short time only.
    fn cut(&mut self, a: usize, b: usize, is_cut: bool) -> Result<(), String> {
        let talks = self.talking.contains(&(a.min(b), a.max(b)));
        let is_direct = |from: usize, to: usize| {
            let route = self.nodes[from].paths.route(&self.nodes[to].key);
            route.is_some_and(|route| !route.doubted)
        };
        let apart = self.nodes[a].site != self.nodes[b].site;
        let relay = self.story.relay && [a, b].iter().all(|node| self.nodes[*node].no_relay_until < self.now);
        let watched = is_cut && talks && apart && relay && is_direct(a, b) && is_direct(b, a);
        self.network.cut(self.nodes[a].site, self.nodes[b].site, is_cut);
        if !watched {
            return self.pass(1);
        }
        self.watch();
        self.pass(15_000)?;
        self.told.deaths += 1;
        let silence = [(a, b), (b, a)]
            .map(|pair| self.silence(pair))
            .into_iter()
            .max()
            .unwrap_or_default();
        self.told.longest_silence = self.told.longest_silence.max(silence);
        let allowed = DEATH + 16 * self.story.delay.1;
        if silence > allowed {
            return Err(format!(
                "after the path died nothing was heard for {silence} ms, more than {allowed}"
            ));
        }
        Ok(())
    }

    fn watch(&mut self) {
        let now = self.now;
        let pairs = self.talking.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        self.heard = pairs
            .map(|pair| {
                (
                    pair,
                    Heard {
                        last: now,
                        ..Heard::default()
                    },
                )
            })
            .collect();
    }

    /// The longest silence of a direction since [`Self::watch`].
    fn silence(&self, pair: (usize, usize)) -> u64 {
        let heard = self.heard.get(&pair).copied().unwrap_or_default();
        heard.longest_silence.max(self.now - heard.last)
    }

    fn settle(&mut self) -> Result<(), String> {
        self.pass(SETTLING - WATCHED)?;
        self.watch();
        let pings: Vec<u64> = self.nodes.iter().map(|node| node.pings).collect();
        self.pass(WATCHED)?;
        let most = 20 * WATCHED / 1000 * (self.nodes.len() as u64 - 1);
        for (node, before) in self.nodes.iter().zip(pings) {
            if node.pings - before > most {
                return Err(format!(
                    "{} pings in 20 quiet seconds, more than {most}",
                    node.pings - before
                ));
            }
        }
        let pairs: Vec<_> = self.talking.iter().copied().collect();
        for (a, b) in pairs {
            self.judge(a, b)?;
        }
        Ok(())
    }

    /// What a settled pair that talks should be like.
    fn judge(&mut self, a: usize, b: usize) -> Result<(), String> {
        let (from, to) = (self.nodes[a].site, self.nodes[b].site);
        let crosses = from == to || self.network.nat(from).crosses(self.network.nat(to));
        let direct = crosses && !self.network.is_cut(from, to);
        for pair in [(a, b), (b, a)] {
            let heard = self.heard.get(&pair).copied().unwrap_or_default();
            let (most, other) = if direct {
                (heard.direct, heard.relayed)
            } else {
                (heard.relayed, heard.direct)
            };
            if !direct && !self.story.relay {
                self.told.unreached += 1;
                continue;
            }
            // Lost pings may send a little of it the other way.
            if most < 100 || other > most / 2 {
                let wish = if direct { "directly" } else { "by relay" };
                let (near, far) = (self.network.nat(from), self.network.nat(to));
                return Err(format!(
                    "{pair:?} should talk {wish} between {near:?} and {far:?}: {heard:?}"
                ));
            }
            if direct {
                self.told.direct += 1;
            } else {
                self.told.relayed += 1;
            }
        }
        Ok(())
    }

    fn pass(&mut self, time: u64) -> Result<(), String> {
        let end = self.now + time;
        while let Some((&(at, number), _)) = self.events.first_key_value().filter(|((at, _), _)| *at <= end) {
            let event = self.events.remove(&(at, number)).expect("it was there");
            self.now = self.now.max(at);
            self.happen(event);
            if let Some(path) = self.nodes.iter().find_map(|node| node.blind) {
                return Err(format!("{path} was taken as a path without an answer from there"));
            }
        }
        self.now = end;
        Ok(())
    }
}
