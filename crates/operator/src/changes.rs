//! Services that changed and wait to be looked at. Each waits once, so the set is never larger than the cluster.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

/// Services to look at. Clones share the set.
#[derive(Clone, Default)]
pub(crate) struct Changes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Namespace and name.
    waiting: Mutex<BTreeSet<(String, String)>>,
    added: Notify,
}

impl Changes {
    /// Puts a Service into the set.
    pub(crate) fn add(&self, service: &ObjectRef<Service>) {
        let key = (service.namespace.clone().unwrap_or_default(), service.name.clone());
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key);
        self.0.added.notify_one();
    }

    /// Takes a Service out of the set, waiting for one. Meant for one taker.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn take(&self) -> ObjectRef<Service> {
        loop {
            let first = self
                .0
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_first();
            match first {
                Some((namespace, name)) => return ObjectRef::new(&name).within(&namespace),
                None => self.0.added.notified().await,
            }
        }
    }
}
