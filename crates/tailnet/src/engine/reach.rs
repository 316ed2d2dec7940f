//! How peers reach this node and it them: relays, and what the network outside shows of this node.

use std::net::SocketAddr;
use std::time::Instant;

use isthmus_tailnet_core::addresses::AddressSet;
use isthmus_tailnet_core::netmap::{Netmap, Peer};
use isthmus_tailnet_core::paths::is_probeable;
use isthmus_tailnet_core::wireguard::DatagramKind;
use isthmus_tailnet_wire::stun;

use super::Engine;
use crate::control::NodeFacts;
use crate::dataplane::{ForRelay, Path};
use crate::disco::random_id;
use crate::interface::endpoints;
use crate::relay::Relayed;

impl Engine {
    /// The way to a peer: direct, or by relay until that is found.
    pub(super) fn path_to(&self, peer: &Peer) -> Option<Path> {
        let relay = peer.home.filter(|home| self.relays.has(*home)).map(Path::Relay);
        self.paths.path(&peer.key).map(Path::Direct).or(relay)
    }

    /// Asks relays what they see of this node, and follows from what they said.
    pub(super) fn check_network(&mut self) {
        for probe in self.netcheck.tick(Instant::now(), &mut random_id) {
            if let Err(error) = self.sender.send(probe.to, &stun::request(probe.id)) {
                tracing::trace!(to = %probe.to, %error, "cannot send a STUN request");
            }
        }
        if let Some(netmap) = self.applied.netmap.clone() {
            self.choose_home(&netmap);
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
        let home = self.relays.home();
        let (disco, present) = (self.disco.public_key(), self.facts.borrow().clone());
        let facts = NodeFacts {
            disco,
            endpoints,
            observed,
            home,
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

    pub(super) fn take_relayed(&mut self, relayed: Relayed) {
        let Relayed {
            region,
            from,
            mut packet,
        } = relayed;
        if DatagramKind::of(&packet) != DatagramKind::Other {
            if !self.plane.take_relayed(region, from, packet) {
                tracing::trace!(region, "a relayed datagram is lost, too many wait");
            }
            return;
        }
        let paths = &self.paths;
        let Some((sender, message)) = self.disco.open(&mut packet, |sender| paths.knows(sender)) else {
            return;
        };
        tracing::trace!(region, ?sender, ?message, "disco message by relay");
        let actions = self
            .paths
            .receive_relayed(&from, &sender, &message, Instant::now(), &mut random_id);
        self.act(actions);
    }
}
