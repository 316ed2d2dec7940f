//! What happens between nodes: packets, and what control tells.

use std::net::SocketAddr;

use isthmus_tailnet_core::disco::TransactionId;
use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::paths::Target;

use super::{Event, TALK, TICK, World};
use crate::network::STUN;
use crate::node::{Node, Out};

impl World<'_> {
    pub(super) fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Tick(node) => {
                self.soon(TICK, Event::Tick(node));
                let out = self.nodes[node].tick(now);
                self.send(node, out);
                self.tell_control(node);
            }
            Event::Talk(a, b) => self.talk(a, b),
            Event::Disco {
                to,
                from,
                sender,
                message,
            } => {
                if let Some(node) = self.at(to) {
                    let out = self.nodes[node].take_disco(from, &sender, &message, now);
                    self.send(node, out);
                }
            }
            Event::Relayed {
                to,
                from,
                sender,
                message,
            } => {
                if now >= self.nodes[to].no_relay_until {
                    let key = self.nodes[from].key;
                    let out = self.nodes[to].take_relayed(key, &sender, &message, now);
                    self.send(to, out);
                }
            }
            Event::Stun { to, from, id, observed } => {
                if let Some(node) = self.at(to) {
                    self.nodes[node].take_stun(from, id, observed, now);
                    self.tell_control(node);
                }
            }
            Event::Data { to, from } => {
                if let Some(node) = self.at(to) {
                    self.hear(from, node, false);
                }
            }
            Event::RelayedData { to, from } => {
                if now >= self.nodes[to].no_relay_until {
                    self.hear(from, to, true);
                }
            }
            Event::Netmap(node) => self.learn(node),
            Event::Moved(node) => {
                let out = self.nodes[node].moved(now);
                self.send(node, out);
                self.tell_control(node);
            }
        }
    }

    fn talk(&mut self, a: usize, b: usize) {
        if !self.talking.contains(&(a, b)) {
            return;
        }
        self.soon(TALK, Event::Talk(a, b));
        for (from, to) in [(a, b), (b, a)] {
            let key = self.nodes[to].key;
            let out = self.nodes[from].talk(key, self.story.relay, self.now);
            self.send(from, out);
        }
    }

    fn hear(&mut self, from: usize, to: usize, by_relay: bool) {
        let now = self.now;
        if let Some(heard) = self.heard.get_mut(&(from, to)) {
            heard.longest_silence = heard.longest_silence.max(now - heard.last);
            heard.last = now;
            *(if by_relay {
                &mut heard.relayed
            } else {
                &mut heard.direct
            }) += 1;
        }
        let key = self.nodes[from].key;
        let out = self.nodes[to].hear(key, by_relay, now);
        self.send(to, out);
    }

    fn at(&self, socket: SocketAddr) -> Option<usize> {
        self.nodes.iter().position(|node| node.socket == socket)
    }

    fn by_key(&self, key: NodeKey) -> usize {
        self.nodes
            .iter()
            .position(|node| node.key == key)
            .expect("nodes know of nodes")
    }

    /// Tells control where a node is, when that is news; the others learn of it a little later.
    fn tell_control(&mut self, node: usize) {
        let endpoints = self.nodes[node].endpoints();
        if self.nodes[node].told != endpoints {
            self.nodes[node].told = endpoints;
            self.tell_all();
        }
    }

    pub(super) fn tell_all(&mut self) {
        for node in 0..self.nodes.len() {
            let delay = 20 + self.random.below(400);
            self.soon(delay, Event::Netmap(node));
        }
    }

    fn learn(&mut self, node: usize) {
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        let target = |other: &Node| Target {
            key: other.key,
            disco: other.disco,
            endpoints: other.told.clone(),
            online: Some(true),
        };
        let targets = others.map(|(_, other)| target(other)).collect();
        let out = self.nodes[node].learn(targets, self.now);
        self.send(node, out);
    }

    fn send(&mut self, node: usize, out: Vec<Out>) {
        let (site, socket, sender) = (self.nodes[node].site, self.nodes[node].socket, self.nodes[node].disco);
        for out in out {
            match out {
                Out::ByRelay { peer, message } => {
                    if self.story.relay {
                        let to = self.by_key(peer);
                        let delay = self.relay_delay();
                        self.soon(
                            delay,
                            Event::Relayed {
                                to,
                                from: node,
                                sender,
                                message,
                            },
                        );
                    }
                }
                Out::Data { peer, to: None } => {
                    let to = self.by_key(peer);
                    let delay = self.relay_delay();
                    self.soon(delay, Event::RelayedData { to, from: node });
                }
                Out::Stun { to, id } => self.ask(site, socket, to, id),
                Out::Disco { to, message } => {
                    for (delay, from, to) in self.deliveries(site, socket, to) {
                        let message = message.clone();
                        self.soon(
                            delay,
                            Event::Disco {
                                to,
                                from,
                                sender,
                                message,
                            },
                        );
                    }
                }
                Out::Data { to: Some(to), .. } => {
                    for (delay, _, to) in self.deliveries(site, socket, to) {
                        self.soon(delay, Event::Data { to, from: node });
                    }
                }
            }
        }
    }

    /// Asks a server how it sees a socket.
    fn ask(&mut self, site: usize, socket: SocketAddr, server: SocketAddr, id: TransactionId) {
        debug_assert!(STUN.contains(&server));
        for (delay, observed, _) in self.deliveries(site, socket, server) {
            if let Some(to) = self.network.answer(server, observed, self.now) {
                self.soon(
                    2 * delay,
                    Event::Stun {
                        to,
                        from: server,
                        id,
                        observed,
                    },
                );
            }
        }
    }

    fn relay_delay(&mut self) -> u64 {
        2 * self.story.delay.0 + self.random.below(20)
    }

    /// When, from where and to whom a datagram comes: not at all, once or twice.
    fn deliveries(&mut self, site: usize, from: SocketAddr, to: SocketAddr) -> Vec<(u64, SocketAddr, SocketAddr)> {
        self.told.datagrams += 1;
        let Some(arrival) = self.network.send(site, from, to, self.now) else {
            return Vec::new();
        };
        let copies = match self.random.below(1000) {
            lot if lot < self.story.loss => 0,
            lot if lot < self.story.loss * 3 / 2 => 2,
            _ => 1,
        };
        let (near, far) = self.story.delay;
        (0..copies)
            .map(|_| (near + self.random.below(far - near + 1), arrival.from, arrival.to))
            .collect()
    }
}
