//! State that ends with the process.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::{StateChanges, StateError, StateStore, StateValues};

/// Keeps state in memory.
#[derive(Default)]
pub struct MemoryStore {
    values: Mutex<StateValues>,
}

impl MemoryStore {
    /// A store that holds `values` at first.
    pub fn new(values: StateValues) -> Self {
        Self {
            values: Mutex::new(values),
        }
    }

    fn values(&self) -> MutexGuard<'_, StateValues> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn load(&self) -> BoxFuture<'_, Result<StateValues, StateError>> {
        ready(Ok(self.values().clone())).boxed()
    }

    fn store(&self, changes: StateChanges) -> BoxFuture<'_, Result<(), StateError>> {
        super::file::apply(&mut self.values(), changes);
        ready(Ok(())).boxed()
    }
}
