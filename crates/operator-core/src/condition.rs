//! Conditions on objects of users: when to write one, and when people should hear of it.

use isthmus_contract::condition::ProxyReason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Letters of a condition's message that are kept; the API server takes 32,768, people read one line.
const MESSAGE_LIMIT: usize = 1024;

/// What a condition should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Why; it decides the status as well.
    pub reason: ProxyReason,
    /// One line for the user: what is, what is waited for, or what to change.
    pub message: String,
}

impl Verdict {
    /// A verdict; the message is cut to what fits a condition.
    pub fn new(reason: ProxyReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: cut(message.into()),
        }
    }

    fn status(&self) -> &'static str {
        if self.reason.is_true() { "True" } else { "False" }
    }

    /// The condition to write over `existing`; `None` when it says the same already. The transition time moves only
    /// when the status changes.
    pub fn condition(
        &self,
        kind: &str,
        existing: Option<&Condition>,
        generation: Option<i64>,
        now: &Time,
    ) -> Option<Condition> {
        let words = Words {
            status: self.status(),
            reason: self.reason.as_str(),
            message: self.message.clone(),
        };
        words.over(kind, existing, generation, now)
    }

    /// Whether the change from `existing` is news: another reason, or other words about a fault.
    pub fn is_news(&self, existing: Option<&Condition>) -> bool {
        match self.reason {
            ProxyReason::Pending => false,
            ProxyReason::Created => existing.is_none_or(|condition| condition.reason != self.reason.as_str()),
            ProxyReason::Failed | ProxyReason::Invalid => existing
                .is_none_or(|condition| condition.reason != self.reason.as_str() || condition.message != self.message),
        }
    }
}

/// The words of any condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    /// `True` or `False`.
    pub(crate) status: &'static str,
    /// Why, for machines.
    pub(crate) reason: &'static str,
    /// One line for people; it is cut to what fits.
    pub(crate) message: String,
}

impl Words {
    /// The condition `kind` to write over `existing`; `None` when it says the same already. The transition time moves
    /// only when the status changes.
    pub(crate) fn over(
        self,
        kind: &str,
        existing: Option<&Condition>,
        generation: Option<i64>,
        now: &Time,
    ) -> Option<Condition> {
        let since = existing.filter(|condition| condition.status == self.status);
        let wanted = Condition {
            type_: kind.to_owned(),
            status: self.status.to_owned(),
            reason: self.reason.to_owned(),
            message: cut(self.message),
            observed_generation: generation,
            last_transition_time: since.map_or_else(|| now.clone(), |condition| condition.last_transition_time.clone()),
        };
        (existing != Some(&wanted)).then_some(wanted)
    }
}

/// `message`, cut to what fits a condition.
pub(crate) fn cut(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_LIMIT) {
        message.truncate(end);
    }
    message
}

#[cfg(test)]
mod tests;
