//! The one place that writes objects.
//!
//! What we own is written by server-side apply under one field manager. What the user owns and we have to clear, the
//! spec of an egress Service, is a merge patch bound to the version it was made from. Every write to a user's object
//! carries its UID, so that a deleted object is not made again.

use isthmus_contract::{
    field_manager::{PROXY_CLASS, SERVICE_PROXY},
    finalizer,
};
use isthmus_kubernetes::{Object, all, namespaced};
use isthmus_operator_core::{
    proxy_class::ProxyClass,
    service_monitor::ServiceMonitor,
    service_proxy::{Child, OwnStatus, SpecPatch},
};
use k8s_openapi::{
    Resource as _,
    api::{
        apps::v1::StatefulSet,
        core::v1::{Secret, Service, ServiceAccount},
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::error::{Error, is_invalid, is_not_found};

/// Writes objects.
#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
    /// Namespace of what we own.
    namespace: String,
}

impl Writer {
    pub(crate) fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    /// Applies an object of a proxy and gives back what the API server made of it.
    pub(crate) async fn apply_child(&self, child: &Child) -> Result<Child, Error> {
        Ok(match child {
            Child::HeadlessService(object) => Child::HeadlessService(self.apply(object).await?),
            Child::Secret(object) => Child::Secret(self.apply(object).await?),
            Child::ServiceAccount(object) => Child::ServiceAccount(self.apply(object).await?),
            Child::Role(object) => Child::Role(self.apply(object).await?),
            Child::RoleBinding(object) => Child::RoleBinding(self.apply(object).await?),
            Child::StatefulSet(object) => Child::StatefulSet(Box::new(self.apply(&**object).await?)),
            Child::MetricsService(object) => Child::MetricsService(self.apply(object).await?),
            Child::ServiceMonitor(object) => Child::ServiceMonitor(self.apply(object).await?),
        })
    }

    async fn apply<K>(&self, object: &K) -> Result<K, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned,
    {
        let name = object.name_any();
        let api = namespaced::<K>(&self.client, &self.namespace);
        let applied = patch(&api, &name, &manager(), &Patch::Apply(Object::of(object))).await;
        applied
            .and_then(Object::read)
            .map_err(|cause| Error::kubernetes(format!("apply {} {name}", K::kind(&())), cause))
    }

    /// Deletes an object of a proxy, exactly the one observed. Gone is fine.
    pub(crate) async fn delete_child(&self, child: &Child) -> Result<(), Error> {
        // The Pod of a StatefulSet is waited for by itself.
        self.delete_with(child, PropagationPolicy::Background).await
    }

    /// Deletes an object of a proxy, exactly the one observed, and leaves what it owns to its successor. Gone is fine.
    pub(crate) async fn orphan_child(&self, child: &Child) -> Result<(), Error> {
        self.delete_with(child, PropagationPolicy::Orphan).await
    }

    async fn delete_with(&self, child: &Child, policy: PropagationPolicy) -> Result<(), Error> {
        match child {
            Child::HeadlessService(object) | Child::MetricsService(object) => {
                self.delete::<Service>(object, policy).await
            }
            Child::Secret(object) => self.delete::<Secret>(object, policy).await,
            Child::ServiceAccount(object) => self.delete::<ServiceAccount>(object, policy).await,
            Child::Role(object) => self.delete::<Role>(object, policy).await,
            Child::RoleBinding(object) => self.delete::<RoleBinding>(object, policy).await,
            Child::StatefulSet(object) => self.delete::<StatefulSet>(object, policy).await,
            Child::ServiceMonitor(object) => self.delete::<ServiceMonitor>(object, policy).await,
        }
    }

    async fn delete<K>(&self, object: &K, policy: PropagationPolicy) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let name = object.name_any();
        let api = namespaced::<K>(&self.client, &self.namespace);
        delete(&api, &name, object.uid(), policy)
            .await
            .map_err(|cause| Error::kubernetes(format!("delete {} {name}", K::kind(&())), cause))
    }

    /// Puts our finalizer on a user's Service, or takes it off.
    pub(crate) async fn set_finalizer(&self, service: &Service, held: bool) -> Result<Service, Error> {
        let finalizers: &[&str] = if held { &[finalizer::DEVICE] } else { &[] };
        let body = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"uid": service.metadata.uid, "finalizers": finalizers},
        });
        let action = || format!("change the finalizers of Service {}", service.name_any());
        let patch = Patch::Apply(body);
        let result = match self.write_service(service, &manager(), &patch).await {
            Ok(service) if !held && holds_finalizer(&service) => self.take_finalizer(&service).await,
            other => other,
        };
        match result {
            Ok(service) => Ok(service),
            // Nobody is left to hold.
            Err(cause) if !held && is_not_found(&cause) => Ok(without_finalizer(service)),
            Err(cause) => Err(Error::kubernetes(action(), cause)),
        }
    }

    /// Takes off a finalizer that an operator before us put on: server-side apply removes only what it applied itself.
    async fn take_finalizer(&self, service: &Service) -> Result<Service, kube::Error> {
        let rest = without_finalizer(service).metadata.finalizers;
        let metadata = &service.metadata;
        // With the version, so that a finalizer that somebody adds meanwhile is not lost.
        let body = json!({"metadata": {
            "uid": metadata.uid, "resourceVersion": metadata.resource_version, "finalizers": rest,
        }});
        let parameters = PatchParams {
            field_manager: Some(SERVICE_PROXY.to_owned()),
            ..PatchParams::default()
        };
        self.write_service(service, &parameters, &Patch::Merge(body)).await
    }

    /// Changes the spec or an annotation of a user's Service: the only write to a user's object that is no server-side
    /// apply.
    pub(crate) async fn patch_service(&self, service: &Service, patch: &SpecPatch) -> Result<Service, Error> {
        let parameters = PatchParams {
            field_manager: Some(SERVICE_PROXY.to_owned()),
            ..PatchParams::default()
        };
        let name = service.name_any();
        let body = Patch::Merge(patch.body.clone());
        let mut result = self.write_service(service, &parameters, &body).await;
        let invalid = result.as_ref().err().filter(|cause| is_invalid(cause));
        if let (Some(cause), Some(fallback)) = (invalid, &patch.fallback) {
            tracing::info!(error = %cause, service = name, "restoring without addresses and ports of before");
            let body = Patch::Merge(fallback.clone());
            result = self.write_service(service, &parameters, &body).await;
        }
        result.map_err(|cause| Error::kubernetes(format!("change Service {name}"), cause))
    }

    /// Writes what is ours of the status of a user's Service; what `status` leaves out goes away. Gone is fine.
    pub(crate) async fn apply_status(&self, service: &Service, status: &OwnStatus) -> Result<Option<Service>, Error> {
        let conditions: Vec<&Condition> = status.condition.iter().collect();
        let mut body: Value = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"uid": service.metadata.uid},
            "status": {"conditions": conditions},
        });
        if let Some(entries) = status.load_balancer.as_ref().filter(|entries| !entries.is_empty()) {
            body["status"]["loadBalancer"] = json!({"ingress": entries});
        }
        let services = self.services(service);
        let patch = Patch::Apply(body);
        let written = services.patch_status(&service.name_any(), &manager(), &patch).await;
        match written.and_then(Object::read) {
            Ok(service) => Ok(Some(service)),
            Err(cause) if is_not_found(&cause) => Ok(None),
            Err(cause) => Err(Error::kubernetes(
                format!("write the status of Service {}", service.name_any()),
                cause,
            )),
        }
    }

    /// Writes our condition on a proxy class. Gone is fine.
    pub(crate) async fn apply_class_condition(&self, class: &ProxyClass, condition: &Condition) -> Result<(), Error> {
        let name = class.name_any();
        let body = json!({
            "apiVersion": ProxyClass::API_VERSION,
            "kind": ProxyClass::KIND,
            "metadata": {"uid": class.metadata.uid},
            "status": {"conditions": [condition]},
        });
        let api = all::<ProxyClass>(&self.client);
        let manager = PatchParams::apply(PROXY_CLASS).force();
        match api.patch_status(&name, &manager, &Patch::Apply(body)).await {
            Ok(_) => Ok(()),
            Err(cause) if is_not_found(&cause) => Ok(()),
            Err(cause) => Err(Error::kubernetes(
                format!("write the condition of ProxyClass {name}"),
                cause,
            )),
        }
    }

    async fn write_service(
        &self,
        service: &Service,
        parameters: &PatchParams,
        patch: &Patch<Value>,
    ) -> Result<Service, kube::Error> {
        let services = self.services(service);
        services.patch(&service.name_any(), parameters, patch).await?.read()
    }

    fn services(&self, service: &Service) -> Api<Object> {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        namespaced::<Service>(&self.client, namespace)
    }
}

async fn patch(
    api: &Api<Object>,
    name: &str,
    parameters: &PatchParams,
    patch: &Patch<Object>,
) -> Result<Object, kube::Error> {
    api.patch(name, parameters, patch).await
}

/// Deletes the object with this UID. Gone is fine.
async fn delete(
    api: &Api<Object>,
    name: &str,
    uid: Option<String>,
    policy: PropagationPolicy,
) -> Result<(), kube::Error> {
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(cause) if is_not_found(&cause) => Ok(()),
        Err(cause) => Err(cause),
    }
}

fn manager() -> PatchParams {
    PatchParams::apply(SERVICE_PROXY).force()
}

fn without_finalizer(service: &Service) -> Service {
    let mut service = service.clone();
    service
        .metadata
        .finalizers
        .get_or_insert_default()
        .retain(|name| name != finalizer::DEVICE);
    service
}

fn holds_finalizer(service: &Service) -> bool {
    let mut finalizers = service.metadata.finalizers.iter().flatten();
    finalizers.any(|name| name == finalizer::DEVICE)
}
