//! The headless Service: it gives the Pod a name, which an egress Service is an alias of.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::Proxy;

pub(super) fn build(proxy: &Proxy<'_>) -> Service {
    Service {
        metadata: proxy.metadata(&proxy.name),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(proxy.selector()),
            // The proxy carries IPv4 alone; a client that got its IPv6 address as well would be refused there.
            ip_family_policy: Some("SingleStack".to_owned()),
            ip_families: Some(vec!["IPv4".to_owned()]),
            // A client that asks too early would keep the negative answer for seconds.
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
