//! The OAuth token: fetched when needed, kept until shortly before it ends or until the credentials are others.

use std::time::{Duration, Instant};

use isthmus_runtime::Secret;

use crate::credentials::Grant;

/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_mins(1);
/// Life of a token when the server does not tell.
const DEFAULT_LIFE: Duration = Duration::from_mins(5);

/// How long credentials that were refused are not shown again, so that a server does not lock their owner out.
const REFUSAL_STANDS: Duration = Duration::from_secs(15);

/// What is kept between requests.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The token and what it was fetched with.
    token: Option<(Grant, Token)>,
    refusal: Option<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    grant: Grant,
    at: Instant,
    message: String,
}

impl Kept {
    /// The token for `grant`, if there is one that is good.
    pub(crate) fn token(&self, grant: &Grant, now: Instant) -> Option<Secret> {
        let (fetched_with, token) = self.token.as_ref()?;
        (fetched_with == grant && token.is_good(now)).then(|| token.secret.clone())
    }

    /// What the server said when it refused `grant` a moment ago.
    pub(crate) fn refusal(&self, grant: &Grant, now: Instant) -> Option<String> {
        let refusal = self.refusal.as_ref()?;
        let stands = refusal.grant == *grant && now.saturating_duration_since(refusal.at) < REFUSAL_STANDS;
        stands.then(|| refusal.message.clone())
    }

    /// Keeps a token.
    pub(crate) fn keep(&mut self, grant: Grant, token: Token) {
        self.refusal = None;
        self.token = Some((grant, token));
    }

    /// Remembers that the server refused `grant`.
    pub(crate) fn refuse(&mut self, grant: Grant, message: String, now: Instant) {
        self.refusal = Some(Refusal {
            grant,
            at: now,
            message,
        });
    }

    /// Drops a token that the server does not accept any more.
    pub(crate) fn forget(&mut self, refused: &Secret) {
        self.token.take_if(|(_, token)| token.secret == *refused);
    }
}

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
