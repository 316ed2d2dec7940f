//! The objects that every cluster has from the start.

use crate::pki::KUBELET_ADMINS;
use crate::spec::ClusterSpec;

const RBAC: &str = include_str!("manifests/rbac.yaml");
const COREDNS: &str = include_str!("manifests/coredns.yaml");

/// The image of the cluster's DNS server.
pub(crate) const COREDNS_IMAGE: &str = "isthmus.local/coredns:1";

/// The base objects as YAML documents.
pub(crate) fn render_base(spec: &ClusterSpec) -> String {
    let net = spec.addressing();
    let addresses: Vec<String> = net.dns_all().iter().map(|address| format!("\"{address}\"")).collect();
    [RBAC, COREDNS]
        .join("---\n")
        .replace("@KUBELET_ADMINS@", KUBELET_ADMINS)
        .replace("@DNS@", &net.dns().to_string())
        .replace("@DNS_ALL@", &addresses.join(", "))
        .replace("@DOMAIN@", &spec.cluster_domain)
        .replace("@IMAGE@", COREDNS_IMAGE)
        .replace("@NODES@", &spec.nodes.to_string())
}
