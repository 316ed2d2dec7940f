//! What waits for a relay: a bounded number of datagrams, of which the newest are worth most.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use isthmus_tailnet_core::key::NodeKey;
use tokio::sync::Notify;

/// Datagrams that wait for one relay.
const LENGTH: usize = 512;

/// A datagram for a peer at a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) to: NodeKey,
    pub(super) packet: Vec<u8>,
}

/// The datagrams for one relay.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Outgoing>>,
    filled: Notify,
}

impl Queue {
    /// Adds a datagram; the oldest goes when there are too many. True when none had to.
    pub(super) fn push(&self, outgoing: Outgoing) -> bool {
        let mut waiting = self.waiting();
        let has_room = waiting.len() < LENGTH;
        if !has_room {
            waiting.pop_front();
        }
        waiting.push_back(outgoing);
        self.filled.notify_one();
        has_room
    }

    /// Waits for datagrams and takes the oldest, at most `most`. There is one who takes.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn take(&self, most: usize) -> Vec<Outgoing> {
        loop {
            let taken: Vec<Outgoing> = {
                let mut waiting = self.waiting();
                let most = most.min(waiting.len());
                waiting.drain(..most).collect()
            };
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    /// Forgets what waits.
    pub(super) fn clear(&self) {
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Outgoing>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(number: usize) -> Outgoing {
        Outgoing {
            to: NodeKey::from_bytes([1; 32]),
            packet: number.to_be_bytes().to_vec(),
        }
    }

    #[tokio::test]
    async fn oldest_datagram_goes_when_there_are_too_many() {
        let queue = Queue::default();
        let lost = (0..LENGTH + 3).filter(|number| !queue.push(datagram(*number))).count();
        assert_eq!(lost, 3);
        assert_eq!(queue.take(2).await, [datagram(3), datagram(4)]);
        assert_eq!(queue.take(LENGTH).await.len(), LENGTH - 2);
    }

    #[tokio::test]
    async fn who_takes_waits_for_the_next_datagram() {
        let queue = std::sync::Arc::new(Queue::default());
        queue.push(datagram(1));
        queue.clear();
        let taking = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.take(9).await }
        });
        tokio::task::yield_now().await;
        queue.push(datagram(2));
        assert_eq!(taking.await.unwrap(), [datagram(2)]);
    }
}
