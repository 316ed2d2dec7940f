//! The requests of the official Go SDK (`tailscale.com/client/tailscale/v2`, 2.9.0), as that writes them, and what it reads in the answers.

use isthmus_tailbox::Tailbox;
use isthmus_tailnet_wire::time::GoTime;
use serde_json::{Value, json};

use crate::api::token;
use crate::client::Client;
use crate::http_call::call;
use crate::settings::tailbox;

const JSON: &str = "application/json";
const HUJSON: &str = "application/hujson";

/// The SDK with a token.
struct Sdk<'a> {
    tailbox: &'a Tailbox,
    token: String,
}

/// An answer: status, and the document in it.
struct Answer(u16, Value);

impl Sdk<'_> {
    /// A request without a body: its type is what the SDK accepts.
    async fn get(&self, path: &str, kind: &str) -> Answer {
        self.send("GET", path, &[("accept", kind)], "").await
    }

    async fn delete(&self, path: &str) {
        assert_eq!(
            self.send("DELETE", path, &[("accept", JSON)], "").await.0,
            200,
            "{path}"
        );
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("content-type", JSON)], body).await
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("/api/v2/{path}"))
            .header("user-agent", "tailscale-client-go")
            .header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (status, body) = call(self.tailbox, request, body.to_owned()).await;
        // What is no JSON the SDK takes for HuJSON.
        let document = serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8(body).unwrap()));
        Answer(status, document)
    }
}

impl Answer {
    /// The document, which has all these members, with values of these types. A text `time` stands for any moment.
    fn with(self, shape: &Value) -> Value {
        assert_eq!(self.0, 200, "{}", self.1);
        check("", &self.1, shape);
        self.1
    }
}

fn check(path: &str, found: &Value, shape: &Value) {
    match (found, shape) {
        (Value::Object(found), Value::Object(shape)) => {
            for (name, shape) in shape {
                let found = found.get(name).unwrap_or_else(|| panic!("{path}.{name} is missing"));
                check(&format!("{path}.{name}"), found, shape);
            }
        }
        (Value::Array(found), Value::Array(shape)) => {
            assert!(!found.is_empty() || shape.is_empty(), "{path} is empty");
            for found in found.iter().filter(|_| !shape.is_empty()) {
                check(path, found, &shape[0]);
            }
        }
        (Value::String(found), Value::String(shape)) if shape == "time" => {
            found
                .parse::<GoTime>()
                .unwrap_or_else(|_| panic!("{path}: {found} is no time"));
        }
        (Value::String(_), Value::String(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_)) => {}
        (found, shape) => panic!("{path} is {found}, and the SDK expects something like {shape}"),
    }
}

fn key() -> Value {
    json!({"id": "", "keyType": "", "description": "", "created": "time", "expires": "time", "invalid": true, "tags": [""],
        "capabilities": {"devices": {"create":
            {"reusable": true, "ephemeral": true, "tags": [""], "preauthorized": true}}}})
}

fn device() -> Value {
    json!({"addresses": [""], "name": "", "id": "", "nodeId": "", "authorized": true, "user": "", "tags": [""],
        "keyExpiryDisabled": true, "blocksIncomingConnections": true, "clientVersion": "", "created": "time",
        "expires": "time", "hostname": "", "isEphemeral": true, "isExternal": true, "connectedToControl": true,
        "machineKey": "", "nodeKey": "", "os": "", "tailnetLockError": "", "tailnetLockKey": "",
        "updateAvailable": true, "sshEnabled": true, "advertisedRoutes": [], "enabledRoutes": []})
}

fn settings() -> Value {
    json!({"aclsExternallyManagedOn": true, "devicesApprovalOn": true, "devicesAutoUpdatesOn": true,
        "devicesKeyDurationDays": 1, "usersApprovalOn": true, "networkFlowLoggingOn": true, "regionalRoutingOn": true,
        "postureIdentityCollectionOn": true, "httpsEnabled": true})
}

async fn sdk(tailbox: &Tailbox) -> Sdk<'_> {
    let token = token(tailbox, "").await;
    Sdk { tailbox, token }
}

