//! What can go wrong while reconciling, by who can mend it.

use std::time::Duration;

use isthmus_tailnet_api as tailnet;

/// A step of a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not do what was asked.
    #[error("cannot {action}: the API server {}", describe(cause))]
    Kubernetes {
        /// What was attempted, for example "apply Secret ts-web-b2c4d-0".
        action: String,
        /// The client's error.
        #[source]
        cause: Box<kube::Error>,
    },
    /// The tailnet did not do what was asked.
    #[error(transparent)]
    Tailnet(#[from] tailnet::Error),
    /// Another replica may lead by now.
    #[error("cannot go on: this replica does not lead any more; the leader does the rest")]
    NotLeading,
    /// The tailnet does not let the operator give these tags.
    #[error("{setting}: the tailnet refuses {tags}; name tags that the policy's tagOwners let the operator give")]
    Tags {
        /// Where the tags are written, for their owner.
        setting: String,
        /// The tags, comma-separated.
        tags: String,
        /// The tailnet's answer.
        #[source]
        cause: Box<tailnet::Error>,
    },
}

/// Kinds of failures, by what to do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    /// Somebody changed the object meanwhile: look again.
    Conflict,
    /// The API server refuses; somebody has to change rights, quota or the object.
    Refused,
    /// The API server is away or busy.
    ApiServer,
    /// The tailnet's part.
    Tailnet(tailnet::Class),
    /// Another replica's turn.
    NotLeading,
}

impl Class {
    /// The label in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::ApiServer => "api_server",
            Self::Tailnet(class) => class.label(),
            Self::NotLeading => "not_leading",
        }
    }

    /// How long to wait after `failures` failures in a row.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        let (first, most) = match self {
            Self::Conflict => (Duration::from_millis(200), Duration::from_secs(5)),
            Self::ApiServer | Self::NotLeading => (Duration::from_secs(1), Duration::from_secs(30)),
            Self::Tailnet(tailnet::Class::Unavailable | tailnet::Class::NotFound) => {
                (Duration::from_secs(2), Duration::from_mins(1))
            }
            Self::Refused | Self::Tailnet(tailnet::Class::RateLimited) => {
                (Duration::from_secs(10), Duration::from_mins(5))
            }
            Self::Tailnet(tailnet::Class::Credentials | tailnet::Class::Refused) => {
                (Duration::from_secs(15), Duration::from_mins(2))
            }
        };
        first.saturating_mul(1 << failures.min(10)).min(most)
    }
}

impl Error {
    pub(crate) fn kubernetes(action: impl Into<String>, cause: kube::Error) -> Self {
        Self::Kubernetes {
            action: action.into(),
            cause: Box::new(cause),
        }
    }

    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Tailnet(error) => Class::Tailnet(error.class()),
            Self::NotLeading => Class::NotLeading,
            Self::Tags { .. } => Class::Tailnet(tailnet::Class::Refused),
            Self::Kubernetes { cause, .. } => match status_code(cause) {
                Some(409) => Class::Conflict,
                Some(400..=499) => Class::Refused,
                Some(_) | None => Class::ApiServer,
            },
        }
    }

    /// How long the other side asked to wait.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Tailnet(error) => error.retry_after(),
            Self::Tags { cause, .. } => cause.retry_after(),
            Self::Kubernetes { .. } | Self::NotLeading => None,
        }
    }

    /// Whether the owner of the Service should read this in its condition.
    pub(crate) fn concerns_owner(&self) -> bool {
        matches!(self.class(), Class::Refused | Class::Tailnet(_))
    }
}

fn status_code(error: &kube::Error) -> Option<u16> {
    if let kube::Error::Api(status) = error {
        Some(status.code)
    } else {
        None
    }
}

/// The API server's own words; the client's error repeats them in three forms.
fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        format!("answers {} {}: {}", status.code, status.reason, status.message)
    } else {
        "does not answer".to_owned()
    }
}

/// Whether the object asked for does not exist.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    status_code(error) == Some(404)
}

/// Whether the API server finds the object itself wrong.
pub(crate) fn is_invalid(error: &kube::Error) -> bool {
    status_code(error) == Some(422)
}

#[cfg(test)]
mod tests;
