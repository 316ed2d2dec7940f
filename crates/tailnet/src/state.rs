//! What a node remembers between runs: its identity, in the keys and shapes that the Go client uses, so that either can take over from
//! the other.

mod file;
mod identity;
mod memory;
mod raw;

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

pub use file::FileStore;
pub use identity::{Identity, IdentityError};
pub use memory::MemoryStore;

/// All that a store holds. Keys consist of letters, digits, `-`, `_` and `.`; values are opaque and may be secret.
pub type StateValues = BTreeMap<String, Vec<u8>>;

/// Changes to a store: a value is set, nothing removes the key.
pub type StateChanges = BTreeMap<String, Option<Vec<u8>>>;

/// Keeps a node's state: in a file, in a Kubernetes Secret, in memory.
pub trait StateStore: Send + Sync {
    /// Everything that is stored; empty when nothing ever was.
    fn load(&self) -> BoxFuture<'_, Result<StateValues, StateError>>;

    /// Applies all changes or none. When this returns, they survive the end of the process. Keys that are not named stay as they are.
    fn store(&self, changes: StateChanges) -> BoxFuture<'_, Result<(), StateError>>;
}

/// Why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the node's state in {place}")]
pub struct StateError {
    /// `read` or `write`.
    pub action: &'static str,
    /// What holds the state, for people.
    pub place: String,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
