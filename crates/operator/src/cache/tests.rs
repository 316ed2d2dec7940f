use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::Cache;

fn object<K: serde::de::DeserializeOwned>(name: &str, service: &str, more: &Value) -> K {
    let mut object = json!({"metadata": {
        "name": name, "namespace": "isthmus", "uid": format!("uid of {name}"), "resourceVersion": "7",
        "labels": {
            "tailscale.com/managed": "true", "tailscale.com/parent-resource": service,
            "tailscale.com/parent-resource-ns": "shop", "tailscale.com/parent-resource-type": "svc",
            "isthmus.dev/parent-uid": format!("uid of {service}"),
        },
    }});
    for (key, value) in more.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn secret(name: &str, service: &str, data: &Value) -> Secret {
    object(name, service, &json!({ "data": data }))
}

/// Names of the Services that an event is news for.
fn news(cache: &Cache<Secret>, event: Event<Secret>) -> Vec<String> {
    cache.take_in(event).into_iter().map(|service| service.name).collect()
}

fn names(cache: &Cache<Secret>, service: &str) -> Vec<String> {
    let service = secret(service, "", &json!({})).metadata;
    let service = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        namespace: Some("shop".to_owned()),
        ..service
    };
    cache
        .of(&service)
        .into_iter()
        .filter_map(|secret| secret.metadata.name)
        .collect()
}

#[test]
fn objects_are_found_by_their_service_alone() {
    let cache: Cache<Secret> = ["web", "api", "web"]
        .iter()
        .enumerate()
        .map(|(number, service)| secret(&format!("s{number}"), service, &json!({})))
        .collect();
    assert_eq!(names(&cache, "web"), ["s0", "s2"]);
    assert_eq!(names(&cache, "api"), ["s1"]);
    assert!(names(&cache, "we").is_empty());
    assert!(cache.get("s1").is_some() && cache.get("s3").is_none());
    assert_eq!(cache.parent_uids().len(), 2);
}

#[test]
fn what_nobody_reads_is_no_news() {
    let cache = Cache::default();
    let with = |key: &str, value: &str| secret("s", "web", &json!({"device_id": "bjE=", key: value}));
    assert_eq!(news(&cache, Event::Apply(with("_profiles", "YQ=="))), ["web"]);
    let mut same = with("_profiles", "Yg==");
    same.metadata.resource_version = Some("8".to_owned());
    assert!(news(&cache, Event::Apply(same)).is_empty());
    assert_eq!(news(&cache, Event::Apply(with("device_fqdn", "YQ=="))), ["web"]);
    let kept = cache.get("s").unwrap().data.unwrap();
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["device_fqdn", "device_id"]);
}

#[test]
fn object_that_changes_its_service_is_news_for_both() {
    let cache = Cache::default();
    news(&cache, Event::Apply(secret("s", "web", &json!({}))));
    assert_eq!(
        news(&cache, Event::Apply(secret("s", "api", &json!({})))),
        ["api", "web"]
    );
    assert!(names(&cache, "web").is_empty());
    assert_eq!(news(&cache, Event::Delete(secret("s", "api", &json!({})))), ["api"]);
    assert!(names(&cache, "api").is_empty() && cache.parent_uids().is_empty());
}

#[test]
fn object_that_a_new_list_does_not_show_is_gone_and_is_news() {
    let cache: Cache<Secret> = ["a", "b"].iter().map(|name| secret(name, name, &json!({}))).collect();
    assert!(news(&cache, Event::Init).is_empty());
    assert!(news(&cache, Event::InitApply(secret("a", "a", &json!({})))).is_empty());
    assert_eq!(names(&cache, "b"), ["b"], "nobody knows yet");
    assert_eq!(news(&cache, Event::InitDone), ["b"]);
    assert!(names(&cache, "b").is_empty());
    assert_eq!(names(&cache, "a"), ["a"]);
}

#[test]
fn pods_are_counted_by_whether_they_are_ready() {
    let pod = |name: &str, ready: &str| {
        let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
        object::<Pod>(name, "web", &json!({"spec": {"containers": []}, "status": status}))
    };
    let cache: Cache<Pod> = [pod("a", "True"), pod("b", "False"), pod("c", "True")]
        .into_iter()
        .collect();
    assert_eq!(
        cache.states().into_iter().collect::<Vec<_>>(),
        [("pending", 1), ("ready", 2)]
    );
}
