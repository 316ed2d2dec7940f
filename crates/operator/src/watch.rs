//! Caches of what the operator looks at, and what changes in them.
//!
//! Services are watched everywhere; everything else only in the operator's namespace and only what carries our label.

use std::{fmt::Debug, hash::Hash};

use futures_util::StreamExt as _;
use isthmus_contract::{device_config, label, secret_key};
use isthmus_operator_core::service_proxy::ready_condition;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, PodSpec, Secret, Service, ServiceAccount},
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store, store::WriterDropped},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::{changes::Changes, proxy_class::Classes};

/// Objects of one answer when everything is listed: small pieces need little memory at once.
const PAGE: u32 = 100;

/// The caches, one per kind.
#[derive(Clone)]
pub(crate) struct Stores {
    /// Services of users, everywhere.
    pub(crate) services: Store<Service>,
    /// Our Services.
    pub(crate) headless_services: Store<Service>,
    /// Our Secrets, without private keys.
    pub(crate) secrets: Store<Secret>,
    /// Our ServiceAccounts.
    pub(crate) service_accounts: Store<ServiceAccount>,
    /// Our Roles.
    pub(crate) roles: Store<Role>,
    /// Our RoleBindings.
    pub(crate) role_bindings: Store<RoleBinding>,
    /// Our StatefulSets.
    pub(crate) stateful_sets: Store<StatefulSet>,
    /// Our Pods.
    pub(crate) pods: Store<Pod>,
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
    pub(crate) fn start(client: &Client, namespace: &str) -> Self {
        let changes = Changes::default();
        let mut start = Start {
            client,
            namespace,
            changes: changes.clone(),
            tasks: JoinSet::new(),
        };
        let stores = Stores {
            services: start.watch(
                Api::all(client.clone()),
                watcher::Config::default().page_size(PAGE),
                itself,
            ),
            headless_services: start.watch_ours(),
            secrets: start.watch_ours(),
            service_accounts: start.watch_ours(),
            roles: start.watch_ours(),
            role_bindings: start.watch_ours(),
            stateful_sets: start.watch_ours(),
            pods: start.watch_ours(),
            classes: Classes::watch(client, namespace, &changes, &mut start.tasks),
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
        self.headless_services.wait_until_ready().await?;
        self.secrets.wait_until_ready().await?;
        self.service_accounts.wait_until_ready().await?;
        self.roles.wait_until_ready().await?;
        self.role_bindings.wait_until_ready().await?;
        self.stateful_sets.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.classes.ready().await;
        Ok(())
    }
}

struct Start<'a> {
    client: &'a Client,
    namespace: &'a str,
    changes: Changes,
    tasks: JoinSet<()>,
}

impl Start<'_> {
    fn watch_ours<K>(&mut self) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
        K: Watched + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let api = Api::namespaced(self.client.clone(), self.namespace);
        let ours = watcher::Config::default().page_size(PAGE).labels(&ours());
        self.watch(api, ours, |object: &K| parent(object.meta()))
    }

    fn watch<K>(
        &mut self,
        api: Api<K>,
        config: watcher::Config,
        refer: fn(&K) -> Option<ObjectRef<Service>>,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Watched + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Eq + Hash + Clone,
    {
        let (store, writer) = reflector::store();
        let queue = self.changes.clone();
        self.tasks.spawn(async move {
            let changes = watcher(api, config)
                .default_backoff()
                .modify(K::strip)
                .reflect(writer)
                .touched_objects();
            let mut changes = std::pin::pin!(changes);
            while let Some(change) = changes.next().await {
                match change {
                    Ok(object) => {
                        if let Some(service) = refer(&object) {
                            queue.add(&service);
                        }
                    }
                    Err(error) => {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, kind = %K::kind(&()), "watching failed, trying again");
                    }
                }
            }
        });
        store
    }
}

/// The label selector of what we own.
pub(crate) fn ours() -> String {
    format!("{}={}", label::MANAGED, label::MANAGED_VALUE)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature of every kind's reference to its Service"
)]
fn itself(service: &Service) -> Option<ObjectRef<Service>> {
    Some(ObjectRef::from_obj(service))
}

/// The Service an object of ours belongs to.
pub(crate) fn parent(metadata: &ObjectMeta) -> Option<ObjectRef<Service>> {
    let labels = metadata.labels.as_ref()?;
    if labels.contains_key(label::METRICS_TARGET) {
        let (name, namespace) = (
            labels.get(label::PROXY_PARENT_NAME)?,
            labels.get(label::PROXY_PARENT_NAMESPACE)?,
        );
        return Some(ObjectRef::new(name).within(namespace));
    }
    let name = labels.get(label::PARENT_RESOURCE)?;
    let namespace = labels.get(label::PARENT_RESOURCE_NAMESPACE)?;
    (labels.get(label::PARENT_RESOURCE_TYPE)? == label::PARENT_TYPE_SERVICE)
        .then(|| ObjectRef::new(name).within(namespace))
}

/// A kind that is cached: what of it is not kept.
pub(crate) trait Watched: kube::ResourceExt {
    /// Drops what nobody reads.
    fn strip(&mut self) {
        self.managed_fields_mut().clear();
    }
}

impl Watched for ServiceAccount {}
impl Watched for Role {}
impl Watched for RoleBinding {}
impl Watched for StatefulSet {}

impl Watched for Service {
    /// Of most Services of a cluster only the name is kept.
    fn strip(&mut self) {
        self.managed_fields_mut().clear();
        if !may_concern_us(self) {
            let metadata = std::mem::take(&mut self.metadata);
            *self = Self {
                metadata: ObjectMeta {
                    name: metadata.name,
                    namespace: metadata.namespace,
                    uid: metadata.uid,
                    resource_version: metadata.resource_version,
                    ..ObjectMeta::default()
                },
                ..Self::default()
            };
        }
    }
}

/// Whether a Service carries any mark of ours or is of the type that may be meant for us.
fn may_concern_us(service: &Service) -> bool {
    let marks = |key: &String| key.starts_with("tailscale.com/") || key.starts_with("isthmus.dev/");
    let spec = service.spec.as_ref();
    service.annotations().keys().any(marks)
        || service.labels().keys().any(marks)
        || service.finalizers().iter().any(marks)
        || ready_condition(service.status.as_ref()).is_some()
        || spec.is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
}

impl Watched for Pod {
    /// What a Pod consists of is in its StatefulSet; here its status is read.
    fn strip(&mut self) {
        self.managed_fields_mut().clear();
        let node_name = self.spec.take().and_then(|spec| spec.node_name);
        self.spec = Some(PodSpec {
            node_name,
            ..PodSpec::default()
        });
    }
}

impl Watched for Secret {
    /// The node's private keys are none of the operator's business.
    fn strip(&mut self) {
        self.managed_fields_mut().clear();
        let kept = [
            secret_key::PROXY_CONFIG,
            secret_key::PROXY_STATUS,
            secret_key::DEVICE_ID,
            secret_key::DEVICE_FQDN,
            secret_key::DEVICE_IPS,
            secret_key::REISSUE_AUTH_KEY,
            secret_key::MACHINE_PUBLIC_KEY,
        ];
        if let Some(data) = &mut self.data {
            data.retain(|key, _| kept.contains(&key.as_str()) || device_config::capability_of(key).is_some());
        }
    }
}
