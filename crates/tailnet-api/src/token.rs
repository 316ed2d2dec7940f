//! The OAuth token: fetched when needed, kept until shortly before it ends.

use std::time::{Duration, Instant};

use isthmus_runtime::Secret;

/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_mins(1);
/// Life of a token when the server does not tell.
const DEFAULT_LIFE: Duration = Duration::from_mins(5);

/// A token with its end.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    good_until: Instant,
}

impl Token {
    /// A token received at `now` that lives for `life_seconds`.
    pub(crate) fn new(secret: Secret, life_seconds: Option<u64>, now: Instant) -> Self {
        let life = life_seconds.map_or(DEFAULT_LIFE, Duration::from_secs);
        Self {
            secret,
            good_until: now + life.saturating_sub(MARGIN).max(life / 2),
        }
    }

    /// Whether the token can still be used at `now`.
    pub(crate) fn is_good(&self, now: Instant) -> bool {
        now < self.good_until
    }
}
