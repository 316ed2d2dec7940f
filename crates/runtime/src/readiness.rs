//! Readiness as a set of named guards: ready when none is held.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Tracks what a process still waits for. Cheap to clone; all clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, usize>>>);

impl Readiness {
    /// Ready at once, until a guard is taken.
    pub fn new() -> Self {
        Self::default()
    }

    /// Blocks readiness until the guard is dropped. `name` is shown to people who ask what is waited for.
    pub fn wait_for(&self, name: &'static str) -> ReadinessGuard {
        *self.lock().entry(name).or_default() += 1;
        ReadinessGuard {
            readiness: self.clone(),
            name,
        }
    }

    /// The names still waited for, in alphabetical order; empty when ready.
    pub fn pending(&self) -> Vec<&'static str> {
        self.lock().keys().copied().collect()
    }

    /// Whether nothing is waited for.
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, usize>> {
        // The map is consistent at every point where a holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds readiness back while it lives.
#[derive(Debug)]
#[must_use = "readiness is held back only while the guard lives"]
pub struct ReadinessGuard {
    readiness: Readiness,
    name: &'static str,
}

impl Drop for ReadinessGuard {
    fn drop(&mut self) {
        let mut pending = self.readiness.lock();
        if let Some(count) = pending.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                pending.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;

    #[test]
    fn readiness_lists_what_is_pending_until_the_last_guard_drops() {
        let readiness = Readiness::new();
        let first = readiness.wait_for("netmap");
        let second = readiness.wait_for("netmap");
        let rules = readiness.wait_for("rules");
        assert_eq!(readiness.pending(), ["netmap", "rules"]);
        drop((first, rules));
        assert_eq!(readiness.pending(), ["netmap"]);
        drop(second);
        assert!(readiness.is_ready());
    }
}
