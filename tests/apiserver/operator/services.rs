//! What Services ask for, as far as the API server has a say in it.

use isthmus_testkit::wait;
use serde_json::{Value, json};

use super::scene::{Scene, decoded, exposed, leading_to};
use super::{QUIET, WRITES, settled};

/// A Service `web` with this spec, and with `annotations`.
fn web(namespace: &str, annotations: &Value, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace, "annotations": annotations},
        "spec": spec,
    })
}

fn annotate(scene: &Scene, namespace: &str, change: &str) {
    scene.kubectl(&["annotate", "service", "web", "-n", namespace, "--overwrite", change]);
}

fn config(scene: &Scene, proxy: &str) -> Value {
    let secret = scene.get("secret", "isthmus", &format!("{proxy}-0"));
    serde_json::from_str(&decoded(&secret, "isthmus.json")).unwrap()
}

fn wait_for_config(scene: &Scene, proxy: &str, mode: &Value) {
    wait::until("the new target", || {
        (config(scene, proxy)["mode"] == *mode).then_some(())
    });
}

fn wait_for_no_trace(scene: &Scene, namespace: &str) -> Value {
    wait::until("the Service to be nobody's", || {
        let service = scene.get("service", namespace, "web");
        let conditions = service["status"]["conditions"].as_array().is_none_or(Vec::is_empty);
        (conditions && service["metadata"]["finalizers"].is_null()).then_some(service)
    })
}

#[test]
fn load_balancer_is_told_where_it_is_once_and_forgets_it_with_its_class() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("balancer");
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]);
    let spec = json!({
        "type": "LoadBalancer", "loadBalancerClass": "tailscale", "selector": {"app": "web"}, "ports": ports,
        "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
    });
    scene.apply(&web(&namespace, &json!({}), &spec));
    let name = settled(scene, &namespace);
    let pending = scene.wait_for_reason(&namespace, "ProxyPending");
    assert_eq!(pending["status"]["loadBalancer"], json!({}));
    let ports = config(scene, &name)["mode"]["ingress"]["ports"].clone();
    assert_eq!(
        ports,
        json!([{"protocol": "TCP", "port": 53}, {"protocol": "UDP", "port": 53}])
    );

    scene.play_proxy(&name, &json!([{"family": "IPv4", "path": "relay"}]));
    let ready = scene.wait_for_reason(&namespace, "ProxyCreated");
    let message = ready["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.ends_with("; the relay in user space carries IPv4"), "{message}");
    let found = &ready["status"]["loadBalancer"]["ingress"];
    assert_eq!(
        *found,
        json!([{"hostname": "web.tail.internal"}, {"ip": "100.64.0.9", "ipMode": "Proxy"}])
    );

    let statuses = |line: &&Value| {
        line["objectRef"]["namespace"] == namespace.as_str() && line["objectRef"]["subresource"] == "status"
    };
    let before = scene.operator_requests(&WRITES, statuses).len();
    let looks = scene.looks();
    scene.kubectl(&["label", "service", "web", "-n", &namespace, "looked=at"]);
    wait::until("the operator to look again", || (scene.looks() > looks).then_some(()));
    std::thread::sleep(QUIET);
    assert_eq!(scene.operator_requests(&WRITES, statuses).len(), before);

    scene.stop_proxy(&name);
    let classless = r#"{"spec":{"type":"ClusterIP","loadBalancerClass":null}}"#;
    scene.kubectl(&[
        "patch",
        "service",
        "web",
        "-n",
        &namespace,
        "--type=merge",
        "-p",
        classless,
    ]);
    let service = wait_for_no_trace(scene, &namespace);
    assert_eq!(service["status"]["loadBalancer"], json!({}));
    assert_eq!(scene.proxy_of(&namespace), None);
}

#[test]
fn load_balancer_of_another_class_is_left_alone() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("foreign");
    let spec = json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/cloud", "ports": [{"port": 80}]});
    scene.apply(&web(&namespace, &json!({}), &spec));
    // The operator has seen it once it has served a Service that came later.
    let later = scene.namespace("foreign-later");
    scene.apply(&exposed(&later, "10.96.7.21"));
    settled(scene, &later);
    let service = scene.get("service", &namespace, "web");
    assert_eq!(scene.proxy_of(&namespace), None);
    assert_eq!(service["status"], json!({"loadBalancer": {}}));
    assert!(service["metadata"]["finalizers"].is_null());
    annotate(scene, &namespace, "tailscale.com/expose=true");
    let name = settled(scene, &namespace);
    scene.play_proxy(&name, &json!([]));
    let service = scene.wait_for_reason(&namespace, "ProxyCreated");
    assert_eq!(
        service["status"]["loadBalancer"],
        json!({}),
        "its own controller fills it"
    );
    scene.stop_proxy(&name);
}

