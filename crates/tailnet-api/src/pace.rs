//! The client's own limits: a burst, then a steady pace, and rests when the server asks for one or is down.

use std::time::{Duration, Instant};

/// A rest shorter than this is waited for; during a longer one requests are turned away.
const PATIENCE: Duration = Duration::from_secs(5);
/// Failures in a row that say nothing yet about the server.
const FAILURES_FORGIVEN: u32 = 2;
/// The rest after the first failure that is one too many; it doubles.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest rest after failures.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Spaces requests. Time is passed in.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the bucket would be empty again.
    owed_until: Option<Instant>,
    rest: Option<Rest>,
    /// In a row.
    failures: u32,
}

/// The time in which the server is not asked.
#[derive(Debug, Clone)]
struct Rest {
    until: Instant,
    why: Why,
}

/// Why the server is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// It asked for it.
    Limited,
    /// It failed again and again; how it failed last.
    Down(String),
}

/// A request is not made now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotNow {
    pub(crate) why: Why,
    pub(crate) wait: Duration,
}

impl Pace {
    /// Lets `burst` requests through at once and one more per `interval` after that.
    pub(crate) fn new(interval: Duration, burst: u32) -> Self {
        Self {
            interval,
            burst: interval * burst.saturating_sub(1),
            owed_until: None,
            rest: None,
            failures: 0,
        }
    }

    /// Takes a place in the row and says how long to wait for it.
    ///
    /// # Errors
    /// When the server rests for longer than a caller should wait.
    pub(crate) fn reserve(&mut self, now: Instant) -> Result<Duration, NotNow> {
        let resting = self.resting(now)?;
        let owed_until = self.owed_until.map_or(now, |owed| owed.max(now));
        self.owed_until = Some(owed_until + self.interval);
        Ok((owed_until - now).saturating_sub(self.burst).max(resting))
    }

    fn resting(&mut self, now: Instant) -> Result<Duration, NotNow> {
        let Some(rest) = &self.rest else {
            return Ok(Duration::ZERO);
        };
        let wait = rest.until.saturating_duration_since(now);
        if wait > PATIENCE {
            return Err(NotNow {
                why: rest.why.clone(),
                wait,
            });
        }
        if wait.is_zero() {
            self.rest = None;
        }
        Ok(wait)
    }

    /// The server asked to be left alone for `length`.
    pub(crate) fn limited(&mut self, now: Instant, length: Duration) {
        self.failures = 0;
        self.rest_until(now + length, Why::Limited);
    }

    /// The server did not answer, or failed, in these words.
    pub(crate) fn failed(&mut self, now: Instant, words: String) {
        self.failures = self.failures.saturating_add(1);
        if let Some(doublings) = self.failures.checked_sub(FAILURES_FORGIVEN + 1) {
            let rest = FIRST_REST.saturating_mul(1 << doublings.min(10)).min(LONGEST_REST);
            self.rest_until(now + rest, Why::Down(words));
        }
    }

    /// The server answered.
    pub(crate) const fn answered(&mut self) {
        self.failures = 0;
    }

    fn rest_until(&mut self, until: Instant, why: Why) {
        if self.rest.as_ref().is_none_or(|rest| rest.until < until) {
            self.rest = Some(Rest { until, why });
        }
    }
}

#[cfg(test)]
mod tests;
