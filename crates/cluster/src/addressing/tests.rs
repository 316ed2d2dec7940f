use super::*;

#[test]
fn slots_share_no_address_and_no_port() {
    let (first, second) = (Addressing::new(0, true), Addressing::new(1, true));
    assert_ne!(first.node_net(), second.node_net());
    assert_ne!(first.pod_net(), second.pod_net());
    assert_ne!(first.pod_net6(), second.pod_net6());
    assert_ne!(first.service_net6(), second.service_net6());
    assert!(first.scheduler_port() < second.api_port());
}

#[test]
fn service_addresses_lie_in_the_service_ranges() {
    let slot = Addressing::new(9, true);
    assert_eq!(slot.service_net6(), "fd00:105::/112");
    assert_eq!(
        slot.dns_all(),
        ["10.105.0.10".parse::<IpAddr>().unwrap(), "fd00:105::a".parse().unwrap()]
    );
}

#[test]
fn ipv4_only_cluster_names_no_ipv6_address() {
    let slot = Addressing::new(0, false);
    assert_eq!(slot.service_nets(), "10.96.0.0/16");
    assert_eq!(slot.pod_nets(), "10.244.0.0/16");
    assert_eq!(slot.node_all(1).len(), 1);
}
