//! Handshake initiations of nodes that are not known yet: control may be about to announce them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::wireguard::MAX_HANDSHAKE_MESSAGE;

use super::Origin;

/// Initiations that are held at once.
const MAX_HELD: usize = 64;

/// How long one is held.
const LIFETIME: Duration = Duration::from_secs(10);

/// Initiations by unknown nodes, oldest first, one for each node.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<Initiation>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Initiation {
    pub(super) key: NodeKey,
    pub(super) from: Origin,
    pub(super) message: [u8; MAX_HANDSHAKE_MESSAGE],
    pub(super) at: Instant,
}

impl Held {
    /// Holds an initiation, in place of an older one of the same node and of the oldest one when there are too many.
    pub(super) fn push(&mut self, initiation: Initiation) {
        self.0.retain(|other| other.key != initiation.key);
        if self.0.len() == MAX_HELD {
            self.0.pop_front();
        }
        self.0.push_back(initiation);
    }

    /// Takes out the initiations of nodes that are known now and forgets those that are too old.
    pub(super) fn take_known(&mut self, now: Instant, is_known: impl Fn(&NodeKey) -> bool) -> Vec<Initiation> {
        self.0.retain(|held| now.saturating_duration_since(held.at) < LIFETIME);
        let (known, unknown) = self.0.drain(..).partition(|held| is_known(&held.key));
        self.0 = unknown;
        known.into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use isthmus_tailnet_core::key::NodeKey;

    use super::{Held, Initiation, MAX_HELD, Origin};

    fn initiation(n: u8, at: Instant) -> Initiation {
        let from = Origin::Direct("192.0.2.1:1".parse().unwrap());
        Initiation {
            key: NodeKey::from_bytes([n; 32]),
            from,
            message: [n; 148],
            at,
        }
    }

    fn keys(held: &[Initiation]) -> Vec<u8> {
        held.iter().map(|initiation| initiation.key.as_bytes()[0]).collect()
    }

    #[test]
    fn initiation_is_given_out_once_its_node_is_known() {
        let (mut held, now) = (Held::default(), Instant::now());
        (1..=3).for_each(|n| held.push(initiation(n, now)));
        assert_eq!(keys(&held.take_known(now, |key| key.as_bytes()[0] == 2)), [2]);
        assert_eq!(keys(&held.take_known(now, |_| true)), [1, 3]);
    }

    #[test]
    fn initiation_is_forgotten_after_ten_seconds() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.push(initiation(1, now));
        assert!(held.take_known(now + Duration::from_secs(11), |_| true).is_empty());
    }

    #[test]
    fn oldest_initiation_goes_when_there_are_too_many() {
        let (mut held, now) = (Held::default(), Instant::now());
        (0..=64).for_each(|n| held.push(initiation(n, now)));
        let known = held.take_known(now, |_| true);
        assert_eq!((known.len(), known[0].key.as_bytes()[0]), (MAX_HELD, 1));
    }
}
