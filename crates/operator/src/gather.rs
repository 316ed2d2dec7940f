//! Collects what a plan is made from.

use std::collections::BTreeSet;

use isthmus_contract::{
    label,
    name::{metrics_name, secret_name},
};
use isthmus_operator_core::service_proxy::{Children, Input, belongs, is_for_metrics, usual_name};
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

use crate::{context::Context, error::Error};

/// What the caches know about `service`.
pub(crate) fn cached(service: Service, context: &Context) -> Input {
    let (stores, namespace) = (&context.stores, context.settings.namespace.as_str());
    let metadata = service.metadata.clone();
    let mine = |object: &ObjectMeta| belongs(object, &metadata);
    let metrics_of_mine = |object: &ObjectMeta| is_for_metrics(object, &metadata);
    let usual = usual_name(&service);
    let (of_pod, of_metrics) = (secret_name(&usual, 0), metrics_name(&usual));
    let children = Children {
        headless_service: find(&stores.headless_services, namespace, &usual, &mine),
        secret: find(&stores.secrets, namespace, &of_pod, &mine),
        service_account: find(&stores.service_accounts, namespace, &usual, &mine),
        role: find(&stores.roles, namespace, &usual, &mine),
        role_binding: find(&stores.role_bindings, namespace, &usual, &mine),
        stateful_set: find(&stores.stateful_sets, namespace, &usual, &mine).map(Box::new),
        pod: find(&stores.pods, namespace, &of_pod, &mine),
        metrics_service: find(&stores.headless_services, namespace, &of_metrics, &metrics_of_mine).map(Box::new),
        service_monitor: find(
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
        others(&stores.headless_services, &mine)
            .chain(others(&stores.stateful_sets, &mine))
            .collect()
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

/// The object under its usual name, which is found at once, or else any that is `mine`: objects made by others are
/// adopted.
fn find<K>(store: &Store<K>, namespace: &str, usual: &str, mine: &dyn Fn(&ObjectMeta) -> bool) -> Option<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let usual = store.get(&ObjectRef::new(usual).within(namespace));
    if let Some(object) = usual.filter(|object| mine(object.meta())) {
        return Some(K::clone(&object));
    }
    let mut found: Vec<_> = store.state().into_iter().filter(|object| mine(object.meta())).collect();
    found.sort_by_key(|object| object.name_any());
    found.first().map(|object| K::clone(object))
}

fn others<'a, K>(store: &Store<K>, mine: &'a dyn Fn(&ObjectMeta) -> bool) -> impl Iterator<Item = String> + use<'a, K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store
        .state()
        .into_iter()
        .filter(|object| !mine(object.meta()))
        .map(|object| object.name_any())
}

async fn first<K>(client: &Client, namespace: &str, selector: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let list = api
        .list(&ListParams::default().labels(selector))
        .await
        .map_err(|cause| Error::kubernetes(format!("list {}s of a proxy", K::kind(&())), cause))?;
    Ok(list.items.into_iter().min_by_key(kube::ResourceExt::name_any))
}
