//! Watching a kind that need not be installed in the cluster.

use std::time::Duration;

use futures_util::StreamExt as _;
use isthmus_kubernetes::{Object, events, read_event};
use kube::{
    Api, Resource,
    runtime::{
        reflector::{self, Store},
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::error::is_not_found;

/// How often to look whether a kind that was unknown has been installed.
const ABSENT: Duration = Duration::from_secs(15);

/// Whether the cluster knows a kind. Clones share the answer.
#[derive(Debug, Clone)]
pub(crate) struct Presence(watch::Receiver<Option<bool>>);

impl Presence {
    /// Decided from the beginning, for tests.
    #[cfg(test)]
    pub(crate) fn yes() -> Self {
        Self(watch::channel(Some(true)).1)
    }

    /// Waits until it is known whether the cluster knows the kind, and if so, which objects there are.
    pub(crate) async fn decided(&self) {
        // An error means that the watch has ended, and with it everything that waits.
        let _ = self.0.clone().wait_for(Option::is_some).await;
    }

    /// Waits until the answer is another than it was at the last call.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the cluster knows the kind, as far as that is decided.
    pub(crate) fn is_there(&self) -> bool {
        self.0.borrow().unwrap_or(false)
    }
}

/// Exactly these objects, for tests.
#[cfg(test)]
pub(crate) fn fixed<K>(objects: impl IntoIterator<Item = K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
    store
}

/// Keeps the objects of a kind, none while the cluster does not know it. `notice` hears of each that changes.
pub(crate) fn watch<K>(
    api: Api<Object>,
    config: watcher::Config,
    notice: impl Fn(&K) + Send + 'static,
    tasks: &mut JoinSet<()>,
) -> (Store<K>, Presence)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Send + Sync + 'static,
{
    let (store, mut writer) = reflector::store();
    let (decide, decided) = watch::channel(None);
    tasks.spawn(async move {
        let mut events = events(api, config);
        while let Some(event) = events.next().await {
            match event.map(read_event) {
                Ok(Ok(event)) => {
                    let event = without_managers(event);
                    writer.apply_watcher_event(&event);
                    match event {
                        Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => notice(&object),
                        Event::InitDone => decide_that(&decide, true),
                        Event::Init => {}
                    }
                }
                Ok(Err(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, kind = %K::kind(&()), "left out an object that cannot be read");
                }
                Err(error) if is_unknown_kind(&error) => {
                    tracing::debug!(kind = %K::kind(&()), "the cluster does not know this kind");
                    decide_that(&decide, false);
                    // Every new attempt begins with an event, which the watcher's own growing pauses take for success.
                    sleep(ABSENT).await;
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, kind = %K::kind(&()), "watching failed, trying again");
                }
            }
        }
    });
    (store, Presence(decided))
}

fn without_managers<K: Resource>(mut event: Event<K>) -> Event<K> {
    if let Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) = &mut event {
        object.meta_mut().managed_fields = None;
    }
    event
}

/// Only another answer is news.
fn decide_that(decide: &watch::Sender<Option<bool>>, is_there: bool) {
    decide.send_if_modified(|known| known.replace(is_there) != Some(is_there));
}

fn is_unknown_kind(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause) => is_not_found(cause),
        watcher::Error::WatchError(status) => status.code == 404,
        watcher::Error::WatchFailed(_) | watcher::Error::NoResourceVersion => false,
    }
}
