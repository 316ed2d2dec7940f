//! A snapshot in the form the data threads look things up in. Never changed once made.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use isthmus_tailnet_core::addresses::AddressSet;
use isthmus_tailnet_core::filter::PacketFilter;
use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::routes::PrefixMap;

use super::peer::Peer;
use super::snapshot::{Origin, Path, Snapshot};

/// Session indexes are 32 bits, of which the lower 8 count the sessions of one peer.
const PEER_INDEX_BITS: u32 = 24;

/// Everything the data threads need to know, found by every key they have.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) own: AddressSet,
    pub(super) filter: Option<Arc<dyn PacketFilter>>,
    pub(super) entries: Vec<Entry>,
    routes: PrefixMap<usize>,
    by_key: BTreeMap<NodeKey, usize>,
    by_index: BTreeMap<u32, usize>,
    by_path: BTreeMap<SocketAddr, usize>,
}

/// A peer as this snapshot has it.
pub(super) struct Entry {
    pub(super) peer: Arc<Peer>,
    pub(super) sources: AddressSet,
    pub(super) roams: bool,
    path: Option<Path>,
}

impl Tables {
    /// The tables of `snapshot`. Peers of `old` with the same key and the same disco key are taken over with their
    /// sessions; `random` gives numbers for the indexes of the others.
    pub(super) fn build(snapshot: Snapshot, old: &Self, mut random: impl FnMut() -> u32) -> Self {
        let mut tables = Self {
            own: snapshot.own.into_iter().collect(),
            filter: snapshot.filter,
            ..Self::default()
        };
        let mut routes = Vec::new();
        for config in snapshot.peers {
            if tables.by_key.contains_key(&config.key) {
                continue;
            }
            let peer = match old.by_key(&config.key) {
                Some(entry) if entry.peer.disco == config.disco => Arc::clone(&entry.peer),
                former => {
                    let counters = former.map(|entry| Arc::clone(&entry.peer.counters));
                    let index = free_index(&tables, old, &mut random);
                    Arc::new(Peer::new(&config, index, counters.unwrap_or_default()))
                }
            };
            let at = tables.entries.len();
            routes.extend(config.allowed_ips.iter().map(|net| (*net, at)));
            tables.by_key.insert(config.key, at);
            tables.by_index.insert(peer.index, at);
            if let Some(Path::Direct(address)) = config.path {
                tables.by_path.entry(address).or_insert(at);
            }
            let sources = config.allowed_ips.iter().copied().collect();
            tables.entries.push(Entry {
                peer,
                sources,
                roams: config.roams,
                path: config.path,
            });
        }
        tables.routes = routes.into_iter().collect();
        tables
    }

    /// The peer that packets to `destination` go to.
    pub(super) fn route(&self, destination: IpAddr) -> Option<&Entry> {
        self.routes.get(destination).map(|at| &self.entries[*at])
    }

    /// The peer with this key.
    pub(super) fn by_key(&self, key: &NodeKey) -> Option<&Entry> {
        self.by_key.get(key).map(|at| &self.entries[*at])
    }

    /// The peer that the session with this index belongs to.
    pub(super) fn by_session(&self, index: u32) -> Option<&Entry> {
        self.by_index
            .get(&(index >> (u32::BITS - PEER_INDEX_BITS)))
            .map(|at| &self.entries[*at])
    }

    /// The peer that a datagram most likely came from.
    pub(super) fn by_origin(&self, origin: Origin) -> Option<&Entry> {
        match origin {
            Origin::Direct(address) => self.by_path.get(&address).map(|at| &self.entries[*at]),
            Origin::Relayed { by, .. } => self.by_key(&by),
        }
    }
}

impl Entry {
    /// Where datagrams to the peer go.
    pub(super) fn path(&self) -> Option<Path> {
        match self.path {
            None if self.roams => self.peer.learned_path().map(Path::Direct),
            path => path,
        }
    }
}

/// An index that no peer has, old or new: a session of a peer that is gone must not reach another.
fn free_index(new: &Tables, old: &Tables, mut random: impl FnMut() -> u32) -> u32 {
    loop {
        let index = random() >> (u32::BITS - PEER_INDEX_BITS);
        if !new.by_index.contains_key(&index) && !old.by_index.contains_key(&index) {
            return index;
        }
    }
}

#[cfg(test)]
mod tests;
