//! With which peers traffic flows, and whose answers stay away.

use std::collections::BTreeMap;
use std::time::Instant;

use isthmus_tailnet_core::key::NodeKey;

use super::Engine;
use crate::disco::random_id;

/// Looks in a row that found a peer silent although it was sent to, after which its path is suspected: half a second.
const SILENT_LOOKS: u32 = 2;

/// The traffic of all active peers at the last look.
pub(super) type Flows = BTreeMap<NodeKey, Flow>;

/// The datagrams of one peer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flow {
    sent: u64,
    received: u64,
    silent: u32,
}

impl Engine {
    /// Looks at what came and went since the last look; to be called with every tick.
    pub(super) fn look_at_flows(&mut self) {
        let Some(reading) = self.plane.meter().read() else {
            return;
        };
        let active = self.plane.active_peers();
        self.paths.set_active(&active);
        let before = std::mem::take(&mut self.applied.flows);
        for key in active {
            let Some(traffic) = reading.peer(&key) else { continue };
            let last = before.get(&key).copied().unwrap_or_default();
            let (sent, received) = (traffic.sent.packets, traffic.received.packets);
            let is_unanswered = sent > last.sent && received == last.received;
            let silent = if is_unanswered { last.silent + 1 } else { 0 };
            let flow = Flow { sent, received, silent };
            self.applied.flows.insert(key, flow);
            if silent >= SILENT_LOOKS {
                let actions = self.paths.suspect(&key, Instant::now(), &mut random_id);
                self.act(actions);
            }
        }
    }
}
