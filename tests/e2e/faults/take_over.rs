//! A proxy that another operator has made goes on under ours, as the device that it is.

use isthmus_testkit::cluster::shared;
use isthmus_testkit::wait;
use serde_json::{Value, json};

use crate::stage::{PAGE, PATIENCE, Stage, WEB_POD, WEB_SERVICE};

/// What the other operator called its proxy.
const NAME: &str = "ts-web-h7x2k";

/// The other operator's objects for the Service `web`, with its labels, its Pod template and its one account for all.
fn foreign_objects(stage: &Stage, service: &Value) -> Value {
    let uid = service["metadata"]["uid"].as_str().unwrap();
    let metadata = |name: &str| json!({"name": name, "namespace": "isthmus", "labels": labels(stage)});
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"],
        "verbs": ["create", "get", "list", "patch", "update", "watch"]}]);
    let account = json!({"kind": "ServiceAccount", "name": "proxies", "namespace": "isthmus"});
    let proxies = json!({"name": "proxies", "namespace": "isthmus"});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": proxies},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": proxies, "rules": rules},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": proxies,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "proxies"},
            "subjects": [account]},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata(NAME),
            "spec": {"clusterIP": "None", "selector": {"app": uid}}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata(&format!("{NAME}-0")),
            "stringData": {"cap-107.hujson": login(stage).to_string(), "cap-95.hujson": login(stage).to_string()}},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata(NAME), "spec": {
            "serviceName": NAME,
            "selector": {"matchLabels": {"app": uid}},
            "template": template(stage, uid, &service["spec"]["clusterIP"]),
        }},
    ]})
}

fn labels(stage: &Stage) -> Value {
    json!({
        "tailscale.com/managed": "true",
        "tailscale.com/parent-resource": "web",
        "tailscale.com/parent-resource-ns": stage.namespace.name(),
        "tailscale.com/parent-resource-type": "svc",
    })
}

fn login(stage: &Stage) -> Value {
    json!({"Version": "alpha0", "Locked": false, "ServerURL": stage.tailnet.login_server(),
        "AuthKey": stage.tailnet.auth_key().unwrap(), "Hostname": stage.device("web"),
        "acceptDNS": false, "acceptRoutes": false, "NoStatefulFiltering": true})
}

fn template(stage: &Stage, uid: &str, cluster_ip: &Value) -> Value {
    let mut labels = labels(stage);
    labels["app"] = Value::from(uid);
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({"metadata": {"labels": labels}, "spec": {
        "serviceAccountName": "proxies",
        "containers": [{
            "name": "tailscale",
            "image": "isthmus.local/isthmus:dev",
            "command": ["/isthmus", "proxy"],
            "imagePullPolicy": "Never",
            "securityContext": {"privileged": true},
            "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
            "env": [
                value("TS_USERSPACE", "false"),
                field("POD_IP", "status.podIP"),
                field("POD_NAME", "metadata.name"),
                field("POD_UID", "metadata.uid"),
                value("TS_KUBE_SECRET", "$(POD_NAME)"),
                value("TS_EXPERIMENTAL_SERVICE_AUTO_ADVERTISEMENT", "false"),
                value("TS_EXPERIMENTAL_VERSIONED_CONFIG_DIR", "/etc/tsconfig/$(POD_NAME)"),
                {"name": "TS_DEST_IP", "value": cluster_ip},
                value("TS_INTERNAL_APP", "k8s-operator-ingress-proxy"),
            ],
            "volumeMounts": [{"name": "tailscaledconfig-0", "readOnly": true,
                "mountPath": format!("/etc/tsconfig/{NAME}-0")}],
        }],
        "volumes": [{"name": "tailscaledconfig-0", "secret": {"secretName": format!("{NAME}-0")}}],
    }})
}

/// The Service as the other operator left it.
fn foreign_service(stage: &Stage) -> Value {
    stage
        .namespace
        .apply(&WEB_SERVICE.replace("name: web\n", "name: web\n  finalizers: [tailscale.com/finalizer]\n"));
    stage.service("web")
}

#[test]
fn proxy_of_another_operator_is_taken_over_as_the_device_that_it_is() {
    let Some(stage) = Stage::on(shared(), "take_over") else {
        return;
    };
    stage.kubectl(&["create", "namespace", "isthmus"]);
    stage.run_pods(WEB_POD, &["web"]);
    let service = foreign_service(&stage);
    let objects = foreign_objects(&stage, &service);
    let file = stage.folder.path().join("foreign.json");
    std::fs::write(&file, objects.to_string()).unwrap();
    stage.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    let device = stage.device("web");
    let address = wait::until_within("the device", PATIENCE, || stage.tailnet.address_of(&device).unwrap());
    let page = || stage.fetch(&address).filter(|page| page == PAGE);
    wait::until("the page by the other operator's proxy", page);
    let ids = stage.tailnet.ids_of(&device).unwrap();
    let secret = [
        "-n",
        "isthmus",
        "get",
        "secret",
        &format!("{NAME}-0"),
        "-o",
        "jsonpath={.data.device_id}",
    ];
    wait::until("its id to be noted", || {
        (!stage.kubectl(&secret).is_empty()).then_some(())
    });

    let operator = stage.install_operator();
    assert_eq!(stage.wait_until_ready("web"), address);
    wait::until("the page by our proxy", page);
    assert_eq!(stage.tailnet.ids_of(&device).unwrap(), ids, "it is another device");
    let set = operator.find("statefulset", "web").unwrap();
    assert_eq!(set["metadata"]["name"], NAME);
    assert_eq!(set["spec"]["podManagementPolicy"], "Parallel");
    let pod = operator.pod("web");
    assert_eq!(
        pod["spec"]["serviceAccountName"], NAME,
        "the Pod has the account of all proxies"
    );
    assert!(operator.find("secret", "web").is_some());

    stage.namespace.run(&["delete", "service", "web", "--timeout=60s"]);
    assert_eq!(operator.proxies(), "");
    assert!(stage.tailnet.ids_of(&device).unwrap().is_empty(), "the device is left");
}
