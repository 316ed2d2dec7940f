//! Who is connected to the relay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use isthmus_tailnet_wire::derp::{Frame, GoneReason};
use isthmus_tailnet_wire::keys::NodeKey;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Frames that wait for one client; what comes then is lost, as datagrams are.
const QUEUE: usize = 256;
/// Peers of a client that are told when it leaves.
const MAX_TOLD: usize = 1024;

/// The clients by key.
#[derive(Default)]
pub(super) struct Clients(Mutex<Table>);

#[derive(Default)]
struct Table {
    clients: BTreeMap<NodeKey, Client>,
    last: u64,
}

struct Client {
    number: u64,
    queue: mpsc::Sender<Frame>,
    replaced: CancellationToken,
    /// Those it sent something to.
    spoken_to: BTreeSet<NodeKey>,
}

/// A client is connected until this is dropped.
pub(super) struct Present<'a> {
    clients: &'a Clients,
    key: NodeKey,
    number: u64,
    queue: mpsc::Sender<Frame>,
    replaced: CancellationToken,
}

impl Clients {
    /// A client comes, and takes the place of an older connection with the same key.
    pub(super) fn enter(&self, key: NodeKey) -> (Present<'_>, mpsc::Receiver<Frame>) {
        let (queue, frames) = mpsc::channel(QUEUE);
        let replaced = CancellationToken::new();
        let mut table = self.table();
        table.last += 1;
        let number = table.last;
        let client = Client {
            number,
            queue: queue.clone(),
            replaced: replaced.clone(),
            spoken_to: BTreeSet::new(),
        };
        if let Some(old) = table.clients.insert(key, client) {
            old.replaced.cancel();
        }
        let present = Present {
            clients: self,
            key,
            number,
            queue,
            replaced,
        };
        (present, frames)
    }

    /// Passes a datagram on; false when its receiver is not here.
    pub(super) fn pass(&self, from: NodeKey, to: NodeKey, packet: Vec<u8>) -> bool {
        let mut table = self.table();
        let Some(receiver) = table.clients.get(&to) else {
            return false;
        };
        // A full queue loses the datagram.
        let _ = receiver.queue.try_send(Frame::Receive { from, packet });
        if let Some(sender) = table.clients.get_mut(&from)
            && sender.spoken_to.len() < MAX_TOLD
        {
            sender.spoken_to.insert(to);
        }
        true
    }

    fn leave(&self, key: NodeKey, number: u64) {
        let mut table = self.table();
        if table.clients.get(&key).is_none_or(|client| client.number != number) {
            return;
        }
        let told = table.clients.remove(&key).map(|client| client.spoken_to);
        let reason = GoneReason::Disconnected;
        for peer in told.unwrap_or_default() {
            if let Some(peer) = table.clients.get(&peer) {
                let _ = peer.queue.try_send(Frame::PeerGone { key, reason });
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present<'_> {
    pub(super) fn key(&self) -> NodeKey {
        self.key
    }

    /// Queues a frame for the client, unless too many wait.
    pub(super) fn tell(&self, frame: Frame) {
        let _ = self.queue.try_send(frame);
    }

    /// Waits until another connection takes this one's place.
    pub(super) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.clients.leave(self.key, self.number);
    }
}
