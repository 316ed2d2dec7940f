//! The node's state with a copy beside it, for a restart of the container while the API server is away.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use isthmus_runtime::ErrorChain;
use isthmus_tailnet::state::{FileStore, StateChanges, StateError, StateStore, StateValues};
use tokio::time::timeout;

/// How long the original may take while there is a copy.
const PATIENCE: Duration = Duration::from_secs(5);

/// A store whose content survives in a file when it cannot be read.
///
/// What is not in the original is not in the copy either: an identity that would die with the Pod is none to log in with.
pub(crate) struct CachedStore {
    original: Arc<dyn StateStore>,
    copy: FileStore,
}

impl CachedStore {
    /// `copy` is written after every success of `original`.
    pub(crate) fn new(original: Arc<dyn StateStore>, copy: FileStore) -> Self {
        Self { original, copy }
    }

    async fn note(&self, changes: StateChanges) {
        if let Err(error) = self.copy.store(changes).await {
            tracing::warn!(error = %ErrorChain(&error), "a restart without the API server will not find the newest state");
        }
    }

    async fn load_any(&self) -> Result<StateValues, StateError> {
        let copied = self.copy.load().await.unwrap_or_default();
        if copied.is_empty() {
            let values = self.original.load().await?;
            self.note(differences(&copied, &values)).await;
            return Ok(values);
        }
        match timeout(PATIENCE, self.original.load()).await {
            Ok(Ok(values)) => {
                self.note(differences(&copied, &values)).await;
                Ok(values)
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %ErrorChain(&error), "going on with the copy of the state");
                Ok(copied)
            }
            Err(_) => {
                tracing::warn!("the API server is away: going on with the copy of the state");
                Ok(copied)
            }
        }
    }
}

impl StateStore for CachedStore {
    fn load(&self) -> BoxFuture<'_, Result<StateValues, StateError>> {
        self.load_any().boxed()
    }

    fn store(&self, changes: StateChanges) -> BoxFuture<'_, Result<(), StateError>> {
        async move {
            self.original.store(changes.clone()).await?;
            self.note(changes).await;
            Ok(())
        }
        .boxed()
    }
}

/// What makes `new` of `old`.
fn differences(old: &StateValues, new: &StateValues) -> StateChanges {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let set = new.iter().filter(|(key, value)| old.get(*key) != Some(*value));
    gone.map(|key| (key.clone(), None))
        .chain(set.map(|(key, value)| (key.clone(), Some(value.clone()))))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, ready};
    use isthmus_tailnet::state::{FileStore, MemoryStore, StateChanges, StateError, StateStore, StateValues};

    use super::CachedStore;

    /// A Secret behind an API server that comes and goes.
    #[derive(Default)]
    struct Secret {
        content: MemoryStore,
        refuses: AtomicBool,
    }

    fn refusal<T: Send + 'static>() -> BoxFuture<'static, Result<T, StateError>> {
        let error = StateError {
            action: "use",
            place: "Secret web".to_owned(),
            source: "403".into(),
        };
        ready(Err(error)).boxed()
    }

    impl StateStore for Secret {
        fn load(&self) -> BoxFuture<'_, Result<StateValues, StateError>> {
            if self.refuses.load(Ordering::Relaxed) {
                refusal()
            } else {
                self.content.load()
            }
        }

        fn store(&self, changes: StateChanges) -> BoxFuture<'_, Result<(), StateError>> {
            if self.refuses.load(Ordering::Relaxed) {
                refusal()
            } else {
                self.content.store(changes)
            }
        }
    }

    fn change(key: &str, value: Option<&str>) -> StateChanges {
        StateChanges::from([(key.to_owned(), value.map(|value| value.as_bytes().to_vec()))])
    }

    #[tokio::test]
    async fn state_is_found_again_while_the_original_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let secret = Arc::new(Secret::default());
        let open = || CachedStore::new(secret.clone(), FileStore::new(folder.path().join("state")));
        secret.store(change("_machinekey", Some("privkey:1"))).await.unwrap();
        let first = open();
        first.load().await.unwrap();
        first.store(change("profile-1", Some("{}"))).await.unwrap();

        secret.refuses.store(true, Ordering::Relaxed);
        let found = open().load().await.unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["_machinekey", "profile-1"]);
        assert!(
            open().store(change("profile-1", None)).await.is_err(),
            "what is not safe is not claimed to be"
        );

        secret.refuses.store(false, Ordering::Relaxed);
        secret.store(change("profile-1", None)).await.unwrap();
        assert_eq!(
            open().load().await.unwrap().len(),
            1,
            "the original is right when it can be read"
        );
        secret.refuses.store(true, Ordering::Relaxed);
        assert_eq!(open().load().await.unwrap().len(), 1, "and the copy follows it");
    }

    #[tokio::test]
    async fn first_start_fails_without_the_original() {
        let folder = tempfile::tempdir().unwrap();
        let secret = Arc::new(Secret::default());
        secret.refuses.store(true, Ordering::Relaxed);
        let store = CachedStore::new(secret, FileStore::new(folder.path().join("state")));
        assert!(store.load().await.is_err());
    }
}
