//! Proxy classes, as the API server takes them and the operator follows them.

use std::time::Duration;

use isthmus_testkit::wait;
use serde_json::{Value, json};

use crate::replicas::{self, stage::Stage};

use super::{
    WRITES,
    scene::{Scene, decoded, exposed},
    settled,
};

/// A class that uses every field.
const EVERY_FIELD: &str = include_str!("../../../crates/operator-core/src/proxy_class/every_field.yaml");
/// How long the operator is watched for writes it should not make.
const QUIET: Duration = Duration::from_secs(3);

fn class(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "tailscale.com/v1alpha1", "kind": "ProxyClass", "metadata": {"name": name}, "spec": spec})
}

/// A class that puts the proxies on `node`.
fn on_node(name: &str, node: &str) -> Value {
    class(name, &json!({"statefulSet": {"pod": {"nodeName": node}}}))
}

/// The exposed Service `web` with this class in its annotation.
fn with_class(namespace: &str, cluster_ip: &str, class: &str) -> Value {
    let mut service = exposed(namespace, cluster_ip);
    service["metadata"]["annotations"]["tailscale.com/proxy-class"] = json!(class);
    service
}

fn wait_for_class(scene: &Scene, name: &str, reason: &str) -> String {
    wait::until(reason, || {
        let class = scene.get("proxyclass", "default", name);
        let condition = &class["status"]["conditions"][0];
        let fits = condition["type"] == "ProxyClassReady"
            && condition["reason"] == reason
            && condition["observedGeneration"] == class["metadata"]["generation"];
        fits.then(|| condition["message"].as_str().unwrap().to_owned())
    })
}

fn pod_spec(scene: &Scene, proxy: &str) -> Value {
    scene.get("statefulset", "isthmus", proxy)["spec"]["template"]["spec"].clone()
}

/// The custom resource of the Prometheus operator, as far as it matters here.
fn service_monitors() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": "ServiceMonitor", "plural": "servicemonitors", "singular": "servicemonitor"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

#[test]
fn class_with_every_field_shapes_the_proxy_and_settles() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("every-field");
    let every_field: Value = serde_yaml_ng::from_str(EVERY_FIELD).unwrap();
    scene.apply(&every_field);
    let message = wait_for_class(scene, "every-field", "ProxyClassInvalid");
    assert!(
        message.contains("spec.metrics.serviceMonitor: the cluster does not know"),
        "{message}"
    );
    scene.apply(&with_class(&namespace, "10.96.8.1", "every-field"));
    let service = scene.wait_for_reason(&namespace, "ProxyPending");
    assert!(
        service.to_string().contains("ProxyClass every-field is not ready"),
        "{service}"
    );

    // The Prometheus operator is installed later.
    scene.apply(&service_monitors());
    wait_for_class(scene, "every-field", "ProxyClassValid");
    let name = settled(scene, &namespace);
    let pod = pod_spec(scene, &name);
    assert_eq!(pod["nodeName"], "n1");
    assert_eq!(pod["containers"][0]["image"], "registry.example.com:5000/isthmus:1.0");
    assert_eq!(
        pod["containers"][0]["securityContext"]["capabilities"]["drop"],
        json!(["ALL"])
    );

    let metrics = format!("{name}-metrics");
    let monitor = wait::until("the ServiceMonitor", || {
        scene.find("servicemonitor", "isthmus", &metrics)
    });
    assert_eq!(monitor["metadata"]["labels"]["prometheus"], "main");
    let service = scene.get("service", "isthmus", &metrics);
    assert_eq!(service["spec"]["ports"][0]["name"], "metrics");
    for (key, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(service["metadata"]["labels"][key], *value, "{key}");
    }

    let concerns = |line: &&Value| {
        let object = line["objectRef"]["name"].as_str().unwrap_or_default();
        line["objectRef"]["namespace"] == namespace.as_str() || object.starts_with(&name) || object == "every-field"
    };
    wait::until("the operator to come to rest", || {
        let before = scene.operator_requests(&WRITES, concerns).len();
        std::thread::sleep(QUIET);
        (scene.operator_requests(&WRITES, concerns).len() == before).then_some(())
    });

    let mut without = every_field;
    without["spec"]["metrics"]["serviceMonitor"]["enable"] = json!(false);
    scene.apply(&without);
    wait::until("the ServiceMonitor to go", || {
        scene
            .find("servicemonitor", "isthmus", &metrics)
            .is_none()
            .then_some(())
    });
    without["spec"]["metrics"] = json!({"enable": false});
    scene.apply(&without);
    wait::until("the metrics Service to go", || {
        scene.find("service", "isthmus", &metrics).is_none().then_some(())
    });
    assert!(
        scene.find("service", "isthmus", &name).is_some(),
        "the proxy's own Service went too"
    );
}

