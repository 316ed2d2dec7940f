//! What time demands: handshakes again, keep-alives, the end of idle sessions.

use std::time::{Duration, Instant};

use isthmus_tailnet_core::wireguard::{DatagramKind, Handshaker};

use super::DropCause;
use super::counters::add;
use super::peer::at_most_every;
use super::shared::Shared;
use super::tables::Entry;

/// How often sessions are looked at. boringtun rounds its own timers to this.
const TICK: Duration = Duration::from_millis(250);

/// Ticks all sessions until the data plane is stopped.
pub(super) fn run_timers(shared: &Shared) {
    let mut load_forgotten = None;
    while shared.is_running() {
        let (tables, now) = (shared.tables.load(), Instant::now());
        if at_most_every(Duration::from_secs(1), &mut load_forgotten, now) {
            shared.identity.forget_load();
        }
        for entry in &tables.entries {
            tick(shared, entry, now);
        }
        drop(tables);
        shared.sleep(TICK);
    }
}

fn tick(shared: &Shared, entry: &Entry, now: Instant) {
    let Some(session) = entry.peer.session() else {
        if entry.peer.is_kept_connected() && entry.path().is_some() {
            shared.start_handshake(entry, false, now);
        }
        return;
    };
    let tick = session.tick(now);
    if let (Some(message), Some(path)) = (&tick.message, entry.path()) {
        if DatagramKind::of(message.as_bytes()) == DatagramKind::Initiation {
            add(&shared.counters.handshakes_started, 1);
        }
        shared.send_message(path, &entry.peer.key, message.as_bytes());
    }
    if !tick.alive {
        let dropped = entry.peer.forget_session(&shared.waiting_bytes);
        shared.counters.outbound_dropped.add(DropCause::NoSession, dropped);
    }
}
