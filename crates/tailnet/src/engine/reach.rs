//! How peers reach this node and it them: relays, and what the network outside shows of this node.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use isthmus_tailnet_core::addresses::AddressSet;
use isthmus_tailnet_core::netmap::{Netmap, Peer};
use isthmus_tailnet_core::paths::is_probeable;
use isthmus_tailnet_wire::stun;

use super::Engine;
use crate::control::NodeFacts;
use crate::dataplane::{ForRelay, Path};
use crate::disco::random_id;
use crate::interface::endpoints;

impl Engine {
    /// The way to a peer: direct, or by relay until that is found and while it does not answer.
    pub(super) fn path_to(&self, peer: &Peer) -> Option<Path> {
        let relay = peer.home.filter(|home| self.relays.has(*home)).map(Path::Relay);
        match self.paths.route(&peer.key) {
            Some(route) if route.doubted => relay.or(Some(Path::Direct(route.address))),
            Some(route) => Some(Path::Direct(route.address)),
            None => relay,
        }
    }

    /// Asks relays what they see of this node, and follows from what they said.
    pub(super) fn check_network(&mut self) {
        for probe in self.netcheck.tick(Instant::now(), &mut random_id) {
            if let Err(error) = self.sender.send(probe.to, &stun::request(probe.id)) {
                tracing::trace!(to = %probe.to, %error, "cannot send a STUN request");
            }
        }
        let silent = self.netcheck.by_https(Instant::now());
        self.relays.measure(&silent);
        if let Some(netmap) = self.applied.netmap.clone() {
            self.choose_home(&netmap);
        }
    }

    /// Tells the check of the network which servers there are.
    pub(super) fn update_netcheck(&mut self) {
        if let Some(netmap) = &self.applied.netmap {
            self.netcheck.update(&netmap.relays, &self.applied.resolved);
        }
    }

    pub(super) fn choose_home(&mut self, netmap: &Netmap) {
        let home = self.netcheck.home(Instant::now());
        self.relays.update(&netmap.relays, home);
        self.tell_facts();
    }

    /// Tells control what peers need to know to reach this node.
    pub(super) fn tell_facts(&mut self) {
        let endpoints = endpoints(&self.applied.machine, self.port);
        let mut observed: Vec<SocketAddr> = self.netcheck.observed().into_iter().collect();
        observed.retain(|address| !endpoints.contains(address) && is_probeable(*address, &AddressSet::default()));
        let (disco, present) = (self.disco.public_key(), self.facts.borrow().clone());
        // Before the first network map, the home of the run before is as good as any.
        let home = match &self.applied.netmap {
            Some(_) => self.relays.home(),
            None => present.home,
        };
        let facts = NodeFacts {
            disco,
            endpoints,
            observed,
            home,
            machine: self.applied.machine.clone(),
        };
        if facts != present {
            self.paths.set_own_endpoints(&facts.all_endpoints());
            self.facts.send_replace(facts);
        }
    }

    /// Hands a datagram of the data plane to its relay.
    pub(super) fn relay(&mut self, out: ForRelay) {
        if !self.relays.send(out.region, out.to, out.datagram) {
            self.plane.note_relay_full();
        }
    }

    /// Finds its way in a network where the machine lost these addresses, or got others.
    pub(super) fn move_to_new_addresses(&mut self, gone: &BTreeSet<IpAddr>) {
        tracing::info!(lost = gone.len(), "the machine's addresses changed");
        self.netcheck.restart();
        self.relays.leave(gone);
        self.tell_facts();
        let actions = self.paths.unsettle(Instant::now(), &mut random_id);
        self.act(actions);
        self.check_network();
    }
}
