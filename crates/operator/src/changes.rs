//! Services that changed and wait to be looked at. Each waits once, so the set is never larger than the cluster.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

/// Services to look at. Clones share the set.
#[derive(Clone, Default)]
pub(crate) struct Changes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Not taken yet.
    waiting: Mutex<BTreeSet<Key>>,
    /// Taken, and not begun yet.
    taken: Mutex<BTreeSet<Key>>,
    added: Notify,
}

/// Namespace and name.
type Key = (String, String);

impl Changes {
    /// Puts a Service into the set.
    pub(crate) fn add(&self, service: &ObjectRef<Service>) {
        lock(&self.0.waiting).insert(key(service));
        self.0.added.notify_one();
    }

    /// A look at a Service that was taken begins, or is not needed.
    pub(crate) fn begun(&self, service: &ObjectRef<Service>) {
        lock(&self.0.taken).remove(&key(service));
    }

    /// How many Services wait for a look.
    pub(crate) fn depth(&self) -> usize {
        lock(&self.0.waiting).union(&lock(&self.0.taken)).count()
    }

    /// Takes a Service out of the set, waiting for one. Meant for one taker.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn take(&self) -> ObjectRef<Service> {
        loop {
            let first = lock(&self.0.waiting).pop_first();
            match first {
                Some((namespace, name)) => {
                    let service = ObjectRef::new(&name).within(&namespace);
                    lock(&self.0.taken).insert((namespace, name));
                    return service;
                }
                None => self.0.added.notified().await,
            }
        }
    }
}

fn key(service: &ObjectRef<Service>) -> Key {
    (service.namespace.clone().unwrap_or_default(), service.name.clone())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
