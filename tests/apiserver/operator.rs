//! The operator against a real API server, with the rights of its own ServiceAccount and nothing more.

mod proxy_class;
mod rights;
mod scene;
mod services;

use std::time::Duration;

use isthmus_testkit::wait;
use scene::{Scene, decoded, exposed, leading_to};
use serde_json::{Value, json};

/// Verbs of the audit log that write.
const WRITES: [&str; 5] = ["create", "delete", "patch", "update", "deletecollection"];
/// How long the operator is watched for writes it should not make.
const QUIET: Duration = Duration::from_secs(3);

fn settled(scene: &Scene, namespace: &str) -> String {
    wait::until("the StatefulSet of the proxy", || scene.proxy_of(namespace))
}

#[test]
fn exposed_service_gets_its_objects_with_the_operators_own_rights() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("exposed");
    scene.apply(&exposed(&namespace, "10.96.7.1"));
    let name = settled(scene, &namespace);
    assert!(name.starts_with("ts-web-"), "{name}");

    let secret = scene.get("secret", "isthmus", &format!("{name}-0"));
    let config = decoded(&secret, "isthmus.json");
    let expected =
        r#"{"version":1,"mode":{"ingress":{"clusterIPs":["10.96.7.1"],"ports":[{"protocol":"TCP","port":80}]}}}"#;
    assert_eq!(config, expected);
    assert!(decoded(&secret, "cap-107.hujson").contains(r#""AuthKey":"tskey-auth-"#));

    let headless = scene.get("service", "isthmus", &name);
    assert_eq!(headless["spec"]["clusterIP"], "None");
    assert_eq!(headless["spec"]["publishNotReadyAddresses"], true);

    let pod = &scene.get("statefulset", "isthmus", &name)["spec"]["template"]["spec"];
    let rights = &pod["containers"][0]["securityContext"];
    assert_eq!(rights["capabilities"], json!({"add": ["NET_ADMIN"], "drop": ["ALL"]}));
    assert_eq!(rights["readOnlyRootFilesystem"], true);
    assert!(
        !pod.to_string().contains("10.96.7.1"),
        "a target in the template would restart the Pod"
    );

    let service = scene.wait_for_reason(&namespace, "ProxyPending");
    assert_eq!(service["metadata"]["finalizers"], json!(["tailscale.com/finalizer"]));
}

#[test]
fn proxy_may_use_its_own_secret_and_no_other() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("rights");
    scene.apply(&exposed(&namespace, "10.96.7.2"));
    let name = settled(scene, &namespace);
    let may = |verb: &str, secret: &str| {
        let account = format!("system:serviceaccount:isthmus:{name}");
        scene
            .kubectl(&["auth", "can-i", verb, secret, "--as", &account, "-n", "isthmus"])
            .trim()
            == "yes"
    };
    let own = format!("secret/{name}-0");
    for verb in ["get", "patch", "watch", "list"] {
        assert!(may(verb, &own), "{verb} {own}");
    }
    assert!(!may("delete", &own));
    assert!(!may("get", "secret/operator-oauth"));
    assert!(!may("list", "secrets"));
}

#[test]
fn settled_service_causes_no_write() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("quiet");
    scene.apply(&exposed(&namespace, "10.96.7.3"));
    let name = settled(scene, &namespace);
    scene.wait_for_reason(&namespace, "ProxyPending");
    // A label of the user's makes the operator look again.
    let concerns = |line: &&Value| {
        let reference = &line["objectRef"];
        reference["namespace"] == namespace.as_str()
            || reference["name"]
                .as_str()
                .is_some_and(|object| object.starts_with(&name))
    };
    wait::until("the operator to come to rest", || {
        let before = scene.operator_requests(&WRITES, concerns).len();
        std::thread::sleep(QUIET);
        (scene.operator_requests(&WRITES, concerns).len() == before).then_some(())
    });
    let before = scene.operator_requests(&WRITES, concerns).len();
    let looks = scene.looks();
    scene.kubectl(&["label", "service", "web", "-n", &namespace, "looked=at"]);
    wait::until("the operator to look again", || (scene.looks() > looks).then_some(()));
    std::thread::sleep(QUIET);
    let after = scene.operator_requests(&WRITES, concerns);
    assert_eq!(after.len(), before, "{:#?}", &after[before..]);
}

