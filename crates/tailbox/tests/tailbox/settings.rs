//! Settings of the tailnet, attributes of devices, checks of policies by the API.

use isthmus_runtime::Secret;
use isthmus_tailbox::{Config, OauthClientConfig, Tailbox};
use serde_json::json;

use crate::api::caller;
use crate::client::Client;

pub(crate) const SETTINGS: &str = "/api/v2/tailnet/-/settings";

pub(crate) async fn tailbox() -> Tailbox {
    let client = OauthClientConfig {
        id: "operator".into(),
        secret: Secret::new("very secret"),
        tags: ["tag:k8s".to_owned()].into(),
    };
    Tailbox::start(Config {
        oauth_clients: vec![client],
        ..Config::default()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn https_is_switched_by_a_setting_and_nodes_learn_of_it() {
    let tailbox = tailbox().await;
    let client = Client::join(&tailbox, "web").await;
    let mut stream = client.stream().await;
    stream.next().await.unwrap();
    let caller = caller(&tailbox, "").await;
    assert_eq!(caller.get(SETTINGS).await.1["httpsEnabled"], false);
    let (status, changed) = caller
        .send("PATCH", SETTINGS, json!({"httpsEnabled": true}).to_string())
        .await;
    assert_eq!((status, &changed["httpsEnabled"]), (200, &json!(true)));
    let message = stream.until("the names", |message| message.dns_config.is_some()).await;
    assert_eq!(message.dns_config.unwrap().cert_domains, ["web.tail.internal"]);
    assert!(message.node.unwrap().cap_map.contains_key("https"));
}

#[tokio::test]
async fn settings_are_changed_as_a_whole_or_not_at_all() {
    let tailbox = tailbox().await;
    let caller = caller(&tailbox, "").await;
    for wrong in [
        json!({"httpsEnabled": true, "usersApprovalOn": true}),
        json!({"httpsEnabled": true, "devicesKeyDurationDays": 181}),
        json!({"httpsEnabled": "yes"}),
        json!({"newSetting": 1}),
        json!([]),
    ] {
        let (status, error) = caller.send("PATCH", SETTINGS, wrong.to_string()).await;
        assert!(status == 400 && error["message"].is_string(), "{wrong}: {error}");
    }
    assert_eq!(caller.get(SETTINGS).await.1["httpsEnabled"], false);
    let fine = json!({"devicesKeyDurationDays": 5, "devicesApprovalOn": false});
    assert_eq!(caller.send("PATCH", SETTINGS, fine.to_string()).await.0, 200);
    drop(Client::join(&tailbox, "web").await);
    let node = tailbox.nodes().remove(0);
    let lifetime = node.expiry().0.unwrap().duration_since(node.created);
    assert!((4 * 24..=5 * 24).contains(&lifetime.as_hours()), "{lifetime:?}");
}

#[tokio::test]
async fn attributes_of_a_device_are_noted_and_forgotten() {
    let tailbox = tailbox().await;
    drop(Client::join(&tailbox, "web").await);
    let caller = caller(&tailbox, "").await;
    let attributes = "/api/v2/device/1/attributes";
    let post = async |key: &str, body| caller.post(&format!("{attributes}/{key}"), body).await;
    let (status, noted) = post("custom:rank", json!({"value": 7, "expiry": "2100-01-01T00:00:00Z"})).await;
    assert_eq!((status, &noted["attributes"]["custom:rank"]), (200, &json!(7)));
    assert_eq!(noted["expiries"]["custom:rank"], "2100-01-01T00:00:00Z");
    assert_eq!(
        post("custom:old", json!({"value": "x", "expiry": "2000-01-01T00:00:00Z"}))
            .await
            .0,
        200
    );
    let all = caller.get(attributes).await.1;
    assert!(all["attributes"]["custom:old"].is_null() && all["attributes"]["node:os"] == "linux");
    for (key, body) in [
        ("node:os", json!({"value": "x"})),
        ("custom:", json!({"value": "x"})),
        ("custom:a", json!({"value": {"a": 1}})),
        ("custom:a", json!({})),
    ] {
        assert_eq!(post(key, body.clone()).await.0, 400, "{key} {body}");
    }
    assert_eq!(caller.delete(&format!("{attributes}/custom:rank")).await.0, 200);
    assert!(caller.get(attributes).await.1["attributes"]["custom:rank"].is_null());
    assert_eq!(caller.get("/api/v2/device/9/attributes").await.0, 404);
}

#[tokio::test]
async fn policy_is_checked_without_being_taken() {
    let tailbox = tailbox().await;
    let caller = caller(&tailbox, "").await;
    let validate = "/api/v2/tailnet/-/acl/validate";
    assert_eq!(
        caller.send("POST", validate, "{\"acls\": [], // fine\n}".into()).await,
        (200, json!({}))
    );
    let (status, answer) = caller.send("POST", validate, "{\"acl\": []}".into()).await;
    assert!(
        status == 200 && answer["message"].as_str().unwrap().contains("acl"),
        "{answer}"
    );
    assert!(tailbox.nodes().is_empty());
}
