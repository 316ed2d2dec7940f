//! What comes in beside packets, and what the paths want sent.

use std::time::Instant;

use isthmus_tailnet_core::echo;
use isthmus_tailnet_core::paths::Action;
use isthmus_tailnet_core::tsmp;
use isthmus_tailnet_core::wireguard::DatagramKind;
use isthmus_tailnet_wire::stun;

use super::Engine;
use crate::dataplane::{Datagram, Origin, Path, PeerEvent};
use crate::disco::random_id;
use crate::relay::Relayed;

impl Engine {
    pub(super) fn take_datagram(&mut self, mut datagram: Datagram) {
        let now = Instant::now();
        if let Some((id, observed)) = stun::parse_response(&datagram.bytes) {
            self.netcheck.receive(datagram.from, id, observed, now);
            return;
        }
        let paths = &self.paths;
        let opened = self.disco.open(&mut datagram.bytes, |sender| paths.knows(sender));
        let Some((sender, message)) = opened else {
            tracing::trace!(from = %datagram.from, "a datagram is not for this node");
            return;
        };
        tracing::trace!(from = %datagram.from, ?sender, ?message, "disco message");
        self.awaited.take_disco(&message, Path::Direct(datagram.from));
        let actions = self
            .paths
            .receive(datagram.from, &sender, &message, now, &mut random_id);
        self.act(actions);
    }

    pub(super) fn take_relayed(&mut self, relayed: Relayed) {
        let Relayed {
            region,
            from,
            mut packet,
        } = relayed;
        if DatagramKind::of(&packet) != DatagramKind::Other {
            // The peer has given up the direct path, or not found it yet.
            let actions = self.paths.suspect(&from, Instant::now(), &mut random_id);
            self.act(actions);
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
        self.awaited.take_disco(&message, Path::Relay(region));
        let actions = self
            .paths
            .receive_relayed((&from, region), &sender, &message, Instant::now(), &mut random_id);
        self.act(actions);
    }

    /// Answers what peers ask the node itself, and takes their answers.
    pub(super) fn take_packet(&mut self, packet: &[u8]) {
        if let Some(data) = tsmp::pong(packet) {
            self.awaited.take_tsmp(data);
        }
        if let Some(data) = echo::reply(packet) {
            self.awaited.take_echo(data);
        }
        if let Some(mut answer) = tsmp::answer(packet) {
            self.plane.send_packet(&mut answer);
        }
    }

    pub(super) fn take_event(&mut self, event: &PeerEvent) {
        tracing::trace!(?event, "event of the data plane");
        match event {
            PeerEvent::PathWanted(peer) => {
                let actions = self.paths.wanted(peer, Instant::now(), &mut random_id);
                self.act(actions);
            }
            PeerEvent::Handshake(peer) => tracing::debug!(?peer, "a handshake with a peer is complete"),
            PeerEvent::UnknownIndex {
                from: Origin::Direct(from),
            } => {
                // The peer's own path is known to the data plane, which has begun a handshake already.
                if let Some(peer) = self.paths.peer_at(*from) {
                    self.plane.force_handshake(&peer);
                }
            }
            PeerEvent::UnknownInitiator { .. } | PeerEvent::UnknownIndex { .. } => {}
        }
    }

    pub(super) fn act(&mut self, actions: Vec<Action>) {
        let mut paths_changed = false;
        for action in actions {
            match action {
                Action::Send { to, disco, message } => {
                    let Some(datagram) = self.disco.seal(&disco, &message) else {
                        continue;
                    };
                    if let Err(error) = self.sender.send(to, &datagram) {
                        tracing::trace!(%to, %error, "cannot send a disco message");
                    }
                }
                Action::Relay {
                    peer,
                    by,
                    disco,
                    message,
                } => {
                    let home = self.applied.peers.iter().find(|(known, _)| known.key == peer);
                    let region = by.or(home.and_then(|(peer, _)| peer.home));
                    if let (Some(region), Some(datagram)) = (region, self.disco.seal(&disco, &message)) {
                        self.relays.send(region, peer, datagram);
                    }
                }
                Action::Path { .. } | Action::Doubt { .. } => paths_changed = true,
            }
        }
        if paths_changed {
            self.apply_snapshot();
        }
    }
}
