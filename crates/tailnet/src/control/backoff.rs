//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Longest wait that a server's `Retry-After` is believed.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// Doubles the wait with every failure in a row, up to half a minute.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Forgets all failures.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: half of it fixed, half by `random` (0 to 1), so that nodes that lost the same server do not
    /// return all at once. What the server `asked` for is a lower bound.
    pub(crate) fn after_failure(&mut self, random: f64, asked: Option<Duration>) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        let wait = full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        wait.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_grows_to_its_limit_and_starts_again_after_reset() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..20).map(|_| backoff.after_failure(1.0, None)).collect();
        assert_eq!(waits[0], FIRST);
        assert!(waits.is_sorted());
        assert_eq!(waits[19], LONGEST);
        backoff.reset();
        assert_eq!(backoff.after_failure(0.0, None), FIRST / 2);
    }

    #[test]
    fn server_is_believed_when_it_asks_for_a_longer_wait_but_not_forever() {
        let mut backoff = Backoff::default();
        assert_eq!(
            backoff.after_failure(0.5, Some(Duration::from_mins(1))),
            Duration::from_mins(1)
        );
        assert_eq!(backoff.after_failure(0.5, Some(Duration::from_hours(1))), LONGEST_ASKED);
    }
}
