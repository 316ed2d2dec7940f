//! Condition types and reasons on objects of users. Both are API: users wait for them by name.

use std::fmt;

/// On a Service with a proxy of its own: traffic can flow.
pub const PROXY_READY: &str = "TailscaleProxyReady";

/// On a proxy class: Services can use it.
pub const PROXY_CLASS_READY: &str = "ProxyClassReady";
/// Reason of [`PROXY_CLASS_READY`] when it is true.
pub const PROXY_CLASS_VALID: &str = "ProxyClassValid";
/// Reason of [`PROXY_CLASS_READY`] when it is false: the message names the field and the fix.
pub const PROXY_CLASS_INVALID: &str = "ProxyClassInvalid";

/// Why [`PROXY_READY`] has the status it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyReason {
    /// True: the proxy is ready, logged in and holds the target.
    Created,
    /// False: something is still on its way; the message says what is waited for.
    Pending,
    /// False: cluster or control refused something; the message says what, and the operator goes on trying.
    Failed,
    /// False: the user's object asks for something impossible; the message names the field and the fix.
    Invalid,
}

impl ProxyReason {
    /// Every reason there is.
    pub const ALL: [Self; 4] = [Self::Created, Self::Pending, Self::Failed, Self::Invalid];

    /// The reason as it stands in the condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "ProxyCreated",
            Self::Pending => "ProxyPending",
            Self::Failed => "ProxyFailed",
            Self::Invalid => "ProxyInvalid",
        }
    }

    /// Whether the condition is true with this reason.
    pub const fn is_true(self) -> bool {
        matches!(self, Self::Created)
    }
}

impl fmt::Display for ProxyReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
