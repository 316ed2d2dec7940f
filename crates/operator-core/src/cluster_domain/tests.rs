use super::from_resolv_conf;

#[test]
fn domain_is_read_from_the_search_list_of_the_kubelet() {
    let text =
        "nameserver 10.96.0.10\nsearch isthmus.svc.k8s.example. svc.k8s.example k8s.example lan\noptions ndots:5\n";
    assert_eq!(from_resolv_conf(text, "isthmus").as_deref(), Some("k8s.example"));
}

#[test]
fn other_search_lists_give_no_domain() {
    for text in [
        "",
        "search lan",
        "search other.svc.cluster.local svc.cluster.local cluster.local",
        "search isthmus.svc.cluster.local svc.cluster.local other.local",
    ] {
        assert_eq!(from_resolv_conf(text, "isthmus"), None, "{text}");
    }
}
