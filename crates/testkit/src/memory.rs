//! A [`PacketIo`] in memory, with an eavesdropper.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use isthmus_tailnet_core::packet_io::{Offload, PacketBatch, PacketIo, PacketIoError, Received};

/// Packets kept for a slow receiver; more are dropped, as a device would.
const MAX_QUEUED: usize = 1024;

/// One end of a packet pipe: what one end sends the other receives. Dropping an end closes the other.
#[derive(Debug)]
pub struct MemoryIo {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    ear: Eavesdropper,
}

/// Hears every packet of a pipe, in order, of both directions.
#[derive(Debug, Clone, Default)]
pub struct Eavesdropper(Arc<Mutex<Vec<Vec<u8>>>>);

#[derive(Debug, Default)]
struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    packets: VecDeque<(Vec<u8>, Offload)>,
    woken: bool,
    closed: bool,
}

/// The two ends of a pipe, and who hears all of it.
pub fn pair() -> (MemoryIo, MemoryIo, Eavesdropper) {
    let (there, back, ear) = (Arc::<Pipe>::default(), Arc::<Pipe>::default(), Eavesdropper::default());
    let first = MemoryIo {
        incoming: Arc::clone(&back),
        outgoing: Arc::clone(&there),
        ear: ear.clone(),
    };
    let second = MemoryIo {
        incoming: there,
        outgoing: back,
        ear: ear.clone(),
    };
    (first, second, ear)
}

impl MemoryIo {
    /// Sends a packet that is not complete yet, as a kernel does: a super-packet, or one without its checksum. False when
    /// the pipe is full.
    pub fn offer(&self, packet: &[u8], offload: Offload) -> bool {
        let mut state = self.outgoing.state();
        let taken = state.packets.len() < MAX_QUEUED && !state.closed;
        if taken {
            self.ear.hear(packet);
            state.packets.push_back((packet.to_vec(), offload));
            self.outgoing.changed.notify_all();
        }
        taken
    }

    /// The next packet, or nothing when none comes in time.
    pub fn next_within(&self, patience: Duration) -> Option<Vec<u8>> {
        let empty = |state: &mut State| state.packets.is_empty() && !state.closed;
        let waited = self
            .incoming
            .changed
            .wait_timeout_while(self.incoming.state(), patience, empty);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.packets.pop_front().map(|(packet, _)| packet)
    }
}

impl PacketIo for MemoryIo {
    fn receive(&self, batch: &mut PacketBatch) -> Result<Received, PacketIoError> {
        batch.clear();
        let idle = |state: &mut State| state.packets.is_empty() && !state.woken && !state.closed;
        let waited = self.incoming.changed.wait_while(self.incoming.state(), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.woken) {
            return Ok(Received::Woken);
        }
        while state
            .packets
            .front()
            .is_some_and(|(packet, offload)| batch.copy(packet, *offload))
        {
            state.packets.pop_front();
        }
        if batch.is_empty() {
            Err(PacketIoError::Closed)
        } else {
            Ok(Received::Packets)
        }
    }

    fn send(&self, packets: &[&[u8]]) -> Result<usize, PacketIoError> {
        if self.outgoing.state().closed {
            return Err(PacketIoError::Closed);
        }
        Ok(packets
            .iter()
            .filter(|packet| self.offer(packet, Offload::None))
            .count())
    }

    fn wake(&self) {
        self.incoming.state().woken = true;
        self.incoming.changed.notify_all();
    }
}

impl Drop for MemoryIo {
    fn drop(&mut self) {
        for pipe in [&self.incoming, &self.outgoing] {
            pipe.state().closed = true;
            pipe.changed.notify_all();
        }
    }
}

impl Eavesdropper {
    /// All packets so far.
    pub fn packets(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hear(&self, packet: &[u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(packet.to_vec());
    }
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
