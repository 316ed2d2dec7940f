//! The management API.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use isthmus_runtime::Secret;
use isthmus_tailbox::{Config, OauthClientConfig, Tailbox};
use serde_json::{Value, json};

use crate::client::{Client, within};
use crate::http_call::{Caller, call};

const KEYS: &str = "/api/v2/tailnet/-/keys";
const DEVICES: &str = "/api/v2/tailnet/-/devices";

async fn tailbox(token_lifetime: Duration) -> Tailbox {
    let client = OauthClientConfig {
        id: "operator".into(),
        secret: Secret::new("very secret"),
        tags: ["tag:k8s-operator".to_owned(), "tag:k8s".to_owned()].into(),
    };
    Tailbox::start(Config {
        oauth_clients: vec![client],
        token_lifetime,
        ..Config::default()
    })
    .await
    .unwrap()
}

async fn default_tailbox() -> Tailbox {
    tailbox(Duration::from_hours(1)).await
}

/// Asks for a token with a form and an optional Basic header.
async fn ask_token(tailbox: &Tailbox, form: &str, basic: Option<&str>) -> (u16, Value) {
    let mut request =
        http::Request::post("/api/v2/oauth/token").header("content-type", "application/x-www-form-urlencoded");
    if let Some(basic) = basic {
        request = request.header("authorization", format!("Basic {}", STANDARD.encode(basic)));
    }
    let (status, body) = call(tailbox, request, form.to_owned()).await;
    (status, serde_json::from_slice(&body).unwrap())
}

pub(crate) async fn token(tailbox: &Tailbox, scope: &str) -> String {
    let form = format!("grant_type=client_credentials&client_id=operator&client_secret=very+secret&scope={scope}");
    let (status, document) = ask_token(tailbox, &form, None).await;
    assert_eq!(status, 200, "{document}");
    document["access_token"].as_str().unwrap().to_owned()
}

pub(crate) async fn caller<'a>(tailbox: &'a Tailbox, scope: &str) -> Caller<'a> {
    Caller {
        tailbox,
        authorization: format!("Bearer {}", token(tailbox, scope).await),
    }
}

pub(crate) fn key_request(tags: &[&str]) -> Value {
    json!({"capabilities": {"devices": {"create": {"reusable": false, "ephemeral": false, "preauthorized": true, "tags": tags}}},
        "expirySeconds": 3600, "description": "proxy default/web"})
}

#[tokio::test]
async fn token_is_given_for_the_secret_in_the_form_or_in_a_basic_header() {
    let tailbox = default_tailbox().await;
    let (status, document) = ask_token(&tailbox, "grant_type=client_credentials", Some("operator:very secret")).await;
    assert_eq!((status, &document["token_type"]), (200, &json!("Bearer")));
    assert_eq!(document["expires_in"], 3600);
    token(&tailbox, "").await;
}

#[tokio::test]
async fn token_is_refused_in_the_form_that_oauth_libraries_read() {
    let tailbox = default_tailbox().await;
    for (form, basic, status, error) in [
        (
            "grant_type=client_credentials&client_id=operator&client_secret=wrong",
            None,
            401,
            "invalid_client",
        ),
        (
            "grant_type=client_credentials&client_id=nobody&client_secret=very+secret",
            None,
            401,
            "invalid_client",
        ),
        (
            "grant_type=client_credentials",
            Some("operator:wrong"),
            401,
            "invalid_client",
        ),
        ("grant_type=client_credentials", None, 401, "invalid_client"),
        (
            "grant_type=password&client_id=operator",
            None,
            400,
            "unsupported_grant_type",
        ),
    ] {
        let (got, document) = ask_token(&tailbox, form, basic).await;
        assert_eq!((got, &document["error"]), (status, &json!(error)), "{form}");
        assert!(document["error_description"].is_string());
    }
}

