//! The objects of a proxy, one builder each.

mod headless_service;
mod metrics;
mod role;
mod role_binding;
mod secret;
mod service_account;
mod stateful_set;

use std::collections::BTreeMap;

use isthmus_contract::label;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    input::{Child, Input},
    intent::Wanted,
};
use crate::{
    drift,
    proxy_class::{self, Choice, ProxyClassSpec},
    settings::Settings,
};

pub use headless_service::PodAddresses;
pub(super) use metrics::build as metrics;
pub use secret::tag_list;
pub(super) use secret::{Login, known_tags, last_key_end, stored_key};

/// Whose proxy it is and what it is called: what every builder needs.
#[derive(Debug, Clone)]
pub struct Proxy<'a> {
    /// The proxy's name.
    pub name: String,
    /// Name of its Secret and Pod.
    pub pod_name: String,
    /// The Service's name.
    pub parent: &'a str,
    /// The Service's namespace.
    pub parent_namespace: &'a str,
    /// The Service's UID.
    pub parent_uid: &'a str,
    /// What the proxy's class says, if it has one.
    pub class: Option<&'a ProxyClassSpec>,
    /// Whether the node uses routes of subnet routers.
    pub accept_routes: bool,
    /// The operator's settings.
    pub settings: &'a Settings,
}

impl<'a> Proxy<'a> {
    /// The proxy of the observed Service.
    pub fn new(input: &'a Input, settings: &'a Settings) -> Self {
        Self {
            name: input.proxy_name(),
            pod_name: input.pod_name(),
            parent: input.service_name(),
            parent_namespace: input.service_namespace(),
            parent_uid: input.service_uid(),
            class: input.class.spec(),
            accept_routes: match &input.class {
                Choice::Without => false,
                Choice::Ready(class) => class.accepts_routes(),
                // As it is, until the class is known.
                Choice::Waiting(_) => input.children.secret.as_ref().is_some_and(secret::accepts_routes),
            },
            settings,
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let labels = [
            (label::MANAGED, label::MANAGED_VALUE),
            (label::PARENT_RESOURCE, self.parent),
            (label::PARENT_RESOURCE_NAMESPACE, self.parent_namespace),
            (label::PARENT_RESOURCE_TYPE, label::PARENT_TYPE_SERVICE),
            (label::PARENT_UID, self.parent_uid),
        ];
        labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(label::APP.to_owned(), self.parent_uid.to_owned())])
    }

    fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.settings.namespace.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }
}

/// Everything but the Secret and the StatefulSet: what can exist before the proxy may log in.
pub(super) fn surroundings(proxy: &Proxy<'_>, addresses: PodAddresses) -> [Child; 4] {
    [
        Child::HeadlessService(drift::seal(headless_service::build(proxy, addresses), |object| {
            &mut object.metadata
        })),
        Child::ServiceAccount(drift::seal(service_account::build(proxy), |object| {
            &mut object.metadata
        })),
        Child::Role(drift::seal(role::build(proxy), |object| &mut object.metadata)),
        Child::RoleBinding(drift::seal(role_binding::build(proxy), |object| &mut object.metadata)),
    ]
}

/// The Secret with the proxy's config.
pub(super) fn secret(proxy: &Proxy<'_>, wanted: &Wanted, login: &Login, device_tags: Option<&str>) -> Child {
    let secret = secret::build(proxy, wanted, login, device_tags);
    Child::Secret(drift::seal(secret, |object| &mut object.metadata))
}

/// The StatefulSet with the proxy's Pod.
pub(super) fn stateful_set(proxy: &Proxy<'_>, wanted: &Wanted) -> Child {
    let mut set = stateful_set::build(proxy, wanted);
    if let Some(class) = proxy.class {
        proxy_class::shape(&mut set, class);
    }
    Child::StatefulSet(Box::new(drift::seal(set, |object| &mut object.metadata)))
}

#[cfg(test)]
mod tests;