#[tokio::test]
async fn sdk_makes_reads_and_deletes_keys() {
    let tailbox = tailbox().await;
    let sdk = sdk(&tailbox).await;
    let create = r#"{"capabilities":{"devices":{"create":{"reusable":false,"ephemeral":true,"tags":["tag:k8s"],"preauthorized":true}}},"expirySeconds":0,"description":"a key"}"#;
    let made = sdk.post("tailnet/-/keys", create).await.with(&key());
    assert!(made["key"].as_str().unwrap().starts_with("tskey-auth-"));
    let path = format!("tailnet/-/keys/{}", made["id"].as_str().unwrap());
    sdk.get(&path, JSON).await.with(&key());
    let client = r#"{"keyType":"client","scopes":["devices:core"],"tags":null,"description":""}"#;
    let client = sdk.post("tailnet/-/keys", client).await;
    client.with(&json!({"id": "", "key": "", "keyType": "", "scopes": [""], "created": "time"}));
    let any = json!({"keys": [{"id": "", "keyType": "", "description": "", "created": "time", "invalid": true}]});
    let keys = sdk.get("tailnet/-/keys?all=true", JSON).await.with(&any);
    assert!(keys["keys"].as_array().unwrap().len() >= 2);
    sdk.delete(&path).await;
    let Answer(status, error) = sdk.get(&path, JSON).await;
    assert_eq!((status, error["message"].is_string()), (404, true));
    let all = r#"{"capabilities":{"devices":{"create":{"reusable":false,"ephemeral":false,"tags":null,"preauthorized":false}}},"expirySeconds":0,"description":""}"#;
    let Answer(status, error) = sdk.post("tailnet/-/keys", all).await;
    let message = error["message"].as_str().unwrap();
    assert!(status == 400 && message.contains("must have tags"), "{message}");
}

