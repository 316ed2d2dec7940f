//! What the threads of one data plane share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use isthmus_tailnet_core::packet_io::{PacketIo, PacketIoError};

use super::counters::{Counters, add};
use super::held::Held;
use super::hooks::HookSenders;
use super::tables::Tables;
use super::{PeerEvent, RelayedDatagram};
use crate::udp::UdpLink;
use crate::wireguard::Identity;

/// The state of a data plane.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) io: Arc<dyn PacketIo>,
    pub(super) udp: UdpLink,
    pub(super) mtu: usize,
    pub(super) tables: ArcSwap<Tables>,
    pub(super) held: Mutex<Held>,
    /// Bytes of packets that wait for handshakes and paths.
    pub(super) waiting_bytes: AtomicUsize,
    pub(super) counters: Counters,
    pub(super) hooks: HookSenders,
    /// What came by relay; held by the thread that takes it.
    pub(super) relayed: Mutex<Receiver<RelayedDatagram>>,
    pub(super) stopped: AtomicBool,
    pub(super) clock: Mutex<()>,
    pub(super) stop_clock: Condvar,
}

impl Shared {
    pub(super) fn is_running(&self) -> bool {
        !self.stopped.load(Ordering::Acquire)
    }

    /// Makes every thread end soon.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.io.wake();
        self.udp.wake();
        let _clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        self.stop_clock.notify_all();
    }

    /// Lets time pass, or returns early when the data plane is stopped.
    pub(super) fn sleep(&self, duration: Duration) {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = |(): &mut ()| self.is_running();
        drop(self.stop_clock.wait_timeout_while(clock, duration, stopped));
    }

    /// Sends an event to whoever listens.
    pub(super) fn tell(&self, event: PeerEvent) {
        if self.hooks.events.try_send(event).is_err() {
            add(&self.counters.hooks_dropped, 1);
        }
    }

    /// Waits a moment after a failure that may pass; false when the device is gone for good.
    pub(super) fn pause_after(&self, error: &PacketIoError) -> bool {
        match error {
            PacketIoError::Closed => {
                tracing::error!("the packet device is gone, no packets pass any more");
                false
            }
            PacketIoError::Failed(cause) => {
                tracing::debug!(error = %cause, "the packet device failed once");
                self.sleep(Duration::from_millis(100));
                true
            }
        }
    }
}
