//! Writes what the proxy says of itself into its Secret, in the background: traffic never waits for the API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use isthmus_runtime::ErrorChain;
use isthmus_tailnet::state::{StateChanges, StateStore};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The pause after a write that failed, which has been tried for a while already.
const PAUSE: Duration = Duration::from_secs(5);

/// Keys with their values; nothing removes a key.
pub(crate) type Keys = BTreeMap<String, Option<String>>;

/// Hands keys to the task that writes them.
pub(crate) struct Publisher {
    wanted: watch::Sender<Keys>,
    trouble: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Publisher {
    /// Starts the task.
    pub(crate) fn start(store: Arc<dyn StateStore>) -> Self {
        let (wanted, receiver) = watch::channel(Keys::new());
        let (tell, trouble) = watch::channel(None);
        Self {
            wanted,
            trouble,
            task: tokio::spawn(write_changes(store, receiver, tell)),
        }
    }

    /// Why the Secret does not hold what it shall, while that is so: the one problem that the Secret cannot tell.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Returns when [`trouble`](Self::trouble) comes or goes.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.trouble.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Says what the Secret shall hold. Of several in a row only the last is written.
    pub(crate) fn publish(&self, keys: Keys) {
        self.wanted.send_if_modified(|wanted| {
            let changes = *wanted != keys;
            *wanted = keys;
            changes
        });
    }

    /// Ends after the last keys are written, or `patience` is over.
    pub(crate) async fn finish(self, patience: Duration) {
        drop(self.wanted);
        if tokio::time::timeout(patience, self.task).await.is_err() {
            tracing::warn!("the last status is not in the Secret: the API server does not answer");
        }
    }
}

async fn write_changes(
    store: Arc<dyn StateStore>,
    mut wanted: watch::Receiver<Keys>,
    trouble: watch::Sender<Option<String>>,
) {
    let mut written = Keys::new();
    while wanted.changed().await.is_ok() {
        loop {
            let keys = wanted.borrow_and_update().clone();
            match store.store(changes(&written, &keys)).await {
                Ok(()) => {
                    written = keys;
                    tell(&trouble, None);
                    break;
                }
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "status is not written: trying again");
                    tell(&trouble, Some(ErrorChain(&error).to_string()));
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Only another trouble is news.
fn tell(trouble: &watch::Sender<Option<String>>, now: Option<String>) {
    trouble.send_if_modified(|before| {
        let changes = *before != now;
        *before = now;
        changes
    });
}

/// What differs from what was written. A key that was never written is written, also to remove it: the process before
/// this one may have left it.
fn changes(written: &Keys, wanted: &Keys) -> StateChanges {
    let differs = |key: &String, value: &Option<String>| written.get(key) != Some(value);
    let set = wanted.iter().filter(|(key, value)| differs(key, value));
    set.map(|(key, value)| (key.clone(), value.clone().map(String::into_bytes)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use isthmus_tailnet::state::{MemoryStore, StateChanges, StateError, StateStore, StateValues};

    use super::{Keys, Publisher, changes};

    fn keys(pairs: &[(&str, Option<&str>)]) -> Keys {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
            .collect()
    }

    #[test]
    fn only_what_differs_is_written() {
        let written = keys(&[("a", Some("1")), ("b", None)]);
        let wanted = keys(&[("a", Some("2")), ("b", None), ("c", None)]);
        let expected = BTreeMap::from([("a".to_owned(), Some(b"2".to_vec())), ("c".to_owned(), None)]);
        assert_eq!(changes(&written, &wanted), expected);
    }

    /// A store that refuses to write.
    struct Closed;

    impl StateStore for Closed {
        fn load(&self) -> BoxFuture<'_, Result<StateValues, StateError>> {
            async { Ok(StateValues::new()) }.boxed()
        }

        fn store(&self, _: StateChanges) -> BoxFuture<'_, Result<(), StateError>> {
            let error = StateError {
                action: "write",
                place: "Secret web-0".to_owned(),
                source: "forbidden".into(),
            };
            async { Err(error) }.boxed()
        }
    }

    #[tokio::test]
    async fn secret_that_cannot_be_written_is_a_trouble_to_tell_elsewhere() {
        let mut publisher = Publisher::start(Arc::new(Closed));
        assert_eq!(publisher.trouble(), None);
        publisher.publish(keys(&[("a", Some("1"))]));
        publisher.changed().await;
        let trouble = publisher.trouble().unwrap();
        assert!(
            trouble.contains("Secret web-0") && trouble.contains("forbidden"),
            "{trouble}"
        );
    }

    #[tokio::test]
    async fn last_word_is_written_before_the_end() {
        let store = Arc::new(MemoryStore::default());
        let publisher = Publisher::start(store.clone());
        publisher.publish(keys(&[("a", Some("1"))]));
        publisher.publish(keys(&[("a", Some("2"))]));
        publisher.finish(Duration::from_secs(30)).await;
        assert_eq!(store.load().await.unwrap()["a"], b"2");
    }
}