#[tokio::test]
async fn sdk_reads_and_changes_devices() {
    let tailbox = tailbox().await;
    let sdk = sdk(&tailbox).await;
    let web = Client::join_with(&tailbox, "web", &["tag:k8s"]).await;
    let mut stream = web.stream().await;
    stream.next().await.unwrap();
    drop(Client::join_with(&tailbox, "db", &["tag:db"]).await);
    let list = json!({"devices": [device()]});
    for path in ["tailnet/-/devices", "tailnet/-/devices?fields=all"] {
        let devices = sdk.get(path, JSON).await.with(&list);
        assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
        assert!(devices["devices"][0].get("lastSeen").is_none(), "it is connected");
        check("lastSeen", &devices["devices"][1]["lastSeen"], &json!("time"));
    }
    for (filter, expected) in [
        ("tags=tag%3Adb", 1),
        ("tags=tag%3Adb&tags=tag%3Ak8s", 2),
        ("os=linux&tags=tag%3Ak8s", 1),
        ("isEphemeral=true", 0),
        ("hostname=web&fields=all", 1),
    ] {
        let Answer(_, found) = sdk.get(&format!("tailnet/-/devices?{filter}"), JSON).await;
        assert_eq!(found["devices"].as_array().unwrap().len(), expected, "{filter}");
    }
    let path = "device/n1CNTRL";
    for (what, body) in [
        ("authorized", r#"{"authorized":true}"#),
        ("name", r#"{"name":"shop"}"#),
        ("tags", r#"{"tags":["tag:k8s"]}"#),
        ("key", r#"{"keyExpiryDisabled":true}"#),
    ] {
        assert_eq!(sdk.post(&format!("{path}/{what}"), body).await.0, 200, "{what}");
    }
    let routes = json!({"advertisedRoutes": [], "enabledRoutes": [""]});
    let answer = sdk
        .post(&format!("{path}/routes"), r#"{"routes":["10.0.0.0/24"]}"#)
        .await;
    answer.with(&routes);
    sdk.get(&format!("{path}/routes"), JSON).await.with(&routes);
    let shown = sdk.get(&format!("{path}?fields=all"), JSON).await.with(&device());
    assert_eq!(
        (&shown["name"], &shown["enabledRoutes"][0]),
        (&json!("shop.tail.internal"), &json!("10.0.0.0/24"))
    );

    let note = format!("{path}/attributes/custom:rack");
    let unending = r#"{"value":"b2","expiry":"0001-01-01T00:00:00Z","comment":""}"#;
    assert_eq!(sdk.post(&note, unending).await.0, 200);
    let shape = json!({"attributes": {"custom:rack": "", "node:os": ""}, "expiries": {}});
    sdk.get(&format!("{path}/attributes"), JSON).await.with(&shape);
    sdk.delete(&note).await;
    sdk.delete(path).await;
    assert_eq!(sdk.get(path, JSON).await.0, 404);
}

#[tokio::test]
async fn sdk_makes_reads_and_deletes_services() {
    let tailbox = tailbox().await;
    let sdk = sdk(&tailbox).await;
    let (path, put) = ("tailnet/-/vip-services/svc:web", [("content-type", JSON)]);
    let body = r#"{"name":"svc:web","annotations":{"a":"b"},"ports":["tcp:443"],"tags":["tag:k8s"]}"#;
    assert_eq!(sdk.send("PUT", path, &put, body).await.0, 200);
    let service = json!({"name": "", "addrs": [""], "annotations": {"a": ""}, "ports": [""], "tags": [""]});
    let mut made = sdk.get(path, JSON).await.with(&service);
    let list = sdk.get("tailnet/-/vip-services", JSON).await;
    list.with(&json!({"vipServices": [service]}));
    made["comment"] = json!("changed");
    assert_eq!(sdk.send("PUT", path, &put, &made.to_string()).await.0, 200);
    assert_eq!(sdk.get(path, JSON).await.with(&service)["comment"], "changed");
    sdk.delete(path).await;
    assert_eq!(sdk.get(path, JSON).await.0, 404);
}

#[tokio::test]
async fn sdk_reads_checks_and_replaces_the_policy() {
    let tailbox = tailbox().await;
    let sdk = sdk(&tailbox).await;
    let acl = "tailnet/-/acl";
    let shape = json!({"acls": [{"action": "", "src": [""], "dst": [""]}]});
    sdk.get(acl, JSON).await.with(&shape);
    let structured = r#"{"acls":[{"action":"accept","src":["*"],"dst":["*:*"]}],"tagOwners":{"tag:k8s":[]}}"#;
    sdk.post(acl, structured).await.with(&shape);
    let text = "// by hand\n{\"acls\": [],}\n";
    let stale = [("content-type", HUJSON), ("if-match", "\"0123\"")];
    let Answer(status, error) = sdk.send("POST", acl, &stale, text).await;
    assert_eq!((status, error["message"].is_string()), (412, true));
    assert_eq!(sdk.send("POST", acl, &stale[..1], text).await.0, 200);
    assert_eq!(sdk.get(acl, HUJSON).await.1, json!(text));
    sdk.get(acl, JSON).await.with(&json!({"acls": []}));
    for (body, kind) in [(structured, JSON), (text, HUJSON)] {
        let Answer(status, found) = sdk
            .send("POST", "tailnet/-/acl/validate", &[("content-type", kind)], body)
            .await;
        assert_eq!((status, found), (200, json!({})));
    }
    let wrong = r#"{"acls":[{"action":"accept","src":["tag:none"],"dst":["*:*"]}]}"#;
    sdk.post("tailnet/-/acl/validate", wrong)
        .await
        .with(&json!({"message": ""}));
}

#[tokio::test]
async fn sdk_reads_and_changes_settings() {
    let tailbox = tailbox().await;
    let sdk = sdk(&tailbox).await;
    sdk.get("tailnet/-/settings", JSON).await.with(&settings());
    // The SDK writes these two whether they are meant or not.
    let body =
        r#"{"aclsExternallyManagedOn":null,"aclsExternalLink":null,"devicesApprovalOn":true,"httpsEnabled":true}"#;
    let patch = [("content-type", JSON)];
    let changed = sdk
        .send("PATCH", "tailnet/-/settings", &patch, body)
        .await
        .with(&settings());
    assert_eq!(
        (&changed["httpsEnabled"], &changed["devicesApprovalOn"]),
        (&json!(true), &json!(true))
    );
}

#[tokio::test]
async fn sdk_is_told_in_its_own_form_what_is_not_served() {
    let tailbox = tailbox().await;
    let sdk = sdk(&tailbox).await;
    for (method, path) in [
        ("GET", "tailnet/-/contacts"),
        ("GET", "tailnet/-/dns/configuration"),
        ("GET", "tailnet/-/dns/nameservers"),
        ("POST", "tailnet/-/dns/preferences"),
        ("GET", "tailnet/-/dns/searchpaths"),
        ("PUT", "tailnet/-/dns/split-dns"),
        ("GET", "tailnet/-/logging/network/stream"),
        ("GET", "tailnet/-/posture/integrations"),
        ("GET", "tailnet/-/users"),
        ("GET", "tailnet/-/webhooks"),
        ("POST", "tailnet/-/aws-external-id"),
        ("POST", "device/1/ip"),
        ("PUT", "tailnet/-/keys/k1"),
    ] {
        let Answer(status, error) = sdk.send(method, path, &[("content-type", JSON)], "{}").await;
        assert!(
            [404, 405].contains(&status) && error["message"].is_string(),
            "{method} {path}: {status} {error}"
        );
    }
}
