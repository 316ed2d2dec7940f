//! The headless Service: it gives the Pod a name, which an egress Service is an alias of.

use isthmus_contract::proxy_status::Family;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::Proxy;

/// Which addresses of the Pod the name shows. A client that gets one of a family that the proxy does not carry is
/// refused there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodAddresses {
    /// One, of the family that the cluster prefers.
    Any,
    /// The one of this family.
    Of(Family),
    /// Every one it has.
    Both,
}

pub(super) fn build(proxy: &Proxy<'_>, addresses: PodAddresses) -> Service {
    let policy = match addresses {
        PodAddresses::Both => "PreferDualStack",
        PodAddresses::Any | PodAddresses::Of(_) => "SingleStack",
    };
    let family = match addresses {
        PodAddresses::Of(Family::V4) => Some("IPv4"),
        PodAddresses::Of(Family::V6) => Some("IPv6"),
        PodAddresses::Any | PodAddresses::Both => None,
    };
    Service {
        metadata: proxy.metadata(&proxy.name),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(proxy.selector()),
            ip_family_policy: Some(policy.to_owned()),
            ip_families: family.map(|family| vec![family.to_owned()]),
            // A client that asks too early would keep the negative answer for seconds.
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
