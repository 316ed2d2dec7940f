//! The first handshakes of a new node. A peer that waits for this node has sent its own first handshake into the void, and the next
//! one comes only after five seconds: so the node begins.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::key::NodeKey;

/// Peers that are greeted at most.
pub const MAX_GREETED: usize = 200;

/// Pause between two handshakes: 20 a second.
const PAUSE: Duration = Duration::from_millis(50);

/// A peer to which no path appears in this time is not greeted.
const PATIENCE: Duration = Duration::from_mins(1);

/// The peers that are still to be greeted.
#[derive(Debug, Default)]
pub struct Greetings {
    waiting: VecDeque<NodeKey>,
    started: Option<Instant>,
    next: Option<Instant>,
}

impl Greetings {
    /// Greetings for these peers, of which the first [`MAX_GREETED`] are taken.
    pub fn new(peers: impl IntoIterator<Item = NodeKey>, now: Instant) -> Self {
        Self {
            waiting: peers.into_iter().take(MAX_GREETED).collect(),
            started: Some(now),
            next: None,
        }
    }

    /// Whether all peers are greeted.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The peers to begin a handshake with now: those with a path, at the pace.
    pub fn due(&mut self, now: Instant, has_path: impl Fn(&NodeKey) -> bool) -> Vec<NodeKey> {
        if self.started.is_none_or(|started| started + PATIENCE < now) {
            self.waiting.clear();
        }
        let mut next = self.next.map_or(now, |next| {
            next.max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now))
        });
        let mut due = Vec::new();
        while next <= now {
            let Some(at) = self.waiting.iter().position(&has_path) else {
                break;
            };
            due.extend(self.waiting.remove(at));
            next += PAUSE;
            self.next = Some(next);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u8) -> Vec<NodeKey> {
        (0..count).map(|n| NodeKey::from_bytes([n; 32])).collect()
    }

    #[test]
    fn peers_are_greeted_once_at_the_pace_and_the_first_at_once() {
        let start = Instant::now();
        let mut greetings = Greetings::new(keys(100), start);
        assert_eq!(greetings.due(start, |_| true), keys(1));
        let mut greeted = 1;
        for tick in 1..=4 {
            greeted += greetings.due(start + Duration::from_millis(250) * tick, |_| true).len();
        }
        assert_eq!(greeted, 21);
    }

    #[test]
    fn peer_without_a_path_is_greeted_when_one_appears() {
        let start = Instant::now();
        let mut greetings = Greetings::new(keys(2), start);
        let second = keys(2)[1];
        assert_eq!(greetings.due(start, |key| *key == second), [second]);
        let later = start + Duration::from_secs(5);
        assert_eq!(greetings.due(later, |_| false), []);
        assert_eq!(greetings.due(later, |_| true), keys(1));
        assert!(greetings.is_done());
    }

    #[test]
    fn peers_without_a_path_are_given_up_and_too_many_not_taken() {
        let start = Instant::now();
        let mut greetings = Greetings::new(keys(250), start);
        let mut greeted = 0;
        for tick in 0..100 {
            greeted += greetings.due(start + Duration::from_millis(500) * tick, |_| true).len();
        }
        assert_eq!(greeted, MAX_GREETED);
        let mut greetings = Greetings::new(keys(2), start);
        assert_eq!(greetings.due(start + Duration::from_secs(61), |_| true), []);
        assert!(greetings.is_done());
    }
}