/// Services of every type, as users write them.
fn every_type() -> Vec<(&'static str, Value)> {
    let selector = json!({"app": "web"});
    let ports =
        json!([{"name": "web", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    vec![
        (
            "clusterip",
            json!({"selector": selector, "ports": ports, "ipFamilyPolicy": "PreferDualStack"}),
        ),
        (
            "headless",
            json!({"selector": selector, "ports": ports, "clusterIP": "None"}),
        ),
        (
            "nodeport",
            json!({"selector": selector, "ports": ports, "type": "NodePort"}),
        ),
        (
            "balancer",
            json!({
                "selector": selector, "ports": ports, "type": "LoadBalancer", "loadBalancerClass": "example.com/cloud",
                "externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["192.0.2.0/24"],
            }),
        ),
        (
            "alias",
            json!({"type": "ExternalName", "externalName": "db.example.com", "ports": ports}),
        ),
    ]
}

#[test]
fn service_of_every_type_becomes_an_alias_and_is_given_back_as_it_was() {
    let Some(scene) = Scene::shared() else { return };
    let services: Vec<(String, Value)> = every_type()
        .into_iter()
        .map(|(kind, spec)| {
            let namespace = scene.namespace(&format!("restored-{kind}"));
            scene.apply(&web(&namespace, &json!({}), &spec));
            let before = scene.get("service", &namespace, "web")["spec"].clone();
            annotate(scene, &namespace, "tailscale.com/tailnet-ip=100.64.0.5");
            (namespace, before)
        })
        .collect();
    for (namespace, before) in services {
        let name = settled(scene, &namespace);
        let alias = scene.get("service", &namespace, "web")["spec"].clone();
        assert_eq!(alias["type"], "ExternalName");
        assert_eq!(alias["externalName"], format!("{name}.isthmus.svc.cluster.local"));
        assert!(alias["selector"].is_null());
        annotate(scene, &namespace, "tailscale.com/tailnet-ip-");
        let after = wait_for_no_trace(scene, &namespace);
        assert_eq!(after["spec"], before, "{namespace}");
        assert!(after["metadata"]["annotations"]["isthmus.dev/original-spec"].is_null());
    }
}

#[test]
fn service_whose_node_port_is_taken_meanwhile_is_given_back_with_another() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("taken");
    let spec = json!({"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "nodePort": 31999}]});
    scene.apply(&web(&namespace, &json!({}), &spec));
    annotate(scene, &namespace, "tailscale.com/tailnet-ip=100.64.0.5");
    settled(scene, &namespace);
    let mut thief = web(&namespace, &json!({}), &spec);
    thief["metadata"]["name"] = json!("thief");
    scene.apply(&thief);
    annotate(scene, &namespace, "tailscale.com/tailnet-ip-");
    let after = wait_for_no_trace(scene, &namespace);
    assert_eq!(
        (&after["spec"]["type"], &after["spec"]["selector"]["app"]),
        (&json!("NodePort"), &json!("web"))
    );
    assert_ne!(after["spec"]["ports"][0]["nodePort"], 31999);
}

#[test]
fn exposed_service_is_followed_into_an_alias_and_back_with_the_same_pod() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("alias");
    scene.apply(&exposed(&namespace, "10.96.7.22"));
    let name = settled(scene, &namespace);
    let template = scene.get("statefulset", "isthmus", &name)["spec"]["template"].clone();
    let ports = json!([{"protocol": "TCP", "port": 80}]);
    let patch = |patch: Value| {
        scene.kubectl(&[
            "patch",
            "service",
            "web",
            "-n",
            &namespace,
            "--type=merge",
            "-p",
            &patch.to_string(),
        ]);
    };
    patch(json!({"spec": {"type": "ExternalName", "externalName": "db.example.com."}}));
    wait_for_config(
        scene,
        &name,
        &json!({"ingress": {"dnsName": "db.example.com", "ports": ports}}),
    );
    patch(json!({"spec": {"ports": null}}));
    wait_for_config(scene, &name, &json!({"ingress": {"dnsName": "db.example.com"}}));
    patch(json!({"spec": {
        "type": "ClusterIP", "externalName": null, "clusterIP": "10.96.7.22", "ports": [{"port": 443}],
    }}));
    let ports = json!([{"protocol": "TCP", "port": 443}]);
    wait_for_config(
        scene,
        &name,
        &json!({"ingress": {"clusterIPs": ["10.96.7.22"], "ports": ports}}),
    );
    assert_eq!(scene.get("statefulset", "isthmus", &name)["spec"]["template"], template);
}

#[test]
fn target_goes_from_address_to_name_with_the_same_pod_and_shows_the_families_it_carries() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("named");
    scene.apply(&leading_to(&namespace, "tailscale.com/tailnet-ip", "100.64.0.5"));
    let name = settled(scene, &namespace);
    let template = scene.get("statefulset", "isthmus", &name)["spec"]["template"].clone();
    let families = || scene.get("service", "isthmus", &name)["spec"]["ipFamilies"].clone();
    assert_eq!(families(), json!(["IPv4"]));

    let patch = json!({"metadata": {"annotations": {
        "tailscale.com/tailnet-ip": null, "tailscale.com/tailnet-fqdn": "DB.vpn.example.org.",
    }}});
    scene.kubectl(&["patch", "service", "web", "-n", &namespace, "-p", &patch.to_string()]);
    wait_for_config(scene, &name, &json!({"egress": {"targetFQDN": "db.vpn.example.org"}}));
    let both = json!([{"family": "IPv4", "path": "kernel"}, {"family": "IPv6", "path": "relay"}]);
    scene.play_proxy(&name, &both);
    let ready = scene.wait_for_reason(&namespace, "ProxyCreated");
    let message = ready["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.ends_with("; the relay in user space carries IPv6"), "{message}");
    wait::until("both families", || {
        (families() == json!(["IPv4", "IPv6"])).then_some(())
    });
    scene.play_proxy(&name, &json!([{"family": "IPv6", "path": "relay"}]));
    wait::until("one family", || (families() == json!(["IPv6"])).then_some(()));
    scene.play_proxy(&name, &json!([{"family": "IPv4", "path": "kernel"}]));
    wait::until("the other family", || (families() == json!(["IPv4"])).then_some(()));
    assert_eq!(scene.get("statefulset", "isthmus", &name)["spec"]["template"], template);
    scene.stop_proxy(&name);
}

/// Wishes that cannot be fulfilled: annotations, spec, and how the message begins.
fn wrong() -> Vec<(Value, Value, &'static str)> {
    let one = json!({"ports": [{"port": 80}]});
    let expose = |key: &str, value: &str| json!({"tailscale.com/expose": "true", key: value});
    let alias = json!({"type": "ExternalName", "externalName": "placeholder"});
    let ip = |value: &str| json!({"tailscale.com/tailnet-ip": value});
    let target = json!({"tailscale.com/tailnet-ip": "100.64.0.5", "tailscale.com/tailnet-fqdn": "db.tail.internal"});
    vec![
        (
            expose("tailscale.com/tags", "web"),
            one.clone(),
            "annotation tailscale.com/tags: `web`",
        ),
        (
            expose("tailscale.com/hostname", "a.b"),
            one.clone(),
            "annotation tailscale.com/hostname: `a.b`",
        ),
        (
            expose("tailscale.com/proxy-group", ""),
            one,
            "annotation tailscale.com/proxy-group: proxy groups",
        ),
        (
            expose("unrelated", ""),
            json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            "spec.clusterIP: a headless Service",
        ),
        (
            expose("unrelated", ""),
            json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 99, "protocol": "SCTP"}]}),
            "spec.ports[1].protocol: port 99 (b) is SCTP",
        ),
        (
            target,
            alias.clone(),
            "annotation tailscale.com/tailnet-fqdn: a Service leads to one device",
        ),
        (
            ip("100.64.0.0/10"),
            alias.clone(),
            "annotation tailscale.com/tailnet-ip: `100.64.0.0/10` is a range",
        ),
        (
            ip("junk"),
            alias,
            "annotation tailscale.com/tailnet-ip: `junk` is not an IP address",
        ),
    ]
}

