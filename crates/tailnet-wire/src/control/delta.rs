//! The difference between two network maps, as a message of a map stream.

use std::collections::BTreeMap;

use super::{FilterRule, MapResponse, Node, NodeId, PeerChange};

/// The name that rules in their old form have among the parts of a filter.
const BASE_PART: &str = "base";

impl MapResponse {
    /// The message that brings a client, which was told the whole map `self`, to the whole map `to`; nothing when it knows all of it.
    ///
    /// Peers that changed only in what [`PeerChange`] can say come as patches, others as a whole. Ping requests, times and what belongs
    /// to one message alone are no part of a map.
    pub fn delta(&self, to: &Self) -> Option<Self> {
        let mut delta = Self {
            node: changed(self.node.as_ref(), to.node.as_ref()),
            derp_map: changed(self.derp_map.as_ref(), to.derp_map.as_ref()),
            dns_config: changed(self.dns_config.as_ref(), to.dns_config.as_ref()),
            domain: if self.domain == to.domain {
                String::new()
            } else {
                to.domain.clone()
            },
            collect_services: changed(self.collect_services.as_ref(), to.collect_services.as_ref()),
            packet_filters: self.filter_delta(to),
            user_profiles: to
                .user_profiles
                .iter()
                .filter(|profile| !self.user_profiles.contains(profile))
                .cloned()
                .collect(),
            health: changed(self.health.as_ref(), to.health.as_ref()),
            display_messages: self.message_delta(to),
            debug: changed(self.debug.as_ref(), to.debug.as_ref()),
            client_version: changed(self.client_version.as_ref(), to.client_version.as_ref()),
            ..Self::default()
        };
        self.add_peers(to, &mut delta);
        (delta != Self::default()).then_some(delta)
    }

    fn add_peers(&self, to: &Self, delta: &mut Self) {
        let old: BTreeMap<NodeId, &Node> = self.peers.iter().map(|peer| (peer.id, peer)).collect();
        let new: BTreeMap<NodeId, &Node> = to.peers.iter().map(|peer| (peer.id, peer)).collect();
        delta.peers_removed = old.keys().copied().filter(|id| !new.contains_key(id)).collect();
        for (id, peer) in new {
            match old.get(&id) {
                Some(known) if *known == peer => {}
                Some(known) => match patch(known, peer) {
                    Some(change) => {
                        if peer.last_seen.is_none() && known.last_seen.is_some() {
                            delta.peer_seen_change.insert(id, false);
                        }
                        delta.peers_changed_patch.push(change);
                    }
                    None => delta.peers_changed.push(peer.clone()),
                },
                None => delta.peers_changed.push(peer.clone()),
            }
        }
    }

    fn filter_delta(&self, to: &Self) -> Option<BTreeMap<String, Option<Vec<FilterRule>>>> {
        let (old, new) = (self.filter_parts(), to.filter_parts());
        let gone = old.keys().filter(|name| !new.contains_key(*name));
        let gone = gone.map(|name| ((*name).to_owned(), None));
        let changed = new.iter().filter(|(name, rules)| old.get(*name) != Some(rules));
        let changed = changed.map(|(name, rules)| ((*name).to_owned(), Some(rules.to_vec())));
        let parts: BTreeMap<_, _> = gone.chain(changed).collect();
        (!parts.is_empty()).then_some(parts)
    }

    /// The parts of the filter by name, whatever form they came in.
    fn filter_parts(&self) -> BTreeMap<&str, &[FilterRule]> {
        let base = self.packet_filter.iter().map(|rules| (BASE_PART, rules.as_slice()));
        let mut parts: BTreeMap<&str, &[FilterRule]> = base.collect();
        for (name, rules) in self.packet_filters.iter().flatten() {
            match rules {
                Some(rules) => parts.insert(name, rules),
                None => parts.remove(name.as_str()),
            };
        }
        parts
    }

    fn message_delta(&self, to: &Self) -> BTreeMap<String, Option<super::DisplayMessage>> {
        let (old, new) = (&self.display_messages, &to.display_messages);
        let gone = old.keys().filter(|id| !new.contains_key(*id));
        let gone = gone.map(|id| (id.clone(), None));
        let changed = new.iter().filter(|(id, message)| old.get(*id) != Some(message));
        gone.chain(changed.map(|(id, message)| (id.clone(), message.clone())))
            .collect()
    }
}

/// The new value where it is another one. What was said and is not said any more becomes empty: `None` would mean "unchanged".
fn changed<T: Clone + Default + PartialEq>(old: Option<&T>, new: Option<&T>) -> Option<T> {
    (old != new).then(|| new.cloned().unwrap_or_default())
}

/// The change that makes `new` of `old`, together with [`MapResponse::peer_seen_change`] for a peer that is seen now; nothing when a
/// change cannot say it.
fn patch(old: &Node, new: &Node) -> Option<PeerChange> {
    let mut reached = old.clone();
    let moved = new.home_derp != old.home_derp && new.home_derp != 0;
    if moved {
        reached.home_derp = new.home_derp;
        reached.legacy_derp.clone_from(&new.legacy_derp);
    }
    let change = PeerChange {
        node_id: new.id,
        derp_region: if moved { new.home_derp } else { 0 },
        cap: take(&mut reached.cap, &new.cap)
            .filter(|cap| *cap != 0)
            .unwrap_or_default(),
        cap_map: take(&mut reached.cap_map, &new.cap_map),
        endpoints: take(&mut reached.endpoints, &new.endpoints),
        key: take(&mut reached.key, &new.key),
        key_signature: take(&mut reached.key_signature, &new.key_signature),
        disco_key: take(&mut reached.disco_key, &new.disco_key),
        online: take(&mut reached.online, &new.online).flatten(),
        last_seen: take(&mut reached.last_seen, &new.last_seen).flatten(),
        key_expiry: take(&mut reached.key_expiry, &new.key_expiry),
    };
    let is_unsaid = (new.cap == 0 && old.cap != 0) || (new.online.is_none() && old.online.is_some());
    (reached == *new && !is_unsaid).then_some(change)
}

/// Takes over a value; gives it when it is another one.
fn take<T: Clone + PartialEq>(old: &mut T, new: &T) -> Option<T> {
    (old != new).then(|| {
        old.clone_from(new);
        new.clone()
    })
}
