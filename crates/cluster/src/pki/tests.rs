use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn api_server_certificate_names_the_cluster_domain() {
    let plan = plan_api_server("corp.internal", vec!["10.96.0.1".parse().unwrap()]);
    let server = plan.iter().find(|leaf| leaf.file == "apiserver").unwrap();
    assert!(
        server
            .dns_names
            .contains(&"kubernetes.default.svc.corp.internal".to_owned())
    );
    assert_eq!(server.purpose, Purpose::Server);
}

#[test]
fn kubelet_is_a_client_of_the_node_group_under_its_own_name() {
    let plan = plan_node("n2", Vec::new());
    assert_eq!(plan[0].common_name, "system:node:n2");
    assert_eq!(plan[0].organization.as_deref(), Some("system:nodes"));
}

#[test]
fn keys_and_kubeconfigs_are_readable_by_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    write_all(folder.path(), &plan_api_server("cluster.local", Vec::new())).unwrap();
    for file in ["ca.key", "admin.key", "sa.key"] {
        let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let kubeconfig = build_kubeconfig(folder.path(), "test", "https://127.0.0.1:6443", "admin").unwrap();
    assert!(kubeconfig.contains("server: https://127.0.0.1:6443"));
}