#[test]
fn each_impossible_wish_names_its_field_once_and_touches_nothing() {
    let Some(scene) = Scene::shared() else { return };
    let namespace = scene.namespace("wrong");
    let mut service_names = Vec::new();
    for (number, (annotations, spec, _)) in wrong().into_iter().enumerate() {
        let name = format!("wrong-{number}");
        let mut service = web(&namespace, &annotations, &spec);
        service["metadata"]["name"] = json!(name);
        scene.apply(&service);
        service_names.push(name);
    }
    for ((_, _, words), name) in wrong().into_iter().zip(&service_names) {
        let service = wait::until("the condition", || {
            let service = scene.get("service", &namespace, name);
            service["status"]["conditions"].is_array().then_some(service)
        });
        let condition = &service["status"]["conditions"][0];
        assert_eq!(condition["reason"], "ProxyInvalid");
        assert!(condition["message"].as_str().unwrap().starts_with(words), "{condition}");
        assert!(service["metadata"]["finalizers"].is_null(), "{service}");
        scene.kubectl(&["label", "service", name, "-n", &namespace, "looked=at"]);
    }
    std::thread::sleep(QUIET);
    assert_eq!(scene.proxy_of(&namespace), None);
    let events: Value =
        serde_json::from_str(&scene.kubectl(&["get", "events", "-n", &namespace, "-o", "json"])).unwrap();
    assert_eq!(
        events["items"].as_array().unwrap().len(),
        service_names.len(),
        "one Event each: {events}"
    );
}
