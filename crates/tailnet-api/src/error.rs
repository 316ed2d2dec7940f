//! What can go wrong with a request, by who can do something about it.

use std::time::Duration;

use http::StatusCode;
use isthmus_runtime::ErrorChain;

use crate::{credentials::CredentialsError, http::TransportError};

/// A request to the management API failed. `action` says what was attempted, for example "delete device n123".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thing asked for does not exist.
    #[error("cannot {action}: the tailnet does not have it")]
    NotFound {
        /// What was attempted.
        action: String,
    },
    /// There is a web server, but no management API.
    #[error("cannot {action}: no management API of a tailnet answers there; set api-url to where it is")]
    NoApi {
        /// What was attempted.
        action: String,
    },
    /// The operator's credentials were not accepted.
    #[error(
        "cannot {action}: the tailnet refused the operator's credentials ({message}); put a valid OAuth client or API key into the operator's Secret"
    )]
    Unauthorized {
        /// What was attempted.
        action: String,
        /// The server's words.
        message: String,
    },
    /// The credentials do not allow this.
    #[error(
        "cannot {action}: the operator's credentials lack the right ({message}); an OAuth client needs the scopes auth_keys and devices:core, and a tag that owns the proxies' tags"
    )]
    Forbidden {
        /// What was attempted.
        action: String,
        /// The server's words.
        message: String,
    },
    /// Too many requests.
    #[error(
        "cannot {action} yet: the tailnet limits the rate of requests; it is tried again when the tailnet allows it"
    )]
    RateLimited {
        /// What was attempted.
        action: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// The server does not accept this request, and will not later.
    #[error("cannot {action}: the tailnet answered {status} ({message})")]
    Refused {
        /// What was attempted.
        action: String,
        /// The HTTP status.
        status: StatusCode,
        /// The server's words.
        message: String,
    },
    /// The server failed.
    #[error("cannot {action}: {}", failed_with(*status, message))]
    Server {
        /// What was attempted.
        action: String,
        /// The HTTP status.
        status: StatusCode,
        /// The server's words.
        message: String,
    },
    /// The answer was not what the API promises.
    #[error("cannot {action}: the tailnet's answer has an unexpected shape")]
    Answer {
        /// What was attempted.
        action: String,
        /// What did not fit.
        #[source]
        cause: serde_json::Error,
    },
    /// No answer.
    #[error("cannot {action}: the tailnet's server does not answer")]
    Transport {
        /// What was attempted.
        action: String,
        /// How the connection failed.
        #[source]
        cause: TransportError,
    },
    /// The server has failed several times in a row and is not asked for a moment.
    #[error("cannot {action}: {reason}")]
    Down {
        /// What was attempted.
        action: String,
        /// How the last request failed.
        reason: String,
        /// When requests are made again.
        retry_after: Duration,
    },
    /// The credentials are not at hand.
    #[error("cannot {action}: the operator has no credentials for the tailnet")]
    Credentials {
        /// What was attempted.
        action: String,
        /// Which file could not be read.
        #[source]
        cause: CredentialsError,
    },
}

/// Kinds of failures, by what the caller should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It is gone: for a deletion that is success.
    NotFound,
    /// Somebody has to mend the credentials.
    Credentials,
    /// Wait, then try again.
    RateLimited,
    /// The request itself is wrong; somebody has to change it.
    Refused,
    /// The server is away or broken; try again with growing pauses.
    Unavailable,
}

impl Class {
    /// The label of this class in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotFound => "tailnet_not_found",
            Self::Credentials => "tailnet_credentials",
            Self::RateLimited => "tailnet_rate_limited",
            Self::Refused => "tailnet_refused",
            Self::Unavailable => "tailnet_unavailable",
        }
    }
}

impl Error {
    /// What kind of failure this is.
    pub const fn class(&self) -> Class {
        match self {
            Self::NotFound { .. } => Class::NotFound,
            Self::Unauthorized { .. } | Self::Forbidden { .. } | Self::Credentials { .. } => Class::Credentials,
            Self::RateLimited { .. } => Class::RateLimited,
            Self::Refused { .. } => Class::Refused,
            Self::NoApi { .. }
            | Self::Server { .. }
            | Self::Answer { .. }
            | Self::Transport { .. }
            | Self::Down { .. } => Class::Unavailable,
        }
    }

    /// How long to wait before the next attempt, when that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            Self::Down { retry_after, .. } => Some(*retry_after),
            Self::NotFound { .. }
            | Self::NoApi { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Refused { .. }
            | Self::Server { .. }
            | Self::Answer { .. }
            | Self::Transport { .. }
            | Self::Credentials { .. } => None,
        }
    }
}

/// The words about a server that failed, the same for the request that found out and for those that are not made.
pub(crate) fn failed_with(status: StatusCode, message: &str) -> String {
    format!("the tailnet's server failed with {status} ({message}); it is tried again")
}

/// The words about a server that does not answer.
pub(crate) fn silent(cause: &TransportError) -> String {
    format!("the tailnet's server does not answer: {}", ErrorChain(cause))
}
