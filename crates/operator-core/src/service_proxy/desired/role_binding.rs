//! The RoleBinding: gives the proxy's ServiceAccount the proxy's Role.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};

use super::Proxy;

pub(super) fn build(proxy: &Proxy<'_>) -> RoleBinding {
    RoleBinding {
        metadata: proxy.metadata(&proxy.name),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: proxy.name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: proxy.name.clone(),
            namespace: Some(proxy.settings.namespace.clone()),
            ..Subject::default()
        }]),
    }
}
