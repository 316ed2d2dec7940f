//! What an operator finds when it starts: deletions under way, objects and keys that nobody needs, objects of others.

use std::fs;

use isthmus_tailnet_api::AuthKeyRequest;
use isthmus_testkit::wait;
use serde_json::{Value, json};

use crate::replicas::exposed;
use crate::replicas::stage::Stage;

/// Exposes a Service `web` in `namespace` with an operator that ends before this returns. Gives back its StatefulSet.
fn exposed_by_an_earlier_operator(stage: &Stage, namespace: &str) -> Value {
    let earlier = stage.operator(&format!("{namespace}-earlier"));
    stage.create(&[exposed(namespace, "web")]);
    let set = wait::until("the StatefulSet", || stage.proxies_of(namespace).pop());
    wait::until("the operator to have told", || {
        stage.condition(namespace, "web").is_some().then_some(())
    });
    drop(earlier);
    set
}

fn wait_for_the_end(stage: &Stage, namespace: &str, set: &Value) {
    wait::until("the Service to be gone", || {
        stage.find("service", namespace, "web").is_none().then_some(())
    });
    let name = set["metadata"]["name"].as_str().unwrap();
    for kind in [
        "statefulset",
        "secret",
        "service",
        "serviceaccount",
        "role",
        "rolebinding",
    ] {
        let object = if kind == "secret" {
            format!("{name}-0")
        } else {
            name.to_owned()
        };
        wait::until(&format!("{kind} {object} to be gone"), || {
            stage.find(kind, "isthmus", &object).is_none().then_some(())
        });
    }
}

#[test]
fn deletion_begun_while_no_operator_ran_ends_also_in_a_terminating_namespace() {
    let Some(stage) = Stage::in_turn() else { return };
    let (plain, terminating) = (stage.namespace("left-plain"), stage.namespace("left-terminating"));
    let sets = [&plain, &terminating].map(|namespace| exposed_by_an_earlier_operator(&stage, namespace));
    stage.kubectl(&["delete", "namespace", &terminating, "--wait=false"]);
    for namespace in [&plain, &terminating] {
        stage.kubectl(&["delete", "service", "web", "-n", namespace, "--wait=false"]);
    }
    let _operator = stage.operator("left-later");
    for (namespace, set) in [&plain, &terminating].into_iter().zip(&sets) {
        wait_for_the_end(&stage, namespace, set);
    }
}

#[test]
fn start_removes_objects_without_a_service_and_keys_that_nobody_holds() {
    let Some(stage) = Stage::in_turn() else { return };
    let (gone, stays) = (stage.namespace("left-gone"), stage.namespace("left-stays"));
    let set = exposed_by_an_earlier_operator(&stage, &gone);
    exposed_by_an_earlier_operator(&stage, &stays);
    let patch = r#"{"metadata":{"finalizers":null}}"#;
    stage.kubectl(&["patch", "service", "web", "-n", &gone, "--type", "merge", "-p", patch]);
    stage.kubectl(&["delete", "service", "web", "-n", &gone]);
    let cluster = stage.find("namespace", "", "kube-system").unwrap()["metadata"]["uid"].clone();
    let cluster = &cluster.as_str().unwrap()[..8];
    let unheld = stage.make_key(&format!("isthmus {cluster} ts-crashed-0"));
    let foreign = stage.make_key("isthmus 00000000 ts-crashed-0");

    let _operator = stage.operator("left-sweeper");
    wait_for_the_end(&stage, &gone, &set);
    wait::until("the key that nobody holds to be revoked", || {
        (!stage.tailnet_keys().contains(&unheld)).then_some(())
    });
    let keys = stage.tailnet_keys();
    assert!(keys.contains(&foreign), "a key of another cluster was revoked");
    assert!(keys.is_superset(&stage.held_keys()), "a key that is held was revoked");
    assert_eq!(stage.proxies_of(&stays).len(), 1);
    // Nobody else would.
    stage.runtime.block_on(stage.api().delete_key(&foreign)).unwrap();
}

#[test]
fn stateful_set_of_another_operator_is_taken_over() {
    let Some(stage) = Stage::in_turn() else { return };
    let namespace = stage.namespace("left-foreign");
    let mut set = exposed_by_an_earlier_operator(&stage, &namespace);
    let name = set["metadata"]["name"].as_str().unwrap().to_owned();
    set["spec"]["podManagementPolicy"] = json!("OrderedReady");
    for field in [
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "managedFields",
        "annotations",
    ] {
        set["metadata"].as_object_mut().unwrap().remove(field);
    }
    stage.kubectl(&["delete", "statefulset", &name, "-n", "isthmus"]);
    stage.create(&[set]);

    let _operator = stage.operator("left-taker");
    let found = || stage.find("statefulset", "isthmus", &name);
    wait::until("the old one to be deleted without its Pod", || {
        let finalizers = found()?["metadata"]["finalizers"].clone();
        (finalizers == json!(["orphan"])).then_some(())
    });
    // The garbage collector's part, which does not run here.
    let patch = r#"{"metadata":{"finalizers":null}}"#;
    stage.kubectl(&[
        "patch",
        "statefulset",
        &name,
        "-n",
        "isthmus",
        "--type",
        "merge",
        "-p",
        patch,
    ]);
    wait::until("the new one", || {
        (found()?["spec"]["podManagementPolicy"] == "Parallel").then_some(())
    });
}

#[test]
fn rotated_credentials_are_used_without_a_restart() {
    let Some(stage) = Stage::in_turn() else { return };
    let namespace = stage.namespace("left-rotated");
    let file = stage.file("rotated");
    fs::write(&file, "the secret of before").unwrap();
    let operator = stage.operator_with("left-rotated", &[("CLIENT_SECRET_FILE", file.to_str().unwrap())]);
    stage.create(&[exposed(&namespace, "web")]);
    wait::until("the condition to name the credentials", || {
        let condition = stage.condition(&namespace, "web")?;
        let message = condition["message"].as_str()?;
        (condition["reason"] == "ProxyFailed" && message.contains("refused the operator's credentials")).then_some(())
    });
    assert!(stage.proxies_of(&namespace).is_empty());
    fs::copy(stage.file("client_secret"), &file).unwrap();
    wait::until("the StatefulSet", || stage.proxies_of(&namespace).pop());
    let metrics = operator.metrics().unwrap();
    let line = r#"isthmus_operator_tailnet_requests_total{call="token",code="401"}"#;
    assert!(metrics.contains(line), "{metrics}");
}

impl Stage {
    /// Makes an auth key with this description and gives back its id.
    fn make_key(&self, description: &str) -> String {
        let request = AuthKeyRequest {
            tags: vec!["tag:k8s".to_owned()],
            expiry: std::time::Duration::from_hours(1),
            description: description.to_owned(),
        };
        self.runtime.block_on(self.api().create_auth_key(&request)).unwrap().id
    }
}
