//! Copies of our objects, small and found by their Service.
//!
//! Of a thousand proxies only a handful is looked at in any second, so an object is kept as its JSON text, a few
//! kilobytes where the object itself takes tens, and read again for each look.

use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use isthmus_kubernetes::Object;
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    ResourceExt as _,
    runtime::{reflector::ObjectRef, watcher::Event},
};
use tokio::sync::watch;

use crate::kept::Kept;

/// Our objects of one kind, all in the operator's namespace. Clones share them.
pub(crate) struct Cache<K> {
    shared: Arc<Shared>,
    kind: PhantomData<fn() -> K>,
}

struct Shared {
    held: Mutex<Held>,
    complete: watch::Sender<bool>,
}

#[derive(Default)]
struct Held {
    objects: BTreeMap<Arc<str>, Entry>,
    by_service: BTreeMap<Key, BTreeSet<Arc<str>>>,
    /// Names that the list under way has not shown yet.
    unseen: BTreeSet<Arc<str>>,
}

/// Namespace and name of a Service.
type Key = (String, String);

struct Entry {
    text: Box<[u8]>,
    service: Option<Key>,
    parent_uid: Option<String>,
    state: &'static str,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let shared = Shared {
            held: Mutex::default(),
            complete: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
            kind: PhantomData,
        }
    }
}

impl<K> Cache<K> {
    /// Waits until every object has been seen once.
    pub(crate) async fn ready(&self) {
        // The sender lives as long as this does.
        let _ = self.shared.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// UIDs of the Services that the objects name as theirs.
    pub(crate) fn parent_uids(&self) -> BTreeSet<String> {
        let held = self.held();
        held.objects
            .values()
            .filter_map(|entry| entry.parent_uid.clone())
            .collect()
    }

    /// How many objects are in each [`Kept::state`].
    pub(crate) fn states(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for entry in self.held().objects.values() {
            *counts.entry(entry.state).or_insert(0) += 1;
        }
        counts
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kept> Cache<K> {
    /// Takes in what a watch says and gives back the Services that this is news for.
    pub(crate) fn take_in(&self, event: Event<K>) -> Vec<ObjectRef<Service>> {
        let mut held = self.held();
        let touched = match event {
            Event::Init => {
                held.unseen = held.objects.keys().cloned().collect();
                Vec::new()
            }
            Event::Apply(object) | Event::InitApply(object) => held.put(object),
            Event::Delete(object) => held.remove(&object.name_any()).into_iter().collect(),
            Event::InitDone => {
                let gone = std::mem::take(&mut held.unseen);
                self.shared.complete.send_replace(true);
                gone.iter().filter_map(|name| held.remove(name)).collect()
            }
        };
        touched
            .iter()
            .map(|(namespace, name)| ObjectRef::new(name).within(namespace))
            .collect()
    }

    /// The object called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<K> {
        self.held().objects.get(name).map(Entry::read)
    }

    /// The objects of this Service, by their names.
    pub(crate) fn of(&self, service: &ObjectMeta) -> Vec<K> {
        let key = (
            service.namespace.clone().unwrap_or_default(),
            service.name.clone().unwrap_or_default(),
        );
        let held = self.held();
        let names = held.by_service.get(&key).into_iter().flatten();
        names
            .filter_map(|name| held.objects.get(name))
            .map(Entry::read)
            .collect()
    }
}

impl Held {
    /// Gives back the Services that this is news for: none for an object that is as before in all that is kept of it.
    fn put<K: Kept>(&mut self, object: K) -> Vec<Key> {
        let name: Arc<str> = object.name_any().into();
        self.unseen.remove(&name);
        let entry = Entry::of(object);
        if self.objects.get(&name).is_some_and(|before| before.text == entry.text) {
            return Vec::new();
        }
        let mut touched: BTreeSet<Key> = self.remove(&name).into_iter().collect();
        if let Some(service) = &entry.service {
            let names = self.by_service.entry(service.clone()).or_default();
            names.insert(name.clone());
            touched.insert(service.clone());
        }
        self.objects.insert(name, entry);
        touched.into_iter().collect()
    }

    fn remove(&mut self, name: &str) -> Option<Key> {
        let service = self.objects.remove(name)?.service?;
        if let Some(names) = self.by_service.get_mut(&service) {
            names.remove(name);
            if names.is_empty() {
                self.by_service.remove(&service);
            }
        }
        Some(service)
    }
}

impl Entry {
    fn of<K: Kept>(object: K) -> Self {
        let object = object.stripped();
        let service = object
            .service()
            .map(|service| (service.namespace.unwrap_or_default(), service.name));
        Self {
            text: serde_json::to_vec(&Object::of(&object))
                .expect("Kubernetes objects always serialise")
                .into_boxed_slice(),
            service,
            parent_uid: object.parent_uid(),
            state: object.state(),
        }
    }

    fn read<K: Kept>(&self) -> K {
        let object: Object = serde_json::from_slice(&self.text).expect("the text of an object is one");
        object
            .read()
            .expect("what an object of this kind was written to reads as one")
    }
}

/// Exactly these objects.
#[cfg(test)]
impl<K: Kept> FromIterator<K> for Cache<K> {
    fn from_iter<T: IntoIterator<Item = K>>(objects: T) -> Self {
        let cache = Self::default();
        cache.take_in(Event::Init);
        for object in objects {
            cache.take_in(Event::InitApply(object));
        }
        cache.take_in(Event::InitDone);
        cache
    }
}

#[cfg(test)]
mod tests;
