//! Caches of what the operator looks at, and what changes in them.
//!
//! Services are watched everywhere; everything else only in the operator's namespace and only what carries our label.

use std::sync::Arc;

use futures_util::StreamExt as _;
use isthmus_contract::label;
use isthmus_kubernetes::{Object, all, events, namespaced, read_event};
use isthmus_operator_core::settings::Settings;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, Secret, Service, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, Resource,
    runtime::{
        reflector::{self, ObjectRef, Store, store::WriterDropped},
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    cache::Cache,
    changes::Changes,
    kept::{Kept, shorten_service},
    proxy_class::Classes,
    reconcile::is_of_interest,
};

/// Objects of one answer when everything is listed: small pieces need little memory at once.
pub(crate) const PAGE: u32 = 100;
/// Kinds listed at the same time, for the same reason.
const LISTS: usize = 2;

/// The caches, one per kind.
#[derive(Clone)]
pub(crate) struct Stores {
    /// Services of users, everywhere, as far as they are of interest.
    pub(crate) services: Store<Service>,
    /// Our Services.
    pub(crate) headless_services: Cache<Service>,
    /// Our Secrets, without private keys.
    pub(crate) secrets: Cache<Secret>,
    /// Our ServiceAccounts.
    pub(crate) service_accounts: Cache<ServiceAccount>,
    /// Our Roles.
    pub(crate) roles: Cache<Role>,
    /// Our RoleBindings.
    pub(crate) role_bindings: Cache<RoleBinding>,
    /// Our StatefulSets.
    pub(crate) stateful_sets: Cache<StatefulSet>,
    /// Our Pods.
    pub(crate) pods: Cache<Pod>,
    /// Proxy classes.
    pub(crate) classes: Classes,
}

/// Running watches. They end when this is dropped.
pub(crate) struct Watches {
    /// The caches.
    pub(crate) stores: Stores,
    /// Services to look at.
    pub(crate) changes: Changes,
    _tasks: JoinSet<()>,
}

impl Watches {
    /// Starts watching.
    pub(crate) fn start(client: &Client, settings: &Settings) -> Self {
        let changes = Changes::default();
        let mut start = Start {
            client,
            namespace: &settings.namespace,
            changes: changes.clone(),
            lists: Arc::new(Semaphore::new(LISTS)),
            tasks: JoinSet::new(),
        };
        let stores = Stores {
            services: start.watch_services(settings.clone()),
            headless_services: start.watch_ours(),
            secrets: start.watch_ours(),
            service_accounts: start.watch_ours(),
            roles: start.watch_ours(),
            role_bindings: start.watch_ours(),
            stateful_sets: start.watch_ours(),
            pods: start.watch_ours(),
            classes: Classes::watch(client, &settings.namespace, &changes, &mut start.tasks),
        };
        Self {
            stores,
            changes,
            _tasks: start.tasks,
        }
    }
}

impl Stores {
    /// Waits until every cache has seen everything once.
    pub(crate) async fn ready(&self) -> Result<(), WriterDropped> {
        self.services.wait_until_ready().await?;
        self.headless_services.ready().await;
        self.secrets.ready().await;
        self.service_accounts.ready().await;
        self.roles.ready().await;
        self.role_bindings.ready().await;
        self.stateful_sets.ready().await;
        self.pods.ready().await;
        self.classes.ready().await;
        Ok(())
    }
}

struct Start<'a> {
    client: &'a Client,
    namespace: &'a str,
    changes: Changes,
    lists: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Start<'_> {
    fn watch_services(&mut self, settings: Settings) -> Store<Service> {
        let (store, mut writer) = reflector::store();
        let api = all::<Service>(self.client);
        let everything = watcher::Config::default().page_size(PAGE);
        self.watch("Service", api, everything, move |event| {
            let (event, touched) = of_interest(event, &settings);
            if let Some(event) = event {
                writer.apply_watcher_event(&event);
            }
            touched.into_iter().collect()
        });
        store
    }

    fn watch_ours<K>(&mut self) -> Cache<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Kept + 'static,
    {
        let cache = Cache::default();
        let api = namespaced::<K>(self.client, self.namespace);
        let ours = watcher::Config::default().page_size(PAGE).labels(&ours());
        let fed = cache.clone();
        self.watch(&K::kind(&()), api, ours, move |event| fed.take_in(event));
        cache
    }

    /// Gives what is watched to `take_in`, which says whose news it is.
    fn watch<K>(
        &mut self,
        kind: &str,
        api: Api<Object>,
        config: watcher::Config,
        mut take_in: impl FnMut(Event<K>) -> Vec<ObjectRef<Service>> + Send + 'static,
    ) where
        K: DeserializeOwned,
    {
        let (kind, queue, lists) = (kind.to_owned(), self.changes.clone(), self.lists.clone());
        let take_in = Box::new(move |event| read_event(event).map(&mut take_in));
        self.tasks.spawn(follow(kind, api, config, take_in, queue, lists));
    }
}

/// Says which Services an event is news for.
type TakeIn = Box<dyn FnMut(Event<Object>) -> Result<Vec<ObjectRef<Service>>, kube::Error> + Send>;

/// Takes in what happens to the objects of `api`, for ever. Not generic, so that it is compiled once for all kinds.
async fn follow(
    kind: String,
    api: Api<Object>,
    config: watcher::Config,
    mut take_in: TakeIn,
    queue: Changes,
    lists: Arc<Semaphore>,
) {
    let mut events = events(api, config);
    let mut turn = None;
    while let Some(event) = events.next().await {
        match &event {
            Ok(Event::Init) => turn = lists.clone().acquire_owned().await.ok(),
            Ok(Event::InitDone) | Err(_) => drop(turn.take()),
            Ok(_) => {}
        }
        match event.map(&mut take_in) {
            Ok(Ok(touched)) => touched.iter().for_each(|service| queue.add(service)),
            Ok(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, kind, "left out an object that cannot be read");
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, kind, "watching failed, trying again");
            }
        }
    }
}

/// What of an event about Services the cache should hear, and which Service to look at. Most Services of a cluster need
/// nothing, so they are not kept.
fn of_interest(event: Event<Service>, settings: &Settings) -> (Option<Event<Service>>, Option<ObjectRef<Service>>) {
    match event {
        Event::Apply(mut service) => {
            let reference = ObjectRef::from_obj(&service);
            let event = if is_of_interest(&service, settings) {
                shorten_service(&mut service);
                Event::Apply(service)
            } else {
                Event::Delete(service)
            };
            (Some(event), Some(reference))
        }
        Event::InitApply(mut service) if is_of_interest(&service, settings) => {
            let reference = ObjectRef::from_obj(&service);
            shorten_service(&mut service);
            (Some(Event::InitApply(service)), Some(reference))
        }
        Event::InitApply(_) => (None, None),
        Event::Delete(service) => {
            let reference = ObjectRef::from_obj(&service);
            (Some(Event::Delete(service)), Some(reference))
        }
        event @ (Event::Init | Event::InitDone) => (Some(event), None),
    }
}

/// The label selector of what we own.
pub(crate) fn ours() -> String {
    format!("{}={}", label::MANAGED, label::MANAGED_VALUE)
}

#[cfg(test)]
mod tests;
