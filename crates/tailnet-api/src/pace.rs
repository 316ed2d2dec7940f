//! The client's own rate limit: a burst, then a steady pace.

use std::time::{Duration, Instant};

/// Spaces requests. Time is passed in.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the bucket would be empty again.
    owed_until: Option<Instant>,
}

impl Pace {
    /// Lets `burst` requests through at once and one more per `interval` after that.
    pub(crate) fn new(interval: Duration, burst: u32) -> Self {
        Self {
            interval,
            burst: interval * burst.saturating_sub(1),
            owed_until: None,
        }
    }

    /// Takes a place in the row and says how long to wait for it.
    pub(crate) fn reserve(&mut self, now: Instant) -> Duration {
        let owed_until = self.owed_until.map_or(now, |owed| owed.max(now));
        self.owed_until = Some(owed_until + self.interval);
        (owed_until - now).saturating_sub(self.burst)
    }
}

#[cfg(test)]
mod tests;
