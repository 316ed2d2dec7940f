//! Collects what a plan is made from.

use std::{collections::BTreeSet, sync::Arc};

use isthmus_contract::{
    label,
    name::{metrics_name, secret_name},
};
use isthmus_kubernetes::{Object, namespaced};
use isthmus_operator_core::{
    service_monitor::ServiceMonitor,
    service_proxy::{Children, Input, belongs, is_for_metrics, possible_names, usual_name},
};
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, Secret, Service, ServiceAccount},
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::ListParams,
    runtime::reflector::{ObjectRef, Store},
};
use serde::de::DeserializeOwned;

use crate::{cache::Cache, context::Context, error::Error, kept::Kept};

/// What the caches know about `service`.
pub(crate) fn cached(service: Service, context: &Context) -> Input {
    let (stores, namespace) = (&context.stores, context.settings.namespace.as_str());
    let metadata = service.metadata.clone();
    let mine = |object: &ObjectMeta| belongs(object, &metadata);
    let metrics_of_mine = |object: &ObjectMeta| is_for_metrics(object, &metadata);
    let usual = usual_name(&service);
    let (of_pod, of_metrics) = (secret_name(&usual, 0), metrics_name(&usual));
    let children = Children {
        headless_service: find(&stores.headless_services, &metadata, &usual, &mine),
        secret: find(&stores.secrets, &metadata, &of_pod, &mine),
        service_account: find(&stores.service_accounts, &metadata, &usual, &mine),
        role: find(&stores.roles, &metadata, &usual, &mine),
        role_binding: find(&stores.role_bindings, &metadata, &usual, &mine),
        stateful_set: find(&stores.stateful_sets, &metadata, &usual, &mine).map(Box::new),
        pod: find(&stores.pods, &metadata, &of_pod, &mine),
        metrics_service: find(&stores.headless_services, &metadata, &of_metrics, &metrics_of_mine).map(Box::new),
        service_monitor: monitor(
            stores.classes.service_monitors(),
            namespace,
            &of_metrics,
            &metrics_of_mine,
        )
        .map(Box::new),
    };
    let taken_names = if children.existing_name().is_some() {
        BTreeSet::new()
    } else {
        let mut names = possible_names(&service);
        names.retain(|name| {
            is_of_others(&stores.headless_services, name, &mine) || is_of_others(&stores.stateful_sets, name, &mine)
        });
        names
    };
    input(service, children, taken_names, context)
}

/// What the API server itself says about the Secret, and the caches about the rest. For making keys.
pub(crate) async fn with_live_secret(cached: Input, context: &Context) -> Result<Input, Error> {
    let selector = selector(cached.service_name(), cached.service_namespace());
    let secret = first::<Secret>(&context.client, &context.settings.namespace, &selector).await?;
    Ok(Input {
        children: Children {
            secret,
            ..cached.children
        },
        ..cached
    })
}

/// What the API server itself says about `service`. For what cannot be undone: making keys, removing things.
pub(crate) async fn live(service: &Service, context: &Context) -> Result<Input, Error> {
    let cached = cached(service.clone(), context);
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let mut children = live_children(context, &selector(&service.name_any(), namespace)).await?;
    // Nothing that cannot be undone rests on these.
    children.metrics_service = cached.children.metrics_service;
    children.service_monitor = cached.children.service_monitor;
    Ok(input(service.clone(), children, cached.taken_names, context))
}

/// The live objects that `selector` selects, as the children of one proxy.
pub(crate) async fn live_children(context: &Context, selector: &str) -> Result<Children, Error> {
    let namespace = &context.settings.namespace;
    let client = &context.client;
    Ok(Children {
        headless_service: first::<Service>(client, namespace, selector).await?,
        secret: first::<Secret>(client, namespace, selector).await?,
        service_account: first::<ServiceAccount>(client, namespace, selector).await?,
        role: first::<Role>(client, namespace, selector).await?,
        role_binding: first::<RoleBinding>(client, namespace, selector).await?,
        stateful_set: first::<StatefulSet>(client, namespace, selector).await?.map(Box::new),
        pod: first::<Pod>(client, namespace, selector).await?,
        ..Children::default()
    })
}

fn input(service: Service, children: Children, taken_names: BTreeSet<String>, context: &Context) -> Input {
    Input {
        class: context.stores.classes.choice(&service, &context.settings),
        service,
        children,
        taken_names,
        minted: None,
        tagged: None,
        problem: None,
        now: Time(Timestamp::now()),
    }
}

fn selector(name: &str, namespace: &str) -> String {
    format!(
        "{}={name},{}={namespace},{}={},{}",
        label::PARENT_RESOURCE,
        label::PARENT_RESOURCE_NAMESPACE,
        label::PARENT_RESOURCE_TYPE,
        label::PARENT_TYPE_SERVICE,
        crate::watch::ours(),
    )
}

/// Of the objects of `service` the one under its usual name, or else any that is `mine`: objects made by others are
/// adopted.
fn find<K: Kept>(cache: &Cache<K>, service: &ObjectMeta, usual: &str, mine: &dyn Fn(&ObjectMeta) -> bool) -> Option<K> {
    let found = cache.of(service).into_iter().filter(|object| mine(object.meta()));
    found.min_by_key(|object| (object.name_any() != usual, object.name_any()))
}

/// As [`find`], of a kind that few clusters have.
fn monitor(
    store: &Store<ServiceMonitor>,
    namespace: &str,
    usual: &str,
    mine: &dyn Fn(&ObjectMeta) -> bool,
) -> Option<ServiceMonitor> {
    let usual = store.get(&ObjectRef::new(usual).within(namespace));
    let found = usual.filter(|object| mine(object.meta()));
    let found = found.or_else(|| store.find(|object| mine(object.meta())));
    found.map(Arc::unwrap_or_clone)
}

fn is_of_others<K: Kept>(cache: &Cache<K>, name: &str, mine: &dyn Fn(&ObjectMeta) -> bool) -> bool {
    cache.get(name).is_some_and(|object| !mine(object.meta()))
}

async fn first<K>(client: &Client, namespace: &str, selector: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + DeserializeOwned,
{
    let found = first_of(&namespaced::<K>(client, namespace), selector).await;
    found
        .and_then(|object| object.map(Object::read).transpose())
        .map_err(|cause| Error::kubernetes(format!("list {}s of a proxy", K::kind(&())), cause))
}

async fn first_of(api: &Api<Object>, selector: &str) -> Result<Option<Object>, kube::Error> {
    let list = api.list(&ListParams::default().labels(selector)).await?;
    Ok(list.items.into_iter().min_by_key(kube::ResourceExt::name_any))
}
