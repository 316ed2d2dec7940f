//! The ServiceAccount: one per proxy, so that no proxy has the rights of another.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::Proxy;

pub(super) fn build(proxy: &Proxy<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: proxy.metadata(&proxy.name),
        ..ServiceAccount::default()
    }
}
