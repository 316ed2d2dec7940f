//! What is kept of objects of each kind, and whose they are.

use isthmus_contract::{device_config, label, secret_key};
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, PodSpec, Secret, Service, ServiceAccount},
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, runtime::reflector::ObjectRef};
use serde::{Serialize, de::DeserializeOwned};

/// What `kubectl apply` notes on an object: the whole of it once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A kind of ours that is cached.
pub(crate) trait Kept: Resource<DynamicType = ()> + Serialize + DeserializeOwned {
    /// The object without what nobody reads.
    #[must_use]
    fn stripped(mut self) -> Self {
        shorten_metadata(self.meta_mut());
        self.shorten();
        self
    }

    /// Drops what of this kind nobody reads.
    fn shorten(&mut self) {}

    /// One word for how it is, for metrics.
    fn state(&self) -> &'static str {
        if self.meta().deletion_timestamp.is_some() {
            "deleting"
        } else {
            "present"
        }
    }

    /// The Service it belongs to.
    fn service(&self) -> Option<ObjectRef<Service>> {
        parent(self.meta())
    }

    /// UID of the Service it was made for.
    fn parent_uid(&self) -> Option<String> {
        parent_uid(self.meta())
    }
}

/// Versions and times are of no use to whoever compares objects, and would make each write look like a change.
fn shorten_metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.generation = None;
    metadata.creation_timestamp = None;
}

impl Kept for ServiceAccount {}
impl Kept for Role {}
impl Kept for RoleBinding {}

impl Kept for Service {
    fn shorten(&mut self) {
        self.status = None;
    }
}

impl Kept for StatefulSet {
    /// How the Pod is, the Pod says itself.
    fn shorten(&mut self) {
        self.status = None;
    }
}

impl Kept for Pod {
    /// What a Pod consists of is in its StatefulSet; here its status is read.
    fn shorten(&mut self) {
        let node_name = self.spec.take().and_then(|spec| spec.node_name);
        self.spec = Some(PodSpec {
            node_name,
            ..PodSpec::default()
        });
    }

    fn state(&self) -> &'static str {
        let conditions = self.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let is_ready = conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if is_ready { "ready" } else { "pending" }
    }
}

impl Kept for Secret {
    /// The node's private keys are none of the operator's business.
    fn shorten(&mut self) {
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

/// Drops of a user's Service what nobody reads.
pub(crate) fn shorten_service(service: &mut Service) {
    service.metadata.managed_fields = None;
    if let Some(annotations) = &mut service.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
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

fn parent_uid(metadata: &ObjectMeta) -> Option<String> {
    let labels = metadata.labels.as_ref()?;
    (labels.get(label::PARENT_RESOURCE_TYPE)? == label::PARENT_TYPE_SERVICE)
        .then(|| labels.get(label::PARENT_UID).cloned())
        .flatten()
}
