//! Waiting for a condition instead of sleeping and hoping.

use std::thread;
use std::time::{Duration, Instant};

/// How long [`until`] waits: long enough for a loaded machine, so that only a real fault reaches it.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Calls `probe` until it gives a value, and returns that value.
///
/// # Panics
/// When [`PATIENCE`] has passed; the message names `what`.
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    until_within(what, PATIENCE, probe)
}

/// Like [`until`] with a patience of the caller's.
///
/// # Panics
/// When `patience` has passed; the message names `what`.
pub fn until_within<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "gave up after {patience:?} waiting for {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
