//! What was observed of one Service and of everything that belongs to it.

use std::collections::BTreeSet;

use isthmus_contract::{device_config::AuthKey, name::secret_name};
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, Secret, Service, ServiceAccount},
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};

use super::name;
use crate::{proxy_class::Choice, service_monitor::ServiceMonitor};

/// Everything a plan is made from.
#[derive(Debug, Clone)]
pub struct Input {
    /// The user's Service.
    pub service: Service,
    /// The class of its proxy.
    pub class: Choice,
    /// What exists of its proxy.
    pub children: Children,
    /// Of the names its proxy may get, those that belong to others.
    pub taken_names: BTreeSet<String>,
    /// An auth key made for this proxy and not stored yet.
    pub minted: Option<MintedKey>,
    /// Tags just given to the device and not noted yet.
    pub tagged: Option<Vec<String>>,
    /// Why the last call to the tailnet's API failed, if it did.
    pub problem: Option<ControlProblem>,
    /// The time now.
    pub now: Time,
}

/// An auth key fresh from the tailnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MintedKey {
    /// Id of the key, for revoking it.
    pub id: String,
    /// The key.
    pub key: AuthKey,
    /// Tags the device gets by it, comma-separated and sorted.
    pub tags: String,
    /// When it ends.
    pub expires: Time,
}

/// The tailnet's API, or the cluster, does not do what we need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlProblem {
    /// One line for the user.
    pub message: String,
    /// Whether it is the tailnet's API.
    pub of_tailnet: bool,
    /// Whether that refuses the operator's credentials.
    pub refused: bool,
}

/// The objects of one proxy, as far as they exist.
#[derive(Debug, Clone, Default)]
pub struct Children {
    /// Headless Service that names the Pod.
    pub headless_service: Option<Service>,
    /// Config and state.
    pub secret: Option<Secret>,
    /// What the Pod runs as.
    pub service_account: Option<ServiceAccount>,
    /// What the Pod may do.
    pub role: Option<Role>,
    /// Gives the one to the other.
    pub role_binding: Option<RoleBinding>,
    /// The Pod's template.
    pub stateful_set: Option<Box<StatefulSet>>,
    /// The Pod.
    pub pod: Option<Pod>,
    /// By which metrics are found.
    pub metrics_service: Option<Box<Service>>,
    /// By which Prometheus finds the metrics.
    pub service_monitor: Option<Box<ServiceMonitor>>,
}

/// One object of a proxy.
#[derive(Debug, Clone)]
pub enum Child {
    /// Headless Service.
    HeadlessService(Service),
    /// Config and state.
    Secret(Secret),
    /// What the Pod runs as.
    ServiceAccount(ServiceAccount),
    /// What the Pod may do.
    Role(Role),
    /// Gives the one to the other.
    RoleBinding(RoleBinding),
    /// The Pod's template.
    StatefulSet(Box<StatefulSet>),
    /// By which metrics are found.
    MetricsService(Service),
    /// By which Prometheus finds the metrics.
    ServiceMonitor(ServiceMonitor),
}

impl Child {
    /// Name, namespace, labels of the object.
    pub const fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::HeadlessService(object) | Self::MetricsService(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::ServiceAccount(object) => &object.metadata,
            Self::Role(object) => &object.metadata,
            Self::RoleBinding(object) => &object.metadata,
            Self::StatefulSet(object) => &object.metadata,
            Self::ServiceMonitor(object) => &object.metadata,
        }
    }

    /// The kind, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::HeadlessService(_) | Self::MetricsService(_) => "Service",
            Self::Secret(_) => "Secret",
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::Role(_) => "Role",
            Self::RoleBinding(_) => "RoleBinding",
            Self::StatefulSet(_) => "StatefulSet",
            Self::ServiceMonitor(_) => "ServiceMonitor",
        }
    }
}

impl Children {
    /// Takes in an object just applied.
    pub fn absorb(&mut self, child: Child) {
        match child {
            Child::HeadlessService(object) => self.headless_service = Some(object),
            Child::Secret(object) => self.secret = Some(object),
            Child::ServiceAccount(object) => self.service_account = Some(object),
            Child::Role(object) => self.role = Some(object),
            Child::RoleBinding(object) => self.role_binding = Some(object),
            Child::StatefulSet(object) => self.stateful_set = Some(object),
            Child::MetricsService(object) => self.metrics_service = Some(Box::new(object)),
            Child::ServiceMonitor(object) => self.service_monitor = Some(Box::new(object)),
        }
    }

    /// Leaves out an object just deleted. A StatefulSet stays until its Pod is gone.
    pub fn lose(&mut self, child: &Child) {
        match child {
            Child::HeadlessService(_) => self.headless_service = None,
            Child::Secret(_) => self.secret = None,
            Child::ServiceAccount(_) => self.service_account = None,
            Child::Role(_) => self.role = None,
            Child::RoleBinding(_) => self.role_binding = None,
            Child::StatefulSet(_) => {}
            Child::MetricsService(_) => self.metrics_service = None,
            Child::ServiceMonitor(_) => self.service_monitor = None,
        }
    }

    /// Whether nothing exists, but for what the StatefulSet owns and takes with it.
    pub const fn is_empty(&self) -> bool {
        self.headless_service.is_none()
            && self.secret.is_none()
            && self.service_account.is_none()
            && self.role.is_none()
            && self.role_binding.is_none()
            && self.stateful_set.is_none()
            && self.pod.is_none()
    }

    /// The proxy's name as the existing objects have it.
    pub fn existing_name(&self) -> Option<String> {
        let named = |metadata: &ObjectMeta| metadata.name.clone();
        let stateful_set = self.stateful_set.as_ref().and_then(|object| named(&object.metadata));
        let service = || {
            self.headless_service
                .as_ref()
                .and_then(|object| named(&object.metadata))
        };
        let secret = || {
            let name = self.secret.as_ref().and_then(|object| named(&object.metadata))?;
            name.strip_suffix("-0").map(str::to_owned)
        };
        stateful_set.or_else(service).or_else(secret)
    }
}

impl Input {
    /// Name of the Service.
    pub fn service_name(&self) -> &str {
        self.service.metadata.name.as_deref().unwrap_or_default()
    }

    /// Namespace of the Service.
    pub fn service_namespace(&self) -> &str {
        self.service.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// UID of the Service.
    pub fn service_uid(&self) -> &str {
        self.service.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The proxy's name: what its objects have already, else one derived from the Service.
    pub fn proxy_name(&self) -> String {
        self.children
            .existing_name()
            .unwrap_or_else(|| name::free_name(self.service_name(), self.service_uid(), &self.taken_names))
    }

    /// Name of the proxy's Secret and Pod.
    pub fn pod_name(&self) -> String {
        secret_name(&self.proxy_name(), 0)
    }

    /// An annotation of the Service.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.service.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether the user has deleted the Service.
    pub const fn is_deleted(&self) -> bool {
        self.service.metadata.deletion_timestamp.is_some()
    }
}
