//! The flows that this node opened, so that answers come back in without a rule.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Flows remembered at most; the Go client remembers 512. A full table forgets the flow that has been idle longest.
pub const MAX_FLOWS: usize = 4096;

/// A flow without a packet in either direction for this long is forgotten.
pub const IDLE_LIMIT: Duration = Duration::from_mins(3);

/// One direction of a UDP or SCTP flow, as an answer to it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) protocol: u8,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// Flows with the time of their last packet, bounded in number.
///
/// `order` holds (flow, touch number); an entry is stale when the map has a newer number for that flow. Touches of a flow that is
/// already the newest add nothing, and the queue is rebuilt when stale entries outnumber live ones, so it stays within twice the limit.
#[derive(Debug, Default)]
pub(crate) struct FlowTable {
    flows: BTreeMap<Flow, Entry>,
    order: VecDeque<(Flow, u64)>,
    touches: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    last: Instant,
    touch: u64,
}

impl FlowTable {
    /// Remembers `flow`, or refreshes it.
    pub(crate) fn open(&mut self, flow: Flow, now: Instant) {
        if self.flows.len() >= MAX_FLOWS && !self.flows.contains_key(&flow) {
            self.forget_oldest();
        }
        self.touch(flow, now);
    }

    /// Whether `flow` is known and not idle for too long; refreshes it when so.
    pub(crate) fn admits(&mut self, flow: Flow, now: Instant) -> bool {
        let Some(entry) = self.flows.get(&flow) else {
            return false;
        };
        if now.saturating_duration_since(entry.last) > IDLE_LIMIT {
            self.flows.remove(&flow);
            return false;
        }
        self.touch(flow, now);
        true
    }

    /// Number of remembered flows.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    fn touch(&mut self, flow: Flow, now: Instant) {
        if let Some(entry) = self.flows.get_mut(&flow)
            && entry.touch == self.touches
        {
            entry.last = now;
            return;
        }
        self.touches += 1;
        self.flows.insert(
            flow,
            Entry {
                last: now,
                touch: self.touches,
            },
        );
        self.order.push_back((flow, self.touches));
        if self.order.len() > 2 * MAX_FLOWS {
            let flows = &self.flows;
            self.order
                .retain(|(flow, touch)| flows.get(flow).is_some_and(|entry| entry.touch == *touch));
        }
    }

    fn forget_oldest(&mut self) {
        while let Some((flow, touch)) = self.order.pop_front() {
            if self.flows.get(&flow).is_some_and(|entry| entry.touch == touch) {
                self.flows.remove(&flow);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
