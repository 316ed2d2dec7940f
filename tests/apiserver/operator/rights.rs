//! What the accounts of the operator and of its proxies may not do.

use super::{
    scene::{Scene, exposed},
    settled,
};

/// Verb, resource as `kubectl auth can-i` takes it, and the namespace; empty for all namespaces or none.
type Deed = (&'static str, &'static str, &'static str);

fn refuses(scene: &Scene, account: &str, (verb, resource, namespace): Deed) {
    let account = format!("system:serviceaccount:isthmus:{account}");
    let mut arguments = vec!["auth", "can-i", verb, "--as", &account];
    arguments.extend(resource.split(' '));
    if namespace.is_empty() {
        arguments.push("--all-namespaces");
    } else {
        arguments.extend(["-n", namespace]);
    }
    assert_eq!(
        scene.kubectl(&arguments).trim(),
        "no",
        "{account} may {verb} {resource} in `{namespace}`"
    );
}

#[test]
fn operator_reads_no_secret_of_users_and_runs_nothing_by_itself() {
    let Some(scene) = Scene::shared() else { return };
    for deed in [
        ("get", "secrets", "default"),
        ("list", "secrets", "kube-system"),
        ("list", "secrets", ""),
        ("get", "configmaps", "default"),
        ("create", "pods", "isthmus"),
        ("create", "pods --subresource=exec", "isthmus"),
        ("delete", "pods", "isthmus"),
        ("create", "deployments.apps", "isthmus"),
        ("create", "statefulsets.apps", "default"),
        ("create", "daemonsets.apps", "isthmus"),
        ("create", "services", "default"),
        ("delete", "services", "default"),
        ("create", "serviceaccounts --subresource=token", "isthmus"),
        ("bind", "roles.rbac.authorization.k8s.io", "isthmus"),
        ("escalate", "roles.rbac.authorization.k8s.io", "isthmus"),
        ("create", "clusterroles.rbac.authorization.k8s.io", ""),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io", ""),
        ("create", "rolebindings.rbac.authorization.k8s.io", "kube-system"),
        ("impersonate", "users", ""),
        ("list", "nodes", ""),
        ("patch", "nodes", ""),
        ("patch", "proxyclasses.tailscale.com", ""),
        ("delete", "proxyclasses.tailscale.com", ""),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io", ""),
    ] {
        refuses(scene, "operator", deed);
    }
}

#[test]
fn proxy_may_do_nothing_in_the_cluster_but_keep_its_own_secret() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("proxy-rights");
    scene.apply(&exposed(&namespace, "10.96.8.9"));
    let name = settled(scene, &namespace);
    for deed in [
        ("get", "secrets", "isthmus"),
        ("list", "secrets", "isthmus"),
        ("create", "secrets", "isthmus"),
        ("get", "secret/operator-oauth", "isthmus"),
        ("get", "secrets", "default"),
        ("get", "secrets", "kube-system"),
        ("list", "secrets", ""),
        ("get", "configmaps", "isthmus"),
        ("get", "pods", "isthmus"),
        ("list", "pods", ""),
        ("create", "pods", "isthmus"),
        ("create", "pods --subresource=exec", "isthmus"),
        ("patch", "statefulsets.apps", "isthmus"),
        ("list", "services", ""),
        ("patch", "services", "default"),
        ("create", "serviceaccounts --subresource=token", "isthmus"),
        ("patch", "roles.rbac.authorization.k8s.io", "isthmus"),
        ("list", "nodes", ""),
    ] {
        refuses(scene, &name, deed);
    }
}