#[tokio::test]
async fn calls_without_valid_token_are_unauthorized() {
    let tailbox = default_tailbox().await;
    for authorization in [
        "",
        "Bearer",
        "Bearer tskey-api-k1-x",
        "Basic b3BlcmF0b3I6eA==",
        "Bearer very secret",
    ] {
        let caller = Caller {
            tailbox: &tailbox,
            authorization: authorization.into(),
        };
        for (method, path) in [
            ("GET", KEYS),
            ("POST", KEYS),
            ("GET", DEVICES),
            ("DELETE", "/api/v2/device/1"),
            ("GET", "/api/v2/device/1"),
        ] {
            let (status, document) = caller.send(method, path, "{}".into()).await;
            assert_eq!(status, 401, "{method} {path} {authorization}");
            assert!(document["message"].is_string());
        }
    }
}

#[tokio::test]
async fn token_works_as_user_of_a_basic_header() {
    let tailbox = default_tailbox().await;
    let basic = STANDARD.encode(format!("{}:", token(&tailbox, "").await));
    let caller = Caller {
        tailbox: &tailbox,
        authorization: format!("Basic {basic}"),
    };
    assert_eq!(caller.get(DEVICES).await.0, 200);
}

#[tokio::test]
async fn expired_token_is_unauthorized() {
    let tailbox = tailbox(Duration::from_secs(1)).await;
    let caller = caller(&tailbox, "").await;
    within("the expiry of the token", async {
        while caller.get(DEVICES).await.0 != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(self::caller(&tailbox, "").await.get(DEVICES).await.0, 200);
}

#[tokio::test]
async fn token_without_the_scope_is_forbidden() {
    let tailbox = default_tailbox().await;
    let reader = caller(&tailbox, "auth_keys:read+devices:core:read").await;
    assert_eq!(reader.get(KEYS).await.0, 200);
    assert_eq!(reader.get(DEVICES).await.0, 200);
    assert_eq!(reader.post(KEYS, key_request(&["tag:k8s"])).await.0, 403);
    assert_eq!(reader.delete("/api/v2/device/1").await.0, 403);
    let keys_only = caller(&tailbox, "auth_keys").await;
    assert_eq!(keys_only.get(DEVICES).await.0, 403);
    assert_eq!(keys_only.post(KEYS, key_request(&["tag:k8s"])).await.0, 200);
}

#[tokio::test]
async fn auth_key_is_created_listed_used_and_deleted() {
    let tailbox = default_tailbox().await;
    let caller = caller(&tailbox, "").await;
    let (status, key) = caller.post(KEYS, key_request(&["tag:k8s"])).await;
    assert_eq!(status, 200, "{key}");
    let (id, secret) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
    assert!(secret.starts_with("tskey-auth-"));
    assert_eq!(key["capabilities"]["devices"]["create"]["tags"], json!(["tag:k8s"]));

    let path = format!("{KEYS}/{id}");
    let (status, shown) = caller.get(&path).await;
    assert_eq!(
        (status, &shown["description"], shown.get("key")),
        (200, &json!("proxy default/web"), None)
    );
    let (_, list) = caller.get(KEYS).await;
    assert!(
        list["keys"]
            .as_array()
            .unwrap()
            .iter()
            .any(|k| k["id"] == id && k.get("key").is_none()),
        "{list}"
    );

    let client = Client::connect(&tailbox, "web").await;
    assert_eq!(client.register(secret).await.error, "");
    assert_eq!(tailbox.nodes()[0].tags, ["tag:k8s"]);
    assert_eq!(caller.get(&path).await.1["invalid"], true);

    assert_eq!(caller.delete(&path).await.0, 200);
    assert_eq!(caller.get(&path).await.0, 404);
    assert_eq!(caller.delete(&path).await.0, 404);
    let late = Client::connect(&tailbox, "late").await;
    assert!(late.register(secret).await.error.contains("not known"));
}

#[tokio::test]
async fn keys_with_foreign_malformed_or_no_tags_are_refused() {
    let tailbox = default_tailbox().await;
    let caller = caller(&tailbox, "").await;
    assert_eq!(caller.post(KEYS, key_request(&["tag:admin"])).await.0, 400);
    assert_eq!(caller.post(KEYS, key_request(&["k8s"])).await.0, 400);
    assert_eq!(caller.post(KEYS, key_request(&[])).await.0, 400);
    let mut too_long = key_request(&["tag:k8s"]);
    too_long["expirySeconds"] = json!(7_776_001);
    assert_eq!(caller.post(KEYS, too_long).await.0, 400);
    assert_eq!(caller.send("POST", KEYS, "no JSON".into()).await.0, 400);
}

#[tokio::test]
async fn oauth_client_made_by_the_api_gets_tokens_until_it_is_deleted() {
    let tailbox = default_tailbox().await;
    let caller = caller(&tailbox, "").await;
    let request = json!({"keyType": "client", "scopes": ["auth_keys"], "tags": ["tag:k8s"], "description": "second"});
    let (status, client) = caller.post(KEYS, request).await;
    assert_eq!(status, 200, "{client}");
    let (id, secret) = (client["id"].as_str().unwrap(), client["key"].as_str().unwrap());
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let (status, token) = ask_token(&tailbox, &form, None).await;
    assert_eq!((status, &token["scope"]), (200, &json!("auth_keys")));
    let second = Caller {
        tailbox: &tailbox,
        authorization: format!("Bearer {}", token["access_token"].as_str().unwrap()),
    };
    assert_eq!(second.post(KEYS, key_request(&["tag:k8s"])).await.0, 200);
    assert_eq!(second.post(KEYS, key_request(&["tag:k8s-operator"])).await.0, 400);
    assert_eq!(second.delete(&format!("{KEYS}/{id}")).await.0, 403);

    assert_eq!(caller.delete(&format!("{KEYS}/{id}")).await.0, 200);
    assert_eq!(second.get(KEYS).await.0, 401);
    assert_eq!(ask_token(&tailbox, &form, None).await.0, 401);
}

#[tokio::test]
async fn device_is_listed_read_and_deleted_by_either_id() {
    let tailbox = default_tailbox().await;
    let caller = caller(&tailbox, "").await;
    let (a, b) = (Client::join(&tailbox, "a").await, Client::join(&tailbox, "b").await);
    let mut at_b = b.stream().await;
    at_b.next().await.unwrap();
    let (status, list) = caller.get(DEVICES).await;
    assert_eq!(status, 200);
    let devices = list["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2);
    assert_eq!(devices[1]["name"], "b.tail.internal");
    assert_eq!(devices[1]["addresses"], json!(["100.64.0.2", "fd7a:115c:a1e0::2"]));
    assert_eq!(
        (&devices[0]["connectedToControl"], &devices[1]["connectedToControl"]),
        (&json!(false), &json!(true))
    );

    assert_eq!(caller.get("/api/v2/device/1").await.1["nodeId"], "n1CNTRL");
    assert_eq!(caller.get("/api/v2/device/n1CNTRL").await.1["id"], "1");
    assert_eq!(caller.delete("/api/v2/device/n2CNTRL").await.0, 200);
    at_b.until_ended().await;
    assert_eq!(caller.get("/api/v2/device/2").await.0, 404);
    assert_eq!(caller.delete("/api/v2/device/2").await.0, 404);
    assert_eq!(b.post("/machine/map", &b.map_request()).await.0, 404);
    drop(a);
}

#[tokio::test]
async fn unknown_paths_tailnets_and_methods_answer_in_json() {
    let tailbox = default_tailbox().await;
    let caller = caller(&tailbox, "").await;
    for path in [
        "/api/v2/tailnet/-/dns/nameservers",
        "/api/v2/tailnet/other/devices",
        "/api/v2/device/zero",
        "/api/v1/x",
    ] {
        let (status, document) = caller.get(path).await;
        assert_eq!(status, 404, "{path}");
        assert!(document["message"].is_string());
    }
    assert_eq!(caller.get("/api/v2/tailnet/tail.internal/devices").await.0, 200);
    assert_eq!(caller.send("PATCH", DEVICES, String::new()).await.0, 405);
}