#[test]
fn edited_and_deleted_objects_come_back() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("drift");
    scene.apply(&exposed(&namespace, "10.96.7.4"));
    let name = settled(scene, &namespace);
    scene.kubectl(&["delete", "rolebinding", &name, "-n", "isthmus"]);
    let patch = r#"{"spec":{"template":{"spec":{"containers":[{"name":"proxy","image":"other:1"}]}}}}"#;
    scene.kubectl(&[
        "patch",
        "statefulset",
        &name,
        "-n",
        "isthmus",
        "--type",
        "strategic",
        "-p",
        patch,
    ]);
    wait::until("the objects to come back", || {
        let set = scene.find("statefulset", "isthmus", &name)?;
        let image = &set["spec"]["template"]["spec"]["containers"][0]["image"];
        (image == "isthmus:test" && scene.find("rolebinding", "isthmus", &name).is_some()).then_some(())
    });
}

#[test]
fn moved_target_changes_the_config_and_not_the_template() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("moved");
    scene.apply(&leading_to(&namespace, "tailscale.com/tailnet-ip", "100.64.0.5"));
    let name = settled(scene, &namespace);
    let template = scene.get("statefulset", "isthmus", &name)["spec"]["template"].clone();
    scene.apply(&leading_to(&namespace, "tailscale.com/tailnet-ip", "100.64.0.6"));
    wait::until("the new target", || {
        let config = decoded(&scene.get("secret", "isthmus", &format!("{name}-0")), "isthmus.json");
        config.contains("100.64.0.6").then_some(())
    });
    assert_eq!(scene.get("statefulset", "isthmus", &name)["spec"]["template"], template);
}

#[test]
fn egress_service_becomes_an_alias_and_is_given_back() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("egress");
    scene.apply(&leading_to(&namespace, "tailscale.com/tailnet-target-ip", "100.64.0.5"));
    let name = settled(scene, &namespace);
    let external_name = || scene.get("service", &namespace, "web")["spec"]["externalName"].clone();
    assert_eq!(external_name(), format!("{name}.isthmus.svc.cluster.local"));
    scene.kubectl(&[
        "annotate",
        "service",
        "web",
        "-n",
        &namespace,
        "tailscale.com/tailnet-target-ip-",
    ]);
    wait::until("the Service to be given back", || {
        (external_name() == "placeholder").then_some(())
    });
    wait::until("the proxy to be gone", || {
        scene.proxy_of(&namespace).is_none().then_some(())
    });
    wait::until("the finalizer to be gone", || {
        scene.get("service", &namespace, "web")["metadata"]["finalizers"]
            .is_null()
            .then_some(())
    });
    let service = scene.get("service", &namespace, "web");
    assert!(
        service["status"]["conditions"].as_array().is_none_or(Vec::is_empty),
        "{}",
        service["status"]
    );
}

#[test]
fn deleting_the_service_removes_everything_and_ends() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("deleted");
    scene.apply(&exposed(&namespace, "10.96.7.5"));
    let name = settled(scene, &namespace);
    let key =
        scene.get("secret", "isthmus", &format!("{name}-0"))["metadata"]["annotations"]["isthmus.dev/auth-key-id"]
            .as_str()
            .unwrap()
            .to_owned();
    assert!(scene.tailnet_keys().contains(&key));
    scene.kubectl(&["delete", "service", "web", "-n", &namespace, "--wait=false"]);
    wait::until("the Service to be gone", || {
        scene.find("service", &namespace, "web").is_none().then_some(())
    });
    for (kind, object) in [
        ("secret", format!("{name}-0")),
        ("service", name.clone()),
        ("serviceaccount", name.clone()),
        ("role", name.clone()),
        ("rolebinding", name.clone()),
        ("statefulset", name.clone()),
    ] {
        assert!(
            scene.find(kind, "isthmus", &object).is_none(),
            "{kind} {object} is left"
        );
    }
    assert!(
        !scene.tailnet_keys().contains(&key),
        "the unused key still opens the tailnet"
    );
}

#[test]
fn impossible_wish_names_the_field_and_the_fix() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("invalid");
    scene.apply(&leading_to(
        &namespace,
        "tailscale.com/ts-tailnet-target-ip",
        "db.tail.internal",
    ));
    let service = scene.wait_for_reason(&namespace, "ProxyInvalid");
    let message = service["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("annotation tailscale.com/ts-tailnet-target-ip: `db.tail.internal` is not"),
        "{message}"
    );
    assert!(service["metadata"]["finalizers"].is_null());
    wait::until("the event", || {
        let events = scene.kubectl(&["get", "events", "-n", &namespace, "-o", "json"]);
        let events: Value = serde_json::from_str(&events).unwrap();
        let ours = events["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["reason"] == "ProxyInvalid");
        (ours.count() == 1).then_some(())
    });
}

#[test]
fn operator_is_never_forbidden_anything() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("forbidden");
    scene.apply(&exposed(&namespace, "10.96.7.6"));
    settled(scene, &namespace);
    let forbidden = scene.operator_requests(&[], |line| line["responseStatus"]["code"] == 403);
    assert!(forbidden.is_empty(), "{forbidden:#?}");
}
