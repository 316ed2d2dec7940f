use serde_json::json;

use super::config::{render_kubelet, render_network};
use super::*;

#[test]
fn kubelet_is_stock_about_sysctls() {
    let spec = ClusterSpec::new("/state", 0);
    let kubelet = render_kubelet(&spec, "n1", "isthmus-n1", &Paths::new(&spec.state, &spec.name()));
    assert_eq!(kubelet.get("allowedUnsafeSysctls"), None);
    assert_eq!(kubelet["cgroupRoot"], "/isthmus-n1");
}

#[test]
fn pods_have_addresses_of_both_families_unless_ipv6_is_off() {
    let mut spec = ClusterSpec::new("/state", 0);
    let ranges = |spec: &ClusterSpec| render_network(spec, 2, Path::new("/n2"))["plugins"][0]["ipam"]["ranges"].clone();
    assert_eq!(
        ranges(&spec),
        json!([[{"subnet": "10.244.2.0/24"}], [{"subnet": "fd00:244:2::/64"}]])
    );
    spec.ipv6 = false;
    assert_eq!(ranges(&spec), json!([[{"subnet": "10.244.2.0/24"}]]));
}

#[test]
fn hostile_profile_starts_pods_without_forwarding() {
    let network = render_network(&ClusterSpec::new("/state", 0).hostile(), 1, Path::new("/n1"));
    assert_eq!(
        network["plugins"][1],
        json!({"type": "tuning", "sysctl": {"net.ipv4.ip_forward": "0"}})
    );
}
