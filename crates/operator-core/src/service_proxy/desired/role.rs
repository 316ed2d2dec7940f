//! The Role: the proxy's own Secret and nothing else.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};

use super::Proxy;

/// `list` and `watch` pass only with the field selector `metadata.name=<secret>`, the form resource names admit.
const VERBS: [&str; 4] = ["get", "list", "patch", "watch"];

pub(super) fn build(proxy: &Proxy<'_>) -> Role {
    let own_secret = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["secrets".to_owned()]),
        resource_names: Some(vec![proxy.pod_name.clone()]),
        verbs: VERBS.map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    };
    Role {
        metadata: proxy.metadata(&proxy.name),
        rules: Some(vec![own_secret]),
    }
}
