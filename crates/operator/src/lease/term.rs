//! The time in which a leader may act.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// Until when this replica may act as the leader. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Term(Arc<Mutex<Option<Instant>>>);

impl Term {
    /// A term that ends at `end`, unless it is extended.
    pub(crate) fn until(end: Instant) -> Self {
        Self(Arc::new(Mutex::new(Some(end))))
    }

    /// Whether this replica may act now.
    pub(crate) fn is_on(&self) -> bool {
        self.lock().is_some_and(|end| Instant::now() < end)
    }

    /// When the term ends; now when it was ended.
    pub(super) fn ends_at(&self) -> Instant {
        self.lock().unwrap_or_else(Instant::now)
    }

    /// Moves the end. A term that was ended stays ended.
    pub(super) fn extend(&self, end: Instant) {
        if let Some(current) = self.lock().as_mut() {
            *current = end;
        }
    }

    /// Ends the term for good.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