#[test]
fn impossible_class_is_refused_by_the_api_server() {
    let Some(scene) = Scene::shared() else { return };
    for (spec, words) in [
        (
            json!({"metrics": {"enable": false, "serviceMonitor": {"enable": true}}}),
            "ServiceMonitor can only be enabled if metrics are enabled",
        ),
        (json!({"metrics": {}}), "spec.metrics.enable: Required value"),
        (
            json!({"statefulSet": {"pod": {"tailscaleContainer": {"env": [{"name": "1A"}]}}}}),
            "should match '^[-._a-zA-Z][-._a-zA-Z0-9]*$'",
        ),
        (
            json!({"statefulSet": {"pod": {"tailscaleContainer": {"imagePullPolicy": "Sometimes"}}}}),
            "supported values: \"Always\"",
        ),
        (
            json!({"statefulSet": {"pod": {"dnsPolicy": "Mine"}}}),
            "supported values",
        ),
        (
            json!({"statefulSet": {"labels": {"a": "-"}}}),
            "spec.statefulSet.labels.a",
        ),
        (
            json!({"statefulSet": {"pod": {"tailscaleInitContainer": {"debug": {"enable": true}}}}}),
            "debug settings cannot be configured on the init container",
        ),
        (
            json!({"staticEndpoints": {}}),
            "spec.staticEndpoints.nodePort: Required value",
        ),
        (
            json!({"staticEndpoints": {"nodePort": {"ports": []}}}),
            "should have at least 1 items",
        ),
        (
            json!({"staticEndpoints": {"nodePort": {"ports": [{"port": 9, "endPort": 8}]}}}),
            "endPort must not be less than port",
        ),
    ] {
        let answer = scene.refusal(&class("impossible", &spec));
        assert!(answer.contains(words), "{spec}: {answer}");
    }
}

#[test]
fn class_that_comes_later_and_changes_takes_its_services_along() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("class-later");
    scene.apply(&with_class(&namespace, "10.96.8.2", "later"));
    let service = scene.wait_for_reason(&namespace, "ProxyPending");
    let message = service["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("annotation tailscale.com/proxy-class: ProxyClass later does not exist"),
        "{message}"
    );
    assert!(scene.proxy_of(&namespace).is_none(), "a proxy without its class");

    scene.apply(&on_node("later", "n1"));
    let name = settled(scene, &namespace);
    assert_eq!(pod_spec(scene, &name)["nodeName"], "n1");

    scene.apply(&on_node("later", "n2"));
    wait::until("the changed class", || {
        (pod_spec(scene, &name)["nodeName"] == "n2").then_some(())
    });

    // What only the config holds restarts nothing.
    let before = pod_spec(scene, &name);
    let mut accepting = on_node("later", "n2");
    accepting["spec"]["tailscale"] = json!({"acceptRoutes": true});
    scene.apply(&accepting);
    wait::until("the config", || {
        let secret = scene.get("secret", "isthmus", &format!("{name}-0"));
        decoded(&secret, "cap-107.hujson")
            .contains(r#""acceptRoutes":true"#)
            .then_some(())
    });
    assert_eq!(pod_spec(scene, &name), before);

    // A label names another class and wins.
    scene.apply(&on_node("by-label", "n3"));
    scene.kubectl(&[
        "label",
        "service",
        "web",
        "-n",
        &namespace,
        "tailscale.com/proxy-class=by-label",
    ]);
    wait::until("the class of the label", || {
        (pod_spec(scene, &name)["nodeName"] == "n3").then_some(())
    });

    scene.kubectl(&[
        "label",
        "service",
        "web",
        "-n",
        &namespace,
        "tailscale.com/proxy-class-",
    ]);
    scene.kubectl(&[
        "annotate",
        "service",
        "web",
        "-n",
        &namespace,
        "tailscale.com/proxy-class-",
    ]);
    wait::until("the template without a class", || {
        pod_spec(scene, &name)["nodeName"].is_null().then_some(())
    });
}

#[test]
fn running_proxy_outlives_its_class() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("class-gone");
    scene.apply(&on_node("goes", "n1"));
    scene.apply(&with_class(&namespace, "10.96.8.3", "goes"));
    let name = settled(scene, &namespace);
    scene.kubectl(&["delete", "proxyclass", "goes"]);
    wait::until("the condition", || {
        let service = scene.get("service", &namespace, "web");
        service
            .to_string()
            .contains("ProxyClass goes does not exist")
            .then_some(())
    });
    assert_eq!(pod_spec(scene, &name)["nodeName"], "n1");
}

#[test]
fn operator_works_where_the_cluster_knows_no_classes() {
    // Nobody has applied the custom resource there.
    let Some(stage) = Stage::in_turn() else { return };
    let namespace = stage.namespace("no-classes");
    let _operator = stage.operator("no-classes");
    let mut classed = replicas::exposed(&namespace, "classed");
    classed["metadata"]["annotations"]["tailscale.com/proxy-class"] = json!("edge");
    stage.create(&[classed, replicas::exposed(&namespace, "web")]);
    wait::until("the proxy without a class", || {
        (stage.proxies_of(&namespace).len() == 1).then_some(())
    });
    wait::until("the condition", || {
        let service = stage.find("service", &namespace, "classed")?;
        service
            .to_string()
            .contains("ProxyClass edge does not exist")
            .then_some(())
    });
    assert_eq!(stage.proxies_of(&namespace).len(), 1, "a proxy without its class");
}

#[test]
fn variables_of_the_proxy_in_a_class_are_told_once() {
    let Some(scene) = Scene::shared() else { return };
    let spec = json!({"statefulSet": {"pod": {"tailscaleContainer": {"env": [{"name": "TS_X", "value": "1"}]}}}});
    scene.apply(&class("variables", &spec));
    let message = wait_for_class(scene, "variables", "ProxyClassValid");
    assert!(message.contains("TS_X"), "{message}");
    let events = || {
        let events = scene.kubectl(&["get", "events", "-n", "default", "-o", "json"]);
        let events: Value = serde_json::from_str(&events).unwrap();
        let events = events["items"].as_array().unwrap().clone();
        let ours =
            |event: &&Value| event["involvedObject"]["name"] == "variables" && event["reason"] == "CustomTSEnvVar";
        events.iter().filter(ours).count()
    };
    wait::until("the event", || (events() == 1).then_some(()));
}
