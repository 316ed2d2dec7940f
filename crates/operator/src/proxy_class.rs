//! Proxy classes: judging them, and looking at the Services that use one that changed.

mod optional;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use isthmus_kubernetes::{all, namespaced};
use isthmus_operator_core::{
    proxy_class::{self, Choice, ProxyClass, chosen_name},
    service_monitor::ServiceMonitor,
    settings::Settings,
};
use isthmus_runtime::ErrorChain;
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Client, ResourceExt as _,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use crate::{changes::Changes, context::Context, error::Error, events, kept, watch};
use optional::Presence;

/// How long to wait after the API server refused a condition.
const PAUSE: Duration = Duration::from_secs(5);

/// The classes of the cluster, kept up to date. A cluster that does not know the kind has none.
#[derive(Clone)]
pub(crate) struct Classes {
    store: Store<ProxyClass>,
    known: Presence,
    service_monitors: Store<ServiceMonitor>,
    monitors_known: Presence,
    changed: Changed,
}

/// Names of classes that changed and wait to be looked at. Clones share them.
#[derive(Clone, Default)]
struct Changed(Arc<(Mutex<BTreeSet<String>>, Notify)>);

impl Changed {
    fn add(&self, names: impl IntoIterator<Item = String>) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        self.0.1.notify_one();
    }

    async fn take(&self) -> BTreeSet<String> {
        loop {
            let names = std::mem::take(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
            if !names.is_empty() {
                return names;
            }
            self.0.1.notified().await;
        }
    }
}

impl Classes {
    /// Begins to watch, by tasks that are added to `tasks`.
    pub(crate) fn watch(client: &Client, namespace: &str, services: &Changes, tasks: &mut JoinSet<()>) -> Self {
        let changed = Changed::default();
        let notice = changed.clone();
        let (store, known) = optional::watch(
            all::<ProxyClass>(client),
            kube::runtime::watcher::Config::default(),
            move |class: &ProxyClass| notice.add([class.name_any()]),
            tasks,
        );
        let services = services.clone();
        let (service_monitors, monitors_known) = optional::watch(
            namespaced::<ServiceMonitor>(client, namespace),
            kube::runtime::watcher::Config::default()
                .page_size(watch::PAGE)
                .labels(&watch::ours()),
            move |monitor: &ServiceMonitor| {
                if let Some(service) = kept::parent(&monitor.metadata) {
                    services.add(&service);
                }
            },
            tasks,
        );
        Self {
            store,
            known,
            service_monitors,
            monitors_known,
            changed,
        }
    }

    /// Waits until it is known which classes and ServiceMonitors there are.
    pub(crate) async fn ready(&self) {
        self.known.decided().await;
        self.monitors_known.decided().await;
    }

    /// ServiceMonitors of ours; none where the cluster does not know the kind.
    pub(crate) const fn service_monitors(&self) -> &Store<ServiceMonitor> {
        &self.service_monitors
    }

    /// Waits for classes that have to be looked at: those that changed, and all when ServiceMonitors come or go.
    async fn next(&self, monitors_known: &mut Presence) -> BTreeSet<String> {
        tokio::select! {
            names = self.changed.take() => names,
            () = monitors_known.changed() => self.store.state().iter().map(|class| class.name_any()).collect(),
        }
    }

    /// Exactly these classes, for tests.
    #[cfg(test)]
    pub(crate) fn of(classes: impl IntoIterator<Item = ProxyClass>) -> Self {
        let store = optional::fixed(classes);
        Self {
            store,
            known: Presence::yes(),
            service_monitors: optional::fixed([]),
            monitors_known: Presence::yes(),
            changed: Changed::default(),
        }
    }

    /// The class of the proxy of `service`.
    pub(crate) fn choice(&self, service: &Service, settings: &Settings) -> Choice {
        Choice::of(service, settings, |name| self.store.get(&ObjectRef::new(name)))
    }
}

/// Judges every class that changes and has its users looked at, for ever.
pub(crate) async fn run(context: &Context, services: &Changes) {
    let classes = &context.stores.classes;
    // What the class was when it was judged last: the cache may lag behind our own writes.
    let mut judged = BTreeMap::new();
    let mut monitors_known = classes.monitors_known.clone();
    loop {
        let names = classes.next(&mut monitors_known).await;
        let has_monitors = monitors_known.is_there();
        for service in users(context, &names) {
            services.add(&service);
        }
        let mut failed = Vec::new();
        for name in names {
            let Some(class) = classes.store.get(&ObjectRef::new(&name)) else {
                judged.remove(&name);
                continue;
            };
            let state = (class.resource_version(), has_monitors);
            if judged.get(&name) == Some(&state) {
                continue;
            }
            match judge(&class, has_monitors, context).await {
                Ok(()) => drop(judged.insert(name, state)),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "cannot judge a proxy class, trying again");
                    failed.push(name);
                }
            }
        }
        if !failed.is_empty() {
            sleep(PAUSE).await;
            classes.changed.add(failed);
        }
    }
}

/// Services whose proxies have one of these classes.
fn users(context: &Context, names: &BTreeSet<String>) -> Vec<ObjectRef<Service>> {
    let uses =
        |service: &Arc<Service>| chosen_name(service, &context.settings).is_some_and(|name| names.contains(name));
    let services = context.stores.services.state();
    services
        .iter()
        .filter(|service| uses(service))
        .map(|service| ObjectRef::from_obj(&**service))
        .collect()
}

async fn judge(class: &ProxyClass, has_monitors: bool, context: &Context) -> Result<(), Error> {
    context.check_term()?;
    let plan = proxy_class::plan(class, has_monitors, &Time(Timestamp::now()));
    if let Some(condition) = &plan.condition {
        context.writer.apply_class_condition(class, condition).await?;
        context.metrics.wrote_condition();
    }
    for note in &plan.notes {
        events::publish(&context.client, &context.instance, class, note).await;
    }
    Ok(())
}
