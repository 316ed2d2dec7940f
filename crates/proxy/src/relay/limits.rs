//! How much the relay carries at once.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that the rest of the process may need.
const SPARE: u64 = 256;

/// Descriptors of one connection or session: one socket to each side.
const EACH: u64 = 2;

/// Bounds of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// TCP connections at once. Beyond them new ones are reset.
    pub connections: usize,
    /// UDP sessions at once. Beyond them datagrams of new senders are dropped.
    pub sessions: usize,
    /// How long a target may take to accept a connection.
    pub connect: Duration,
    /// How long a UDP session lives without an answer of its target.
    pub unanswered: Duration,
    /// How long a UDP session that was answered lives without a datagram.
    pub idle: Duration,
}

impl Default for RelayLimits {
    /// Ten thousand connections and four thousand sessions. Sessions live as long as the kernel's connection tracking
    /// keeps its own by default; a first handshake between two nodes of a tailnet fits into the time to connect.
    fn default() -> Self {
        Self {
            connections: 10_000,
            sessions: 4096,
            connect: Duration::from_secs(20),
            unanswered: Duration::from_secs(30),
            idle: Duration::from_mins(2),
        }
    }
}

impl RelayLimits {
    /// Raises the process's limit of open files as far as it may, and lowers these limits to what it allows.
    pub(super) fn within_descriptors(self) -> Self {
        let available = raise_descriptor_limit().saturating_sub(SPARE) / EACH;
        let wanted = (self.connections + self.sessions) as u64;
        if wanted <= available {
            return self;
        }
        let share = |part: usize| usize::try_from(part as u64 * available / wanted).unwrap_or(part);
        let limits = Self {
            connections: share(self.connections),
            sessions: share(self.sessions),
            ..self
        };
        let (connections, sessions) = (limits.connections, limits.sessions);
        tracing::warn!(
            connections,
            sessions,
            "the relay carries less than usual: few files may be open (ulimit -n)"
        );
        limits
    }
}

/// The limit after it was raised.
fn raise_descriptor_limit() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() => hard,
        Ok((soft, _)) => soft,
        Err(_) => 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::{EACH, RelayLimits, SPARE, raise_descriptor_limit};

    #[test]
    fn limits_shrink_in_proportion_to_the_files_that_may_be_open() {
        let available = usize::try_from((raise_descriptor_limit() - SPARE) / EACH).unwrap();
        let limits = RelayLimits {
            connections: available * 3,
            sessions: available,
            ..RelayLimits::default()
        };
        let lowered = limits.within_descriptors();
        assert!(lowered.connections + lowered.sessions <= available, "{lowered:?}");
        assert!(lowered.connections > lowered.sessions * 2, "{lowered:?}");
    }
}
